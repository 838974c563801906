"""Groups of runs against the first of them, at equal budget on any axis. Left out: printing.

Runs are grouped by method and settings, paired by (environment, seed), and environments count
alike.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from resd_bench.config import NOT_RESULTS, flatten
from resd_bench.plugins import UsageError
from resd_bench.report.runs import RunData
from resd_bench.seeds import stream
from resd_bench.stats import (
    Axis,
    Interval,
    Pair,
    TimeVerdict,
    Verdict,
    Wait,
    aggregate,
    area_by_task,
    area_under_curve,
    judge,
    judge_times,
    kaplan_meier,
    learning_curve_of,
    make_pair,
    stratified_logrank,
    success_at,
    time_to_threshold,
    wilson,
)

Groups = Mapping[str, Sequence[RunData]]
Measure = Literal["success", "area"]
"""Success of the last checkpoint within the budget, or the area under the curve up to it."""

NOT_LABELS = NOT_RESULTS | {"seed", "eval_every", "eval_validation", "eval_contexts", "eval_also"}
"""Settings that do not make runs of one method different things to compare."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """One group of runs at a budget, and against the first group."""

    label: str
    seeds: tuple[int, ...]
    runs: int
    success: Interval
    """Mean over seeds and environments; of a single run, with its Wilson limits."""
    judged: Verdict | None
    """Against the first group; None for the first, and where they share no seed."""

    @property
    def difference(self) -> Interval | None:
        """This minus the first group over their common seeds, with t limits; None where none."""
        return None if self.judged is None else self.judged.difference

    @property
    def verdict(self) -> str:
        """`better`, `worse` or `inconclusive`; empty where there is no difference."""
        return "" if self.judged is None else self.judged.word


@dataclass(frozen=True, slots=True)
class TimeComparison:
    """How long one group took to a threshold, and against the first group."""

    label: str
    waits: tuple[Wait, ...]
    median: Interval
    judged: TimeVerdict | None

    @property
    def reached(self) -> int:
        """How many runs got there within the budget."""
        return sum(wait.reached for wait in self.waits)


def group_runs(runs: Sequence[RunData]) -> dict[str, list[RunData]]:
    """Runs by what they are runs of, in order of appearance; environments are pooled.

    A label is the method, and whatever else differs: model and preset among all runs, any other
    setting but the seed among those of one method on one environment. UsageError where two runs
    of one environment and seed cannot be told apart.
    """
    settings = [flatten(run.settings) for run in runs]
    among_all = _differing(settings) & {"model", "preset"}
    groups: dict[str, list[RunData]] = {}
    for run, own in zip(runs, settings, strict=True):
        alike = [other for other in settings if other["method"] == run.method]
        keys = sorted(among_all | _differing_in_an_environment(alike) - NOT_LABELS)
        facts = [f"{key}={own[key]}" for key in keys if own.get(key) not in (None, "")]
        group = groups.setdefault(" · ".join([run.method, *facts]), [])
        for other in group:
            if (other.env, other.seed) == (run.env, run.seed):
                raise UsageError(
                    f"{run.folder} and {other.folder} are runs of the same configuration and "
                    "seed: give one of them"
                )
        group.append(run)
    return groups


def _differing_in_an_environment(settings: Sequence[Mapping[str, object]]) -> set[str]:
    environments = {str(own["env"]) for own in settings}
    return {
        key
        for env in environments
        for key in _differing([own for own in settings if str(own["env"]) == env])
    }


def _differing(settings: Sequence[Mapping[str, object]]) -> set[str]:
    keys = {key for own in settings for key in own}
    return {key for key in keys if len({repr(own.get(key)) for own in settings}) > 1}


def in_common_environments(groups: Groups) -> dict[str, list[RunData]]:
    """The runs in environments that every group has; UsageError where there is none."""
    common = set.intersection(*({run.env for run in runs} for runs in groups.values()))
    if not common:
        places = "; ".join(
            f"{k}: {', '.join(sorted({r.env for r in v}))}" for k, v in groups.items()
        )
        raise UsageError(f"no environment that all groups were run on ({places}): give such runs")
    return {label: [run for run in runs if run.env in common] for label, runs in groups.items()}


def common_budget(runs: Sequence[RunData], axis: Axis = "episodes") -> float:
    """What every run spent at least; UsageError where one does not say."""
    for run in runs:
        run.check_axis(axis)
    return min(run.points[-1].at(axis) for run in runs)


def compare(
    groups: Groups, budget: float, axis: Axis = "episodes", measure: Measure = "success"
) -> list[Comparison]:
    """Each group at `budget`, and its paired difference to the first group, Holm over all."""
    outcomes = {
        label: {(run.env, run.seed): _outcomes(run, budget, axis, measure) for run in runs}
        for label, runs in groups.items()
    }
    first = next(iter(outcomes.values()))
    pairs = {
        label: _pairs(own, first)
        for label, own in outcomes.items()
        if own is not first and own.keys() & first.keys()
    }
    verdicts = dict(zip(pairs, judge(list(pairs.values()), stream(0, "sign flips")), strict=True))
    return [
        Comparison(
            label,
            tuple(sorted({seed for _, seed in outcomes[label]})),
            len(runs),
            _overall(runs, outcomes[label], budget, axis, measure),
            verdicts.get(label),
        )
        for label, runs in groups.items()
    ]


ByTask = Mapping[str, Sequence[float]]
ByRun = Mapping[tuple[str, int], ByTask]
"""By environment and seed, the outcomes of each task."""


def _outcomes(run: RunData, budget: float, axis: Axis, measure: Measure) -> ByTask:
    if measure == "success" or budget == 0:
        own = success_at(run.points, budget, axis).outcomes()
        if not own:
            raise UsageError(
                f"{run.folder}: no sample was scored at the budget: give a smaller one"
            )
        return own
    x, y = learning_curve_of(run.points, axis)
    if not x:
        raise UsageError(f"{run.folder}: no sample was scored at all: leave it out")
    # Tasks that come and go have no curve of their own.
    if len({frozenset(point.outcomes()) for point in run.points if point.samples}) > 1:
        return {"all": (area_under_curve(x, y, budget),)}
    return {task: (area,) for task, area in area_by_task(run.points, budget, axis).items()}


def _pairs(own: ByRun, first: ByRun) -> dict[str, list[Pair]]:
    pairs: dict[str, list[Pair]] = {}
    for env, seed in sorted(own.keys() & first.keys()):
        pairs.setdefault(env, []).append(make_pair(own[env, seed], first[env, seed]))
    return pairs


def success_of(runs: Sequence[RunData], budget: float, axis: Axis = "episodes") -> Interval:
    """What a group of runs came to at `budget`, as `compare` has it."""
    outcomes = {(run.env, run.seed): _outcomes(run, budget, axis, "success") for run in runs}
    return _overall(runs, outcomes, budget, axis, "success")


def varying_settings(runs: Sequence[RunData]) -> list[str]:
    """Settings that differ among runs of one method in one environment, and these two, sorted.

    What differs only because methods differ (a group size, their own options) is none.
    """
    settings = [flatten(run.settings) for run in runs]
    found = _differing(settings) & {"env", "method", "model", "preset"}
    for method in {run.method for run in runs}:
        alike = [own for own in settings if own["method"] == method]
        found |= _differing_in_an_environment(alike) - NOT_RESULTS
    return sorted(found)


def _overall(
    runs: Sequence[RunData], outcomes: ByRun, budget: float, axis: Axis, measure: Measure
) -> Interval:
    if len(runs) == 1 and measure == "success":
        return success_at(runs[0].points, budget, axis).interval()
    return overall(outcomes)


def overall(outcomes: ByRun) -> Interval:
    """Mean over environments of means over seeds, with limits that know the sampling of tasks.

    NaN limits where an environment has one seed.
    """
    values: dict[str, list[float]] = {}
    variance: dict[str, list[float]] = {}
    for (env, _), tasks in outcomes.items():
        values.setdefault(env, []).append(
            float(np.mean([x for own in tasks.values() for x in own]))
        )
        means = [float(np.mean(own)) for own in tasks.values()]
        variance.setdefault(env, []).append(float(np.var(means)) / max(1, len(means) - 1))
    flat = {value for own in values.values() for value in own}
    if flat in ({0.0}, {1.0}):
        # Seeds that agree on nothing, or on everything, say no more than one of them.
        value, n = flat.pop(), min(sum(map(len, tasks.values())) for tasks in outcomes.values())
        return Interval(value, *wilson(value * n, n), n)
    parts = [sum(own) / len(own) ** 2 for own in variance.values()]
    least = float(np.sqrt(sum(parts)) / len(parts))
    found = aggregate(values, stream(0, "bootstrap"), least_error=least)
    return Interval(
        found.mean, float(np.maximum(found.low, 0)), float(np.minimum(found.high, 1)), found.n
    )


def waits(runs: Sequence[RunData], budget: float, axis: Axis, tau: float) -> dict[str, list[Wait]]:
    """By environment, how long each run took to stand at success `tau` at two evaluations."""
    found: dict[str, list[Wait]] = {}
    for run in runs:
        x, y = learning_curve_of(run.points, axis)
        found.setdefault(run.env, []).append(time_to_threshold(x, y, tau, budget))
    return found


def compare_times(
    groups: Groups, budget: float, axis: Axis = "episodes", tau: float = 0.5
) -> list[TimeComparison]:
    """Each group's time to success `tau`, right-censored at `budget`, and against the first."""
    times = {label: waits(runs, budget, axis, tau) for label, runs in groups.items()}
    first = next(iter(times.values()))
    rng = stream(0, "relabellings")
    others = [label for label, own in times.items() if own is not first]
    tests = [stratified_logrank(times[label], first, rng) for label in others]
    # Seeds per environment: what one would have to run more of.
    sizes = [min(map(len, times[label].values())) for label in others]
    verdicts = dict(zip(others, judge_times(tests, sizes), strict=True))
    rows = []
    for label, own in times.items():
        flat = tuple(wait for few in own.values() for wait in few)
        rows.append(TimeComparison(label, flat, kaplan_meier(flat).median(), verdicts.get(label)))
    return rows
