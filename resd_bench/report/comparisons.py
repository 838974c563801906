"""Groups of runs compared with the first of them, at equal budget on any axis. Left out: printing.

Runs are grouped by method and settings and paired by (environment, seed); every environment has
the same weight.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np

from resd_bench import plugins
from resd_bench.errors import UsageError
from resd_bench.records.runs import RunData
from resd_bench.report.measured import (
    NOT_ON_RECORD,
    Facts,
    complete,
    differing_keys,
    evaluated_elsewhere,
    facts_of,
    label_of,
    measured_differently,
    not_yet_evaluated,
)
from resd_bench.seeds import stream
from resd_bench.stats import (
    SATURATED,
    Axis,
    CensoredTime,
    Interval,
    Pair,
    TimeVerdict,
    Verdict,
    aggregate,
    area_by_task,
    area_under_curve,
    is_saturated,
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
LONG_LABEL = 120
"""Characters of a label that can be read next to others."""
TASKS = frozenset({"eval_tasks", "evaluated tasks"})
"""Measurements that differ where runs were evaluated on other tasks."""
Measure = Literal["success", "area"]
"""Success of the last checkpoint within the budget, or the area under the curve up to it."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """One group of runs at a budget, and how it compares with the first group."""

    label: str
    seeds: tuple[int, ...]
    runs: int
    success: Interval
    """Mean over seeds and environments; Wilson limits where there is a single run."""
    judged: Verdict | None
    """Verdict against the first group; None for the first, and where they cannot be compared."""
    with_failures: Interval | None = None
    """`success` if attempts without a verdict count as failures; None where there are none."""
    left_out: int = 0
    """Attempts without a verdict, which `success` leaves out."""
    unlike: Sequence[str] = ()
    """How it was measured differently from the first group, which is why it is not judged."""
    saturated: bool = False
    """Whether all groups that were trained, this one and the first end so high on every environment
    that it is not a ranking."""

    @property
    def difference(self) -> Interval | None:
        """This group minus the first over their common seeds, with t limits; None if not judged."""
        return None if self.judged is None else self.judged.difference

    @property
    def verdict(self) -> str:
        """`better`, `worse` or `inconclusive`; empty where there is no difference or ranking."""
        return "" if self.judged is None or self.saturated else self.judged.word


@dataclass(frozen=True, slots=True)
class TimeComparison:
    """How long one group took to reach a threshold, and how it compares with the first group."""

    label: str
    waits: tuple[CensoredTime, ...]
    median: Interval
    judged: TimeVerdict | None
    with_failures: Interval | None = None
    """As in a `Comparison`."""

    @property
    def reached(self) -> int:
        """How many runs reached the threshold within the budget."""
        return sum(wait.reached for wait in self.waits)


def group_runs(runs: Sequence[RunData]) -> dict[str, list[RunData]]:
    """Runs grouped by method and settings, in order of appearance; environments are pooled.

    A label is the method and whatever else differs: model and preset among all runs, any other
    setting except the seed among runs of one method on one environment; where labels would be
    longer than `LONG_LABEL`, what most runs of a method have is left out of them. Models are the
    same if their weights are, whatever they are called. UsageError where two runs on one
    environment and seed cannot be told apart.
    """
    groups: dict[str, list[RunData]] = {}
    seen: dict[tuple[str, str, int], RunData] = {}
    for label, run in zip(_labels_of(runs), runs, strict=True):
        other = seen.setdefault((label, run.env, run.seed), run)
        if other is not run:
            raise UsageError(
                f"{run.folder} and {other.folder} are runs of the same configuration and "
                "seed: give one of them"
            )
        groups.setdefault(label, []).append(run)
    return groups


def without_repeats(runs: Sequence[RunData]) -> tuple[list[RunData], list[tuple[RunData, RunData]]]:
    """The runs that `group_runs` can tell apart, and each repeat with the run that is kept of it.

    A repeat has the configuration and the seed of another run, so it is not an independent
    measurement. Of several, the one that got furthest is kept; of equals, the one that was
    evaluated most often, then the first.
    """
    alike: dict[tuple[str, str, int], list[RunData]] = {}
    for label, run in zip(_labels_of(runs), runs, strict=True):
        alike.setdefault((label, run.env, run.seed), []).append(run)
    best = [max(own, key=_extent) for own in alike.values()]
    kept = {id(run) for run in best}
    pairs = [
        (run, chosen)
        for own, chosen in zip(alike.values(), best, strict=True)
        for run in own
        if run is not chosen
    ]
    return [run for run in runs if id(run) in kept], pairs


def _extent(run: RunData) -> tuple[float, int]:
    return run.points[-1].episodes, len(run.points)


def _labels_of(runs: Sequence[RunData]) -> list[str]:
    """The label of each run, see `group_runs`."""
    facts = _with_names_of_models(complete([facts_of(run) for run in runs]))
    among_all = differing_keys(facts) & {"model", "preset"}
    by_method = {
        method: sorted(among_all | _labels([own for own in facts if own["method"] == method]))
        for method in {run.method for run in runs}
    }
    full = [_label(r, own, by_method[r.method]) for r, own in zip(runs, facts, strict=True)]
    if max(map(len, full)) <= LONG_LABEL:
        return full
    rest = {method: set(keys) - among_all for method, keys in by_method.items()}
    usual = {
        (method, key): Counter(_value(own, key) for own in facts if own["method"] == method)
        for method, keys in rest.items()
        for key in keys
    }
    short = []
    for run, own in zip(runs, facts, strict=True):
        seen = {key: usual[run.method, key].most_common(1)[0][0] for key in rest[run.method]}
        own_keys = [k for k in by_method[run.method] if seen.get(k) != _value(own, k)]
        short.append(_label(run, own, own_keys))
    return short if len(set(short)) == len(set(full)) else full


def _label(run: RunData, own: Facts, keys: Sequence[str]) -> str:
    return " · ".join([run.called, *(f"{k}={v}" for k in keys if (v := _value(own, k)))])


def _value(own: Facts, key: str) -> str:
    return "" if own.get(key) in (None, "") else label_of(own[key])


def _with_names_of_models(facts: Sequence[Facts]) -> list[Facts]:
    """The facts, with one name for equal weights."""
    names: dict[str, str] = {}
    named = []
    for own in facts:
        weights = own.get("weights", NOT_ON_RECORD)
        if weights != NOT_ON_RECORD and "model" in own:
            own = {**own, "model": names.setdefault(weights, own["model"])}
        named.append(own)
    return named


def _labels(facts: Sequence[Facts]) -> set[str]:
    """The settings that tell runs of one method apart."""
    keys = _differing_in_an_environment(facts)
    if "model" in keys and _one_model_a_name(facts):
        keys = {key for key in keys if key != "weights" and not key.startswith("model.")}
    # Runs are compared at equal budget, so the budget tells runs apart only if nothing else does.
    without = [tuple(_shown(own, {*keys, "env", "seed"} - {"budget"})) for own in facts]
    return keys if len(set(without)) < len(facts) else keys - {"budget"}


def _one_model_a_name(facts: Sequence[Facts]) -> bool:
    pairs = {(own.get("model"), own.get("weights")) for own in facts}
    return len(pairs) == len({name for name, _ in pairs})


def _shown(own: Facts, keys: Iterable[str]) -> list[str]:
    return [f"{key}={own.get(key)!r}" for key in sorted(keys)]


def _differing_in_an_environment(facts: Sequence[Facts]) -> set[str]:
    environments = {str(own["env"]) for own in facts}
    return {
        key
        for env in environments
        for key in differing_keys([own for own in facts if str(own["env"]) == env])
    }


def in_common_environments(groups: Groups) -> dict[str, list[RunData]]:
    """The runs on environments common to all groups; UsageError where there is none."""
    common = set.intersection(*({run.env for run in runs} for runs in groups.values()))
    if not common:
        raise UsageError(
            "no environment is common to all groups: give runs on a common environment; there are "
            f"{', '.join(environments_of(groups))}"
        )
    return {label: [run for run in runs if run.env in common] for label, runs in groups.items()}


def by_environment(groups: Groups) -> dict[str, dict[str, list[RunData]]]:
    """The groups of each environment, for groups without a common one."""
    return _divided(groups, lambda run: run.env)


def by_model(groups: Groups) -> dict[str, dict[str, list[RunData]]]:
    """The groups of each model, by its name in settings."""
    return _divided(groups, lambda run: run.model)


def _divided(
    groups: Groups, part_of: Callable[[RunData], str]
) -> dict[str, dict[str, list[RunData]]]:
    """By part, in order of appearance, the groups with the runs that are of it."""
    found: dict[str, dict[str, list[RunData]]] = {}
    for label, runs in groups.items():
        for run in runs:
            found.setdefault(part_of(run), {}).setdefault(label, []).append(run)
    return found


def environments_of(groups: Groups) -> list[str]:
    """The environments of all groups, in order of appearance."""
    return list(dict.fromkeys(run.env for runs in groups.values() for run in runs))


def common_budget(runs: Sequence[RunData], axis: Axis = "episodes") -> float:
    """The least that any run spent; UsageError where a run does not say."""
    for run in runs:
        run.check_axis(axis)
    return min(run.points[-1].at(axis) for run in runs)


def compare(
    groups: Groups,
    budget: float,
    axis: Axis = "episodes",
    measure: Measure = "success",
    varies: Collection[str] = (),
) -> list[Comparison]:
    """Each group at `budget`, and its paired difference to the first, Holm-corrected over all.

    A group that was measured differently from the first is not judged, unless everything that
    differs is named in `varies`.
    """
    scored = _outcomes_of(groups, budget, axis, measure)
    counted = scored
    if any(run.left_out for runs in groups.values() for run in runs):
        counted = _outcomes_of(with_failures(groups), budget, axis, measure)
    first, *others = groups
    unlike = {
        label: unlikeness((groups[first], groups[label]), budget, axis, measure, varies)
        for label in others
    }
    paired = partial(pairs, common=not TASKS.isdisjoint(varies))
    against = {label: paired(scored[label], scored[first]) for label in others}
    judged = [label for label in others if against[label] and not unlike[label]]
    verdicts = judge(
        [against[label] for label in judged],
        stream(0, "sign flips"),
        with_failures=[paired(counted[label], counted[first]) for label in judged],
    )
    by_label = dict(zip(judged, verdicts, strict=True))
    full = _filled(groups, budget, axis) if measure == "success" else set()
    rows = []
    for label, runs in groups.items():
        missing = left_out(runs, budget, axis, measure)
        again = [run.with_failures() for run in runs]
        rows.append(
            Comparison(
                label,
                tuple(sorted({seed for _, seed in scored[label]})),
                len(runs),
                _overall(runs, scored[label], budget, axis, measure),
                by_label.get(label),
                _overall(again, counted[label], budget, axis, measure) if missing else None,
                missing,
                unlike.get(label, ()),
                {first, label} <= full,
            )
        )
    return rows


def saturated_environments(groups: Groups, budget: float, axis: Axis = "episodes") -> list[str]:
    """Environments on which all of several groups end so high that they cannot be ranked.

    Where several groups were trained, those that were not have no say.
    """
    found = _ends(groups, budget, axis)
    return [env for env, ends in found.items() if leave_no_room(groups, ends)]


def leave_no_room(groups: Groups, ends: Mapping[str, float]) -> bool:
    """Whether the ends of groups, by label, are saturated."""
    trained = {k for k in ends if any(plugins.learns(run.method) for run in groups[k])}
    return is_saturated(
        [end for label, end in ends.items() if label in trained],
        [end for label, end in ends.items() if label not in trained],
    )


def _filled(groups: Groups, budget: float, axis: Axis) -> set[str]:
    """The groups that end so high on every environment, if all of them are saturated."""
    ends = _ends(groups, budget, axis)
    if not all(leave_no_room(groups, own) for own in ends.values()):
        return set()
    low = {label for own in ends.values() for label, end in own.items() if end <= SATURATED}
    return set(groups) - low


def _ends(groups: Groups, budget: float, axis: Axis) -> dict[str, dict[str, float]]:
    """By environment and group, the mean success of its runs."""
    found: dict[str, dict[str, list[float]]] = {}
    for label, runs in groups.items():
        for run in runs:
            end = success_at(run.points, budget, axis).mean
            found.setdefault(run.env, {}).setdefault(label, []).append(end)
    return {
        env: {label: sum(own) / len(own) for label, own in ends.items()}
        for env, ends in found.items()
    }


def _outcomes_of(
    groups: Groups, budget: float, axis: Axis, measure: Measure
) -> dict[str, dict[tuple[str, int], ByTask]]:
    return {label: outcomes_by_run(runs, budget, axis, measure) for label, runs in groups.items()}


def with_failures(groups: Groups) -> dict[str, list[RunData]]:
    """The groups, with attempts without a verdict counted as failures."""
    return {label: [run.with_failures() for run in runs] for label, runs in groups.items()}


def unlikeness(
    groups: Iterable[Sequence[RunData]],
    budget: float,
    axis: Axis,
    measure: Measure,
    varies: Collection[str],
) -> list[str]:
    """Why groups of runs cannot be compared on `measure`; [] where they can."""
    sides = list(groups)
    found = measured_differently(sides, varies, axis)
    if "evaluations" in varies or budget == 0:
        return found
    why = evaluated_elsewhere if measure == "area" else not_yet_evaluated
    return found + why(sides, budget, axis)


ByTask = Mapping[str, Sequence[float]]
ByRun = Mapping[tuple[str, int], ByTask]
"""By environment and seed, the outcomes of each task."""


def outcomes_by_task(run: RunData, budget: float, axis: Axis, measure: Measure) -> ByTask:
    """What `measure` is the mean of, by task; UsageError where nothing was scored."""
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
    # A task that is not in every evaluation has no curve of its own.
    if len({frozenset(point.outcomes()) for point in run.points if point.samples}) > 1:
        return {"all": (area_under_curve(x, y, budget),)}
    return {task: (area,) for task, area in area_by_task(run.points, budget, axis).items()}


def outcomes_by_run(
    runs: Sequence[RunData], budget: float, axis: Axis, measure: Measure
) -> dict[tuple[str, int], ByTask]:
    """`outcomes_by_task` of each run; UsageError where nothing was scored."""
    return {(run.env, run.seed): outcomes_by_task(run, budget, axis, measure) for run in runs}


def pairs(own: ByRun, first: ByRun, *, common: bool = False) -> dict[str, list[Pair]]:
    """Pairs of runs with the same environment and seed, by environment.

    With `common` they are compared on the tasks that both were evaluated on, if there are any.
    """
    found: dict[str, list[Pair]] = {}
    for env, seed in sorted(own.keys() & first.keys()):
        one, other = own[env, seed], first[env, seed]
        if common:
            shared = sorted(one.keys() & other.keys())
            one, other = ({task: side[task] for task in shared} for side in (one, other))
        if one and other:
            found.setdefault(env, []).append(make_pair(one, other))
    return found


def success_of(runs: Sequence[RunData], budget: float, axis: Axis = "episodes") -> Interval:
    """Success of a group of runs at `budget`, as `compare` computes it."""
    outcomes = outcomes_by_run(runs, budget, axis, "success")
    return _overall(runs, outcomes, budget, axis, "success")


def varying_settings(runs: Sequence[RunData]) -> list[str]:
    """Settings that differ among runs of one method on one environment, and those two, sorted.

    A setting that differs only because methods differ (group size, their options) is left out.
    """
    facts = complete([facts_of(run) for run in runs])
    found = differing_keys(facts) & {"env", "method", "model", "preset"}
    for method in {run.method for run in runs}:
        found |= _differing_in_an_environment([own for own in facts if own["method"] == method])
    return sorted(found)


def left_out(runs: Sequence[RunData], budget: float, axis: Axis, measure: Measure) -> int:
    """Number of attempts without a verdict among those that `measure` is computed from."""
    if measure == "success":
        return sum(success_at(run.points, budget, axis).errors for run in runs)
    return sum(p.errors for run in runs for p in run.points if p.at(axis) <= budget)


def _overall(
    runs: Sequence[RunData], outcomes: ByRun, budget: float, axis: Axis, measure: Measure
) -> Interval:
    if len(runs) == 1 and measure == "success":
        return success_at(runs[0].points, budget, axis).interval()
    return overall(outcomes)


def overall(outcomes: ByRun) -> Interval:
    """Mean over environments of means over seeds; the limits account for the sampling of tasks.

    Limits are NaN where an environment has one seed.
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
        # Seeds that all fail, or all succeed, say no more than one of them.
        value, n = flat.pop(), min(sum(map(len, tasks.values())) for tasks in outcomes.values())
        return Interval(value, *wilson(value * n, n), n)
    parts = [sum(own) / len(own) ** 2 for own in variance.values()]
    least = float(np.sqrt(sum(parts)) / len(parts))
    found = aggregate(values, stream(0, "bootstrap"), least_error=least)
    return Interval(
        found.mean, float(np.maximum(found.low, 0)), float(np.minimum(found.high, 1)), found.n
    )


def waits(
    runs: Sequence[RunData], budget: float, axis: Axis, tau: float
) -> dict[str, list[CensoredTime]]:
    """By environment, how long each run took to hold success `tau` at two evaluations in a row."""
    found: dict[str, list[CensoredTime]] = {}
    for run in runs:
        x, y = learning_curve_of(run.points, axis)
        found.setdefault(run.env, []).append(time_to_threshold(x, y, tau, budget))
    return found


def compare_times(
    groups: Groups,
    budget: float,
    axis: Axis = "episodes",
    tau: float = 0.5,
    varies: Collection[str] = (),
) -> list[TimeComparison]:
    """Each group's time to success `tau`, right-censored at `budget`, compared with the first.

    Groups that were measured differently are not judged; see `compare`.
    """
    times, counted = (
        {label: waits(runs, budget, axis, tau) for label, runs in own.items()}
        for own in (groups, with_failures(groups))
    )
    first, *others = groups
    judged = [
        label
        for label in others
        if not unlikeness((groups[first], groups[label]), budget, axis, "area", varies)
    ]
    rng = stream(0, "relabellings")
    tests = [stratified_logrank(times[label], times[first], rng) for label in judged]
    again = tests
    if counted != times:
        again = [stratified_logrank(counted[label], counted[first], rng) for label in judged]
    # Seeds per environment: the number that a user could increase.
    sizes = [min(map(len, times[label].values())) for label in judged]
    verdicts = dict(zip(judged, judge_times(tests, sizes, with_failures=again), strict=True))
    rows = []
    for label in times:
        flat, also = (tuple(w for few in t[label].values() for w in few) for t in (times, counted))
        median = kaplan_meier(flat).median()
        less = None if flat == also else kaplan_meier(also).median()
        rows.append(TimeComparison(label, flat, median, verdicts.get(label), less))
    return rows
