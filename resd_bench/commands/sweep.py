"""`sweep`: the runs of a file, on this machine or a Ray cluster. Left out: what a trial is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from resd_bench.plugins import UsageError
from resd_bench.sweep.definition import Sweep, Trial, load_sweep
from resd_bench.sweep.launch import Launcher, LocalLauncher, RayLauncher, cores, run_command
from resd_bench.sweep.live import LiveTable, summary_table
from resd_bench.sweep.scheduler import Job, Scheduler, make_jobs
from resd_bench.terminal import note, out, say

LAUNCHERS = ("local", "ray")


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
        return LocalLauncher(jobs or cores(), command)
    return RayLauncher(address, cpus, gpus, command)


def _flag(key: str, value: str) -> tuple[str, str]:
    return f"--{key.replace('_', '-')}", value


def choose(sweep: Sweep, only: str | None) -> list[Trial]:
    """The trials that `only` (`3`, `0-7`, `1,5`) names, all without it; UsageError for others."""
    if only is None:
        return list(sweep.trials)
    by_index = {trial.index: trial for trial in sweep.trials}
    chosen: dict[int, Trial] = {}
    for part in only.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdigit() or (dash and not last.isdigit()):
            raise UsageError(f"--only {only!r} is not understood: give 3, 0-7 or 1,5")
        for index in range(int(first), int(last if dash else first) + 1):
            if index not in by_index:
                raise UsageError(f"--only {index}: {sweep.name} has runs {_span(sweep)}")
            chosen[index] = by_index[index]
    return list(chosen.values())


def _span(sweep: Sweep) -> str:
    return f"{sweep.trials[0].index} to {sweep.trials[-1].index}"


def list_trials(trials: Sequence[Trial]) -> None:
    """A line per trial: index, variant, environment, seed, folder."""
    for trial in trials:
        config = trial.config
        shown = (trial.index, trial.variant, config.env, config.seed, trial.folder)
        say("\t".join(map(str, shown)))


def run_sweep(
    name: str, trials: Sequence[Trial], launcher: Launcher, retries: int
) -> tuple[int, list[Job]]:
    """Run `trials` to the end; the signal that interrupted it or 0, and how each job ended."""
    root = Path(trials[0].config.out).parent
    jobs = make_jobs(trials, root / ".sweeps" / name, root)
    with LiveTable() as table:
        try:
            received = Scheduler(jobs, launcher, retries, table.watch).run()
        finally:
            launcher.close()
        table.watch(jobs)
    return received, jobs


def sweep_file(
    file: Path,
    out_folder: str | None,
    only: str | None,
    show: bool,
    named: Mapping[str, str | None] | None = None,
) -> list[Trial]:
    """The trials of `file` that are asked for; with `show` they are listed.

    `named` are settings of the command line.
    """
    trials = choose(load_sweep(file, out=out_folder, named=named), only)
    if show:
        list_trials(trials)
    return trials


def keep_finished(jobs: Sequence[Job], to: Path) -> None:
    """Keep the records of the runs that are done, those apart that `to` has already."""
    from resd_bench.report.archive import keep_at
    from resd_bench.report.runs import load_run

    done = [job.trial for job in jobs if job.state in ("finished", "there already")]
    places = {
        to / trial.config.env / trial.variant / f"seed-{trial.config.seed}": trial for trial in done
    }
    new = {place: load_run(t.folder) for place, t in places.items() if not place.exists()}
    note(f"kept {len(keep_at(new, to))} of {len(done)} records in {to}; the others were there")


def finish(received: int, jobs: Sequence[Job]) -> int:
    """Print the summary; the exit code."""
    out().print(summary_table(jobs))
    if received:
        note("interrupted; everything is saved. Go on with the same command")
        return 128 + received
    failed = sum(job.state == "failed" for job in jobs)
    if failed:
        note(f"{failed} of {len(jobs)} runs failed; the same command tries them again")
    return int(failed > 0)
