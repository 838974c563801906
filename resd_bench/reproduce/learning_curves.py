"""Pages that are made from learning curves: figures 1 and 3 to 8, and equal budgets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from resd_bench.records.runs import RunData
from resd_bench.report.comparisons import (
    Comparison,
    common_budget,
    compare,
    compare_times,
    leave_no_room,
)
from resd_bench.report.figures import (
    colours_of,
    draw_comparison,
    panel_grid,
    plain_text,
    shared_legend,
)
from resd_bench.report.measured import measured_differently
from resd_bench.report.tables import (
    AXIS_NAMES,
    amount,
    both,
    duration,
    if_any,
    reaching,
    saturation,
)
from resd_bench.reproduce.match_records import Gathered
from resd_bench.reproduce.page import Page, empty_table
from resd_bench.reproduce.table_cells import (
    CONTRADICTED,
    INCONCLUSIVE,
    NOT_RUN,
    REPRODUCED,
    TAKE_OFF,
    TAKE_OFF_NOTE,
    Cell,
    CellOutcomes,
    Judged,
    cell_of_runs,
    compare_with_paper,
    count_take_offs,
    judge_pairs,
    not_judged,
    outcomes_of,
    take_off_column,
)
from resd_bench.seeds import stream
from resd_bench.stats import Axis, Interval, aggregate, success_at

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BELOW: Mapping[str, float] = {"base": -1, "sdpo": -1, "sdpo+ss": -1, "grpo": -1}
"""Sign of the difference to RESD in the paper's curves; other methods are not in them."""
CLAIM = (
    "In the paper's curves RESD is above every other method. Here each method is compared with "
    "RESD by the area under its curve up to what all runs spent, paired by seed, Holm per "
    "environment. A verdict names the paper only where the tasks are the paper's own."
)


def curves_page(
    gathered: Gathered,
    name: str,
    title: str,
    *,
    variants: Sequence[str],
    reference: str = "resd",
    expected: Mapping[str, float] = BELOW,
    claim: str = CLAIM,
    axis: Axis = "episodes",
) -> Page:
    """Learning curves of `variants` by environment: areas with verdicts, times to 50%, ends."""
    columns = [
        "environment",
        "method",
        "seeds",
        "AUC",
        f"difference to {reference}\n(paired), points",
        "verdict",
    ]
    columns += [f"{reaching(axis, 0.5)}\n(runs that reached it)", "last checkpoint"]
    groups_in = {env: gathered.groups(env, variants) for env in gathered.environments}
    split = {env: count_take_offs(own, reference) for env, own in groups_in.items()}
    columns += [TAKE_OFF] if any(split.values()) else []
    made = empty_table(f"area under the curve over {AXIS_NAMES[axis]}", columns, 2)
    page = Page(name, title, [made], [], [claim])
    for env in gathered.environments:
        groups = groups_in[env]
        ordered = {k: groups[k] for k in (reference, *groups) if k in groups}
        areas, times = _areas(ordered, axis)
        for variant in variants:
            signs = expected if gathered.has_papers_task(env) else {}
            cell = _area_cell(areas.get(variant), variant, reference, signs)
            difference = _points(areas.get(variant))
            seeds, when = str(len(groups.get(variant, ()))), times.get(variant, "")
            shown = cell.shown() if cell.ours is None or cell.ours.mean else "0.0%"
            last = _last(groups.get(variant, ()))
            end: dict[str, object] = {
                f"last {name}": last.row()[name] for name in ("ours", "low", "high")
            }
            took_off = take_off_column(split[env].get(variant))
            ends = (when, last.shown(), *took_off.values())
            made.add_row(env, variant, seeds, shown, difference, cell.verdict, *ends)
            row = {"env": env, "method": variant, "seeds": seeds} | cell.row() | end | took_off
            page.rows.append(row)
        made.add_section()
    page.notes += _about_ends(groups_in, any(split.values()))
    if gathered.runs:
        page.draw = partial(draw_curves, gathered, variants, axis)
    return page


def _about_ends(
    groups_in: Mapping[str, Mapping[str, Sequence[RunData]]], any_splits: bool
) -> list[str]:
    """What is to be known of the last checkpoints, by environment and variant."""
    notes = [TAKE_OFF_NOTE] if any_splits else []
    ends = {
        env: {k: cell.ours.mean for k, runs in own.items() if (cell := _last(runs)).ours}
        for env, own in groups_in.items()
    }
    full = saturation([env for env, own in ends.items() if leave_no_room(groups_in[env], own)])
    return [*notes, *([f"At the last checkpoint {full}."] if full else [])]


def _last(runs: Sequence[RunData]) -> Cell:
    return cell_of_runs(runs, "mean", "last")


def _areas(
    groups: Mapping[str, Sequence[RunData]], axis: Axis
) -> tuple[dict[str, Comparison], dict[str, str]]:
    """By variant: the area under its curve against the first, and its time to 50%."""
    runs = [run for own in groups.values() for run in own]
    if not runs:
        return {}, {}
    budget = common_budget(runs, axis)
    if budget <= 0:
        return {}, {}
    areas = {row.label: row for row in compare(groups, budget, axis, "area")}
    times = {
        row.label: both(
            f"{duration(row.median, budget)} ({row.reached}/{len(row.waits)})",
            if_any(row.with_failures, lambda least: duration(least, budget)),
        )
        for row in compare_times(groups, budget, axis)
    }
    return areas, times


def _area_cell(
    row: Comparison | None, variant: str, reference: str, expected: Mapping[str, float]
) -> Cell:
    if row is None:
        return Cell(None, None, NOT_RUN)
    own = Cell(None, row.success, "", row.with_failures)
    if variant == reference:
        return own
    found = None
    if row.judged is not None or row.unlike:
        found = Judged(row.judged, row.unlike)
    return replace(own, verdict=compare_with_paper(found, expected.get(variant)))


def _points(row: Comparison | None) -> str:
    if row is None or row.difference is None:
        return ""
    low, mean, high = (
        100 * x for x in (row.difference.low, row.difference.mean, row.difference.high)
    )
    return f"{mean:+.1f}" if np.isnan(low) else f"{mean:+.1f} [{low:+.1f}, {high:+.1f}]"


def draw_curves(gathered: Gathered, variants: Sequence[str], axis: Axis) -> Figure:
    """All environments, a row of panels each."""
    runs = {
        variant: [run for env in gathered.environments for run in gathered.of(env, variant)]
        for variant in variants
    }
    return draw_comparison({k: own for k, own in runs.items() if own}, axis)


def fig1(gathered: Gathered) -> Page:
    """Interaction efficiency."""
    title = "Figure 1: success against training rollouts"
    return curves_page(
        gathered, "fig1", title, variants=("resd", "sdpo", "grpo", "grpo-small-batch")
    )


def fig3(gathered: Gathered) -> Page:
    """Whether reflections replace rollouts."""
    return curves_page(
        gathered,
        "fig3",
        "Figure 3: self-distillation with one rollout and with eight, and with reflections",
        variants=("sdpo-reflection-playbook", "sdpo", "sdpo-n8"),
        reference="sdpo-reflection-playbook",
        expected={"sdpo": -1},
        claim="The paper's point on FiNER: with one rollout per task SDPO lacks successes to learn "
        "from, and reflections with a playbook make up for it. Over updates, as the paper draws "
        "it: with eight rollouts an update costs eight times as many.",
        axis="updates",
    )


def fig6(gathered: Gathered) -> Page:
    """RESD against GRPO."""
    title = "Figure 6: RESD (one rollout per task) and GRPO (eight)"
    return curves_page(gathered, "fig6", title, variants=("resd", "grpo", "grpo-small-batch"))


def fig7(gathered: Gathered) -> Page:
    """RESD against self-distillation without reflections."""
    title = "Figure 7: RESD, SDPO and SDPO+ss"
    return curves_page(gathered, "fig7", title, variants=gathered.variants)


def parts(gathered: Gathered) -> Page:
    """Learning curves of RESD without one of its parts."""
    return curves_page(
        gathered,
        "parts",
        "RESD without one of its parts: learning curves",
        variants=gathered.variants,
        expected={},
        claim="The runs of Table 3, which shows the end of training; where all variants end at "
        "100%, only the learning curve can tell them apart.",
    )


def fig4(gathered: Gathered) -> Page:
    """How many of a task's samples succeed, over updates."""
    page = Page("fig4", "Figure 4: tasks by how many of their samples succeed", [], [])
    page.notes.append("Shares of held-out tasks, over all seeds; the paper claims no order.")
    variants = ("sdpo-n8", "sdpo-reflection-playbook")
    made = empty_table(
        "share of tasks by successes", ["environment", "method", "update", "shares"], 2
    )
    shares: dict[str, dict[int, np.ndarray]] = {}
    for env in gathered.environments:
        for variant in variants:
            found = success_shares(gathered.of(env, variant))
            shares[f"{env} · {variant}"] = found
            for update, own in found.items():
                made.add_row(env, variant, str(update), " ".join(f"{x:.0%}" for x in own))
                page.rows.append(
                    {"env": env, "method": variant, "update": update}
                    | {f"{i} of {len(own) - 1}": round(float(x), 4) for i, x in enumerate(own)}
                )
            if not found:
                made.add_row(env, variant, "", NOT_RUN)
    page.tables.append(made)
    if drawn := {name: own for name, own in shares.items() if own}:
        page.draw = partial(_draw_shares, drawn)
    return page


def success_shares(runs: Sequence[RunData]) -> dict[int, np.ndarray]:
    """By update that every run evaluated, the share of tasks with 0, 1, ..., k successes."""
    if not runs:
        return {}
    k = max(point.per_task for run in runs for point in run.points)
    by_update = [{point.update: point for point in run.points} for run in runs]
    found = {}
    for update in sorted(set.intersection(*map(set, by_update))):
        tasks = [own for points in by_update for own in points[update].success if len(own) == k]
        counts = np.bincount([round(sum(own)) for own in tasks], minlength=k + 1)
        found[update] = counts / max(1, len(tasks))
    return found


def _draw_shares(shares: Mapping[str, Mapping[int, np.ndarray]]) -> Figure:
    figure, panels = panel_grid(len(shares))
    for panel, (name, own) in zip(panels, shares.items(), strict=True):
        stacked = 100 * np.array(list(own.values())).T
        k = len(stacked) - 1
        shades = [(1 - i / max(1, k), 0.75 - 0.3 * i / max(1, k), 0.4) for i in range(k + 1)]
        labels = [f"{i} of {k}" for i in range(k + 1)]
        panel.stackplot(list(own), stacked, colors=shades, labels=labels)
        panel.set_title(plain_text(name), fontsize=10)
        panel.set_xlabel("updates")
    panels[0].set_ylabel("tasks (%)")
    shared_legend(figure, panels)
    return figure


def fig5(gathered: Gathered) -> Page:
    """Loss per token over updates; which tokens it falls on is what `trace` shows."""
    page = Page("fig5", "Figure 5: loss over updates", [], [])
    page.notes.append(
        "Mean loss of an update, by method; losses of different methods are different quantities. "
        "For the heat map of single tokens of a run, see `resd-bench trace`."
    )
    variants = ("resd", "sdpo", "sdpo+ss")
    made = empty_table(
        "mean loss", ["environment", "method", "seeds", "first updates", "last updates"], 2
    )
    curves: dict[str, dict[str, np.ndarray]] = {}
    for env in gathered.environments:
        for variant in variants:
            runs = gathered.of(env, variant)
            losses = [_series(run, "policy/loss") for run in runs]
            if not losses:
                made.add_row(env, variant, "0", NOT_RUN, NOT_RUN)
                continue
            fewest = min(map(len, losses))
            mean = np.nanmean([own[:fewest] for own in losses], axis=0)
            curves.setdefault(env, {})[variant] = mean
            ends = [f"{np.nanmean(part):.4g}" for part in (mean[:4], mean[-4:])]
            made.add_row(env, variant, str(len(runs)), *ends)
            page.rows += [
                {"env": env, "method": variant, "update": u, "loss": float(x)}
                for u, x in enumerate(mean, start=1)
            ]
    page.tables.append(made)
    if curves:
        page.draw = partial(_draw_losses, curves)
    return page


def _series(run: RunData, key: str) -> np.ndarray:
    values = [row.get(key) for row in run.metrics]
    return np.array([np.nan if value is None else float(value) for value in values])


def _draw_losses(curves: Mapping[str, Mapping[str, np.ndarray]]) -> Figure:
    """A panel for each environment, and in all of them a colour for each method."""
    figure, panels = panel_grid(len(curves))
    for panel, (env, own) in zip(panels, curves.items(), strict=True):
        colours = colours_of(list(own))
        for name, losses in own.items():
            x = range(1, len(losses) + 1)
            panel.plot(x, losses, color=colours[name], label=plain_text(name))
        panel.set_title(plain_text(env), fontsize=10)
        panel.set_xlabel("updates")
        panel.set_yscale("symlog", linthresh=1e-3)
        panel.grid(alpha=0.25)
    panels[0].set_ylabel("mean loss")
    shared_legend(figure, panels)
    return figure


SLOWER: Mapping[str, float] = {"sdpo": -1, "grpo": 1}
"""Signs in the paper: SDPO about 400 s, RESD between, GRPO above 1,200 s an update."""


def fig8(gathered: Gathered) -> Page:
    """Seconds per update."""
    title = "Figure 8: seconds per update"
    columns = ["environment", "method", "seeds", "seconds per update", "order"]
    made = empty_table("wall time of an update, without evaluation", columns, 2)
    page = Page("fig8", title, [made], [])
    page.notes.append(
        "In the paper SDPO is faster than RESD, and GRPO (eight rollouts) slower. Times depend on "
        "the machine and its load, so an order counts only where the intervals do not overlap."
    )
    drawn: dict[tuple[str, str], Interval] = {}
    for env in gathered.environments:
        runs = {v: gathered.of(env, v) for v in ("resd", *SLOWER)}
        found = {v: seconds_per_update(own) for v, own in runs.items()}
        for variant, own in found.items():
            sign = SLOWER.get(variant) if gathered.has_papers_task(env) else None
            order = "" if variant == "resd" else _order(own, found["resd"], sign)
            unlike = measured_differently((runs["resd"], runs[variant]), axis="seconds")
            if unlike and order not in ("", NOT_RUN):
                order = not_judged(unlike)
            shown = NOT_RUN if own is None else f"{own.mean:.2f} [{own.low:.2f}, {own.high:.2f}]"
            made.add_row(env, variant, str(0 if own is None else own.n), shown, order)
            if own is not None:
                drawn[env, variant] = own
                row = {"env": env, "method": variant, "seconds": own.mean}
                page.rows.append(row | {"low": own.low, "high": own.high, "verdict": order})
    if drawn:
        page.draw = partial(_draw_bars, drawn, "seconds per update")
    return page


def seconds_per_update(runs: Sequence[RunData]) -> Interval | None:
    """Mean over runs of their median update, t limits; None without any."""
    medians = []
    for run in runs:
        spent = [0.0, *(float(row["seconds"]) for row in run.metrics)]
        medians.append(float(np.median([b - a for a, b in pairwise(spent)])))
    return aggregate({"all": medians}, stream(0, "bootstrap")) if medians else None


def _order(own: Interval | None, resd: Interval | None, expected: float | None) -> str:
    if own is None or resd is None:
        return NOT_RUN
    if own.low <= resd.high and own.high >= resd.low:
        return INCONCLUSIVE
    slower = own.mean > resd.mean
    if expected is None:
        return "slower" if slower else "faster"
    return REPRODUCED if slower == (expected > 0) else CONTRADICTED


def _draw_bars(bars: Mapping[tuple[str, str], Interval], label: str) -> Figure:
    """A bar for each environment and method, in the method's colour."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 0.8 + 0.3 * len(bars)), layout="constrained")
    axes: Axes = figure.subplots()
    colours = colours_of(list(dict.fromkeys(method for _, method in bars)))
    names = [plain_text(f"{env} · {method}") for env, method in bars]
    means = [own.mean for own in bars.values()]
    errors = [
        [np.nan_to_num(own.mean - own.low), np.nan_to_num(own.high - own.mean)]
        for own in bars.values()
    ]
    shown = [colours[method] for _, method in bars]
    axes.barh(names, means, xerr=np.abs(np.array(errors)).T, color=shown, alpha=0.7)
    axes.invert_yaxis()
    axes.set_xlabel(label)
    return figure


BUDGET_AXES: tuple[Axis, ...] = ("episodes", "tokens", "seconds", "flops")


def budgets(gathered: Gathered) -> Page:
    """Each method against RESD, both at the smaller of the two amounts spent."""
    page = Page("budgets", "Equal budgets: what is held equal decides", [], [])
    return equal_budgets(gathered, page, BUDGET_AXES, "flops")


def equal_budgets(gathered: Gathered, page: Page, axes: Sequence[Axis], drawn: Axis) -> Page:
    """`page` with each method against RESD at equal amounts of `axes`, and curves over `drawn`."""
    columns = ["method", *(f"equal {AXIS_NAMES[axis]}" for axis in axes)]
    made = empty_table(
        "success of the method / of resd, at equal budgets", columns, 1, BUDGETS_CAPTION
    )
    page.tables.append(made)
    variants = [variant for variant in gathered.variants if variant not in ("base", "resd")]
    for env in gathered.environments:
        groups = gathered.groups(env, ("resd", *variants))
        found = {axis: at_equal(groups, axis) for axis in axes}
        made.add_row(env)
        for variant in variants:
            duels = [found[axis].get(variant) for axis in axes]
            made.add_row(variant, *(NOT_RUN if duel is None else str(duel) for duel in duels))
            page.rows += [
                {"env": env, "method": variant, "axis": axis, "budget": duel.budget}
                | Cell(None, duel.own, duel.verdict.word or str(duel.verdict), duel.least).row()
                | {"resd": 100 * duel.resd.mean}
                for axis, duel in zip(axes, duels, strict=True)
                if duel is not None
            ]
        made.add_section()
    if gathered.runs:
        page.draw = partial(draw_curves, gathered, ("resd", *variants), drawn)
    return page


BUDGETS_CAPTION = (
    "Both at the last evaluation within the smaller of the two amounts spent, which is in "
    "parentheses. Verdict of the method against resd, paired by seed, Holm over methods; ? is "
    "inconclusive. The base model spends next to nothing and is left out."
)


@dataclass(frozen=True, slots=True)
class PairedComparison:
    """A method and RESD at one budget."""

    budget: float
    own: Interval
    resd: Interval
    verdict: Judged
    least: Interval | None = None
    """`own`, counting attempts without a verdict as failures; None if there are none."""
    resd_least: Interval | None = None

    def __str__(self) -> str:
        word = "?" if self.verdict.word == "inconclusive" else str(self.verdict)
        scored = f"{_rates(self.own, self.resd)} {word} ({amount(self.budget)})"
        if self.least is None and self.resd_least is None:
            return scored
        return both(scored, _rates(self.least or self.own, self.resd_least or self.resd))


def _rates(own: Interval, resd: Interval) -> str:
    return f"{100 * own.mean:.1f}% / {100 * resd.mean:.1f}%"


def at_equal(groups: Mapping[str, Sequence[RunData]], axis: Axis) -> dict[str, PairedComparison]:
    """Every other group against `resd`, each pair at its own common budget on `axis`."""
    resd = groups.get("resd", ())
    sides: dict[str, tuple[float, CellOutcomes, CellOutcomes]] = {}
    unlike: dict[str, list[str]] = {}
    for name, runs in groups.items():
        if name != "resd" and {run.seed for run in runs} & {run.seed for run in resd}:
            budget = common_budget([*resd, *runs], axis)
            sides[name] = (budget, _success(runs, budget, axis), _success(resd, budget, axis))
            unlike[name] = measured_differently((resd, runs), axis=axis)
    alike = [name for name in sides if not unlike[name]]
    judged = dict(zip(alike, judge_pairs([sides[name][1:] for name in alike]), strict=True))
    return {
        name: PairedComparison(
            budget,
            own.mean(),
            base.mean(),
            Judged(judged.get(name), unlike[name]),
            own.least(),
            base.least(),
        )
        for name, (budget, own, base) in sides.items()
    }


def _success(runs: Sequence[RunData], budget: float, axis: Axis) -> CellOutcomes:
    points = {(run.env, run.seed): success_at(run.points, budget, axis) for run in runs}
    return outcomes_of(points, "mean")
