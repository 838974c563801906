"""`report` and `trace`: pages that open from disk. Left out: everything that is not arguments."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from resd_bench.commands.compare import budget_all_reached, choose_axis
from resd_bench.plugins import UsageError, near_miss
from resd_bench.report.comparisons import group_runs, in_common_environments
from resd_bench.report.html.episodes import episode_id
from resd_bench.report.measured import not_compared, parse_varies
from resd_bench.report.runs import find_runs
from resd_bench.run_files import EPISODES, METRICS, RunFiles
from resd_bench.terminal import note, out


def report_runs(
    places: Sequence[str],
    save: Path,
    *,
    axis_name: str | None = None,
    budget: str | None = None,
    title: str | None = None,
    episodes: int = 4,
    runs_in_detail: int = 1,
    varies: str | None = None,
) -> None:
    """Write the report of the runs in `places` to the file `save`."""
    from resd_bench.report.html.build import write_report

    axis, wanted = choose_axis(axis_name, budget)
    on_purpose = parse_varies(varies)
    groups = in_common_environments(group_runs(find_runs(places)))
    runs = [run for group in groups.values() for run in group]
    for text in not_compared(runs):
        note(text)
    at = budget_all_reached(runs, axis, wanted)
    path = write_report(
        groups,
        at,
        axis,
        _page(save),
        title=title,
        per_update=episodes,
        runs_in_detail=runs_in_detail,
        varies=on_purpose,
    )
    out().print(f"report {path}", soft_wrap=True)


def trace_run(
    folder: Path, update: int | None, episode: str | None, most: int, save: Path, **flags: Any
) -> None:
    """Write the trace of an update of the run in `folder`, or of an episode's update, to `save`."""
    from resd_bench.replay import replay
    from resd_bench.report.html.build import write_trace

    page = _page(save)
    files = RunFiles.at(folder)
    if update is not None and episode is not None:
        raise UsageError("--update and --episode were both given: give one of them")
    if update is None:
        update = last_update(files) if episode is None else update_of(files, episode)
    # Which example an episode becomes is the method's business: all are scored to show one.
    trace = replay(folder, update, most if episode is None else sys.maxsize, flags, tell=note)
    if episode is not None:
        trace["episodes"] = [row for row in trace["episodes"] if episode_id(row) == episode]
    paths = write_trace(trace, folder, page)
    weights, console = trace["weights"], out()
    origin = weights["checkpoint"] or "the start of the run"
    console.print(f"scored after {weights['after_updates']} updates, repeated from {origin}")
    if weights["same"] is not None:
        console.print("responses as recorded: {} of {}".format(*weights["same"]))
    console.print(f"trace {paths[0]}\ndata  {paths[1]}", soft_wrap=True)


def last_update(files: RunFiles) -> int:
    """The number of the last update of a run."""
    updates = [row["update"] for row in files.stream(METRICS)]
    if not updates:
        raise UsageError(f"{files.folder} has no update yet: go on with `run --resume`")
    return int(updates[-1])


def update_of(files: RunFiles, episode: str) -> int:
    """The update that the episode `TASK#ATTEMPT` was played in; UsageError names a near one."""
    known = {episode_id(row): int(row["update"]) for row in files.stream(EPISODES)}
    if episode not in known:
        if not known:
            raise UsageError(f"{files.folder} has no episodes on record: give --update")
        raise near_miss("episode", episode, known)
    return known[episode]


def _page(save: Path) -> Path:
    if save.suffix not in (".html", ".htm"):
        raise UsageError(f"--out {save}: give a file that ends in .html")
    return save
