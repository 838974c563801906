"""What each method's trials come to on validation tasks, and which settings are chosen.

The measure is the area under the curve of validation success over training rollouts, divided by
the budget; the choice is by its mean over environments. Nothing here reads an evaluation on test
tasks: a record that holds one is refused. Left out: how it is shown, see `page`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from resd_bench.config import RunConfig
from resd_bench.errors import UsageError
from resd_bench.records.recorder import read_status
from resd_bench.records.runs import RunData
from resd_bench.reproduce.match_records import Records
from resd_bench.stats import EvalPoint, area_under_curve, learning_curve_of
from resd_bench.sweep.definition import Trial
from resd_bench.tuning.definition import Candidate, Tuning

TRIAL_NOT_RUN = "not run"


@dataclass(frozen=True, slots=True)
class MeasuredTrial:
    """One run of a trial: what it came to, or why it counts as the worst, or is not there."""

    seed: int
    area: float = math.nan
    """Area under the curve of validation success, as a share; 0 if it failed; NaN if not run."""
    final: float = math.nan
    """Validation success at the end, likewise."""
    failure: str = ""

    @property
    def there(self) -> bool:
        return not math.isnan(self.area)


@dataclass(frozen=True, slots=True)
class Tried:
    """A trial of a method with its runs by environment."""

    candidate: Candidate
    runs: Mapping[str, Sequence[MeasuredTrial]]

    @property
    def there(self) -> bool:
        """Whether all its runs have ended."""
        return all(run.there for own in self.runs.values() for run in own)

    @property
    def failures(self) -> list[str]:
        """Why runs failed."""
        return [
            f"{env}, seed {run.seed}: {run.failure}"
            for env, own in self.runs.items()
            for run in own
            if run.failure
        ]

    def area(self, env: str | None = None) -> float:
        """Mean over seeds on one environment, or the mean over environments of those."""
        envs = self.runs if env is None else [env]
        return fmean(fmean(run.area for run in self.runs[name]) for name in envs)

    def final(self, env: str) -> float:
        return fmean(run.final for run in self.runs[env])


@dataclass(frozen=True, slots=True)
class Choice:
    """The best trial of a method."""

    best: Tried
    ties: Sequence[Tried] = ()
    """Others that are exactly as good; the earliest is chosen."""


@dataclass(frozen=True, slots=True)
class MethodTrials:
    """All trials of a method."""

    method: str
    trials: Sequence[Tried]
    missing: int = 0
    """Trials that have not ended: without all of them nothing is chosen."""

    def areas(self, env: str | None = None) -> list[float]:
        """Of the trials that are there."""
        return [one.area(env) for one in self.trials if one.there]

    def choose(self, env: str | None = None) -> Choice | None:
        """The best trial, over environments jointly or on one; None until all have ended."""
        if self.missing:
            return None
        top = max(self.areas(env))
        first, *ties = [one for one in self.trials if one.area(env) == top]
        return Choice(first, ties)


def measure_trials(
    tuning: Tuning, records: Records, failed: Mapping[str, str] | None = None
) -> dict[str, MethodTrials]:
    """Every method's trials with their records; `failed` says of run folders why they failed."""
    found = {}
    for method, candidates in tuning.methods.items():
        trials = [
            Tried(
                one,
                {
                    env: [
                        _measured(tuning.runs[method, one.number, env, seed], records, failed or {})
                        for seed in tuning.seeds
                    ]
                    for env in tuning.envs
                },
            )
            for one in candidates
        ]
        found[method] = MethodTrials(method, trials, sum(not one.there for one in trials))
    return found


def _measured(trial: Trial, records: Records, failed: Mapping[str, str]) -> MeasuredTrial:
    seed = trial.config.seed
    run = records.of(trial.config)
    if run is not None:
        curve = validation_curve(run)
        budget = trial.config.parsed_budget().amount
        area = area_under_curve(*learning_curve_of(curve), budget)
        return MeasuredTrial(seed, area, curve[-1].mean)
    reason = failed.get(str(trial.folder)) or _recorded_failure(trial)
    return MeasuredTrial(seed, 0.0, 0.0, reason) if reason else MeasuredTrial(seed)


def _recorded_failure(trial: Trial) -> str:
    """What the run's own status says, if it failed."""
    if not (trial.folder / "config.yaml").is_file():
        return ""
    if RunConfig.of_record(trial.folder / "config.yaml").digest() != trial.config.digest():
        return ""
    status = read_status(trial.folder)
    return str(status.get("error", "it failed")) if status.get("state") == "failed" else ""


def validation_curve(run: RunData) -> list[EvalPoint]:
    """The evaluations of a tuning run, attempts without a verdict as failures.

    UsageError if the record holds evaluations on anything but validation tasks.
    """
    split = run.settings.get("eval_split")
    others = [*run.extra, *["validation panel"] * bool(run.validation)]
    if split != "validation" or others:
        raise UsageError(
            f"{run.folder} holds evaluations on more than validation tasks (--eval-split {split}"
            f"{''.join(', ' + name for name in others)}): nothing may be chosen by it. Use runs "
            "that `tune` made"
        )
    return [point.with_failures() for point in run.points]
