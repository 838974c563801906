"""`compare`: runs at equal budget, with verdicts. Left out: everything that is not printing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from resd_bench.budget import Budget
from resd_bench.plugins import UsageError, near_miss
from resd_bench.report.comparisons import (
    common_budget,
    compare,
    compare_times,
    group_runs,
    in_common_environments,
)
from resd_bench.report.details import detail_table
from resd_bench.report.figures import comparison
from resd_bench.report.markdown import as_markdown
from resd_bench.report.measured import not_compared, parse_varies
from resd_bench.report.runs import RunData, find_runs
from resd_bench.report.tables import (
    AXIS_NAMES,
    amount,
    compare_table,
    learning_table,
    write_csv,
)
from resd_bench.stats import AXES, Axis
from resd_bench.terminal import note, out, say

UNIT_AXES: dict[str, tuple[Axis, float]] = {
    "ep": ("episodes", 1),
    "tok": ("tokens", 1),
    "upd": ("updates", 1),
    "min": ("seconds", 60),
}
"""Which axis a unit of --budget is of, and how many of the axis' units it is."""


def choose_axis(axis: str | None, budget: str | None) -> tuple[Axis, float | None]:
    """The axis and the budget on it, None for as far as all got; a unit implies its axis."""
    if axis is not None and axis not in AXES:
        raise near_miss("axis", axis, AXES)
    chosen: Axis | None = axis
    if budget is None:
        return chosen or "episodes", None
    try:
        at = float(budget)
        implied: Axis | None = None
    except ValueError:
        try:
            parsed = Budget.parse(budget)
        except ValueError as error:
            raise UsageError(f"--{error}") from None
        implied, scale = UNIT_AXES[parsed.unit]
        at = parsed.amount * scale
    if not 0 <= at < float("inf"):
        raise UsageError(f"--budget {budget}: give a number, 0 or more")
    if chosen and implied and chosen != implied:
        raise UsageError(f"--budget {budget} is of the axis {implied}, --axis says {chosen}")
    return chosen or implied or "episodes", at


def budget_all_reached(runs: Sequence[RunData], axis: Axis, at: float | None) -> float:
    """`at`, or as far as all runs got; UsageError where one did not get there."""
    reached = common_budget(runs, axis)
    if at is not None and at > reached:
        raise UsageError(
            f"--budget {amount(at)} {AXIS_NAMES[axis]}: not every run got there; "
            f"give at most {reached:.10g}"
        )
    return reached if at is None else at


def compare_runs(
    places: Sequence[str],
    axis_name: str | None,
    budget: str | None,
    folder: Path,
    detail: bool,
    markdown: bool = False,
    varies: str | None = None,
) -> None:
    """Print verdicts on the runs in `places`, and write `compare.{png,svg,csv}` to `folder`."""
    axis, wanted = choose_axis(axis_name, budget)
    on_purpose = parse_varies(varies)
    groups = in_common_environments(group_runs(find_runs(places)))
    runs = [run for group in groups.values() for run in group]
    for text in not_compared(runs):
        note(text)
    at = budget_all_reached(runs, axis, wanted)
    title = " | ".join(dict.fromkeys(run.setting for run in runs))
    rows = compare(groups, at, axis, varies=on_purpose)
    tables = [compare_table(rows, title, at, axis)]
    if at > 0:
        areas = compare(groups, at, axis, "area", on_purpose)
        times = compare_times(groups, at, axis, varies=on_purpose)
        tables.append(learning_table(areas, times, at, axis))
    if detail:
        tables.append(detail_table(groups, rows, at, axis))
    paths = comparison(groups, title, folder / "compare", axis)
    write_csv(groups, folder / "compare.csv")
    if markdown:
        say("\n\n".join(map(as_markdown, tables)))
        return
    console = out()
    for table in tables:
        console.print(table)
    console.print(f"figure {paths[0]}\ndata   {folder / 'compare.csv'}", soft_wrap=True)
