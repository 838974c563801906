"""The command line: `run`, `eval`, `compare`, `envs`, `methods`, `init`, `doctor`, `nano`.

Mistakes of the user's are one line on stderr and exit code 2. Whatever is slow to import is
imported by the command that needs it. Left out: sweeps and reproductions.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import typer
from rich.console import Console

from resd_bench.commands import envs, init, methods, results
from resd_bench.commands.shared import out
from resd_bench.config import (
    NESTED,
    RunConfig,
    field_help,
    load_file,
    resolve,
)
from resd_bench.plugins import UsageError

app = typer.Typer(
    help="Which method learns when success is rare and feedback is rich?",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.add_typer(envs.app, name="envs")
app.add_typer(methods.app, name="methods")
app.add_typer(init.app, name="init")
app.add_typer(results.app, name="results")

FLAGS = [f for f in fields(RunConfig) if f.name not in NESTED.values()]
"""Settings that have a flag of their own; the nested ones are reached by `--set`."""

Sets = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Any setting, e.g. method.NAME=4; repeatable."),
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
    **flags: str | None,
) -> None:
    """Run a method on an environment to a budget, and report held-out success."""
    if seeds is not None and flags.get("seed") is not None:
        raise UsageError("--seed and --seeds were both given: give one of them")
    file = load_file(config) if config is not None else {}
    numbers = parse_seeds(seeds) if seeds is not None else [flags.get("seed")]
    configs = [resolve(file, {**flags, "seed": seed}, sets or ()) for seed in numbers]
    for number, resolved in enumerate(configs, start=1):
        if dry_run:
            show_plan(resolved)
            continue
        if len(configs) > 1:
            Console(stderr=True).print(f"run {number} of {len(configs)}: seed {resolved.seed}")
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

    tracker = make_tracker(config)
    with Progress(config) as progress:
        outcome = run(config, resume=resume, watchers=[progress, *([tracker] if tracker else [])])
    errors = Console(stderr=True, highlight=False)
    for note in outcome.notes:
        errors.print(f"note: {note}", soft_wrap=True, markup=False)
    if outcome.state == "interrupted":
        errors.print(
            f"interrupted; everything is saved in {outcome.folder}. "
            "Go on with the same command and --resume",
            soft_wrap=True,
        )
        return 128 + outcome.signal
    if outcome.state == "already finished":
        errors.print(f"{outcome.folder} holds this run, finished; its results:", soft_wrap=True)
    show_run(outcome.folder)
    return 0


def show_run(folder: Path) -> None:
    """The final table of a run, and its figure."""
    from resd_bench.report.figures import learning_curve
    from resd_bench.report.runs import load_run
    from resd_bench.report.tables import run_table

    data = load_run(folder)
    figure = learning_curve(data, folder / "learning_curve")[0]
    console = out()
    console.print(run_table(data))
    console.print(f"run    {folder}\nfigure {figure}", soft_wrap=True)


def show_plan(config: RunConfig) -> None:
    """What a run would do: its settings, updates and, at most, tokens."""
    from resd_bench.run import choose_tasks, make_envs

    _, held_out = choose_tasks(make_envs(config)[0], config)
    budget, console = config.parsed_budget(), out()
    per_update = config.batch_size * (config.group_size or 1)
    at_most = per_update * config.max_new_tokens
    updates = {
        "upd": budget.amount,
        "ep": -(-budget.amount // per_update),
        "tok": max(1.0, budget.amount / at_most),
    }.get(budget.unit)
    console.print(config.to_yaml(), end="", markup=False)
    if updates is None:
        console.print(f"# updates: as many as {config.budget} allows")
    else:
        least = "at least " if budget.unit == "tok" else ""
        console.print(f"# updates: {least}{updates:.0f} of {per_update} rollouts each")
        console.print(f"# rollout tokens: at most {updates * at_most:,.0f}")
        evals = 2 + (updates // config.eval_every if config.eval_every else 0)
        samples = len(held_out) * config.eval_samples
        tokens = evals * samples * config.max_new_tokens
        console.print(f"# evaluations: about {evals:.0f} of {samples} samples")
        console.print(f"# evaluation tokens, not charged: at most {tokens:,.0f}")
    console.print(f"# would write to {config.folder()}; nothing was written", soft_wrap=True)


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
    }
    if run_folder is not None:
        scored = score_run(run_folder, checkpoint, flags, sets or ())
    else:
        scored = score_model({**flags, "model": model}, sets or ())
    from resd_bench.report.tables import best_interval, percent

    point, console = scored.point, out()
    console.print(f"{scored.what} on {scored.config.env}, {scored.config.eval_split} tasks")
    console.print(f"mean@{point.per_task}  {percent(point.interval())}", markup=False)
    console.print(f"best@{point.per_task}  {percent(best_interval(point))}", markup=False)
    console.print(f"samples {point.samples}, without verdict {point.errors}")
    if save is not None:
        from resd_bench.record import to_line

        save.parent.mkdir(parents=True, exist_ok=True)
        save.write_bytes(b"".join(to_line(row) for row in scored.rows))
        console.print(f"rows    {save}", soft_wrap=True)


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
    save: Annotated[
        Path, typer.Option("--out", metavar="FOLDER", help="Where compare.{png,svg,csv} go.")
    ] = Path("."),
) -> None:
    """Compare runs with the first, at equal budget: differences with verdicts, and curves."""
    from resd_bench.commands.compare import compare_runs

    compare_runs(runs, axis, budget, save, detail)


@app.command("doctor")
def doctor_command() -> None:
    """What works on this machine, what does not, and what to do about it."""
    from resd_bench import doctor

    checks = doctor.report()
    print(doctor.render(checks))
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
    try:
        app(args=list(argv) if argv is not None else None, prog_name="resd-bench")
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except KeyboardInterrupt:
        print("stopped at once; go on with the same command and --resume", file=sys.stderr)
        return 130
    return 0
