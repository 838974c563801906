"""The command line: `run`, `sweep`, `eval`, `compare`, `reproduce`, `envs`, `methods` and more.

Mistakes of the user's are one line on stderr and exit code 2. Whatever is slow to import is
imported by the command that needs it.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import typer

from resd_bench.commands import envs, export, init, methods, results
from resd_bench.commands.plan import show_plan
from resd_bench.config import (
    NESTED,
    RunConfig,
    field_help,
    load_file,
    resolve,
)
from resd_bench.plugins import UsageError, explaining_disk
from resd_bench.team import defer_to_first, join, leads
from resd_bench.terminal import complain, guard_python, note, out, say
from resd_bench.writing import write_named

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.add_typer(envs.app, name="envs")
app.add_typer(methods.app, name="methods")
app.add_typer(init.app, name="init")
app.add_typer(results.app, name="results")


def _show_version(asked: bool) -> None:
    if asked:
        print(f"resd-bench {metadata.version('resd-bench')}")
        raise typer.Exit


@app.callback()
def about(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Which method learns when success is rare and feedback is rich?"""


FLAGS = [f for f in fields(RunConfig) if f.name not in NESTED.values()]
"""Settings that have a flag of their own; the nested ones are reached by `--set`."""

Sets = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Any setting, e.g. method.NAME=4; repeatable."),
]


Varies = Annotated[
    str | None,
    typer.Option(
        metavar="LIST",
        help="Settings of the measurement that differ on purpose, e.g. model,feedback_level; "
        "without it, runs that were measured differently get no verdict.",
    ),
]
Server = Annotated[
    str | None, typer.Option(metavar="URL", help="As in `run`: a file cannot decide it.")
]
Trust = Annotated[
    str | None,
    typer.Option(metavar="true|false", help="As in `run`: a file cannot decide it."),
]


def flags_of_config() -> list[inspect.Parameter]:
    """A command-line option for each setting, with its docstring as help."""
    helps, hints = field_help(RunConfig), get_type_hints(RunConfig)
    return [
        inspect.Parameter(
            f.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=None,
            annotation=Annotated[
                str | None,
                typer.Option(
                    "--" + f.name.replace("_", "-"),
                    metavar=_metavar(hints[f.name]),
                    help=helps[f.name] + ("" if f.default is None else f" [default: {f.default}]"),
                    show_default=False,
                ),
            ],
        )
        for f in FLAGS
    ]


def _metavar(hint: Any) -> str:
    options = [o for o in get_args(hint) if o is not type(None)] or [hint]
    if get_origin(hint) is Literal:
        return "|".join(options)
    if get_origin(options[0]) is Literal:
        return "|".join(get_args(options[0]))
    names: Mapping[Any, str] = {int: "INT", float: "NUMBER", str: "TEXT", bool: "true|false"}
    return names.get(options[0], "VALUE")


def with_config_flags(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command that takes `**flags` the flags of `RunConfig`."""
    own = [p for p in inspect.signature(command, eval_str=True).parameters.values()]
    own = [p for p in own if p.kind is not inspect.Parameter.VAR_KEYWORD]
    parameters = [*own, *flags_of_config()]
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {p.name: p.annotation for p in parameters}
    return command


@app.command("run")
@with_config_flags
def run_command(
    *,
    config: Annotated[
        str | None, typer.Option(metavar="FILE", help="YAML with settings; flags override it.")
    ] = None,
    sets: Sets = None,
    seeds: Annotated[
        str | None, typer.Option(metavar="LIST", help="Several seeds in turn: 0,1,2 or 0-4.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with an unfinished run, or start one.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would run; write nothing.")
    ] = False,
    gpus: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="With --dry-run: GPUs to plan for; this one's."),
    ] = None,
    gpu_memory: Annotated[
        str | None, typer.Option(metavar="80GB", help="With --dry-run: memory of one of them.")
    ] = None,
    fsdp: Annotated[
        bool, typer.Option("--fsdp", help="With --dry-run: processes that share out the weights.")
    ] = False,
    mean_tokens: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="N", help="With --dry-run: a completion's mean; half the longest."
        ),
    ] = None,
    **flags: str | None,
) -> None:
    """Run a method on an environment to a budget, and report held-out success."""
    if seeds is not None and flags.get("seed") is not None:
        raise UsageError("--seed and --seeds were both given: give one of them")
    if not dry_run and (gpus or gpu_memory or fsdp or mean_tokens):
        raise UsageError("--gpus, --gpu-memory, --fsdp and --mean-tokens need --dry-run: add it")
    file = load_file(config) if config is not None else {}
    numbers = parse_seeds(seeds) if seeds is not None else [flags.get("seed")]
    configs = [resolve(file, {**flags, "seed": seed}, sets or ()) for seed in numbers]
    for number, resolved in enumerate(configs, start=1):
        if dry_run:
            show_plan(resolved, gpus, gpu_memory, mean_tokens, fsdp)
            continue
        if len(configs) > 1 and leads():
            note(f"run {number} of {len(configs)}: seed {resolved.seed}")
        if code := run_one(resolved, resume):
            raise typer.Exit(code)


def parse_seeds(text: str) -> list[int]:
    """`0,1,2`, `0-4` and mixtures of them."""
    seeds: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdigit() or (dash and not last.isdigit()):
            raise UsageError(f"--seeds {text!r} is not understood: give 0,1,2 or 0-4")
        seeds += range(int(first), int(last if dash else first) + 1)
    if not seeds or len(set(seeds)) < len(seeds):
        raise UsageError(f"--seeds {text!r} names no seed, or one twice: give 0,1,2 or 0-4")
    return seeds


def run_one(config: RunConfig, resume: bool) -> int:
    """Run one configuration and show what came out; the exit code."""
    from resd_bench.progress import Progress
    from resd_bench.run import run
    from resd_bench.track import make_tracker

    if join(config.device).rank != 0:
        outcome = run(config, resume=resume)
        return 128 + outcome.signal if outcome.state == "interrupted" else 0
    with Progress(config) as progress, make_tracker(config) as tracker:
        outcome = run(config, resume=resume, watchers=[progress, tracker])
    for told in outcome.notes:
        note(f"note: {told}")
    if outcome.state == "interrupted":
        note(
            f"interrupted; everything is saved in {outcome.folder}. "
            "Go on with the same command and --resume"
        )
        return 128 + outcome.signal
    if outcome.state == "already finished":
        note(f"{outcome.folder} holds this run, finished; its results:")
    show_run(outcome.folder, Path(config.out))
    return 0


def show_run(folder: Path, root: Path) -> None:
    """The final table of a run below the named folder `root`, and its figure."""
    from resd_bench.report.figures import learning_curve
    from resd_bench.report.runs import load_run
    from resd_bench.report.tables import run_table

    data = load_run(folder)
    figure = learning_curve(data, folder / "learning_curve", root)[0]
    console = out()
    console.print(run_table(data))
    console.print(f"run    {folder}\nfigure {figure}", soft_wrap=True)


@app.command("eval")
def eval_command(
    run_folder: Annotated[
        Path | None, typer.Argument(metavar="[RUN]", help="A run folder, to take its checkpoint.")
    ] = None,
    checkpoint: Annotated[
        int | None, typer.Option(metavar="UPDATE", help="Which of its checkpoints; the last.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="Without a run: the model.")] = None,
    env: Annotated[str | None, typer.Option(help="Environment; the run's own.")] = None,
    split: Annotated[str | None, typer.Option(help="train, validation or test.")] = None,
    samples: Annotated[str | None, typer.Option(help="Samples per task.")] = None,
    tasks: Annotated[str | None, typer.Option(help="Only the first so many tasks.")] = None,
    temperature: Annotated[str | None, typer.Option(help="Sampling temperature.")] = None,
    max_new_tokens: Annotated[str | None, typer.Option(help="Longest completion.")] = None,
    seed: Annotated[str | None, typer.Option(help="Seed of the samples.")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu or cuda.")] = None,
    server: Server = None,
    trust_remote_code: Trust = None,
    sets: Sets = None,
    save: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Write a row per sample, JSONL.")
    ] = None,
) -> None:
    """Measure held-out success of a run's checkpoint, or of a model as it is."""
    from resd_bench.score import score_model, score_run

    if (run_folder is None) == (model is None):
        raise UsageError("give a run folder or --model, and not both")
    flags = {
        "env": env,
        "eval_split": split,
        "eval_samples": samples,
        "eval_tasks": tasks,
        "eval_temperature": temperature,
        "max_new_tokens": max_new_tokens,
        "seed": seed,
        "device": device,
        "server": server,
        "trust_remote_code": trust_remote_code,
    }
    if run_folder is not None:
        scored = score_run(run_folder, checkpoint, flags, sets or ())
    else:
        scored = score_model({**flags, "model": model}, sets or ())
    from resd_bench.report.tables import WITH_FAILURES, best_rates, rates

    for text in scored.notes:
        note(text)
    point, console = scored.point, out()
    console.print(f"{scored.what} on {scored.config.env}, {scored.config.eval_split} tasks")
    for name, text in (("mean", rates(point.rate())), ("best", best_rates(point))):
        head = f"{name}@{point.per_task}  "
        console.print(head + text.replace("\n", f"\n{'':{len(head)}}"))
    console.print(f"samples {point.samples}, without verdict {point.errors}")
    if point.errors:
        console.print(WITH_FAILURES, style="bold red")
    if save is not None:
        from resd_bench.record import to_line

        write_named(save, b"".join(to_line(row) for row in scored.rows))
        console.print(f"rows    {save}", soft_wrap=True)


app.command("export")(export.export_command)


@app.command("compare")
def compare_command(
    runs: Annotated[
        list[str], typer.Argument(metavar="RUN...", help="Run folders, globs, or .jsonl files.")
    ],
    budget: Annotated[
        str | None,
        typer.Option(help="Compare at so much, e.g. 640ep, 2Mtok; as far as all runs got."),
    ] = None,
    axis: Annotated[
        str | None,
        typer.Option(metavar="AXIS", help="episodes (default), tokens, updates, seconds or flops."),
    ] = None,
    detail: Annotated[bool, typer.Option("--detail", help="Show every other metric too.")] = False,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print Markdown, for a document.")
    ] = False,
    varies: Varies = None,
    save: Annotated[
        Path, typer.Option("--out", metavar="FOLDER", help="Where compare.{png,svg,csv} go.")
    ] = Path("."),
) -> None:
    """Compare runs with the first, at equal budget: differences with verdicts, and curves."""
    from resd_bench.commands.compare import compare_runs

    compare_runs(runs, axis, budget, save, detail, markdown, varies)


@app.command("sweep")
def sweep_command(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A sweep, see docs/sweeps.md.")],
    jobs: Annotated[
        int | None, typer.Option(help="Runs at a time on this machine; as many as cores.")
    ] = None,
    launcher: Annotated[str, typer.Option(metavar="local|ray", help="Where runs go.")] = "local",
    address: Annotated[
        str | None, typer.Option(help="Of a Ray cluster, or auto; one of this machine alone.")
    ] = None,
    cpus: Annotated[float, typer.Option(min=0, help="Cores of a run on Ray.")] = 1,
    gpus: Annotated[float, typer.Option(min=0, help="GPUs of a run on Ray.")] = 0,
    only: Annotated[
        str | None, typer.Option(metavar="INDEX", help="Only runs 3, 0-7 or 1,5 of the list.")
    ] = None,
    retries: Annotated[
        int, typer.Option(min=0, help="Times that a crashed run is taken up again.")
    ] = 2,
    show: Annotated[bool, typer.Option("--list", help="List the runs; start none.")] = False,
    save: Annotated[
        str | None, typer.Option("--out", metavar="FOLDER", help="Instead of the file's own.")
    ] = None,
    keep: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Then keep the records: FOLDER/ENV/VARIANT/seed-K."),
    ] = None,
    server: Server = None,
    trust_remote_code: Trust = None,
) -> None:
    """Run every configuration of a file; finished runs are passed over, others gone on with."""
    from resd_bench.commands import sweep

    named = {"server": server, "trust_remote_code": trust_remote_code}
    trials = sweep.sweep_file(file, save, only, show, named)
    if show:
        return
    where = sweep.make_launcher(launcher, jobs, address, cpus, gpus, named)
    received, done = sweep.run_sweep(file.stem, trials, where, retries)
    if keep is not None:
        sweep.keep_finished(done, keep)
    raise typer.Exit(sweep.finish(received, done))


@app.command("reproduce")
def reproduce_command(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="NAME...", help="table2, fig1, ..., all, experiments; see --list."),
    ] = None,
    tier: Annotated[str, typer.Option(metavar="nano|paper", help="Which runs.")] = "nano",
    env: Annotated[
        list[str] | None, typer.Option(help="Only these environments; repeatable.")
    ] = None,
    start: Annotated[
        bool | None,
        typer.Option("--run/--no-run", help="Run what is missing [default: on the nano tier]."),
    ] = None,
    jobs: Annotated[int | None, typer.Option(help="Runs at a time; as many as cores.")] = None,
    runs: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Sweeps; runs/TIER of the repository.")
    ] = None,
    records: Annotated[
        list[Path] | None,
        typer.Option(metavar="FOLDER", help="Kept records; results/TIER of the repository."),
    ] = None,
    save: Annotated[
        Path | None,
        typer.Option("--out", metavar="FOLDER", help="Pages go here; runs-out/reproduce/TIER."),
    ] = None,
    show: Annotated[bool, typer.Option("--list", help="Say what can be reproduced.")] = False,
) -> None:
    """Put the paper's tables and figures beside ours, with verdicts; run what is missing."""
    from resd_bench.commands import reproduce

    if show or not names:
        reproduce.list_experiments()
        return
    wanted = reproduce.Wanted(tier, tuple(env or ()), runs, tuple(records or ()), save)
    raise typer.Exit(reproduce.reproduce(names, wanted, start, jobs))


@app.command("report")
def report_command(
    runs: Annotated[
        list[str], typer.Argument(metavar="RUN...", help="Run folders, globs, or .jsonl files.")
    ],
    save: Annotated[Path, typer.Option("--out", metavar="FILE", help="The page to write.")] = Path(
        "report.html"
    ),
    budget: Annotated[
        str | None, typer.Option(help="Compare at so much; as far as all runs got.")
    ] = None,
    axis: Annotated[
        str | None, typer.Option(metavar="AXIS", help="As for `compare`; episodes.")
    ] = None,
    varies: Varies = None,
    title: Annotated[str | None, typer.Option(help="Its title; environment and model.")] = None,
    episodes: Annotated[
        int, typer.Option(min=0, metavar="N", help="Episodes to show of each update.")
    ] = 4,
    runs_in_detail: Annotated[
        int, typer.Option(min=0, metavar="N", help="Runs of each group with playbook and episodes.")
    ] = 1,
) -> None:
    """Write a page about runs: verdicts, curves, budgets, the playbook's history, episodes."""
    from resd_bench.commands.report import report_runs

    report_runs(
        runs,
        save,
        axis_name=axis,
        budget=budget,
        title=title,
        episodes=episodes,
        runs_in_detail=runs_in_detail,
        varies=varies,
    )


@app.command("trace")
def trace_command(
    run_folder: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.")],
    update: Annotated[
        int | None, typer.Option(metavar="N", help="Which update, from 1; the last.")
    ] = None,
    episode: Annotated[
        str | None, typer.Option(metavar="TASK#ATTEMPT", help="Only this, as named in `report`.")
    ] = None,
    examples: Annotated[
        int, typer.Option(min=0, metavar="N", help="Score at most so many examples.")
    ] = 64,
    save: Annotated[
        Path, typer.Option("--out", metavar="FILE", help="The page; its data go beside it as JSON.")
    ] = Path("trace.html"),
    device: Annotated[str | None, typer.Option(help="auto, cpu or cuda; the run's own.")] = None,
    server: Server = None,
    trust_remote_code: Trust = None,
) -> None:
    """Repeat an update and show what the teacher saw, and the loss of every token."""
    from resd_bench.commands.report import trace_run

    named = {"device": device, "server": server, "trust_remote_code": trust_remote_code}
    trace_run(run_folder, update, episode, examples, save, **named)


@app.command("doctor")
def doctor_command() -> None:
    """What works on this machine, what does not, and what to do about it."""
    from resd_bench import doctor

    checks = doctor.report()
    say(doctor.render(checks))
    if any(check.required and not check.ok for check in checks):
        raise typer.Exit(1)


@app.command(
    "nano",
    context_settings={
        "allow_extra_args": True,
        "ignore_unknown_options": True,
        "help_option_names": [],
    },
)
def nano_command(context: typer.Context) -> None:
    """Make, describe and probe the embedded model (see `nano --help`)."""
    try:
        from resd_bench.nano.cli import app as nano_app
    except ImportError as error:
        raise UsageError(f"the nano commands cannot be imported: {error}") from error
    nano_app(args=context.args, prog_name="resd-bench nano")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; the exit code."""
    guard_python()
    try:
        with explaining_disk():
            app(args=list(argv) if argv is not None else None, prog_name="resd-bench")
    except UsageError as error:
        defer_to_first()
        complain(error)
        return 2
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except KeyboardInterrupt:
        print("stopped at once; go on with the same command and --resume", file=sys.stderr)
        return 130
    return 0
