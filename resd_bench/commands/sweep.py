"""`sweep`: the runs of a file, on this machine or a Ray cluster. Left out: what a trial is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from resd_bench.commands.shared import TO_FOLDER, ServerOption, Trust
from resd_bench.errors import UsageError
from resd_bench.files.terminal import note, out, say
from resd_bench.files.writing import check_folder_target
from resd_bench.machine import cores
from resd_bench.options import whole_numbers
from resd_bench.sweep.definition import Sweep, Trial, load_sweep
from resd_bench.sweep.launch import Launcher, LocalLauncher, RayLauncher, run_command
from resd_bench.sweep.scheduler import RETRIES, Job, Scheduler, make_jobs

LAUNCHERS = ("local", "ray")
Jobs = Annotated[
    int | None,
    typer.Option(metavar="INT", help="Parallel runs on this machine (default: number of cores)."),
]
LauncherName = Annotated[
    str, typer.Option(metavar="local|ray", help="Where to run: this machine or Ray.")
]
Address = Annotated[
    str | None,
    typer.Option(
        metavar="HOST:PORT",
        help="Address of a Ray cluster, or auto (default: start Ray on this machine).",
    ),
]
Cpus = Annotated[float, typer.Option(min=0, metavar="NUMBER", help="CPU cores per run on Ray.")]
Gpus = Annotated[float, typer.Option(min=0, metavar="NUMBER", help="GPUs per run on Ray.")]
Only = Annotated[
    str | None,
    typer.Option(metavar="INDEX", help="Only these runs of the list: 3, 0-7 or 1,5."),
]
Retries = Annotated[
    int, typer.Option(min=0, metavar="INT", help="Number of times to restart a crashed run.")
]
ShowList = Annotated[bool, typer.Option("--list", help="List the runs and start none.")]
RunsFolder = Annotated[
    str | None,
    typer.Option(
        "--out",
        metavar="FOLDER",
        callback=TO_FOLDER,
        help="Root folder of the runs (default: as in the file).",
    ),
]
KeepFolder = Annotated[
    Path | None,
    typer.Option(
        metavar="FOLDER",
        callback=TO_FOLDER,
        help="Afterwards copy the records to FOLDER/ENV/VARIANT/seed-K.",
    ),
]
"""Options of the commands that start many runs: `sweep` and `tune`."""


def sweep(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Sweep file, see docs/sweeps.md.")],
    jobs: Jobs = None,
    launcher: LauncherName = "local",
    address: Address = None,
    cpus: Cpus = 1,
    gpus: Gpus = 0,
    only: Only = None,
    retries: Retries = RETRIES,
    show: ShowList = False,
    save: RunsFolder = None,
    keep: KeepFolder = None,
    answers: Annotated[
        bool, typer.Option("--answers", help="With --keep: also copy the texts of answers.")
    ] = False,
    server: ServerOption = None,
    trust_remote_code: Trust = None,
) -> None:
    """Run every configuration in a file; finished runs are skipped.

    Unfinished runs are resumed, so the same command continues after an interruption.
    """
    named = {"server": server, "trust_remote_code": trust_remote_code}
    trials = choose_trials(load_sweep(file, out=save, named=named), only)
    if show:
        list_trials(trials)
        return
    if answers and keep is None:
        raise UsageError("--answers is given without --keep FOLDER, which says where to")
    where = make_launcher(launcher, jobs, address, cpus, gpus, named)
    received, done = run_sweep(file.stem, trials, where, retries)
    if keep is not None:
        keep_finished(done, keep, answers=answers)
    raise typer.Exit(finish(received, done))


def make_launcher(
    name: str,
    jobs: int | None,
    address: str | None,
    cpus: float,
    gpus: float,
    named: Mapping[str, str | None] | None = None,
) -> Launcher:
    """The launcher called `name`; UsageError for another one, or settings that are not its own.

    `named` are settings of the command line that every run is given too.
    """
    if name not in LAUNCHERS:
        raise UsageError(f"--launcher {name!r}: give local or ray")
    if jobs is not None and jobs < 1:
        raise UsageError(f"--jobs {jobs}: give at least 1")
    flags = [word for key, value in (named or {}).items() if value for word in _flag(key, value)]
    command = partial(run_command, named=flags)
    if name == "local":
        return LocalLauncher(jobs or cores.usable_cores(), command)
    return RayLauncher(address, cpus, gpus, command)


def _flag(key: str, value: str) -> tuple[str, str]:
    return f"--{key.replace('_', '-')}", value


def choose_trials(sweep: Sweep, only: str | None) -> list[Trial]:
    """The trials that `only` (`3`, `0-7`, `1,5`) names, all without it; UsageError for others."""
    if only is None:
        return list(sweep.trials)
    by_index = {trial.index: trial for trial in sweep.trials}
    chosen = whole_numbers("--only", only)
    for index in chosen:
        if index not in by_index:
            raise UsageError(f"--only {index}: {sweep.name} has runs {_span(sweep)}")
    return [by_index[index] for index in chosen]


def _span(sweep: Sweep) -> str:
    return f"{sweep.trials[0].index} to {sweep.trials[-1].index}"


def list_trials(trials: Sequence[Trial]) -> None:
    """A line per trial: index, variant, environment, seed, updates and their size, folder."""
    for trial in trials:
        config = trial.config
        shown = (trial.index, trial.variant, config.env, config.seed, trial.updates, trial.folder)
        say("\t".join(map(str, shown)))


def run_sweep(
    name: str, trials: Sequence[Trial], launcher: Launcher, retries: int
) -> tuple[int, list[Job]]:
    """Run `trials` to the end; the signal that interrupted it or 0, and how each job ended."""
    from resd_bench.sweep.progress_table import LiveTable

    root = Path(trials[0].config.out).parent
    for folder in {trial.config.out: None for trial in trials}:
        check_folder_target(Path(folder))
    jobs = make_jobs(trials, root / ".sweeps" / name, root)
    with LiveTable() as table:
        try:
            received = Scheduler(jobs, launcher, retries, table.watch).run()
        finally:
            launcher.close()
        table.watch(jobs)
    return received, jobs


def warn_of_missing(records: Sequence[Path]) -> None:
    """Say which folders of `--records` are not there; the others are read all the same."""
    from resd_bench.records.run_files import is_run

    for folder in records:
        if not (folder.is_dir() or is_run(folder)):
            note(f"warning: --records {folder}: there is no such folder")


def keep_finished(jobs: Sequence[Job], to: Path, *, answers: bool = False) -> None:
    """Keep the records of the runs that are done, those apart that `to` has already."""
    from resd_bench.records.archive import is_taken, keep_at
    from resd_bench.records.runs import load_run

    done = [job.trial for job in jobs if job.state in ("finished", "there already")]
    places = {
        to / trial.config.env / trial.variant / f"seed-{trial.config.seed}": trial for trial in done
    }
    new = {place: load_run(t.folder) for place, t in places.items() if not is_taken(place)}
    kept = len(keep_at(new, to, answers=answers))
    note(f"kept {kept} of {len(done)} records in {to}; the others were there")


def interrupted(received: int, jobs: Sequence[Job]) -> int:
    """Say what runs that signal `received` interrupted left behind; the exit code."""
    from resd_bench.records.left_behind import left_behind

    finished = [job for job in jobs if job.state in ("finished", "there already")]
    rest = [left_behind(job.trial.folder) for job in jobs if job not in finished]
    saved = sum(left.checkpoint is not None for left in rest)
    others = f"{saved or 'none'} of the others {'have' if saved > 1 else 'has'} a checkpoint"
    told = f"{len(finished)} of {len(jobs)} runs are finished, {others}"
    go_on = "continues" if finished or saved else "begins again"
    note(f"interrupted; {told}. The same command {go_on}")
    return 128 + received


def finish(received: int, jobs: Sequence[Job]) -> int:
    """Print the summary; the exit code."""
    from resd_bench.sweep.progress_table import summary_table

    out().print(summary_table(jobs))
    if received:
        return interrupted(received, jobs)
    failed = sum(job.state == "failed" for job in jobs)
    if failed:
        note(f"{failed} of {len(jobs)} runs failed; the same command tries them again")
    return int(failed > 0)
