"""What runs came to, in text: one run before and after, and several against the first."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from resd_bench.config import NOT_RESULTS, flatten
from resd_bench.plugins import UsageError
from resd_bench.report.runs import RunData
from resd_bench.stats import (
    EvalPoint,
    Interval,
    paired_difference,
    success_at,
    t_interval,
    wilson,
)


def percent(interval: Interval) -> str:
    """`12.3% [10.1, 14.8]`; without any success the count and its upper limit."""
    if math.isnan(interval.mean):
        return "unscored"
    if interval.mean == 0 and interval.high > 0:
        return f"0/{interval.n} (≤{100 * interval.high:.2f}%)"
    if math.isnan(interval.low):
        return f"{100 * interval.mean:.1f}% (one run)"
    return f"{100 * interval.mean:.1f}% [{100 * interval.low:.1f}, {100 * interval.high:.1f}]"


def best_interval(point: EvalPoint) -> Interval:
    """best@k with Wilson limits; tasks are independent, so they are what counts."""
    tasks = sum(bool(task) for task in point.success)
    if not tasks:
        return Interval(math.nan, math.nan, math.nan, 0)
    low, high = wilson(point.best * tasks, tasks)
    return Interval(point.best, low, high, tasks)


def run_table(run: RunData) -> Table:
    """Held-out success before the first update and after the last, with 95% limits."""
    first, last = run.points[0], run.points[-1]
    k, cases = last.per_task, f"per_test_case_mean@{last.per_task}"
    table = Table(title=f"{run.method} on {run.setting} · seed {run.seed}", title_justify="left")
    table.add_column("held-out")
    table.add_column("before", justify="right")
    table.add_column(f"after {last.episodes} training rollouts", justify="right")
    table.add_row(f"mean@{k}", percent(first.interval()), percent(last.interval()))
    table.add_row(f"best@{k}", percent(best_interval(first)), percent(best_interval(last)))
    scores = [100 * point.metrics().get(cases, math.nan) for point in (first, last)]
    table.add_row("test cases passed", *(f"{score:.1f}%" for score in scores))
    table.add_row("samples", str(first.samples), str(last.samples))
    if first.errors or last.errors:
        table.add_row("without verdict", str(first.errors), str(last.errors))
    return table


@dataclass(frozen=True, slots=True)
class Comparison:
    """One group of runs at a budget, and against the first group."""

    label: str
    seeds: tuple[int, ...]
    success: Interval
    """mean@k at the budget: over seeds with t limits, or of a single run with Wilson limits."""
    difference: Interval | None
    """This minus the first group over their common seeds, with t limits; None where none."""

    @property
    def verdict(self) -> str:
        """Better or worse where the interval of the difference excludes zero."""
        if self.difference is None:
            return ""
        if not self.difference.excludes_zero:
            return "inconclusive"
        return "better" if self.difference.mean > 0 else "worse"


def group_runs(runs: Sequence[RunData]) -> dict[str, list[RunData]]:
    """Runs by what they are runs of, in order of appearance.

    A label is the method, and whatever else differs: environment, model and preset among all
    runs, any other setting but the seed among those of one method. UsageError where two runs of
    one seed cannot be told apart.
    """
    settings = [flatten(run.settings) for run in runs]
    among_all = _differing(settings) & {"env", "model", "preset"}
    groups: dict[str, list[RunData]] = {}
    for run, own in zip(runs, settings, strict=True):
        alike = [other for other in settings if other["method"] == run.method]
        keys = sorted(among_all | _differing(alike) - NOT_RESULTS - {"seed"})
        label = " · ".join([run.method, *(f"{key}={own.get(key)}" for key in keys)])
        group = groups.setdefault(label, [])
        for other in group:
            if other.seed == run.seed:
                raise UsageError(
                    f"{run.folder} and {other.folder} are runs of the same configuration and "
                    "seed: give one of them"
                )
        group.append(run)
    return groups


def _differing(settings: Sequence[Mapping[str, Any]]) -> set[str]:
    keys = {key for own in settings for key in own}
    return {key for key in keys if len({repr(own.get(key)) for own in settings}) > 1}


def common_budget(runs: Sequence[RunData]) -> int:
    """The rollouts every run got to."""
    return min(run.points[-1].episodes for run in runs)


def compare(groups: Mapping[str, Sequence[RunData]], budget: float) -> list[Comparison]:
    """Each group's success at `budget` rollouts, and its paired difference to the first group."""
    values = {
        label: {run.seed: success_at(run.points, budget).mean for run in runs}
        for label, runs in groups.items()
    }
    first = next(iter(values.values()))
    rows = []
    for label, by_seed in values.items():
        runs = groups[label]
        single = len(runs) == 1
        success = (
            success_at(runs[0].points, budget).interval()
            if single
            else t_interval(list(by_seed.values()))
        )
        paired = by_seed is not first and bool(by_seed.keys() & first.keys())
        difference = paired_difference(by_seed, first) if paired else None
        rows.append(Comparison(label, tuple(sorted(by_seed)), success, difference))
    return rows


def compare_table(rows: Sequence[Comparison], title: str, budget: float) -> Table:
    """Success at the budget and paired differences, as text."""
    table = Table(title=title, title_justify="left")
    table.add_column("runs")
    table.add_column("seeds", justify="right")
    table.add_column(f"held-out success at {budget:g} rollouts", justify="right")
    table.add_column(f"minus {rows[0].label}, same seeds", justify="right")
    table.add_column("verdict")
    for row in rows:
        table.add_row(
            row.label, str(len(row.seeds)), percent(row.success), _points(row), row.verdict
        )
    return table


def _points(row: Comparison) -> str:
    difference = row.difference
    if difference is None:
        return ""
    if math.isnan(difference.low):
        return f"{100 * difference.mean:+.1f} points (one pair)"
    low, high = 100 * difference.low, 100 * difference.high
    return f"{100 * difference.mean:+.1f} points [{low:+.1f}, {high:+.1f}]"


CSV_COLUMNS = (
    *("label", "env", "method", "model", "seed", "update", "episodes", "generated_tokens"),
    *("samples", "mean", "low", "high", "best"),
)


def write_csv(groups: Mapping[str, Sequence[RunData]], path: Path) -> None:
    """Every evaluation of every run as a row; rates are fractions, limits Wilson's at 95%."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(CSV_COLUMNS)
        for label, runs in groups.items():
            for run in runs:
                names = [run.settings[key] for key in ("env", "method", "model", "seed")]
                for point in run.points:
                    interval = point.interval()
                    where = [point.update, point.episodes, point.generated_tokens]
                    rates = [interval.mean, interval.low, interval.high, point.best]
                    writer.writerow([label, *names, *where, point.samples, *rates])
