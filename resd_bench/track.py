"""Send the numbers of a run to a tracker as well; the run directory stays the record."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from resd_bench.config import RunConfig
from resd_bench.plugins import UsageError
from resd_bench.record import Row
from resd_bench.stats import EvalPoint

Send = Callable[[dict[str, float], int], None]
"""Numbers, and the update they belong to."""


class Tracker:
    """A watcher that hands numbers on."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._update = 0

    def updated(self, row: Row) -> None:
        self._update = int(row["update"])
        numbers = {k: float(v) for k, v in row.items() if isinstance(v, int | float)}
        self._send(numbers, self._update)

    def evaluated(self, point: EvalPoint) -> None:
        self._send({f"eval/{k}": v for k, v in point.metrics().items()}, point.update)


def make_tracker(config: RunConfig) -> Tracker | None:
    """The tracker `config` asks for; UsageError says what to install where it is missing."""
    if config.track == "none":
        return None
    try:
        return Tracker(_tensorboard(config) if config.track == "tensorboard" else _hosted(config))
    except ImportError as error:
        raise UsageError(f"--track {config.track} needs it: pip install {config.track}") from error


def _tensorboard(config: RunConfig) -> Send:
    from torch.utils.tensorboard import SummaryWriter

    writer: Any = SummaryWriter(str(config.folder() / "tensorboard"))

    def send(numbers: dict[str, float], update: int) -> None:
        for name, number in numbers.items():
            writer.add_scalar(name, number, update)
        writer.flush()

    return send


def _hosted(config: RunConfig) -> Send:
    """Weights & Biases, or trackio, which has its interface."""
    import importlib

    service: Any = importlib.import_module(config.track)
    name = f"{config.env}-{config.method}-seed-{config.seed}"
    service.init(project="resd-bench", name=name, config=asdict(config))

    def send(numbers: dict[str, float], update: int) -> None:
        service.log(numbers, step=update)

    return send
