"""Runs as data, for whoever draws or tabulates them: run folders, and JSONL of other people's."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from glob import glob
from pathlib import Path
from typing import Any

from resd_bench import schema
from resd_bench.config import RunConfig, coerce
from resd_bench.plugins import UsageError
from resd_bench.record import damaged
from resd_bench.run_files import (
    EPISODES,
    EVALS,
    METRICS,
    RunFiles,
    check_complete,
    check_evals,
    run_folders,
)
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
    manifest: Mapping[str, Any] | None = None
    """Its manifest.json; None of what is no run folder."""
    files: RunFiles | None = None
    """The run folder, to read more of it; None of a JSONL file."""

    @property
    def left_out(self) -> int:
        """Attempts of its evaluations that have no verdict."""
        every = (self.points, self.validation, *self.beside.values())
        return sum(point.errors for points in every for point in points)

    def with_failures(self) -> RunData:
        """The run with attempts without a verdict as failures."""
        if not self.left_out:
            return self
        return replace(
            self,
            points=[point.with_failures() for point in self.points],
            validation=[point.with_failures() for point in self.validation],
            beside={k: [point.with_failures() for point in own] for k, own in self.beside.items()},
        )

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
        such rows, there are none. UsageError where they are not what the run wrote.
        """
        if self.files is None:
            return
        count = 0
        for row in self.files.stream(EPISODES):
            count += 1
            yield row
        played = self.status.get("episodes", count)
        if self.files.unvouched and count not in (0, played):
            raise damaged(self.folder / EPISODES, f"it has {count} rows of {played}")

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
    """Read a run folder; UsageError where it is none, is damaged, or has no evaluation yet."""
    files = RunFiles.at(folder)
    manifest, settings = _manifest(files), files.settings()
    rows, ledger = check_evals(files.rows(EVALS), folder / EVALS), files.rows(METRICS)
    if files.unvouched:
        check_complete(folder, settings, files.status, files.json("summary.json"), rows, ledger)
    points = eval_points(reported(rows), ledger)
    beside = {name: eval_points(own, ledger) for name, own in panels(rows).items()}
    if not points:
        raise UsageError(
            f"{folder} has no evaluation yet that a checkpoint covers: go on with `run --resume`"
        )
    return RunData(
        folder,
        _with_defaults(settings, folder),
        ledger,
        points,
        files.status,
        beside.pop("validation", ()),
        beside=beside,
        manifest=manifest,
        files=files,
    )


NAMED: Mapping[str, Any] = {
    **{"env": str, "method": str, "model": str, "seed": int},
    **{"method_options": dict, "env_options": dict},
}
"""Settings that records are found and grouped by, and their types."""


def _with_defaults(saved: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Saved settings, and those younger than the record at their defaults.

    UsageError for a value of the wrong type.
    """
    typed = {
        name: coerce(f"{folder / 'config.yaml'}: {name}", saved[name], kind)
        for name, kind in NAMED.items()
        if name in saved
    }
    return {**asdict(RunConfig()), **saved, **typed}


def _manifest(files: RunFiles) -> dict[str, Any]:
    """Its manifest.json; UsageError where a later version of this package wrote it."""
    manifest = files.json("manifest.json")
    version = manifest.get("schema_version", 1)
    if type(version) is not int:
        raise damaged(files.folder / "manifest.json", f"schema_version is {version!r}")
    if version > schema.VERSION:
        raise UsageError(
            f"{files.folder} holds records of version {version}, and this resd-bench reads up to "
            f"{schema.VERSION}: use the one that wrote them, which its manifest.json names"
        )
    return manifest


def find_runs(places: Iterable[str]) -> list[RunData]:
    """The runs in JSONL files, in folders, globs, or below them; UsageError where there is none."""
    from resd_bench.report.rows import load_rows

    found: dict[str, RunData] = {}
    for place in places:
        paths = [Path(p) for p in sorted(glob(place, recursive=True))] or [Path(place)]
        files = [path for path in paths if path.is_file() and path.suffix == ".jsonl"]
        # A log of a run folder stands for the run.
        logs = {path.parent for path in files if (path.parent / "config.yaml").is_file()}
        folders = sorted({f for path in paths for f in run_folders(path)} | logs)
        files = [path for path in files if path.parent not in logs]
        for path in files:
            runs = load_rows(path)
            found |= {f"{path.resolve()}#{i}": run for i, run in enumerate(runs)}
        if not folders and not files:
            raise UsageError(
                f"no run found in {place}: give run folders, a glob, a parent, or a .jsonl file"
            )
        for folder in folders:
            found.setdefault(str(folder.resolve()), load_run(folder))
    return list(found.values())
