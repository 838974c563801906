"""Results as tables: one run before and after training, and several compared with the first."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from rich.table import Table

from resd_bench.files.writing import write_atomically
from resd_bench.records.runs import RunData
from resd_bench.report.comparisons import (
    Comparison,
    TimeComparison,
    common_budget,
    compare,
    group_runs,
    success_of,
)
from resd_bench.report.spreadsheet import as_csv
from resd_bench.stats import SATURATED, Axis, EvalPoint, Interval, Rate, wilson

__all__ = [
    "CSV_COLUMNS",
    "Comparison",
    "amount",
    "best_interval",
    "common_budget",
    "compare",
    "compare_table",
    "duration",
    "group_runs",
    "learning_table",
    "percent",
    "run_table",
    "table_label",
    "unfinished_runs",
    "write_csv",
]


def percent(interval: Interval) -> str:
    """`12.3% [10.1, 14.8]`; without any success the count and its upper limit."""
    if math.isnan(interval.mean):
        return "unscored"
    if interval.mean == 0 and interval.high > 0:
        return f"0/{interval.n} (≤{100 * interval.high:.2f}%)"
    if math.isnan(interval.low):
        return f"{100 * interval.mean:.1f}% ({'one run' if interval.n == 1 else 'no interval'})"
    return f"{100 * interval.mean:.1f}% [{100 * interval.low:.1f}, {100 * interval.high:.1f}]"


WITH_FAILURES = "with failures: attempts without a verdict count as failures"
UNLIKE = "not judged: measured differently"
UNRANKED = "saturated"
MOST_UNFINISHED = 6
"""Unfinished runs that a table names."""


def both(scored: str, with_failures: str | None) -> str:
    """A number that leaves attempts out, and below it the number that counts them as failures."""
    if with_failures is None or with_failures == scored:
        return scored
    return f"{scored}\n{with_failures} with failures"


def rates(rate: Rate) -> str:
    """A success rate; both ways where they differ."""
    return both(percent(rate.scored), percent(rate.with_failures) if rate.left_out else None)


def best_rates(point: EvalPoint) -> str:
    """best@k, both ways."""
    return both(percent(best_interval(point)), percent(best_interval(point.with_failures())))


def if_any(interval: Interval | None, show: Callable[[Interval], str]) -> str | None:
    """`show` of an interval, or None."""
    return None if interval is None else show(interval)


def best_interval(point: EvalPoint) -> Interval:
    """best@k with Wilson limits; n is the number of tasks, since tasks are independent."""
    tasks = sum(bool(task) for task in point.success)
    if not tasks:
        return Interval(math.nan, math.nan, math.nan, 0)
    low, high = wilson(point.best * tasks, tasks)
    return Interval(point.best, low, high, tasks)


def run_table(run: RunData) -> Table:
    """Held-out success before the first update and after the last, with 95% intervals."""
    first, last = run.points[0], run.points[-1]
    k, cases = last.per_task, f"per_test_case_mean@{last.per_task}"
    table = Table(title=f"{run.called} on {run.setting} · seed {run.seed}", title_justify="left")
    table.add_column("held-out")
    table.add_column("before", justify="right")
    table.add_column(f"after {last.episodes} training rollouts", justify="right")
    table.add_row(f"mean@{k}", rates(first.rate()), rates(last.rate()))
    table.add_row(f"best@{k}", best_rates(first), best_rates(last))
    scores = [
        [f"{100 * p.metrics().get(cases, math.nan):.1f}%" for p in (point, point.with_failures())]
        for point in (first, last)
    ]
    table.add_row("test cases passed", *(both(*score) for score in scores))
    table.add_row("samples", str(first.samples), str(last.samples))
    if first.errors or last.errors:
        table.add_row("without verdict", str(first.errors), str(last.errors), style="bold red")
        table.caption = WITH_FAILURES
    return table


def mean_over_seeds(runs: Sequence[RunData]) -> Table:
    """Success of every seed before and after training, and the mean with its 95% interval."""
    first = runs[0]
    title = f"{first.called} on {first.setting} · {len(runs)} seeds"
    table = Table(title=title, title_justify="left", min_width=min(len(title), 78))
    for name in ("seed", "before", "after"):
        table.add_column(name, justify="left" if name == "seed" else "right")
    for run in runs:
        table.add_row(str(run.seed), *(rates(p.rate()) for p in (run.points[0], run.points[-1])))
    ends = [success_of(runs, u, "updates") for u in (0, min(r.points[-1].update for r in runs))]
    table.add_section()
    table.add_row("mean", *map(percent, ends))
    return table


AXIS_NAMES: Mapping[Axis, str] = {
    "episodes": "rollouts",
    "tokens": "generated tokens",
    "updates": "updates",
    "turns": "turns",
    "seconds": "seconds",
    "flops": "FLOPs",
}


def amount(value: float) -> str:
    """An amount spent, to four digits: `1280`, `1.234M`, `26.6T`."""
    if not math.isfinite(value):
        return str(value)
    for scale, suffix in ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e4, "k")):
        if value >= scale:
            return f"{value / (1e3 if suffix == 'k' else scale):.4g}{suffix}"
    return f"{value:.4g}"


def table_label(text: str, longest: int = 240) -> str:
    """A label that is safe in a table: no control characters, not too long.

    A label that is too long ends in the beginning of its SHA-256, so different ones stay different.
    """
    safe = "".join(c if c.isprintable() else "?" for c in text)
    if len(safe) <= longest:
        return safe
    digest = hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:8]
    return f"{safe[: longest - 9]}…{digest}"


def compare_table(
    rows: Sequence[Comparison],
    title: str,
    budget: float,
    axis: Axis = "episodes",
    saturated: Sequence[str] = (),
    unfinished: str = "",
) -> Table:
    """Success at the budget, paired differences to the first row, verdicts.

    Lines below name the environments that are `saturated`, and the runs that are `unfinished`.
    """
    table = Table(title=table_label(title, 400), title_justify="left", caption_justify="left")
    told = [_caption(rows), saturation(saturated), unfinished]
    table.caption = ".\n".join(filter(None, told))
    table.add_column("runs")
    table.add_column("seeds", justify="right")
    success = f"success at {amount(budget)} {AXIS_NAMES[axis]}"
    table.add_column(success, justify="right", no_wrap=True)
    table.add_column(f"difference to {table_label(rows[0].label)}\n(paired)", justify="right")
    table.add_column("minimum\ndetectable\ndifference", justify="right")
    table.add_column("verdict")
    for row in rows:
        each = " each" if row.runs > 1 and row.success.mean == 0 else ""
        table.add_row(
            table_label(row.label),
            str(len(row.seeds)),
            both(percent(row.success) + each, if_any(row.with_failures, percent)),
            _points(row, rows[0]),
            _detectable(row),
            _verdict(row),
        )
    return table


def _verdict(row: Comparison) -> str:
    if row.unlike:
        return UNLIKE
    if row.saturated and row.judged is not None:
        return UNRANKED
    return "" if row.judged is None else str(row.judged)


def _caption(rows: Sequence[Comparison]) -> str:
    verdicts = sum(row.judged is not None for row in rows)
    parts = []
    if verdicts:
        several = f", Holm over {verdicts} comparisons" if verdicts > 1 else ""
        parts.append(
            f"95% intervals; verdicts: paired t{several}; minimum detectable difference: the "
            "smallest true difference that is found with 80% power"
        )
    return ".\n".join([*parts, *_warnings(rows)])


def _warnings(rows: Sequence[Comparison]) -> list[str]:
    """The warnings that belong under a table of comparisons."""
    missing = [f"{table_label(row.label)}: {row.left_out}" for row in rows if row.left_out]
    warnings = [f"attempts without a verdict ({', '.join(missing)}); {WITH_FAILURES}"]
    unlike: dict[str, list[str]] = {}
    for row in rows:
        if row.unlike:
            unlike.setdefault("; ".join(map(table_label, row.unlike)), []).append(
                table_label(row.label)
            )
    return [
        *(warnings if missing else ()),
        *(f"measured differently, {', '.join(who)}: {what}" for what, who in unlike.items()),
        *([_REMEDY] if unlike else ()),
    ]


_REMEDY = (
    "Runs that were measured differently get no verdict: compare runs that were measured alike, or "
    "name what differs on purpose with --varies NAME"
)


def saturation(environments: Sequence[str]) -> str:
    """What it means that these environments are saturated; empty for none."""
    if not environments:
        return ""
    return (
        f"{', '.join(map(table_label, environments))} {'is' if len(environments) == 1 else 'are'} "
        f"saturated: every trained group ends above {SATURATED:.0%}, so success there ranks none "
        "of them"
    )


def unfinished_runs(groups: Mapping[str, Sequence[RunData]]) -> str:
    """Which runs are unfinished, and where each stopped; empty if all are finished."""
    found = [
        f"{table_label(label)} on {table_label(run.env)}, seed {run.seed}, {run.stopped}"
        for label, runs in groups.items()
        for run in runs
        if run.stopped
    ]
    more = f"; and {len(found) - MOST_UNFINISHED} more" if len(found) > MOST_UNFINISHED else ""
    return f"unfinished: {'; '.join(found[:MOST_UNFINISHED])}{more}" if found else ""


def _points(row: Comparison, first: Comparison) -> str:
    difference = row.difference
    if row.unlike:
        return ""
    if difference is None:
        return "" if row is first else "no common seed"
    if math.isnan(difference.low):
        return f"{100 * difference.mean:+.1f} points (one pair)"
    low, high = 100 * difference.low, 100 * difference.high
    return f"{100 * difference.mean:+.1f} points [{low:+.1f}, {high:+.1f}]"


def _detectable(row: Comparison) -> str:
    if row.judged is None or math.isnan(row.judged.detectable):
        return ""
    # No difference can exceed 100 points.
    points = 100 * row.judged.detectable
    return f"{points:.1f} points" if points <= 100 else "none"


def reaching(axis: Axis, tau: float) -> str:
    """What is counted until a run has reached a threshold; one evaluation there may be luck."""
    return f"{AXIS_NAMES[axis]} to {100 * tau:g}% success twice running"


def learning_table(
    areas: Sequence[Comparison],
    times: Sequence[TimeComparison],
    budget: float,
    axis: Axis = "episodes",
    tau: float = 0.5,
) -> Table:
    """Speed of learning: area under the curve and time to a threshold, each with a verdict."""
    way = f"up to {amount(budget)} {AXIS_NAMES[axis]}"
    reach = reaching(axis, tau)
    title = f"{way}: area under the curve (AUC) and median {reach}"
    table = Table(title=title, title_justify="left", caption_justify="left")
    table.add_column("runs")
    table.add_column("AUC", justify="right")
    table.add_column(
        f"difference to {table_label(areas[0].label)}\n(paired), points", justify="right"
    )
    table.add_column("verdict")
    table.add_column(f"{reach}\n(runs that reached it)", justify="right")
    table.add_column("verdict")
    for area, time in zip(areas, times, strict=True):
        table.add_row(
            table_label(area.label),
            both(_area(area.success), if_any(area.with_failures, _area)),
            _points(area, areas[0]).replace(" points", ""),
            _verdict(area),
            both(
                duration(time.median, budget) + f" ({time.reached}/{len(time.waits)})",
                if_any(time.with_failures, lambda least: duration(least, budget)),
            ),
            UNLIKE if area.unlike else "" if time.judged is None else str(time.judged),
        )
    table.caption = ".\n".join(_warnings(areas)) or None
    return table


def _area(interval: Interval) -> str:
    return percent(interval) if interval.mean else "0.0%"


def duration(median: Interval, budget: float) -> str:
    """`512 [320, >1280]`: a time with its limits; one beyond the budget is shown as `>budget`."""
    if math.isinf(median.mean):
        low = "" if math.isinf(median.low) else f" [{amount(median.low)}, …]"
        return f">{amount(budget)}{low}"
    high = f">{amount(budget)}" if math.isinf(median.high) else amount(median.high)
    return f"{amount(median.mean)} [{amount(median.low)}, {high}]"


CSV_COLUMNS = (
    *("label", "env", "method", "model", "seed", "update", "episodes", "generated_tokens"),
    *("seconds", "flops"),
    *("samples", "mean", "low", "high", "best"),
    *("without_verdict", "mean_with_failures"),
)


def write_csv(groups: Mapping[str, Sequence[RunData]], path: Path) -> None:
    """Every evaluation of every run as a row; rates are fractions, limits Wilson's at 95%.

    All rates but that of the last column leave out attempts without a verdict.
    """
    labelled = [(label, run) for label, runs in groups.items() for run in runs]
    lines = [_csv_row(label, run, point) for label, run in labelled for point in run.points]
    write_atomically(path, as_csv([CSV_COLUMNS, *lines]))


def _csv_row(label: str, run: RunData, point: EvalPoint) -> list[object]:
    names = [run.settings[key] for key in ("env", "method", "model", "seed")]
    interval = point.interval()
    spent = [point.update, point.episodes, point.generated_tokens]
    clocks = [_blank(point.seconds), _blank(point.flops)]
    rates = [interval.mean, interval.low, interval.high, point.best]
    missing = [point.errors, point.with_failures().mean]
    return [label, *names, *spent, *clocks, point.samples, *rates, *missing]


def _blank(value: float) -> float | str:
    return "" if math.isnan(value) else value
