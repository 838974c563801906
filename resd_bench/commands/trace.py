"""`trace`: one update again, token by token, as a page that opens from disk."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from resd_bench.commands.report import page_file
from resd_bench.commands.shared import TO_FILE, ServerOption, Trust
from resd_bench.errors import UsageError, near_miss
from resd_bench.files.terminal import note, out

if TYPE_CHECKING:
    from resd_bench.records.run_files import RunFiles


def trace(
    run_folder: Annotated[Path, typer.Argument(metavar="RUN", help="Run folder.")],
    update: Annotated[
        int | None,
        typer.Option(metavar="INT", help="Which update, counted from 1 (default: the last)."),
    ] = None,
    episode: Annotated[
        str | None,
        typer.Option(metavar="TASK#ATTEMPT", help="Show only this episode, named as in `report`."),
    ] = None,
    examples: Annotated[
        int, typer.Option(min=0, metavar="INT", help="Maximum number of examples to score.")
    ] = 64,
    save: Annotated[
        Path,
        typer.Option(
            "--out",
            metavar="FILE",
            callback=TO_FILE,
            help="HTML file to write; its data are written as JSON too.",
        ),
    ] = Path("trace.html"),
    device: Annotated[
        str | None,
        typer.Option(
            metavar="DEVICE", help="auto, cpu, cuda or cuda:1 (default: the one of the run)."
        ),
    ] = None,
    server: ServerOption = None,
    trust_remote_code: Trust = None,
) -> None:
    """Replay one update of a run and show its loss token by token.

    The run is not changed. The page also shows what the teacher saw.
    """
    page = page_file(save)
    from resd_bench.jobs.replay import replay
    from resd_bench.records.run_files import RunFiles
    from resd_bench.report.html.build import write_trace
    from resd_bench.report.html.episodes import episode_id

    files = RunFiles.at(run_folder)
    if update is not None and episode is not None:
        raise UsageError("--update and --episode were both given: give one of them")
    if update is None:
        update = last_update(files) if episode is None else update_of(files, episode)
    flags = {"device": device, "server": server, "trust_remote_code": trust_remote_code}
    # Which example an episode becomes is the method's business: all are scored to show one.
    most = examples if episode is None else sys.maxsize
    traced = replay(run_folder, update, most, flags, tell=note)
    if episode is not None:
        traced["episodes"] = [row for row in traced["episodes"] if episode_id(row) == episode]
    paths = write_trace(traced, run_folder, page)
    weights, console = traced["weights"], out()
    origin = weights["checkpoint"] or "the start of the run"
    done = weights["after_updates"]
    console.tell(f"scored after {done} update{'s' * (done != 1)}, repeated from {origin}")
    if weights["same"] is not None:
        console.print("responses as recorded: {} of {}".format(*weights["same"]))
    console.print(f"trace {paths[0]}\ndata  {paths[1]}", soft_wrap=True)


def last_update(files: RunFiles) -> int:
    """The number of the last update of a run."""
    from resd_bench.records.run_files import METRICS

    updates = [row["update"] for row in files.stream(METRICS)]
    if not updates:
        raise UsageError(f"{files.folder} has no update yet: continue it with `run --resume`")
    return int(updates[-1])


def update_of(files: RunFiles, episode: str) -> int:
    """The update that the episode `TASK#ATTEMPT` was played in; UsageError names a near one."""
    from resd_bench.records.run_files import EPISODES
    from resd_bench.report.html.episodes import episode_id

    known = {episode_id(row): int(row["update"]) for row in files.stream(EPISODES)}
    if episode not in known:
        if not known:
            raise UsageError(f"{files.folder} has no episodes on record: give --update")
        raise near_miss("episode", episode, known)
    return known[episode]
