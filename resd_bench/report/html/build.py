"""The two pages: the report of several runs, and the trace of an update."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

from resd_bench.check.lessons import Auditor
from resd_bench.files.writing import write_named
from resd_bench.records.recorder import plain
from resd_bench.records.runs import RunData, model_label
from resd_bench.report.comparisons import Groups
from resd_bench.report.html.episodes import episodes_data, evaluations_data, traces
from resd_bench.report.html.page import clip, write_page
from resd_bench.report.html.playbooks import contexts, time_machine
from resd_bench.report.html.suite import suite
from resd_bench.stats import Axis

_T = TypeVar("_T")
MAX_AUDIT = 40
"""Maximum number of lines shown of an audit."""
MAX_CHECKPOINT = 256 * 2**20
"""Largest checkpoint, in bytes, whose solution buffer is audited for a page."""
TRAINING = {"part": "training"}


def write_report(
    groups: Groups,
    at: float,
    axis: Axis,
    path: Path,
    *,
    title: str | None = None,
    per_update: int = 4,
    answers: int = 48,
    runs_in_detail: int = 1,
    varies: Collection[str] = (),
    audited: bool = True,
) -> Path:
    """Write the report of groups compared at `at` on `axis`; see `suite`.

    Playbooks, episodes (`per_update` of each update) and held-out answers (`answers` of each kind
    of evaluation) are those of the first `runs_in_detail` runs of each group. If `audited`, so are
    the audits of what methods wrote, for which the environment grades solutions again.
    """
    data = suite(groups, at, axis, varies)
    machines, viewers, audits = [], [], []
    for label, group in groups.items():
        for run in sorted(group, key=lambda run: (run.env, run.seed))[:runs_in_detail]:
            name = f"{label} · {run.env} · seed {run.seed}"
            written = contexts(run.folder)
            if (machine := time_machine(written)) is not None:
                machines.append({"label": name, **machine})
            files = run.files if audited else None
            auditor = (
                None
                if files is None
                else _attempted(partial(Auditor, files, written, MAX_CHECKPOINT))
            )
            viewer = _viewer(run, written, per_update, auditor)
            if auditor is not None:
                audits.append({"label": name, "lines": _lines(auditor)})
            if viewer["list"]:
                viewers.append({"label": name, **TRAINING, "folder": str(run.folder), **viewer})
            viewers += [{"label": name, **v} for v in evaluations_data(run, answers)]
    page = {
        **data,
        "kind": "suite",
        "title": title or data["title"],
        "machines": machines,
        "viewers": viewers,
        "audits": audits,
    }
    return write_page(page | {"version": version("resd-bench")}, path)


def _attempted(make: Callable[[], _T]) -> _T | str:
    """What `make` gives; why it does not otherwise.

    The environment may be another version by now, or not installed any more.
    """
    try:
        return make()
    except Exception as error:
        return f"not audited: {type(error).__name__}: {error}"


def _lines(auditor: Auditor | str) -> list[str]:
    """The audit of what a run's method wrote, in words; why there is none otherwise."""
    audit = auditor if isinstance(auditor, str) else _attempted(auditor.finish)
    if isinstance(audit, str):
        return [clip(audit, 400)]
    told = audit.lines()
    more = len(told) - MAX_AUDIT
    rest = [f"and {more} more: see `results audit`"] if more > 0 else []
    return [clip(line, 400) for line in told[:MAX_AUDIT]] + rest


def _viewer(
    run: RunData, written: Mapping[int, Mapping[str, Any]], most: int, auditor: Auditor | str | None
) -> dict[str, Any]:
    """The episodes of a run for the viewer, which an auditor sees as they are read."""
    rows = run.training()
    rows = auditor.watch(rows) if isinstance(auditor, Auditor) else rows
    return episodes_data(rows, written, traces(run.folder), most)


def write_trace(trace: Mapping[str, Any], folder: Path, path: Path) -> list[Path]:
    """Write the page of one traced update, and its data as JSON.

    `trace` is what `resd_bench.jobs.replay.replay` gives.
    """
    run, update = trace["run"], int(trace["update"])
    setting = f"{run['method']} on {run['env']} · {model_label(str(run['model']))}"
    viewer = episodes_data(trace["episodes"], {update: trace["context"]}, {update: trace}, None)
    page = {
        "kind": "trace",
        "version": version("resd-bench"),
        "title": f"Update {update} of {setting} · seed {run['seed']}",
        "organism": "model organism" in setting,
        "viewers": [{"label": setting, **TRAINING, "folder": str(folder), **viewer}],
    }
    data = path.with_suffix(".json")
    written = write_page(page, path)
    write_named(data, json.dumps(plain(trace), allow_nan=False).encode() + b"\n")
    return [written, data]
