"""The runs that an experiment needs, found among records by their settings, not their paths."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from resd_bench.config import RunConfig
from resd_bench.errors import UsageError
from resd_bench.evaluation.extra import other_environments
from resd_bench.models.identity import weights_hash
from resd_bench.records.run_files import RunFiles, run_folders
from resd_bench.records.runs import RunData, load_run, model_label
from resd_bench.sweep.definition import Trial, load_sweep

BESIDE = frozenset({"eval_every", "eval_validation", "eval_contexts", "eval_also"})
"""Settings of extra evaluations; they affect neither training nor the reported number."""
NAMED = re.compile(r"^(env|method|seed): *(\S+) *$", re.MULTILINE)
SEED = re.compile(r"[0-9]{1,19}")
FILE_NAMES = {"sdpo-ss": "sdpo+ss"}
"""Variants whose file has another name."""


@dataclass
class Records:
    """Run folders, kept or fresh, by environment, method and seed."""

    folders: Mapping[tuple[str, str, str], Sequence[Path]]
    _runs: dict[Path, RunData] = field(default_factory=dict)
    _configs: dict[Path, RunConfig | None] = field(default_factory=dict)

    @classmethod
    def scan(cls, roots: Iterable[Path]) -> Records:
        """Every run folder below `roots`; those of earlier roots come first."""
        found: dict[tuple[str, str, str], list[Path]] = {}
        for root in dict.fromkeys(roots):
            for folder in run_folders(root):
                # A damaged one would otherwise be taken for another run, or ignored.
                text = RunFiles.at(folder).config_text()
                named = {name: value.strip("'\"") for name, value in NAMED.findall(text)}
                key = (named.get("env", ""), named.get("method", ""), named.get("seed", ""))
                found.setdefault(key, []).append(folder)
        return cls(found)

    def of(self, config: RunConfig) -> RunData | None:
        """The finished record of a run like `config`; of several, the one evaluated most alike."""
        there = self.folders.get((config.env, config.method, str(config.seed)), ())
        found = {folder: apart for folder in there if (apart := self._apart(folder, config)) >= 0}
        if not found:
            return None
        nearest = min(found, key=found.__getitem__)
        if nearest not in self._runs:
            self._runs[nearest] = load_run(nearest)
        return self._runs[nearest]

    def _apart(self, folder: Path, wanted: RunConfig) -> int:
        """In how many settings of extra evaluations a record differs; -1 if it does not match."""
        if folder not in self._configs:
            self._configs[folder] = _finished(folder)
        there = self._configs[folder]
        if there is None or not is_equivalent(there, wanted):
            return -1
        return sum(getattr(there, name) != getattr(wanted, name) for name in BESIDE)

    def seeds(self, config: RunConfig) -> list[int]:
        """Seeds that may have a record."""
        return sorted(
            int(seed)
            for env, method, seed in self.folders
            if (env, method) == (config.env, config.method) and SEED.fullmatch(seed)
        )


def _finished(folder: Path) -> RunConfig | None:
    """The settings of a finished run; None for one that does not count.

    A record that names other weights than the model has now does not.
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
    return config if began is None or began == now else None


def is_equivalent(there: RunConfig, wanted: RunConfig) -> bool:
    """Whether the record of a run `there` can stand in for one of `wanted`."""
    try:
        also = set(other_environments(there))
    except UsageError:
        return False
    a, b = (_without_beside(config.of_results()) for config in (there, wanted))
    return (
        a == b
        and there.eval_contexts >= wanted.eval_contexts
        and also >= set(other_environments(wanted))
        and bool(there.eval_every) >= bool(wanted.eval_every)
    )


def _without_beside(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in settings.items() if key not in BESIDE}


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
    found = {trial.index: records.of(trial.config) for trial in trials}
    return Gathered(trials, {index: run for index, run in found.items() if run is not None})


def sweep_trials(path: Path, envs: Sequence[str], variants: Sequence[str]) -> list[Trial]:
    """The trials of the sweep in `path`, of these environments and variants (() for all)."""
    return [
        trial
        for trial in load_sweep(path).trials
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
