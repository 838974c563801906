"""One number of several runs, with an interval, and whether it agrees with the paper.

Three rules choose the checkpoint: `last`; `validation`, the best on tasks that are not reported;
and `paper`, the highest sum of ranks over four metrics *on the reported tasks*, which is biased
upwards and here to be compared with the paper only.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal, get_args

from resd_bench.records.runs import RunData
from resd_bench.report.comparisons import (
    ByRun,
    Measure,
    common_budget,
    leave_no_room,
    outcomes_by_run,
    overall,
    pairs,
    unlikeness,
)
from resd_bench.report.measured import measured_differently
from resd_bench.report.tables import UNLIKE, UNRANKED, best_interval, both, if_any, percent
from resd_bench.report.take_off_table import NO_END, RULE, TakeOffs, judge_ends
from resd_bench.seeds import stream
from resd_bench.stats import (
    SATURATED,
    EvalPoint,
    Interval,
    Verdict,
    chosen_on_validation,
    judge,
    select_checkpoint_by_rank,
)

Rule = Literal["last", "validation", "paper"]
RULES: tuple[Rule, ...] = get_args(Rule)
Reported = Literal["last", "validation", "area"]
"""What stands for a run: a checkpoint, or its whole curve."""
REPORTED: tuple[Reported, ...] = get_args(Reported)
Metric = Literal["mean", "best", "case mean", "case best"]
"""mean@k and best@k per task, and the same per test case."""

NOT_RUN = "not run"
REPRODUCED = "reproduced in order"
INCONCLUSIVE = "inconclusive"
CONTRADICTED = "contradicted"
TAKE_OFF = "took off"
"""The column of runs that took off, on pages where seeds split in two."""
TAKE_OFF_NOTE = (
    f"{RULE}. Verdicts on it are by Boschloo's exact test, Holm over those of an environment; ? is "
    "inconclusive."
)


def choose_point(run: RunData, rule: Rule) -> EvalPoint | None:
    """The evaluation that `rule` reports of a run; None where its records do not allow the rule."""
    scored = [point for point in run.points if point.samples]
    if not scored:
        return None
    if rule == "last":
        return scored[-1]
    if rule == "validation":
        try:
            return chosen_on_validation(run.validation, scored)
        except ValueError:
            return None
    rows = [{"step": point.update, **point.metrics()} for point in scored]
    names = [name for name in rows[0] if name != "step"]
    step = select_checkpoint_by_rank([row for row in rows if names == list(row)[1:]], names)
    return next(point for point in scored if point.update == step)


def outcomes(point: EvalPoint, metric: Metric) -> dict[str, tuple[float, ...]]:
    """The values of each task by its id: its samples, or the best of them."""
    values = point.score if metric.startswith("case") else point.success
    names = point.tasks or tuple(map(str, range(len(values))))
    known = {name: own for name, own in zip(names, values, strict=True) if own}
    if metric.endswith("best"):
        return {name: (max(own),) for name, own in known.items()}
    return known


def by_run(runs: Sequence[RunData], metric: Metric, rule: Rule) -> CellOutcomes:
    """Outcomes of each run that the rule can choose a checkpoint of."""
    chosen = {(run.env, run.seed): choose_point(run, rule) for run in runs}
    return outcomes_of({key: point for key, point in chosen.items() if point is not None}, metric)


@dataclass(frozen=True, slots=True)
class CellOutcomes:
    """Outcomes of runs, over attempts with a verdict, and counting the others as failures."""

    scored: ByRun
    with_failures: ByRun

    def mean(self) -> Interval:
        """Over attempts with a verdict."""
        return overall(self.scored)

    def least(self) -> Interval | None:
        """Over all attempts; None if each has a verdict."""
        return None if self.scored == self.with_failures else overall(self.with_failures)


def areas_by_run(runs: Sequence[RunData], budget: float) -> CellOutcomes:
    """The area under the curve of each run over `budget` rollouts, divided by it."""
    sides = (runs, [run.with_failures() for run in runs])
    return CellOutcomes(*(outcomes_by_run(own, budget, "episodes", "area") for own in sides))


def by_reported(runs: Sequence[RunData], reported: Reported, budget: float) -> CellOutcomes:
    """Outcomes of each run by what stands for it; areas are over `budget` rollouts."""
    return areas_by_run(runs, budget) if reported == "area" else by_run(runs, "mean", reported)


def outcomes_of(points: Mapping[tuple[str, int], EvalPoint], metric: Metric) -> CellOutcomes:
    """The outcomes of an evaluation of each run."""
    return CellOutcomes(
        {key: outcomes(point, metric) for key, point in points.items()},
        {key: outcomes(point.with_failures(), metric) for key, point in points.items()},
    )


def cell_of(own: CellOutcomes, verdict: str = "") -> Cell:
    """The mean of `own`, as a cell; without a number if there are no outcomes."""
    if not own.scored:
        return Cell(None, None, verdict)
    return Cell(None, own.mean(), verdict, own.least())


def cell_of_runs(runs: Sequence[RunData], metric: Metric, rule: Rule) -> Cell:
    """The number of `runs`; a single run has its own limits."""
    points = [point for run in runs if (point := choose_point(run, rule)) is not None]
    if len(points) == 1 and metric in ("mean", "best"):
        own, least = (
            p.interval() if metric == "mean" else best_interval(p)
            for p in (points[0], points[0].with_failures())
        )
        return Cell(None, own, "", least if points[0].errors else None)
    return cell_of(by_run(runs, metric, rule))


def judge_pairs(sides: Sequence[tuple[CellOutcomes, CellOutcomes]]) -> list[Verdict]:
    """A verdict on each pair of groups, Holm over all."""
    return judge(
        [pairs(a.scored, b.scored) for a, b in sides],
        stream(0, "sign flips"),
        with_failures=[pairs(a.with_failures, b.with_failures) for a, b in sides],
    )


@dataclass(frozen=True, slots=True)
class Judged:
    """A verdict, or why there is none."""

    verdict: Verdict | None
    unlike: Sequence[str] = ()
    """How the runs were measured differently."""
    saturated: bool = False
    """Whether all groups that were trained, and the two, end so high that it is not a ranking."""

    @property
    def word(self) -> str:
        """`better`, `worse`, `inconclusive`, or empty."""
        return "" if self.verdict is None or self.saturated else self.verdict.word

    def __str__(self) -> str:
        if self.verdict is None:
            return not_judged(self.unlike)
        return UNRANKED if self.saturated else str(self.verdict)


def not_judged(unlike: Sequence[str]) -> str:
    """Why there is no verdict."""
    return f"{UNLIKE}: {'; '.join(unlike)}"


def verdicts(
    groups: Mapping[str, Sequence[RunData]],
    reference: str,
    metric: Metric = "mean",
    rule: Rule = "last",
    varies: Collection[str] = (),
) -> dict[str, Judged]:
    """Each group against the reference, paired by seed, Holm over all groups with common seeds.

    A group that was measured differently is not judged, unless `varies` names the difference.
    """
    found = {name: by_run(runs, metric, rule) for name, runs in groups.items()}
    return judge_groups(groups, reference, found, partial(measured_differently, varies=varies))


def judged_cells(
    groups: Mapping[str, Sequence[RunData]],
    reference: str,
    reported: Reported,
    varies: Collection[str] = (),
) -> dict[str, Cell]:
    """A cell for each group, with the verdict on it against the reference.

    Paired by seed, Holm over all groups with common seeds; areas are over the rollouts that all
    runs have.
    """
    every = [run for runs in groups.values() for run in runs]
    budget = common_budget(every) if every else 0.0
    found = {name: by_reported(runs, reported, budget) for name, runs in groups.items()}
    unlike = alike_by(reported, budget, varies)
    judged = judge_groups(groups, reference, found, unlike)
    cells = {}
    for name, runs in groups.items():
        own = cell_of(found[name]) if reported == "area" else cell_of_runs(runs, "mean", reported)
        verdict = "" if name == reference else compare_with_paper(judged.get(name), None)
        cells[name] = replace(own, verdict=verdict)
    return cells


def alike_by(
    reported: Reported, budget: float, varies: Collection[str] = ()
) -> Callable[[Sequence[Sequence[RunData]]], Sequence[str]]:
    """Says why groups cannot be compared by what stands for a run; [] where they can."""
    measure: Measure = "area" if reported == "area" else "success"
    return partial(unlikeness, budget=budget, axis="episodes", measure=measure, varies=varies)


def judge_groups(
    groups: Mapping[str, Sequence[RunData]],
    reference: str,
    found: Mapping[str, CellOutcomes],
    unlikeness: Callable[[Sequence[Sequence[RunData]]], Sequence[str]],
) -> dict[str, Judged]:
    """The outcomes of each group against those of the reference, as `verdicts` of one number.

    `unlikeness` says why two groups cannot be compared; [] where they can.
    """
    first, base = groups.get(reference, ()), found.get(reference, CellOutcomes({}, {}))
    paired = [n for n in groups if n != reference and found[n].scored.keys() & base.scored.keys()]
    unlike = {name: unlikeness((first, groups[name])) for name in paired}
    alike = [name for name in paired if not unlike[name]]
    judged = dict(zip(alike, judge_pairs([(found[n], base) for n in alike]), strict=True))
    ends = {name: own.mean().mean for name, own in found.items() if own.scored}
    full = leave_no_room(groups, ends)
    high = {name for name, end in ends.items() if full and end > SATURATED}
    return {
        name: Judged(judged.get(name), unlike[name], {name, reference} <= high) for name in paired
    }


def count_take_offs(
    groups: Mapping[str, Sequence[RunData]], reference: str, varies: Collection[str] = ()
) -> dict[str, TakeOffs]:
    """How many runs of each group on one environment took off; {} where no group splits in two.

    Judged against the reference, if that was run.
    """
    ordered = {k: groups.get(k, ()) for k in dict.fromkeys((reference, *groups))}
    chosen = {k: [choose_point(run, "last") for run in runs] for k, runs in ordered.items()}
    points = {k: [p for p in own if p is not None] for k, own in chosen.items()}
    there = [k for k, own in ordered.items() if own and ordered[reference]]
    return judge_ends(
        {k: [p.mean for p in own] for k, own in points.items()},
        {k: [p.with_failures().mean for p in own] for k, own in points.items()},
        [k for k in there if measured_differently((ordered[reference], ordered[k]), varies)],
    )


def take_off_column(found: TakeOffs | None) -> dict[str, str]:
    """`3/5 [14.7, 94.7] worse` (? is inconclusive) in the column `took off`; {} for none."""
    if found is None:
        return {}
    if not found.ends:
        return {TAKE_OFF: NO_END}
    share, verdict = found.share, found.verdict
    word = "?" if verdict.startswith(INCONCLUSIVE) else verdict
    text = f"{found.count} [{100 * share.low:.1f}, {100 * share.high:.1f}] {word}"
    return {TAKE_OFF: text.rstrip()}


def compare_with_paper(found: Judged | None, expected: float | None) -> str:
    """A verdict, compared with the sign of the paper's difference (`expected`).

    Without an expectation it is the verdict itself.
    """
    if found is None:
        return NOT_RUN
    if found.word in ("", "inconclusive"):
        return str(found)
    if expected is None or math.isnan(expected):
        return found.word
    if expected == 0:
        return f"{found.word}; equal in the paper"
    return REPRODUCED if (found.word == "better") == (expected > 0) else CONTRADICTED


@dataclass(frozen=True, slots=True)
class Cell:
    """Our number and the paper's."""

    paper: float | None
    """In percent; None if the paper has none."""
    ours: Interval | None
    verdict: str
    with_failures: Interval | None = None
    """Ours, counting attempts without a verdict as failures; None if there are none."""

    def shown(self) -> str:
        """Ours, for a table."""
        if self.ours is None:
            return NOT_RUN
        return both(percent(self.ours), if_any(self.with_failures, percent))

    def row(self) -> dict[str, object]:
        """As columns of a CSV file, in percent."""
        ours = self.ours
        limits = (math.nan,) * 3 if ours is None else (ours.mean, ours.low, ours.high)
        mean, low, high = ("" if math.isnan(x) else round(100 * x, 4) for x in limits)
        paper = "" if self.paper is None else self.paper
        row: dict[str, object] = {
            "paper": paper,
            "ours": mean,
            "low": low,
            "high": high,
            "verdict": self.verdict,
        }
        if self.with_failures is not None:
            row["with failures"] = round(100 * self.with_failures.mean, 4)
        return row
