"""Also send a run's metrics to a tracker; the run folder stays the record.

Nothing leaves the machine unless the user says so: `wandb` writes offline runs into the run folder
(`wandb sync` uploads them; `WANDB_MODE=online` sends at once), `trackio` keeps its own database
(`TRACKIO_SPACE_ID` sends to a Space), `tensorboard` writes event files into the run folder. Left
out: episodes, contexts and figures, and retracting what a resumed run then sends again.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from resd_bench.config import RunConfig
from resd_bench.errors import UsageError, install_extra
from resd_bench.files.writing import make_folder
from resd_bench.records.log_files import LogRow
from resd_bench.stats import EvalPoint

PROJECT = "resd-bench"


class Service(Protocol):
    """A service that receives metrics."""

    def send(self, numbers: Mapping[str, float], update: int) -> None:
        """Take the metrics after `update` updates."""
        ...

    def close(self) -> None:
        """Write what is left, and release the service."""
        ...


class Tracker:
    """A watcher that forwards metrics; it opens its service when the first ones arrive."""

    def __init__(self, config: RunConfig) -> None:
        self._config = config
        self._service: Service | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._service is not None:
            self._service.close()
            self._service = None

    def updated(self, row: LogRow) -> None:
        numbers = {k: float(v) for k, v in row.items() if isinstance(v, int | float)}
        self._send(numbers, int(row["update"]))

    def evaluated(self, point: EvalPoint) -> None:
        numbers = {f"eval/{k}": v for k, v in point.metrics().items()}
        if point.errors:
            counted = point.with_failures().metrics()
            numbers |= {f"eval/{k}_with_failures": v for k, v in counted.items()}
            numbers["eval/errors"] = float(point.errors)
        self._send({**numbers, "eval/episodes": float(point.episodes)}, point.update)

    def _send(self, numbers: Mapping[str, float], update: int) -> None:
        if self._config.track == "none":
            return
        # Not earlier: a run folder that holds something is not accepted for a new run.
        if self._service is None:
            self._service = SERVICES[self._config.track](self._config, update)
        self._service.send(numbers, update)


def make_tracker(config: RunConfig) -> Tracker:
    """The tracker that `config` asks for; UsageError says what to install if it is missing."""
    if config.track != "none" and importlib.util.find_spec(config.track) is None:
        raise UsageError(
            f"--track {config.track} needs a package that is not installed: "
            f"{install_extra(config.track)}"
        )
    return Tracker(config)


class TensorBoard:
    """Event files in the run folder."""

    def __init__(self, config: RunConfig, update: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        # A resumed run repeats updates: what was written for them earlier is dropped.
        folder = own_folder(config, "tensorboard")
        self._writer: Any = SummaryWriter(str(folder), purge_step=update or None)
        if update == 0:
            self._writer.add_text("config", f"```yaml\n{config.to_yaml()}```", 0)

    def send(self, numbers: Mapping[str, float], update: int) -> None:
        for name, number in numbers.items():
            self._writer.add_scalar(name, number, update)
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


class WandB:
    """Weights & Biases, offline unless the environment says otherwise."""

    def __init__(self, config: RunConfig, update: int) -> None:
        wandb: Any = importlib.import_module("wandb")
        own_folder(config, "wandb")
        self._run = wandb.init(
            project=PROJECT,
            name=run_name(config),
            group=f"{config.env} {config.method}",
            config=config.shown(),
            dir=str(config.folder()),
            mode=os.environ.get("WANDB_MODE", "offline"),
        )

    def send(self, numbers: Mapping[str, float], update: int) -> None:
        self._run.log(dict(numbers), step=update)

    def close(self) -> None:
        self._run.finish()


class Trackio:
    """trackio: a database on this machine, and a dashboard of its own."""

    def __init__(self, config: RunConfig, update: int) -> None:
        trackio: Any = importlib.import_module("trackio")
        self._trackio = trackio
        self._run = trackio.init(
            project=PROJECT,
            name=run_name(config),
            group=f"{config.env} {config.method}",
            config=config.shown(),
            resume="allow",
        )

    def send(self, numbers: Mapping[str, float], update: int) -> None:
        self._trackio.log(dict(numbers), step=update)

    def close(self) -> None:
        self._trackio.finish()


def own_folder(config: RunConfig, name: str) -> Path:
    """A tracker's folder in the run folder, reached without following links."""
    return make_folder(config.folder() / name, Path(config.out))


def run_name(config: RunConfig) -> str:
    """Environment, method and seed, and a digest that distinguishes all other settings."""
    return f"{config.env}-{config.method}-seed-{config.seed}-{config.digest()[:6]}"


SERVICES: Mapping[str, type[TensorBoard] | type[WandB] | type[Trackio]] = {
    "tensorboard": TensorBoard,
    "wandb": WandB,
    "trackio": Trackio,
}
