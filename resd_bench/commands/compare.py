"""`compare`: runs at equal budget, with verdicts. Left out: everything that is not printing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from resd_bench.budget import Budget
from resd_bench.commands.shared import AtBudget, Markdown, Runs, Varies
from resd_bench.commands.shared import AxisOption as AxisFlag
from resd_bench.errors import UsageError, near_miss
from resd_bench.files.terminal import note, out, say

if TYPE_CHECKING:
    from resd_bench.records.runs import RunData
    from resd_bench.stats import Axis

UNIT_AXES: Mapping[str, tuple[Axis, float]] = {
    "ep": ("episodes", 1),
    "tok": ("tokens", 1),
    "upd": ("updates", 1),
    "min": ("seconds", 60),
}
"""Which axis a unit of --budget is of, and how many of the axis' units it is."""


def compare(
    runs: Runs,
    budget: AtBudget = None,
    axis: AxisFlag = None,
    detail: Annotated[
        bool, typer.Option("--detail", help="Also show every other metric of the runs.")
    ] = False,
    markdown: Markdown = False,
    varies: Varies = None,
    save: Annotated[
        Path,
        typer.Option(
            "--out",
            metavar="FOLDER",
            help="Folder for compare.png, compare.svg and compare.csv (default: this one).",
            show_default=False,
        ),
    ] = Path("."),
) -> None:
    """Compare runs at equal budget, with verdicts and curves.

    Differences are to the first group of runs.
    """
    from resd_bench.report import comparisons, figures, tables, take_off_table
    from resd_bench.report.markdown import as_markdown
    from resd_bench.report.measured import parse_varies
    from resd_bench.report.metric_table import detail_table

    chosen, wanted = choose_axis(axis, budget)
    on_purpose = parse_varies(varies)
    groups, at = groups_at(runs, chosen, wanted)
    title = " | ".join(dict.fromkeys(run.setting for own in groups.values() for run in own))
    rows = comparisons.compare(groups, at, chosen, varies=on_purpose)
    full = comparisons.saturated_environments(groups, at, chosen)
    shown = [tables.compare_table(rows, title, at, chosen, full)]
    if split := take_off_table.take_offs(groups, at, chosen, on_purpose):
        shown.append(take_off_table.take_off_table(split, at, chosen))
    if at > 0:
        areas = comparisons.compare(groups, at, chosen, "area", on_purpose)
        times = comparisons.compare_times(groups, at, chosen, varies=on_purpose)
        shown.append(tables.learning_table(areas, times, at, chosen))
    if detail:
        shown.append(detail_table(groups, rows, at, chosen))
    paths = figures.comparison(groups, title, save / "compare", chosen)
    tables.write_csv(groups, save / "compare.csv")
    if markdown:
        say("\n\n".join(map(as_markdown, shown)))
        return
    console = out()
    for table in shown:
        console.print(table)
    console.print(f"figure {paths[0]}\ndata   {save / 'compare.csv'}", soft_wrap=True)


def choose_axis(axis: str | None, budget: str | None) -> tuple[Axis, float | None]:
    """The axis and the budget on it, None for as far as all got; a unit implies its axis."""
    from resd_bench.stats import AXES

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


def groups_at(
    places: Sequence[str], axis: Axis, at: float | None
) -> tuple[dict[str, list[RunData]], float]:
    """The runs in `places` by what is compared, and the budget: `at`, or as far as all got.

    UsageError where a run did not get as far as `at`.
    """
    from resd_bench.records.find_runs import find_runs
    from resd_bench.report.comparisons import common_budget, group_runs, in_common_environments
    from resd_bench.report.measured import not_compared
    from resd_bench.report.tables import AXIS_NAMES, amount

    groups = in_common_environments(group_runs(find_runs(places)))
    runs = [run for group in groups.values() for run in group]
    for text in not_compared(runs):
        note(text)
    reached = common_budget(runs, axis)
    if at is not None and at > reached:
        raise UsageError(
            f"--budget {amount(at)} {AXIS_NAMES[axis]}: not every run got there; "
            f"give at most {reached:.10g}"
        )
    return groups, reached if at is None else at
