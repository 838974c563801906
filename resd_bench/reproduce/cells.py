"""One number of several runs, with an interval, and whether it stands where the paper has it.

Three rules choose the checkpoint: `last`; `validation`, the best on tasks that are not reported;
and `paper`, the highest sum of ranks over four metrics *on the reported tasks*, which is biased
upwards and here to be compared with the paper only.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from resd_bench.report.comparisons import ByRun, overall
from resd_bench.report.runs import RunData
from resd_bench.report.tables import best_interval, percent
from resd_bench.seeds import stream
from resd_bench.stats import (
    EvalPoint,
    Interval,
    Pair,
    Verdict,
    chosen_on_validation,
    judge,
    make_pair,
    select_checkpoint_by_rank,
)

Rule = Literal["last", "validation", "paper"]
RULES: tuple[Rule, ...] = get_args(Rule)
Metric = Literal["mean", "best", "case mean", "case best"]
METRICS: tuple[Metric, ...] = get_args(Metric)
"""mean@k and best@k per task, and the same per test case."""

NOT_RUN = "not run"
REPRODUCED = "reproduced in order"
INCONCLUSIVE = "inconclusive"
CONTRADICTED = "contradicted"


def choose(run: RunData, rule: Rule) -> EvalPoint | None:
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
    """What each task counts: its samples, or the best of them, by its id."""
    values = point.score if metric.startswith("case") else point.success
    names = point.tasks or tuple(map(str, range(len(values))))
    known = {name: own for name, own in zip(names, values, strict=True) if own}
    if metric.endswith("best"):
        return {name: (max(own),) for name, own in known.items()}
    return known


def by_run(runs: Sequence[RunData], metric: Metric, rule: Rule) -> ByRun:
    """Outcomes of each run that the rule can choose a checkpoint of."""
    chosen = {(run.env, run.seed): choose(run, rule) for run in runs}
    return {key: outcomes(point, metric) for key, point in chosen.items() if point is not None}


def interval(runs: Sequence[RunData], metric: Metric, rule: Rule) -> Interval | None:
    """The number of `runs`, None where there is none."""
    points = [point for run in runs if (point := choose(run, rule)) is not None]
    if not points:
        return None
    if len(points) == 1 and metric in ("mean", "best"):
        return points[0].interval() if metric == "mean" else best_interval(points[0])
    return overall(by_run(runs, metric, rule))


def pairs(a: ByRun, b: ByRun) -> dict[str, list[Pair]]:
    """Runs of one environment and seed side by side."""
    found: dict[str, list[Pair]] = {}
    for env, seed in sorted(a.keys() & b.keys()):
        found.setdefault(env, []).append(make_pair(a[env, seed], b[env, seed]))
    return found


def verdicts(groups: Mapping[str, ByRun], reference: str) -> dict[str, Verdict]:
    """Each group against the reference at equal seeds, Holm over all that share one with it."""
    first = groups.get(reference, {})
    paired = {
        name: pairs(own, first)
        for name, own in groups.items()
        if name != reference and own.keys() & first.keys()
    }
    judged = judge(list(paired.values()), stream(0, "sign flips"))
    return dict(zip(paired, judged, strict=True))


def against(found: Verdict | None, expected: float | None) -> str:
    """A verdict in the light of the sign (`expected`) that the paper's difference has.

    Without an expectation it is the verdict itself.
    """
    if found is None:
        return NOT_RUN
    if found.word == "inconclusive":
        return str(found)
    if expected is None or math.isnan(expected):
        return found.word
    if expected == 0:
        return f"{found.word}; equal in the paper"
    return REPRODUCED if (found.difference.mean > 0) == (expected > 0) else CONTRADICTED


@dataclass(frozen=True, slots=True)
class Cell:
    """Ours beside the paper's."""

    paper: float | None
    """Percent; None where the paper has none."""
    ours: Interval | None
    verdict: str

    def shown(self) -> str:
        """Ours, for a table."""
        return NOT_RUN if self.ours is None else percent(self.ours)

    def row(self) -> dict[str, object]:
        """As columns of a CSV file, in percent."""
        ours = self.ours
        limits = (math.nan,) * 3 if ours is None else (ours.mean, ours.low, ours.high)
        mean, low, high = ("" if math.isnan(x) else round(100 * x, 4) for x in limits)
        paper = "" if self.paper is None else self.paper
        return {"paper": paper, "ours": mean, "low": low, "high": high, "verdict": self.verdict}
