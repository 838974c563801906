"""`tune`: the same number of trials for every method, chosen by validation tasks."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from resd_bench.commands import sweep
from resd_bench.commands.shared import TO_FOLDER, ServerOption, Trust
from resd_bench.errors import UsageError
from resd_bench.files.terminal import note, out
from resd_bench.files.writing import check_folder_target
from resd_bench.sweep.scheduler import RETRIES, Job

if TYPE_CHECKING:
    from resd_bench.tuning.definition import Tuning

Start = Annotated[
    bool, typer.Option("--run/--no-run", help="Run what is missing, or only read records.")
]
KeptRecords = Annotated[
    list[Path] | None,
    typer.Option(metavar="FOLDER", help="Folder of kept records; can be repeated."),
]
PagesFolder = Annotated[
    Path | None,
    typer.Option(
        metavar="FOLDER",
        callback=TO_FOLDER,
        help="Folder to write the results to (default: where the runs are).",
    ),
]


def tune(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Tuning file, see docs/sweeps.md.")],
    jobs: sweep.Jobs = None,
    launcher: sweep.LauncherName = "local",
    address: sweep.Address = None,
    cpus: sweep.Cpus = 1,
    gpus: sweep.Gpus = 0,
    only: sweep.Only = None,
    retries: sweep.Retries = RETRIES,
    show: sweep.ShowList = False,
    save: sweep.RunsFolder = None,
    keep: sweep.KeepFolder = None,
    start: Start = True,
    records: KeptRecords = None,
    pages: PagesFolder = None,
    server: ServerOption = None,
    trust_remote_code: Trust = None,
) -> None:
    """Give every method as many trials; choose by validation tasks.

    Writes tuning.md, tuning.json and tuned.yaml, a sweep of the chosen settings. Finished runs are
    skipped and unfinished ones resumed.
    """
    from resd_bench.tuning.definition import load_tuning

    named = {"server": server, "trust_remote_code": trust_remote_code}
    tuning = load_tuning(file, out=save, named=named)
    trials = sweep.choose_trials(tuning.sweep, only)
    if show:
        sweep.list_trials(trials)
        return
    if not start and (only or keep):
        raise UsageError("--no-run starts nothing: leave out --only and --keep")
    sweep.warn_of_missing(records or ())
    target = pages or check_folder_target(Path(tuning.out))
    received, done = 0, list[Job]()
    if start:
        where = sweep.make_launcher(launcher, jobs, address, cpus, gpus, named)
        received, done = sweep.run_sweep(tuning.name, trials, where, retries)
        if keep is not None:
            sweep.keep_finished(done, keep)
    kept = [*(records or ()), *([keep] if keep else ()), Path(tuning.out)]
    choose(tuning, kept, failures(done), target, command(file, records))
    raise typer.Exit(sweep.finish(received, done) if start else 0)


def choose(
    tuning: Tuning, kept: Sequence[Path], failed: Mapping[str, str], target: Path, made_by: str
) -> None:
    """Show what the trials on record reached, and write that and the chosen settings."""
    from resd_bench.reproduce.match_records import Records
    from resd_bench.tuning.choice import measure_trials
    from resd_bench.tuning.page import make_page, save_choice

    found = measure_trials(tuning, Records.scan(kept), failed)
    page = make_page(tuning, found)
    for table in page.tables:
        out().print(table)
    for path in [*page.save(target, made_by), *save_choice(tuning, found, target)]:
        note(f"wrote {path}")


def failures(jobs: Sequence[Job]) -> dict[str, str]:
    """Why runs failed, by their folders."""
    return {str(job.trial.folder): job.reason for job in jobs if job.state == "failed"}


def command(file: Path, records: Sequence[Path] | None) -> str:
    """What makes the page again from records; where to is left out, as it may be anywhere."""
    options = [word for folder in records or () for word in ("--records", str(folder))]
    return shlex.join(["resd-bench", "tune", str(file), "--no-run", *options])
