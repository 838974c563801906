"""`compare`: runs at equal budget, with verdicts. Left out: everything that is not printing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from resd_bench.budget import Budget
from resd_bench.commands.shared import TO_FOLDER, AtBudget, Baseline, Markdown, Runs, Varies
from resd_bench.commands.shared import AxisOption as AxisFlag
from resd_bench.errors import UsageError, near_miss
from resd_bench.files.terminal import note, out, say

if TYPE_CHECKING:
    from resd_bench.records.runs import RunData
    from resd_bench.report.comparisons import Groups
    from resd_bench.stats import Axis

UNIT_AXES: Mapping[str, tuple[Axis, float]] = {
    "ep": ("episodes", 1),
    "turn": ("turns", 1),
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
    baseline: Baseline = None,
    save: Annotated[
        Path,
        typer.Option(
            "--out",
            metavar="FOLDER",
            callback=TO_FOLDER,
            help="Folder for compare.png, compare.svg and compare.csv (default: this one).",
            show_default=False,
        ),
    ] = Path("."),
) -> None:
    """Compare runs at equal budget, with verdicts and curves.

    Differences are to the first group of runs, or to --baseline. Where labels would be long, they
    leave out the settings that most runs of their method have.
    """
    from resd_bench.report.comparisons import TASKS
    from resd_bench.report.measured import parse_varies

    chosen, wanted = choose_axis(axis, budget)
    on_purpose = parse_varies(varies)
    if not TASKS.isdisjoint(on_purpose):
        note("differences are over the tasks that both groups were evaluated on")
    parts = parts_of(groups_in(runs), on_purpose)
    for name, part in with_baseline(parts, baseline).items():
        stem = save / "-".join(["compare", *name])
        _compare(part, chosen, wanted, on_purpose, stem, detail, markdown)


_Parts = dict[tuple[str, ...], "Groups"]


def parts_of(groups: Groups, varies: frozenset[str]) -> _Parts:
    """What is compared on its own: by environment if none is common, by model if there are several.

    With `model` in `varies` the models are compared with one another.
    """
    from resd_bench.config import in_a_path
    from resd_bench.packaged_models import model_name
    from resd_bench.report.comparisons import by_environment, by_model

    parts: _Parts = {(): groups}
    if not _common(groups):
        parts = {(env,): part for env, part in by_environment(groups).items()}
        note("no environment is common to all groups, so each is compared on its own")
    models = list(by_model(groups))
    if "model" in varies or len(models) < 2:
        return parts
    note(
        "the groups are of several models, so each is compared on its own; with --varies model "
        "they are compared with one another"
    )
    short = len(set(map(model_name, models))) == len(models)
    return {
        (*name, in_a_path(model_name(model) if short else model)): own
        for name, part in parts.items()
        for model, own in by_model(part).items()
    }


def with_baseline(parts: _Parts, baseline: str | None) -> _Parts:
    """Each part with the group that `baseline` names first; one that has no such group as it is."""
    if baseline is None:
        return parts
    named = {name: _named(part, baseline) for name, part in parts.items()}
    if not any(named.values()):
        raise near_miss("group of runs", baseline, {k: 0 for part in parts.values() for k in part})
    return {name: _first(part, baseline, named[name]) for name, part in parts.items()}


def _compare(
    groups: Groups,
    axis: Axis,
    wanted: float | None,
    varies: frozenset[str],
    stem: Path,
    detail: bool,
    markdown: bool,
) -> None:
    """Print the tables of groups with a common environment, and write their figure and data."""
    from resd_bench.report import comparisons, figures, tables, take_off_table
    from resd_bench.report.markdown import as_markdown
    from resd_bench.report.metric_table import detail_table

    groups, at = at_budget(groups, axis, wanted)
    title = " | ".join(dict.fromkeys(run.setting for own in groups.values() for run in own))
    rows = comparisons.compare(groups, at, axis, varies=varies)
    full = comparisons.saturated_environments(groups, at, axis)
    stopped = tables.unfinished_runs(groups)
    shown = [tables.compare_table(rows, title, at, axis, full, stopped)]
    if split := take_off_table.take_offs(groups, at, axis, varies):
        shown.append(take_off_table.take_off_table(split, at, axis))
    if at > 0:
        areas = comparisons.compare(groups, at, axis, "area", varies)
        times = comparisons.compare_times(groups, at, axis, varies=varies)
        shown.append(tables.learning_table(areas, times, at, axis))
    if detail:
        shown.append(detail_table(groups, rows, at, axis))
    data = stem.with_name(f"{stem.name}.csv")
    paths = figures.comparison(groups, title, stem, axis)
    tables.write_csv(groups, data)
    if markdown:
        say("\n\n".join(map(as_markdown, shown)))
        return
    console = out()
    for table in shown:
        console.print(table)
    console.print(f"figure {paths[0]}\ndata   {data}", soft_wrap=True)


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
    places: Sequence[str], axis: Axis, at: float | None, baseline: str | None = None
) -> tuple[dict[str, list[RunData]], float]:
    """The runs in `places` by what is compared, and the budget: `at`, or as far as all got.

    UsageError where a run did not get as far as `at`.
    """
    return at_budget(groups_in(places, baseline), axis, at)


def groups_in(places: Sequence[str], baseline: str | None = None) -> dict[str, list[RunData]]:
    """The runs in `places` by what is compared, `baseline` first; a note names repeats."""
    from resd_bench.records.find_runs import find_runs
    from resd_bench.report.comparisons import group_runs, without_repeats

    runs, repeats = without_repeats(find_runs(places))
    if repeats:
        again, kept = repeats[0]
        more = f", and {len(repeats) - 1} more" if len(repeats) > 1 else ""
        note(
            "left out, as runs of the same configuration and seed as others: "
            f"{again.folder} (as {kept.folder}){more}"
        )
    return _baseline_first(group_runs(runs), baseline)


def _baseline_first(
    groups: dict[str, list[RunData]], baseline: str | None
) -> dict[str, list[RunData]]:
    """The groups with the one that `baseline` names first: a label, or the method of one group."""
    if baseline is None:
        return groups
    if not (named := _named(groups, baseline)):
        raise near_miss("group of runs", baseline, groups)
    return _first(groups, baseline, named)


def _named(groups: Groups, baseline: str) -> list[str]:
    """The label that `baseline` is, else those of the groups of the method that it names."""
    if baseline in groups:
        return [baseline]
    return [label for label, runs in groups.items() if runs[0].method == baseline]


def _first(groups: Groups, baseline: str, named: Sequence[str]) -> dict[str, list[RunData]]:
    if len(named) > 1:
        raise UsageError(
            f"--baseline {baseline}: {len(named)} groups are of this method, give the label of "
            f"one: {', '.join(map(repr, named))}"
        )
    return {label: list(groups[label]) for label in dict.fromkeys([*named, *groups])}


def _common(groups: Groups) -> bool:
    return bool(set.intersection(*({run.env for run in runs} for runs in groups.values())))


def at_budget(
    groups: Groups, axis: Axis, at: float | None
) -> tuple[dict[str, list[RunData]], float]:
    """The groups on their common environments, and the budget they are compared at."""
    from resd_bench.report.comparisons import (
        common_budget,
        environments_of,
        in_common_environments,
    )
    from resd_bench.report.measured import not_compared
    from resd_bench.report.tables import AXIS_NAMES, amount

    found = in_common_environments(groups)
    if dropped := sorted(set(environments_of(groups)) - set(environments_of(found))):
        note(f"left out, since not all groups have runs there: {', '.join(dropped)}")
    runs = [run for group in found.values() for run in group]
    for text in not_compared(runs):
        note(text)
    reached = common_budget(runs, axis)
    first = min(runs, key=lambda run: run.points[-1].at(axis))
    if at is not None and at > reached:
        raise UsageError(
            f"--budget {amount(at)} {AXIS_NAMES[axis]}: not every run got there; "
            f"give at most {reached:.10g}, or leave out {first.folder}, which ends first"
        )
    furthest = max(run.points[-1].at(axis) for run in runs)
    if at is None and reached < furthest / 2:
        note(
            f"compared at {amount(reached)} {AXIS_NAMES[axis]}, where {first.folder} ends; others "
            f"reach {amount(furthest)}: name only those to compare them there"
        )
    return found, reached if at is None else at
