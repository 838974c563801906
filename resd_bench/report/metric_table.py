"""All further metrics of runs, one per row, for `compare --detail`, and how well methods' own texts
could be parsed. Left out: verdicts."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import NamedTuple

from rich.table import Table

from resd_bench.records.runs import RunData
from resd_bench.report.comparisons import Comparison, Groups, waits, with_failures
from resd_bench.report.tables import (
    AXIS_NAMES,
    WITH_FAILURES,
    amount,
    best_interval,
    both,
    percent,
    reaching,
    table_label,
)
from resd_bench.stats import (
    Axis,
    CensoredTime,
    EvalPoint,
    Interval,
    chosen_on_validation,
    discovery_curve,
    interquartile_mean,
    kaplan_meier,
    pass_at_k_interval,
    probability_of_improvement,
    restricted_mean,
    signal_density,
    stratified_mean,
    success_at,
    take_off_rate,
)

THRESHOLDS = (0.05, 0.2, 0.5)
PASS_AT = (4, 8)
"""Besides pass@1, which is the success rate."""
COUNTED = ("turns", "turns_to_success")
"""Measurements of environments that are numbers and not shares."""


def detail_table(
    groups: Groups, rows: Sequence[Comparison], budget: float, axis: Axis = "episodes"
) -> Table:
    """A column per group; rates in percent, all at the budget. `rows` are of `compare`."""
    table = Table(title=f"at {amount(budget)} {AXIS_NAMES[axis]}", title_justify="left")
    table.add_column("metric")
    for label in groups:
        table.add_column(table_label(label), justify="right")
    found = _cells(groups, rows, budget, axis)
    again = found
    if any(run.left_out for runs in groups.values() for run in runs):
        counted = [replace(row, success=row.with_failures or row.success) for row in rows]
        again = _cells(with_failures(groups), counted, budget, axis)
        table.caption, table.caption_justify = WITH_FAILURES, "left"
    for name, cells in found.items():
        if any(cells):
            table.add_row(name, *map(both, cells, again[name]))
    return table


def _cells(
    groups: Groups, rows: Sequence[Comparison], budget: float, axis: Axis
) -> dict[str, list[str]]:
    """The cells of each row, by metric."""
    metrics = _metrics(groups, rows, budget, axis)
    return {name: [cell(label) for label in groups] for name, cell in metrics.items()}


_Cell = Callable[[str], str]
"""From a group's label to the text in its column; empty where there is nothing to show."""


def _metrics(
    groups: Groups, rows: Sequence[Comparison], budget: float, axis: Axis
) -> Mapping[str, _Cell]:
    first = next(iter(groups))
    by_label = {row.label: row for row in rows}

    def flips(label: str) -> str:
        judged = by_label[label].judged
        return "" if judged is None else f"{judged.sign_flip:.3f}"

    def paired(label: str) -> str:
        judged = by_label[label].judged
        return "" if judged is None or math.isnan(judged.p) else f"{judged.p_holm:.3f}"

    def improves(label: str) -> str:
        if label == first or by_label[label].unlike:
            return ""
        return percent(probability_of_improvement(_values(groups[label], budget, axis), reference))

    @cache
    def found(label: str) -> list[_Discovery]:
        """Training episodes may be a million, and are read once."""
        return [_discovery(run, budget, axis) for run in groups[label]]

    reference = _values(groups[first], budget, axis)
    metrics: dict[str, _Cell] = {
        f"p against {table_label(first)}: paired t, Holm-corrected": paired,
        "p: sign flips, exact up to 14 pairs": flips,
        f"P(better than a {table_label(first)} run)": improves,
        "checkpoint chosen on validation": lambda k: _chosen(groups[k], budget, axis),
        "beat its own start": lambda k: percent(_take_off(groups[k], budget, axis)),
        "inter-quartile mean": lambda k: _middle(_values(groups[k], budget, axis)),
        "updates with a training signal": lambda k: _signal(groups[k], budget, axis)[0],
        "tokens with a training signal": lambda k: _signal(groups[k], budget, axis)[1],
        "episode of the first training success": lambda k: _first(found(k)),
        "training tasks ever solved": lambda k: _solved(found(k)),
    }
    for tau in THRESHOLDS:
        name = f"{reaching(axis, tau)}, restricted mean (runs that reached it)"
        metrics[name] = lambda k, tau=tau: _restricted(  # type: ignore[misc]
            [w for few in waits(groups[k], budget, axis, tau).values() for w in few], budget
        )
    metrics["pass@1"] = lambda k: percent(by_label[k].success)
    for k in PASS_AT:
        metrics[f"pass@{k}"] = lambda label, k=k: _pass_at(groups[label], budget, axis, k)  # type: ignore[misc]
    metrics["any of the samples (best)"] = lambda k: _best(groups[k], budget, axis)
    points = {k: [success_at(run.points, budget, axis) for run in groups[k]] for k in groups}
    for name in sorted({name for own in points.values() for p in own for name in p.measured}):
        metrics[f"{name} (environment)"] = lambda k, name=name: _measured(  # type: ignore[misc]
            groups[k], points[k], name
        )
    metrics["turns per success"] = lambda k: _per_success(points[k])
    return metrics


WRITTEN = ("reflections", "curations")
"""What methods write and parse: `resd/reflections` made, `resd/unparsed_reflections` among them."""


def written_table(groups: Groups) -> Table | None:
    """How much of what methods wrote had the format that was asked for; None where none wrote."""
    table = Table(title="in the format that was asked for", title_justify="left")
    for name in ("method", *WRITTEN):
        table.add_column(name, justify="left" if name == "method" else "right")
    for label, runs in groups.items():
        rows = [row for run in runs for row in run.metrics]
        cells = [parse_rate(rows, kind) for kind in WRITTEN]
        if any(cells):
            table.add_row(table_label(label), *cells)
    return table if table.row_count else None


def parse_rate(rows: Sequence[Mapping[str, object]], kind: str) -> str:
    """`93.8% (15/16)` of the texts of one kind in rows of metrics; "" if none were written."""
    made = _sum(rows, f"/{kind}")
    parsed = made - _sum(rows, f"/unparsed_{kind}")
    return f"{100 * parsed / made:.1f}% ({parsed:.0f}/{made:.0f})" if made else ""


def _sum(rows: Sequence[Mapping[str, object]], ending: str) -> float:
    values = (value for row in rows for name, value in row.items() if name.endswith(ending))
    return sum(float(value) for value in values if isinstance(value, int | float))


def _per_success(points: Sequence[EvalPoint]) -> str:
    """Turns of all held-out attempts over their successes; empty for episodes of one turn."""
    if not all("turns" in point.measured for point in points):
        return ""
    turns = sum(point.measured["turns"] * point.samples for point in points)
    successes = sum(sum(map(sum, point.success)) for point in points)
    return f"{turns / successes:.1f}" if successes else "no success"


def _measured(runs: Sequence[RunData], points: Sequence[EvalPoint], name: str) -> str:
    """The mean of a number that the environment measured; empty where a run lacks it."""
    if not all(name in point.measured for point in points):
        return ""
    values = dict(zip(map(id, runs), points, strict=True))
    found = _by_env(runs, lambda run: values[id(run)].measured[name])
    if name not in COUNTED:
        return _mean(found)
    own = stratified_mean(found)
    limits = "" if math.isnan(own.low) else f" [{own.low:.1f}, {own.high:.1f}]"
    return f"{own.mean:.1f}{limits}"


def _values(runs: Sequence[RunData], budget: float, axis: Axis) -> dict[str, list[float]]:
    values: dict[str, list[float]] = {}
    for run in runs:
        values.setdefault(run.env, []).append(success_at(run.points, budget, axis).mean)
    return values


def _mean(values: Mapping[str, Sequence[float]]) -> str:
    found = stratified_mean(values)
    if found.mean == 0 and found.n > 1:
        return "0.0%"
    return percent(found)


def _by_env(runs: Sequence[RunData], value: Callable[[RunData], float]) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for run in runs:
        found.setdefault(run.env, []).append(value(run))
    return found


def _chosen(runs: Sequence[RunData], budget: float, axis: Axis) -> str:
    if not all(run.validation for run in runs):
        return ""
    return _mean(
        _by_env(runs, lambda r: chosen_on_validation(r.validation, r.points, budget, axis).mean)
    )


def _take_off(runs: Sequence[RunData], budget: float, axis: Axis) -> Interval:
    return take_off_rate(
        [(r.points[0].interval(), success_at(r.points, budget, axis).interval()) for r in runs]
    )


def _middle(values: Mapping[str, Sequence[float]]) -> str:
    found = interquartile_mean(values)
    return "" if math.isnan(found) else f"{100 * found:.1f}%"


def _signal(runs: Sequence[RunData], budget: float, axis: Axis) -> tuple[str, str]:
    rows = []
    for run in runs:
        end = success_at(run.points, budget, axis).update
        rows += [row for row in run.metrics if row["update"] <= end]
    density = signal_density(rows)
    shares = (density.updates, density.tokens)
    updates, tokens = ("" if math.isnan(s) else f"{100 * s:.1f}%" for s in shares)
    return updates, tokens


class _Discovery(NamedTuple):
    """What was found in training until the last evaluation within the budget."""

    episodes: int
    solved: int
    """Number of tasks."""
    first: int | None
    """The episode of the first success, from 1."""


def _discovery(run: RunData, budget: float, axis: Axis) -> _Discovery:
    end = success_at(run.points, budget, axis).update
    curve = discovery_curve(row for row in run.training() if row["update"] <= end)
    episodes, solved = curve[-1]
    return _Discovery(episodes, solved, curve[1][0] if solved else None)


def _first(found: Sequence[_Discovery]) -> str:
    if not all(own.episodes for own in found):
        return ""
    waiting = [
        CensoredTime(float(own.first or own.episodes), own.first is not None) for own in found
    ]
    curve = kaplan_meier(waiting).median()
    there = f"({sum(w.reached for w in waiting)}/{len(waiting)})"
    median = "fewer than half" if math.isinf(curve.mean) else f"median {amount(curve.mean)}"
    return f"{median} {there}"


def _solved(found: Sequence[_Discovery]) -> str:
    return ", ".join(str(own.solved) for own in found) if all(own.episodes for own in found) else ""


def _restricted(times: Sequence[CensoredTime], budget: float) -> str:
    found = restricted_mean(times, budget)
    limits = ""
    if not math.isnan(found.low):
        limits = f" [{amount(max(0.0, found.low))}, {amount(min(budget, found.high))}]"
    there = sum(wait.reached for wait in times)
    return f"{amount(found.mean)}{limits} ({there}/{len(times)})"


def _pass_at(runs: Sequence[RunData], budget: float, axis: Axis, k: int) -> str:
    points = [success_at(run.points, budget, axis) for run in runs]
    # Shares of successes (other people's) have no number of samples.
    whole = all(x in (0, 1) for point in points for own in point.success for x in own)
    if not whole or any(max(map(len, point.success), default=0) < k for point in points):
        return ""
    if len(points) == 1:
        return percent(pass_at_k_interval(points[0].success, k))
    values = dict(zip(map(id, runs), points, strict=True))
    return _mean(_by_env(runs, lambda r: pass_at_k_interval(values[id(r)].success, k).mean))


def _best(runs: Sequence[RunData], budget: float, axis: Axis) -> str:
    if len(runs) == 1:
        return percent(best_interval(success_at(runs[0].points, budget, axis)))
    return _mean(_by_env(runs, lambda r: success_at(r.points, budget, axis).best))
