"""`reproduce`: run what an experiment lacks, then print and save its page."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from resd_bench import plugins
from resd_bench.commands import sweep
from resd_bench.commands.shared import TO_FOLDER
from resd_bench.errors import UsageError, near_miss
from resd_bench.files.terminal import note, out
from resd_bench.files.writing import check_folder_target
from resd_bench.sweep.definition import Sweep, Trial, load_sweep, sweep_out
from resd_bench.sweep.scheduler import RETRIES

if TYPE_CHECKING:
    from resd_bench.reproduce.experiments import Experiment
    from resd_bench.reproduce.match_records import Records
    from resd_bench.reproduce.page import Page

TIERS = ("nano", "smollm2", "paper")
Tier = Annotated[
    str,
    typer.Option(
        metavar="|".join(TIERS), help="Which runs: of one of these models, or the paper's."
    ),
]
FRESH = Path("runs-out")
"""Where the runs of sweeps write unless their files say otherwise."""


def reproduce(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="NAME", help="table2, fig1, ..., all or experiments; see --list."),
    ] = None,
    tier: Tier = "nano",
    env: Annotated[
        list[str] | None,
        typer.Option(metavar="ENV", help="Only this environment; can be repeated."),
    ] = None,
    start: Annotated[
        bool | None,
        typer.Option(
            "--run/--no-run", help="Run what is missing (default: only in the nano tier)."
        ),
    ] = None,
    jobs: Annotated[
        int | None, typer.Option(metavar="INT", help="Parallel runs (default: number of cores).")
    ] = None,
    runs: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER", help="Folder of sweep files (default: runs/TIER of the repository)."
        ),
    ] = None,
    records: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FOLDER",
            help="Folder of kept records; can be repeated (default: results/TIER of the "
            "repository).",
        ),
    ] = None,
    save: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="FOLDER",
            callback=TO_FOLDER,
            help="Folder to write pages to (default: runs-out/reproduce/TIER).",
        ),
    ] = None,
    show: Annotated[
        bool, typer.Option("--list", help="List what can be reproduced, and stop.")
    ] = False,
) -> None:
    """Compare our results with the paper's tables and figures.

    Runs that are missing are run first, see --run.
    """
    if not names and (env or runs or records or save or start is not None):
        raise UsageError("give what to reproduce, such as table2: `reproduce --list` names all")
    if show or not names:
        list_experiments()
        return
    sweep.warn_of_missing(records or ())
    wanted = Wanted(tier, tuple(env or ()), runs, tuple(records or ()), save)
    check_folder_target(wanted.pages)
    raise typer.Exit(make_pages(names, wanted, start, jobs))


@dataclass(frozen=True)
class Wanted:
    """What to reproduce from, and where to write."""

    tier: str
    envs: tuple[str, ...] = ()
    """Only these environments; () for all."""
    runs: Path | None = None
    records: tuple[Path, ...] = ()
    out: Path | None = None

    @property
    def runs_folder(self) -> Path:
        """The definitions of the runs; UsageError where they are not found."""
        folder = self.runs or repository() / "runs" / self.tier
        if not folder.is_dir():
            raise UsageError(f"no folder {folder}: work in a clone, or give --runs")
        return folder

    @property
    def pages(self) -> Path:
        """Where pages are saved."""
        return self.out or FRESH / "reproduce" / self.tier


def repository() -> Path:
    """The clone that contains the current folder, else the one that contains this package."""
    here = Path.cwd()
    return here if (here / "runs").is_dir() else Path(__file__).resolve().parents[2]


def list_experiments() -> None:
    """What there is."""
    from resd_bench.reproduce.experiments import EXPERIMENTS

    table = Table()
    for name in ("name", "what", "runs of", ""):
        table.add_column(name)
    for one in EXPERIMENTS:
        table.add_row(one.name, one.about, f"{one.sweep}.yaml", "paper" if one.of_paper else "ours")
    out().print(table)


def make_pages(names: Sequence[str], wanted: Wanted, start: bool | None, jobs: int | None) -> int:
    """Make the pages of `names`; the exit code. See `reproduce --help` for `start` and `jobs`."""
    from resd_bench.reproduce.experiments import choose_experiments
    from resd_bench.reproduce.match_records import gather
    from resd_bench.reproduce.paper_tables import add_tuned
    from resd_bench.sweep.progress_table import summary_table

    if wanted.tier not in TIERS:
        raise UsageError(f"--tier {wanted.tier!r}: give {', '.join(TIERS[:-1])} or {TIERS[-1]}")
    chosen, failed = choose_experiments(names), 0
    records = scan(wanted)
    # Several experiments are of one sweep.
    read = cache(load_sweep)
    trials = {one.name: trials_of(one, wanted, records, read) for one in chosen}
    check_envs(wanted, trials)
    missing = distinct(t for own in trials.values() for t in gather(own, records).missing)
    if missing and (wanted.tier == "nano" if start is None else start):
        note(
            f"{len(missing)} runs are missing and are run now; after Ctrl-C the same command goes "
            "on from their checkpoints"
        )
        launcher = sweep.make_launcher("local", jobs, None, 1, 0)
        received, done = sweep.run_sweep("reproduce", missing, launcher, RETRIES)
        if received:
            return sweep.interrupted(received, done)
        failed = sum(job.state == "failed" for job in done)
        if failed:
            out().print(summary_table([job for job in done if job.state == "failed"]))
        records = scan(wanted)
    elif missing:
        note(f"{len(missing)} runs are missing and count as not run")
    for one in chosen:
        if wanted.envs and not trials[one.name]:
            note(f"{one.name} has no runs on {', '.join(wanted.envs)}")
            continue
        gathered = gather(trials[one.name], records)
        note(f"making the page of {one.name}")
        page = one.make(gathered)
        page.name, page.model = one.name, gathered.model
        if tuned := tuned_trials(one, wanted):
            add_tuned(page, gathered, gather(tuned, records))
        page.notes += gathered.unfair()
        show(page, wanted)
    return int(failed > 0)


def check_envs(wanted: Wanted, trials: Mapping[str, Sequence[Trial]]) -> None:
    """UsageError for an environment that is not installed, or that no experiment has runs on."""
    known = plugins.installed("resd_bench.envs")
    for env in wanted.envs:
        if env not in known:
            raise near_miss("environment", env, known)
    if wanted.envs and not any(trials.values()):
        raise UsageError(
            f"--env {', '.join(wanted.envs)}: {', '.join(trials)} has no runs there in the "
            f"{wanted.tier} tier; leave out --env to see where it has"
        )


def scan(wanted: Wanted) -> Records:
    """The records there are: kept ones first, then fresh ones."""
    from resd_bench.reproduce.match_records import Records

    kept = wanted.records or (repository() / "results" / wanted.tier,)
    return Records.scan([*kept, *_outs(wanted)])


def _outs(wanted: Wanted) -> list[Path]:
    from resd_bench.reproduce.experiments import EXPERIMENTS

    if wanted.tier == "paper":
        return [FRESH / "paper"]
    names = dict.fromkeys(name for one in EXPERIMENTS for name in (one.sweep, one.tuned) if name)
    paths = [wanted.runs_folder / f"{name}.yaml" for name in names]
    return list(dict.fromkeys(Path(sweep_out(path)) for path in paths if path.exists()))


def trials_of(
    one: Experiment, wanted: Wanted, records: Records, read: Callable[[Path], Sweep]
) -> list[Trial]:
    """The runs that an experiment needs; none where the tier has no definition of them."""
    from resd_bench.reproduce.match_records import folder_trials, sweep_trials

    path = wanted.runs_folder / f"{one.sweep}.yaml"
    if path.exists():
        return sweep_trials(read(path), wanted.envs, one.variants)
    if wanted.tier == "paper" and (one.of_paper or one.variants):
        return folder_trials(wanted.runs_folder, records, wanted.envs, one.variants)
    raise UsageError(f"{one.name} needs {path}, which is not there: give --tier nano")


def tuned_trials(one: Experiment, wanted: Wanted) -> list[Trial]:
    """The runs with tuned settings of its methods, which are shown if there are any; never run."""
    from resd_bench.reproduce.match_records import sweep_trials

    path = wanted.runs_folder / f"{one.tuned}.yaml"
    if not (one.tuned and path.exists()):
        return []
    return sweep_trials(load_sweep(path), wanted.envs, ())


def distinct(trials: Iterable[Trial]) -> list[Trial]:
    """`trials` without those that are the same run, numbered anew."""
    by_folder: dict[Path, Trial] = {}
    for trial in trials:
        by_folder.setdefault(trial.folder, trial)
    return [replace(trial, index=index) for index, trial in enumerate(by_folder.values())]


def show(page: Page, wanted: Wanted) -> None:
    """Print a page and save it."""
    console = out()
    console.tell(f"{page.heading} · {wanted.tier} tier", style="bold")
    for text in page.notes:
        console.tell(text)
    for table in page.tables:
        console.print(table)
    chosen = "".join(f" --env {env}" for env in wanted.envs)
    command = f"resd-bench reproduce {page.name} --tier {wanted.tier}{chosen}"
    for path in page.save(wanted.pages, command):
        note(f"wrote {path}")
