"""Runs as data, for whoever draws or tabulates them: run folders, and JSONL of other people's."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from glob import glob
from pathlib import Path
from typing import Any

from resd_bench import reading, schema
from resd_bench.config import RunConfig, load_file
from resd_bench.plugins import UsageError
from resd_bench.record import read_json, read_log
from resd_bench.stats import AXES, Axis, EvalPoint, eval_points, panels, reported


@dataclass(frozen=True)
class RunData:
    """What one run has measured so far."""

    folder: Path
    """The run folder, or the JSONL file it was read from."""
    settings: Mapping[str, Any]
    """Its config.yaml, as it was written."""
    metrics: Sequence[Mapping[str, Any]]
    """A row per update."""
    points: Sequence[EvalPoint]
    """Its evaluations, at least one."""
    status: Mapping[str, Any]
    validation: Sequence[EvalPoint] = ()
    """Evaluations on the validation split, where there are any."""
    lacks: frozenset[str] = frozenset()
    """Axes its records do not hold."""
    beside: Mapping[str, Sequence[EvalPoint]] = field(default_factory=dict)
    """Evaluations of other panels by name, where there are any: see `resd_bench.panels`."""

    def check_axis(self, axis: Axis) -> None:
        """UsageError where its evaluations do not say what they had spent on `axis`."""
        if axis in self.lacks or any(point.at(axis) != point.at(axis) for point in self.points):
            rest = [a for a in AXES if a != axis and a not in self.lacks]
            raise UsageError(
                f"{self.folder} does not say the {axis} of its evaluations: "
                f"give --axis {' or '.join(rest)}"
            )

    def training(self) -> Iterator[Mapping[str, Any]]:
        """Rows of its training episodes in the order they were played.

        Of a kept record they hold no texts; of a JSONL file, and of records kept before there were
        such rows, there are none.
        """
        plain, packed = (self.folder / name for name in ("episodes.jsonl", "episodes.jsonl.gz"))
        path = plain if plain.is_file() else packed
        if not path.is_file():
            return
        try:
            for line in reading.read_lines(path):
                try:
                    row = reading.parse_json(line)
                except ValueError:
                    # A kill cuts off a last line; `read_log` judges the rest.
                    return
                yield row
        except (OSError, ValueError) as error:
            raise UsageError(f"{path} is damaged ({error}): restore it from a copy") from None

    @property
    def env(self) -> str:
        return str(self.settings["env"])

    @property
    def seed(self) -> int:
        return int(self.settings["seed"])

    @property
    def method(self) -> str:
        return str(self.settings["method"])

    @property
    def setting(self) -> str:
        """Environment and model, as titles say it."""
        model = model_label(str(self.settings["model"]))
        return f"{self.env} · {model}" if model else self.env


def model_label(*models: str) -> str:
    """How figures name models; results of embedded ones must not pass for a real one's."""
    embedded = [re.match(r"nano\b", Path(model).name) is not None for model in models]
    if len(models) > 1 and all(embedded):
        return f"{', '.join(models)} (model organisms)"
    marks = [" (model organism)" if it_is else "" for it_is in embedded]
    return ", ".join(model + mark for model, mark in zip(models, marks, strict=True))


def load_run(folder: Path) -> RunData:
    """Read a run folder; UsageError where it is none, or has no evaluation yet."""
    if not (folder / "config.yaml").is_file():
        raise UsageError(f"{folder} is no run folder (no config.yaml): give one that `run` wrote")
    _check_version(folder)
    rows, ledger = (read_log(folder / name).rows for name in ("evals.jsonl", "metrics.jsonl"))
    points = eval_points(reported(rows), ledger)
    beside = {name: eval_points(own, ledger) for name, own in panels(rows).items()}
    if not points:
        raise UsageError(f"{folder} has no evaluation yet: go on with `run --resume`")
    return RunData(
        folder,
        # A record may be older than a setting, which then had its default's meaning.
        {**asdict(RunConfig()), **load_file(folder / "config.yaml")},
        ledger,
        points,
        read_json(folder / "status.json"),
        beside.pop("validation", ()),
        beside=beside,
    )


def _check_version(folder: Path) -> None:
    version = read_json(folder / "manifest.json").get("schema_version", 1)
    if version > schema.VERSION:
        raise UsageError(
            f"{folder} holds records of version {version}, and this resd-bench reads up to "
            f"{schema.VERSION}: use the one that wrote them, which its manifest.json names"
        )


def find_runs(places: Iterable[str]) -> list[RunData]:
    """The runs in JSONL files, in folders, globs, or below them; UsageError where there is none."""
    from resd_bench.report.rows import load_rows

    found: dict[str, RunData] = {}
    for place in places:
        paths = [Path(p) for p in sorted(glob(place, recursive=True))] or [Path(place)]
        files = [path for path in paths if path.is_file() and path.suffix == ".jsonl"]
        # A log of a run folder stands for the run.
        logs = {path.parent / "config.yaml" for path in files}
        configs = sorted(
            {c for path in paths for c in path.rglob("config.yaml")}
            | {config for config in logs if config.is_file()}
        )
        files = [path for path in files if not (path.parent / "config.yaml").is_file()]
        for path in files:
            runs = load_rows(path)
            found |= {f"{path.resolve()}#{i}": run for i, run in enumerate(runs)}
        if not configs and not files:
            raise UsageError(
                f"no run found in {place}: give run folders, a glob, a parent, or a .jsonl file"
            )
        for config in configs:
            found.setdefault(str(config.parent.resolve()), load_run(config.parent))
    return list(found.values())
