"""The runs that an experiment needs, found among records by their settings, not their paths."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from resd_bench.config import RunConfig
from resd_bench.errors import UsageError
from resd_bench.evaluation.extra import other_environments
from resd_bench.files.counted import counted
from resd_bench.models.identity import weights_hash
from resd_bench.records.run_files import RunFiles, run_folders
from resd_bench.records.runs import RunData, load_run, model_label
from resd_bench.sweep.definition import Sweep, Trial

EXTRA_EVALUATIONS = frozenset({"eval_every", "eval_validation", "eval_contexts", "eval_also"})
"""Settings of extra evaluations; they affect neither training nor the reported number."""
_NAMED = re.compile(r"^(env|method|seed): *(\S+) *$", re.MULTILINE)
SEED = re.compile(r"[0-9]{1,19}")
FILE_NAMES = {"sdpo-ss": "sdpo+ss"}
"""Variants whose file has another name."""


PAPERS_TASKS = frozenset({"manufactoria-has", "bouncingsim-easy", "bouncingsim-medium", "finer"})


def is_papers_task(config: RunConfig) -> bool:
    """Whether a run's tasks are the paper's own, so that its numbers may be set against ours.

    FiNER's are only where `env.data` names its data: the set that ships is synthetic.
    """
    own_data = config.env != "finer" or bool(config.env_options.get("data"))
    return config.env in PAPERS_TASKS and own_data


@dataclass
class Records:
    """Run folders, kept or fresh, by environment, method and seed."""

    folders: Mapping[tuple[str, str, str], Sequence[Path]]
    _runs: dict[Path, RunData] = field(default_factory=dict)
    _settings: dict[Path, Likeness | None] = field(default_factory=dict)

    @classmethod
    def scan(cls, roots: Iterable[Path]) -> Records:
        """Every run folder below `roots`; those of earlier roots come first."""
        found: dict[tuple[str, str, str], list[Path]] = {}
        folders = [folder for root in dict.fromkeys(roots) for folder in run_folders(root)]
        for folder in counted(folders, "looking at records"):
            # A damaged one would otherwise be taken for another run, or ignored.
            text = RunFiles.at(folder).config_text()
            named = {name: value.strip("'\"") for name, value in _NAMED.findall(text)}
            key = (named.get("env", ""), named.get("method", ""), named.get("seed", ""))
            found.setdefault(key, []).append(folder)
        return cls(found)

    def of(self, config: RunConfig) -> RunData | None:
        """The finished record of a run like `config`; of several, the one evaluated most alike."""
        there = self.folders.get((config.env, config.method, str(config.seed)), ())
        wanted = Likeness(config)
        found = {folder: apart for folder in there if (apart := self._apart(folder, wanted)) >= 0}
        if not found:
            return None
        nearest = min(found, key=found.__getitem__)
        if nearest not in self._runs:
            self._runs[nearest] = load_run(nearest)
        return self._runs[nearest]

    def _apart(self, folder: Path, wanted: Likeness) -> int:
        """In how many settings of extra evaluations a record differs; -1 if it does not match."""
        if folder not in self._settings:
            config = _finished(folder)
            self._settings[folder] = None if config is None else Likeness(config)
        there = self._settings[folder]
        if there is None or not there.stands_in_for(wanted):
            return -1
        return sum(
            getattr(there.config, name) != getattr(wanted.config, name)
            for name in EXTRA_EVALUATIONS
        )

    def seeds(self, config: RunConfig) -> list[int]:
        """Seeds that may have a record."""
        return sorted(
            int(seed)
            for env, method, seed in self.folders
            if (env, method) == (config.env, config.method) and SEED.fullmatch(seed)
        )


def _finished(folder: Path) -> RunConfig | None:
    """The settings of a finished run; None for one that does not count.

    A record that names other weights than the model has now does not; where there is no such model,
    as in a clone without the models that scripts make, its name has to be enough.
    """
    files = RunFiles.at(folder)
    if not files.finished:
        return None
    began, text = files.json("manifest.json").get("weights_sha256"), files.config_text()
    try:
        config = RunConfig.from_yaml(text, str(folder / "config.yaml"))
    except UsageError:
        return None
    now = weights_hash(config.model, config.model_revision)
    return config if now is None or began in (None, now) else None


@dataclass(frozen=True)
class Likeness:
    """A run, to be compared with many others."""

    config: RunConfig

    @cached_property
    def settings(self) -> Mapping[str, Any]:
        """Those that both runs must have."""
        return {k: v for k, v in self.config.of_results().items() if k not in EXTRA_EVALUATIONS}

    def stands_in_for(self, wanted: Likeness) -> bool:
        """Whether the record of this run can stand in for one of `wanted`."""
        here, there = self.config, wanted.config
        if self.settings != wanted.settings:
            return False
        try:
            also = set(other_environments(here))
        except UsageError:
            return False
        return (
            here.eval_contexts >= there.eval_contexts
            and also >= set(other_environments(there))
            and bool(here.eval_every) >= bool(there.eval_every)
        )


@dataclass(frozen=True)
class Gathered:
    """The trials of an experiment, and their records, as far as they exist."""

    trials: Sequence[Trial]
    runs: Mapping[int, RunData]
    """By the index of the trial."""

    @property
    def missing(self) -> list[Trial]:
        """The trials without a record."""
        return [trial for trial in self.trials if trial.index not in self.runs]

    @property
    def environments(self) -> list[str]:
        """In the order of the file."""
        return list(dict.fromkeys(trial.config.env for trial in self.trials))

    def has_papers_task(self, env: str) -> bool:
        """Whether the tasks of `env` are the paper's own in every trial."""
        return all(is_papers_task(t.config) for t in self.trials if t.config.env == env)

    @property
    def variants(self) -> list[str]:
        """In the order of the file."""
        return list(dict.fromkeys(trial.variant for trial in self.trials))

    @property
    def model(self) -> str:
        """The models of the trials, as figures name them."""
        return model_label(*dict.fromkeys(trial.config.model for trial in self.trials))

    def of(self, env: str, variant: str) -> list[RunData]:
        """The records of one variant on one environment, one per seed."""
        return [
            self.runs[trial.index]
            for trial in self.trials
            if (trial.config.env, trial.variant) == (env, variant) and trial.index in self.runs
        ]

    def groups(self, env: str, variants: Iterable[str] | None = None) -> dict[str, list[RunData]]:
        """Records on one environment by variant; variants without records are left out."""
        wanted = self.variants if variants is None else variants
        found = {variant: self.of(env, variant) for variant in wanted}
        return {variant: runs for variant, runs in found.items() if runs}

    def unfair(self) -> list[str]:
        """A note on each variant whose method sees what no method compared fairly may."""
        found = {trial.variant: self.runs.get(trial.index) for trial in self.trials}
        return [
            f"`{variant}` is {run.called}: an upper bound, not a method to compare others with."
            for variant, run in found.items()
            if run is not None and run.called != run.method
        ]


def gather(trials: Sequence[Trial], records: Records) -> Gathered:
    """`trials` with their records, as far as they exist."""
    known = counted(trials, "reading records of runs")
    found = {trial.index: records.of(trial.config) for trial in known}
    return Gathered(trials, {index: run for index, run in found.items() if run is not None})


def sweep_trials(sweep: Sweep, envs: Sequence[str], variants: Sequence[str]) -> list[Trial]:
    """The trials of `sweep`, of these environments and variants (() for all)."""
    return [
        trial
        for trial in sweep.trials
        if (not envs or trial.config.env in envs)
        and (not variants or family(trial.variant) in variants)
    ]


def folder_trials(
    folder: Path, records: Records, envs: Sequence[str], variants: Sequence[str]
) -> list[Trial]:
    """The single runs `<folder>/<env>/<variant>.yaml`, for every seed that has a record.

    Seed 0 is among them in any case.
    """
    trials: list[Trial] = []
    for path in sorted(folder.glob("*/*.yaml")):
        variant = FILE_NAMES.get(path.stem, path.stem)
        if (envs and path.parent.name not in envs) or (variants and variant not in variants):
            continue
        config = RunConfig.of_record(path)
        for seed in sorted({0, *records.seeds(config)}):
            trials.append(Trial(0, variant, replace(config, seed=seed)))
    if variants:
        trials.sort(key=lambda trial: variants.index(trial.variant))
    return [replace(trial, index=index) for index, trial in enumerate(trials)]


def family(variant: str) -> str:
    """A variant's name without what a grid added to it."""
    return variant.partition(",")[0]
