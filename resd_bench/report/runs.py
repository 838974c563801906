"""Run folders as data, for whoever draws or tabulates them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from glob import glob
from pathlib import Path
from typing import Any

from resd_bench.config import load_file
from resd_bench.plugins import UsageError
from resd_bench.record import read_json, read_log
from resd_bench.stats import EvalPoint, eval_points


@dataclass(frozen=True)
class RunData:
    """What one run has measured so far."""

    folder: Path
    settings: Mapping[str, Any]
    """Its config.yaml, as it was written."""
    metrics: Sequence[Mapping[str, Any]]
    """A row per update."""
    points: Sequence[EvalPoint]
    """Its evaluations, at least one."""
    status: Mapping[str, Any]

    @property
    def seed(self) -> int:
        return int(self.settings["seed"])

    @property
    def method(self) -> str:
        return str(self.settings["method"])

    @property
    def setting(self) -> str:
        """Environment and model, as titles say it."""
        return f"{self.settings['env']} · {model_label(str(self.settings['model']))}"


def model_label(model: str) -> str:
    """How figures name a model; results of the embedded one must not pass for a real one's."""
    embedded = re.match(r"nano\b", Path(model).name) is not None
    return f"{model} (model organism)" if embedded else model


def load_run(folder: Path) -> RunData:
    """Read a run folder; UsageError where it is none, or has no evaluation yet."""
    if not (folder / "config.yaml").is_file():
        raise UsageError(f"{folder} is no run folder (no config.yaml): give one that `run` wrote")
    points = eval_points(read_log(folder / "evals.jsonl").rows)
    if not points:
        raise UsageError(f"{folder} has no evaluation yet: go on with `run --resume`")
    return RunData(
        folder,
        load_file(folder / "config.yaml"),
        read_log(folder / "metrics.jsonl").rows,
        points,
        read_json(folder / "status.json"),
    )


def find_runs(places: Iterable[str]) -> list[RunData]:
    """The runs in folders, globs, or below them; UsageError where a place holds none."""
    found: dict[Path, RunData] = {}
    for place in places:
        folders = [Path(p) for p in sorted(glob(place, recursive=True))] or [Path(place)]
        configs = sorted({c for f in folders for c in f.rglob("config.yaml")})
        if not configs:
            raise UsageError(f"no run found in {place}: give run folders, a glob, or a parent")
        for config in configs:
            found.setdefault(config.parent.resolve(), load_run(config.parent))
    return list(found.values())
