"""`report` and `trace`: pages that open from disk. Left out: everything that is not arguments."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from resd_bench.commands.compare import budget_all_reached, choose_axis
from resd_bench.plugins import UsageError, near_miss
from resd_bench.record import read_log
from resd_bench.report.comparisons import group_runs, in_common_environments
from resd_bench.report.html.episodes import episode_id
from resd_bench.report.runs import find_runs
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
) -> None:
    """Write the report of the runs in `places` to the file `save`."""
    from resd_bench.report.html.build import write_report

    axis, wanted = choose_axis(axis_name, budget)
    groups = in_common_environments(group_runs(find_runs(places)))
    at = budget_all_reached([run for group in groups.values() for run in group], axis, wanted)
    path = write_report(
        groups,
        at,
        axis,
        _page(save),
        title=title,
        per_update=episodes,
        runs_in_detail=runs_in_detail,
    )
    out().print(f"report {path}", soft_wrap=True)


def trace_run(
    folder: Path, update: int | None, episode: str | None, most: int, save: Path, **flags: Any
) -> None:
    """Write the trace of an update of the run in `folder`, or of an episode's update, to `save`."""
    from resd_bench.replay import replay
    from resd_bench.report.html.build import write_trace

    page = _page(save)
    if not (folder / "config.yaml").is_file():
        raise UsageError(f"{folder} is no run folder (no config.yaml): give one that `run` wrote")
    if update is not None and episode is not None:
        raise UsageError("--update and --episode were both given: give one of them")
    if update is None:
        update = last_update(folder) if episode is None else update_of(folder, episode)
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


def last_update(folder: Path) -> int:
    """The number of the last update in a run folder."""
    rows = read_log(folder / "metrics.jsonl").rows
    if not rows:
        raise UsageError(f"{folder} has no update yet: go on with `run --resume`")
    return int(rows[-1]["update"])


def update_of(folder: Path, episode: str) -> int:
    """The update that the episode `TASK#ATTEMPT` was played in; UsageError names a near one."""
    rows = read_log(folder / "episodes.jsonl").rows
    known = {episode_id(row): int(row["update"]) for row in rows}
    if episode not in known:
        if not known:
            raise UsageError(f"{folder} has no episodes on record: give --update")
        raise near_miss("episode", episode, known)
    return known[episode]


def _page(save: Path) -> Path:
    if save.suffix not in (".html", ".htm"):
        raise UsageError(f"--out {save}: give a file that ends in .html")
    return save
