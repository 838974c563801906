"""The results of several runs as data for a page: what `compare` computes, and the ledgers.

Left out: drawing, which the page does.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from itertools import combinations, pairwise
from typing import Any

import numpy as np
from rich.table import Table

from resd_bench.monitoring.faults import faults_of
from resd_bench.records.runs import RunData
from resd_bench.report.comparisons import (
    Comparison,
    Groups,
    compare,
    compare_times,
    saturated_environments,
    success_of,
    varying_settings,
)
from resd_bench.report.figures import AXIS_LABELS, slots_of
from resd_bench.report.measured import facts_of, label_of, measured_differently
from resd_bench.report.metric_table import detail_table, written_table
from resd_bench.report.run_notes import idle_updates
from resd_bench.report.tables import (
    AXIS_NAMES,
    amount,
    compare_table,
    learning_table,
    unfinished_runs,
)
from resd_bench.report.take_off_table import take_off_table, take_offs
from resd_bench.stats import Axis, Interval, success_at

_MUCH_IDLE = 0.5
"""Share of updates without anything to train on above which a run is named for it."""
LEDGER: Mapping[str, str] = {
    "episodes": "training rollouts",
    "env_steps": "environment steps",
    "sampled_tokens": "tokens of rollouts",
    "reflection_tokens": "tokens of reflection, tagging and curation",
    "scored_tokens": "tokens read by the teacher",
    "trained_tokens": "tokens read by the student in training",
    "updates": "updates",
    "seconds": "seconds of training",
    "flops": "estimated FLOPs of training",
    "evaluation_tokens": "tokens of evaluation (not charged)",
    "evaluation_seconds": "seconds of evaluation (not charged)",
}
"""Columns of metrics.jsonl that are running totals, and what they count."""


def suite(groups: Groups, at: float, axis: Axis, varies: Collection[str] = ()) -> dict[str, Any]:
    """Everything that a page shows of groups of runs compared at `at` on `axis`; see `compare`."""
    runs = [run for group in groups.values() for run in group]
    title = " | ".join(dict.fromkeys(run.setting for run in runs))
    rows = compare(groups, at, axis, varies=varies)
    slots = slots_of([row.label for row in rows])
    full = saturated_environments(groups, at, axis)
    main = compare_table(rows, title, at, axis, full, unfinished_runs(groups))
    tables = {"success": table_data(main)}
    if split := take_offs(groups, at, axis, varies):
        tables["take_off"] = table_data(take_off_table(split, at, axis))
    if at > 0:
        areas = compare(groups, at, axis, "area", varies)
        times = compare_times(groups, at, axis, varies=varies)
        tables["speed"] = table_data(learning_table(areas, times, at, axis))
    tables["detail"] = table_data(detail_table(groups, rows, at, axis))
    if (written := written_table(groups)) is not None:
        tables["written"] = table_data(written)
    return {
        "title": title,
        "budget": f"{amount(at)} {AXIS_NAMES[axis]}",
        "organism": any("model organism" in run.setting for run in runs),
        "groups": [
            {"label": row.label, "runs": row.runs, "slot": slots[row.label]} for row in rows
        ],
        "results": [_result(row) for row in rows],
        "tables": tables,
        "curves": curves(groups),
        "ledger": [_ledger(group) for group in groups.values()],
        "ledger_names": LEDGER,
        "latency": [latency(group) for group in groups.values()],
        "cells": cells(groups, at, axis),
        "faults": [
            f"{label} · {run.env} · seed {run.seed}, {fault}"
            for label, group in groups.items()
            for run in group
            for fault in (
                *faults_of(run.metrics, run.settings),
                *idle_updates(run, least=_MUCH_IDLE),
            )
        ],
        "runs": [_facts(run, label) for label, group in groups.items() for run in group],
    }


def table_data(table: Table) -> dict[str, Any]:
    """A printed table as data: the same texts as in the terminal."""
    columns = [
        {"name": _plain(column.header), "right": column.justify == "right"}
        for column in table.columns
    ]
    cells_ = [[_plain(cell) for cell in column.cells] for column in table.columns]
    return {
        "title": _plain(table.title or ""),
        "caption": _plain(table.caption or ""),
        "columns": columns,
        "rows": [list(row) for row in zip(*cells_, strict=True)],
    }


def _plain(cell: Any) -> str:
    return str(cell)


def _limits(interval: Interval) -> dict[str, Any]:
    return {"mean": interval.mean, "low": interval.low, "high": interval.high, "n": interval.n}


def _result(row: Comparison) -> dict[str, Any]:
    difference = None if row.difference is None else _limits(row.difference)
    return {
        "label": row.label,
        "seeds": len(row.seeds),
        "verdict": row.verdict,
        "unlike": list(row.unlike),
        "success": _limits(row.success),
        "with_failures": None if row.with_failures is None else _limits(row.with_failures),
        "left_out": row.left_out,
        "difference": difference,
    }


def curves(groups: Groups) -> dict[str, Any]:
    """Held-out success of each group and seed over every axis that all records hold."""
    runs = [run for group in groups.values() for run in group]
    axes = [a for a in AXIS_LABELS if all(_holds(run, a) for run in runs)]
    panels = []
    for env in dict.fromkeys(run.env for run in runs):
        series = []
        for number, group in enumerate(groups.values()):
            own = [run for run in group if run.env == env]
            if own:
                series.append({"group": number, **_curve(own, axes)})
        panels.append({"env": env, "series": series})
    return {"axes": {axis: AXIS_LABELS[axis] for axis in axes}, "panels": panels}


def _holds(run: RunData, axis: Axis) -> bool:
    return axis not in run.lacks and not any(math.isnan(p.at(axis)) for p in run.points)


def _curve(runs: Sequence[RunData], axes: Sequence[Axis]) -> dict[str, Any]:
    by_update = [{point.update: point for point in run.points if point.samples} for run in runs]
    common = sorted(set.intersection(*map(set, by_update)))
    bands = [success_of(runs, update, "updates") for update in common]
    return {
        "updates": common,
        "x": {
            a: [float(np.mean([own[u].at(a) for own in by_update])) for u in common] for a in axes
        },
        "mean": [band.mean for band in bands],
        "low": [band.low for band in bands],
        "high": [band.high for band in bands],
        "seeds": [
            {
                "seed": seed_text(run.seed),
                "x": {a: [point.at(a) for point in own.values()] for a in axes},
                "mean": [point.mean for point in own.values()],
            }
            for run, own in zip(runs, by_update, strict=True)
        ],
    }


def seed_text(seed: int) -> int | str:
    """A seed for JavaScript, whose numbers are exact only up to 2^53."""
    return seed if seed <= 2**53 else str(seed)


def _ledger(runs: Sequence[RunData]) -> dict[str, Any]:
    """Mean, minimum and maximum of each total at the end of the runs that logged it."""
    found = {}
    for name in LEDGER:
        totals = [
            float(run.metrics[-1][name])
            for run in runs
            if run.metrics and isinstance(run.metrics[-1].get(name), int | float)
        ]
        if totals:
            found[name] = {"mean": float(np.mean(totals)), "low": min(totals), "high": max(totals)}
    return found


def latency(runs: Sequence[RunData]) -> dict[str, Any]:
    """Seconds per update: the median over runs by update, and overall quantiles."""
    by_update: dict[int, list[float]] = {}
    for run in runs:
        rows = [{"update": 0, "seconds": 0.0}, *run.metrics]
        for before, row in pairwise(rows):
            if "seconds" in row and "seconds" in before:
                took = float(row["seconds"]) - float(before["seconds"])
                by_update.setdefault(int(row["update"]), []).append(max(0.0, took))
    if not by_update:
        return {}
    updates = sorted(by_update)
    every = [value for own in by_update.values() for value in own]
    return {
        "updates": updates,
        "median": [float(np.median(by_update[u])) for u in updates],
        "low": [min(by_update[u]) for u in updates],
        "high": [max(by_update[u]) for u in updates],
        "p50": float(np.median(every)),
        "p90": float(np.quantile(every, 0.9)),
        "p100": max(every),
    }


def cells(groups: Groups, at: float, axis: Axis) -> dict[str, Any]:
    """Success of every run with the settings that vary, for the heat map."""
    runs = [run for group in groups.values() for run in group]
    names = varying_settings(runs)
    if "seed" not in names and len({run.seed for run in runs}) > 1:
        names.append("seed")
    rows = []
    for run in runs:
        own = facts_of(run)
        point = success_at(run.points, at, axis)
        values = ["none" if own.get(name) is None else label_of(own[name]) for name in names]
        rows.append(
            {
                "values": values,
                "success": point.mean,
                "with_failures": point.with_failures().mean,
                "samples": point.samples,
            }
        )
    return {"names": names, "runs": rows, "unlike": _unlike(runs, names)}


def _unlike(runs: Sequence[RunData], names: Collection[str]) -> list[tuple[str, str]]:
    """Pairs of methods that were measured differently in more than what the map shows."""
    by_method: dict[str, list[RunData]] = {}
    for run in runs:
        by_method.setdefault(run.method, []).append(run)
    return [
        (a, b)
        for a, b in combinations(by_method, 2)
        if measured_differently((by_method[a], by_method[b]), varies=names)
    ]


def _facts(run: RunData, label: str) -> dict[str, Any]:
    manifest = {} if run.files is None else run.files.json("manifest.json")
    code, hardware = manifest.get("code") or {}, manifest.get("hardware") or {}
    devices = hardware.get("accelerators") or [hardware.get("processor") or ""]
    return {
        "label": label,
        "env": run.env,
        "seed": seed_text(run.seed),
        "model": run.model,
        "updates": run.points[-1].update,
        "episodes": run.points[-1].episodes,
        "state": str(run.status.get("state", "")),
        "commit": str(code.get("sha", ""))[:10] + ("+" if code.get("dirty") else ""),
        "hardware": ", ".join(map(str, devices)),
        "folder": str(run.folder),
    }
