"""Runs as data, for tables and figures: from run folders, and from JSONL of other people."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from resd_bench.config import RunConfig
from resd_bench.errors import UsageError
from resd_bench.options import coerce
from resd_bench.packaged_models import model_name
from resd_bench.records import schema
from resd_bench.records.recorder import damaged
from resd_bench.records.run_files import (
    EPISODES,
    EVALS,
    METRICS,
    RunFiles,
    check_complete,
    check_evals,
)
from resd_bench.stats import AXES, Axis, EvalPoint, eval_points, reported, rows_by_evaluation


@dataclass(frozen=True)
class RunData:
    """The measurements of one run so far."""

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
    """Evaluations on the validation split, if any."""
    lacks: frozenset[str] = frozenset()
    """Axes its records do not hold."""
    extra: Mapping[str, Sequence[EvalPoint]] = field(default_factory=dict)
    """Evaluations of other panels by name, if any: see `resd_bench.evaluation.extra`."""
    manifest: Mapping[str, Any] | None = None
    """Its manifest.json; None if it was not read from a run folder."""
    files: RunFiles | None = None
    """The run folder, for reading more of it; None for a JSONL file."""

    @property
    def left_out(self) -> int:
        """Attempts of its evaluations that have no verdict."""
        every = (self.points, self.validation, *self.extra.values())
        return sum(point.errors for points in every for point in points)

    def with_failures(self) -> RunData:
        """The run, counting attempts without a verdict as failures."""
        if not self.left_out:
            return self
        return replace(
            self,
            points=[point.with_failures() for point in self.points],
            validation=[point.with_failures() for point in self.validation],
            extra={k: [point.with_failures() for point in own] for k, own in self.extra.items()},
        )

    @property
    def stopped(self) -> str:
        """How far an unfinished run has got, and of which budget; empty for a finished one."""
        state = self.status.get("state", "finished")
        if state == "finished":
            return ""
        last = self.metrics[-1] if self.metrics else {}
        spent = f"{last.get('episodes', 0)} rollouts ({last.get('update', 0)} updates)"
        word = "running or killed" if state == "running" else state
        return f"{word} after {spent} of {self.settings['budget']}"

    def check_axis(self, axis: Axis) -> None:
        """UsageError if its evaluations do not say what had been spent on `axis`."""
        if axis in self.lacks or any(point.at(axis) != point.at(axis) for point in self.points):
            rest = [a for a in AXES if a != axis and a not in self.lacks]
            raise UsageError(
                f"{self.folder} does not say the {axis} of its evaluations: "
                f"give --axis {' or '.join(rest)}"
            )

    def training(self) -> Iterator[Mapping[str, Any]]:
        """Rows of its training episodes in the order they were played.

        Those of a kept record have no texts; a JSONL file, and records kept before such rows
        existed, have none. UsageError if they are not as the run wrote them.
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
    def called(self) -> str:
        """The method as tables name it: with what it sees that no fair method may."""
        sees = (self.manifest or {}).get("sees")
        return f"{self.method} ({sees})" if sees else self.method

    @property
    def model(self) -> str:
        """The model, as its settings name it."""
        return str(self.settings["model"])

    @property
    def setting(self) -> str:
        """Environment and model, for titles."""
        model = model_label(self.model)
        return f"{self.env} · {model}" if model else self.env


def model_label(*models: str) -> str:
    """Names of models in figures; results of embedded ones must not be taken for a real one's."""
    organisms = {k: model_name(k) for k in models if re.match(r"nano\b", model_name(k))}
    if len(models) > 1 and len(organisms) == len(models):
        return f"{', '.join(organisms.values())} (model organisms)"
    names = {model: f"{name} (model organism)" for model, name in organisms.items()}
    return ", ".join(names.get(model, model) for model in models)


class NotEvaluated(UsageError):
    """A run that was stopped before its first evaluation was saved."""


def load_run(folder: Path) -> RunData:
    """Read a run folder.

    UsageError if it is not one or is damaged, NotEvaluated if it has no evaluation yet.
    """
    files = RunFiles.at(folder)
    manifest, settings = _manifest(files), files.settings()
    rows, ledger = check_evals(files.rows(EVALS), folder / EVALS), files.rows(METRICS)
    if files.unvouched:
        check_complete(folder, settings, files.status, files.json("summary.json"), rows, ledger)
    points = eval_points(reported(rows), ledger)
    extra = {name: eval_points(own, ledger) for name, own in rows_by_evaluation(rows).items()}
    if not points:
        raise NotEvaluated(
            f"{folder} has no evaluation yet that a checkpoint covers: continue it with "
            "`run --resume`"
        )
    return RunData(
        folder,
        _with_defaults(settings, folder),
        ledger,
        points,
        files.status,
        extra.pop("validation", ()),
        extra=extra,
        manifest=manifest,
        files=files,
    )


_NAMED: Mapping[str, Any] = {
    **{"env": str, "method": str, "model": str, "seed": int},
    **{"method_options": dict, "env_options": dict},
}
"""Settings that records are found and grouped by, and their types."""


def _with_defaults(saved: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Saved settings, with settings that were added later at their defaults.

    UsageError for a value of the wrong type.
    """
    typed = {
        name: coerce(f"{folder / 'config.yaml'}: {name}", saved[name], kind)
        for name, kind in _NAMED.items()
        if name in saved
    }
    return {**asdict(RunConfig()), **saved, **typed}


def _manifest(files: RunFiles) -> dict[str, Any]:
    """Its manifest.json; UsageError if a later version of this package wrote it."""
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
