"""`envs list | info | check | play | score | calibrate`."""

from __future__ import annotations

import math
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from resd_bench import plugins, reading
from resd_bench.commands.shared import Name, options, show_verdicts
from resd_bench.config import coerce
from resd_bench.contract import checked_tasks
from resd_bench.env import TextEnv
from resd_bench.extract import Grade
from resd_bench.plugins import UsageError
from resd_bench.terminal import note, out
from resd_bench.types import Split, Task
from resd_bench.writing import write_named

if TYPE_CHECKING:
    from resd_bench.calibrate import Rarity

app = typer.Typer(help="The installed environments.", no_args_is_help=True)

Sets = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="env.NAME=VALUE", help="An option of the environment."),
]
Level = Annotated[int, typer.Option("--feedback-level", min=0, max=5, help="0 to 5.")]
DialectFlag = Annotated[str, typer.Option("--dialect", help="full or compact.")]


def make(name: str, sets: Sequence[str] | None, **keywords: Any) -> TextEnv:
    """Make an environment; UsageError where it refuses its options."""
    try:
        return plugins.make_env(name, **keywords, **options(sets, "env"))
    except (TypeError, ValueError) as error:
        raise UsageError(f"environment {name}: {error}. Check --set and the flags") from None


@app.command("list")
def list_envs() -> None:
    """Every installed environment with its numbers of tasks."""
    table = Table("environment", "train", "validation", "test", "turns", "Gymnasium id")
    for name in plugins.installed("resd_bench.envs"):
        try:
            env = plugins.make_env(name)
            sizes = [
                str(len(checked_tasks(env, _split(s)))) for s in ("train", "validation", "test")
            ]
            table.add_row(name, *sizes, str(env.max_turns), plugins.gym_id(name))
        except Exception as error:
            table.add_row(name, f"cannot be made: {error}")
    out().print(table)


@app.command("info")
def info(name: Name, sets: Sets = None) -> None:
    """What an environment is: docstring, tasks, a prompt in both dialects, a ladder of feedback."""
    from resd_bench.describe import describe

    make(name, sets)
    for part in describe(name, **options(sets, "env")):
        out().print(part + "\n", soft_wrap=True)


@app.command("check")
def check_command(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="NAME...", help="Environments to check.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Every installed one.")] = False,
    only: Annotated[
        str | None, typer.Option(metavar="LIST", help="Only these properties, a,b,c.")
    ] = None,
    deadline: Annotated[
        float, typer.Option(min=0.1, help="Seconds a single call may take.")
    ] = 60.0,
    seconds: Annotated[
        float, typer.Option(min=0.0, help="Seconds to go on to further tasks, per property.")
    ] = 3.0,
    sets: Sets = None,
) -> None:
    """Prove what the harness relies on: a verdict per property with the evidence."""
    from resd_bench.check import check, property_names

    if bool(names) == everything:
        raise UsageError("give the names of environments or --all, and not both")
    known = plugins.installed("resd_bench.envs")
    for name in names or ():
        if name not in known:
            raise plugins.near_miss("environment", name, known)
    chosen = [part.strip() for part in (only or "").split(",") if part.strip()]
    for part in chosen:
        if part not in property_names():
            raise plugins.near_miss("property", part, property_names())
    failed = 0
    for name in names or known:
        verdicts = check(
            name, options=options(sets, "env"), only=chosen, deadline=deadline, seconds=seconds
        )
        failed += show_verdicts(name, verdicts)
    if failed:
        raise typer.Exit(1)


@app.command("play")
def play_command(
    name: Name,
    task: Annotated[str | None, typer.Option(metavar="ID", help="Play this task only.")] = None,
    split: Annotated[str, typer.Option(help="train, validation or test.")] = "train",
    seed: Annotated[int, typer.Option(help="Seed of the order of tasks.")] = 0,
    dialect: DialectFlag = "full",
    level: Level = 3,
    sets: Sets = None,
) -> None:
    """Play in the terminal; a line of one dot, or Ctrl-D, ends an answer."""
    from resd_bench.play import play

    env = make(name, sets, dialect=dialect, feedback_level=level)
    play(env, _to_play(env, task, split, seed), sys.stdin, sys.stdout)


def _to_play(env: TextEnv, task: str | None, split: str, seed: int) -> Iterator[Task]:
    from resd_bench.seeds import stream

    if task is not None:
        try:
            yield env.find(task)
        except KeyError as error:
            raise UsageError(str(error.args[0])) from None
        return
    tasks = checked_tasks(env, _split(split))
    for place in stream(seed, "play").permutation(len(tasks)):
        yield tasks[int(place)]


def _split(name: str) -> Split:
    split: Split = coerce("--split", name, Split)
    return split


@app.command("score")
def score_command(
    name: Name,
    file: Annotated[str, typer.Argument(metavar="FILE", help="Answers as JSONL; - reads stdin.")],
    save: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Where to write; else stdout.")
    ] = None,
    dialect: DialectFlag = "full",
    level: Level = 3,
    what: Annotated[
        str, typer.Option("--grade", help="answer or release, as in `run --grade`.")
    ] = "answer",
    sets: Sets = None,
) -> None:
    """Mark saved answers: {"task": ID, "answer": TEXT} a line in, with verdicts out."""
    from resd_bench.grade import grade, read_answers
    from resd_bench.record import to_line

    chosen: Grade = coerce("--grade", what, Grade)
    env = make(name, sets, dialect=dialect, feedback_level=level, grade=chosen)
    answers = list(read_answers(_read(file).splitlines(), "stdin" if file == "-" else file))
    rows = list(grade(env, answers))
    lines = b"".join(to_line(row) for row in rows)
    if save is not None:
        write_named(save, lines)
    else:
        sys.stdout.write(lines.decode())
    note(_summary(rows))


def _read(file: str) -> bytes:
    from resd_bench.run_files import EPISODES, RunFiles

    if file == "-":
        return sys.stdin.buffer.read()
    path = Path(file)
    if path.name == EPISODES and (path.parent / "config.yaml").is_file():
        return b"".join(RunFiles.at(path.parent).lines(EPISODES))
    try:
        return reading.read_bytes(path)
    except (OSError, ValueError) as error:
        raise UsageError(f"{file} cannot be read: {error}. Give a JSONL file") from None


def _summary(rows: Sequence[Mapping[str, Any]]) -> str:
    from resd_bench.report.tables import percent
    from resd_bench.stats import rate

    by_task: dict[str, list[float]] = {}
    missing: Counter[str] = Counter()
    for row in rows:
        task = str(row.get("task", row.get("task_id")))
        scored = by_task.setdefault(task, [])
        if row["success"] is None:
            missing[task] += 1
        else:
            scored.append(float(row["success"]))
    found = rate(list(by_task.values()), [missing[task] for task in by_task])
    answers = f"success {percent(found.scored)} of {len(rows) - found.left_out} answers"
    if not found.left_out:
        return f"{answers}; without verdict 0"
    least = percent(found.with_failures)
    return f"{answers}; without verdict {found.left_out}, with them as failures {least}"


@app.command("calibrate")
def calibrate_command(
    name: Name,
    model: Annotated[str, typer.Option(help="As in `run --model`.")] = "nano",
    target: Annotated[
        float | None, typer.Option(help="Wanted success rate, e.g. 0.01: measures every tier.")
    ] = None,
    chosen: Annotated[
        str | None, typer.Option("--tiers", metavar="LIST", help="Which tiers, a,b,c.")
    ] = None,
    split: Annotated[str, typer.Option(help="train, validation or test.")] = "train",
    tasks: Annotated[int, typer.Option(min=1, help="The first so many tasks.")] = 64,
    samples: Annotated[int, typer.Option(min=1, help="Samples per task.")] = 16,
    temperature: Annotated[float, typer.Option(min=0.0, help="Sampling temperature.")] = 1.0,
    max_new_tokens: Annotated[str | None, typer.Option(help="Longest completion.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the samples.")] = 0,
    device: Annotated[str | None, typer.Option(help="auto, cpu or cuda.")] = None,
    sets: Sets = None,
) -> None:
    """How rare success is before learning: p0, dead groups, episodes to the first success."""
    from resd_bench.calibrate import calibrate, nearest, tiers

    if target is not None and not 0 < target < 1:
        raise UsageError(f"--target {target} is no success rate: give one between 0 and 1")
    names = [part.strip() for part in (chosen or "").split(",") if part.strip()]
    names = names or (tiers(name) if target is not None else [name])
    flags = {
        "model": model,
        "eval_split": split,
        "eval_tasks": tasks,
        "eval_samples": samples,
        "eval_temperature": temperature,
        "max_new_tokens": max_new_tokens,
        "seed": seed,
        "device": device,
        "env_options": options(sets, "env"),
    }
    found = []
    for one in calibrate(names, flags):
        found.append(one)
        note(f"{one.env}: done, {one.p0.n} samples")
    out().print(rarity_table(found, model))
    if target is not None:
        best = nearest(found, target)
        out().print(f"nearest to {target:g}: {best.env}")


def rarity_table(found: Sequence[Rarity], model: str) -> Table:
    """A row per tier."""
    from resd_bench.calibrate import GROUP
    from resd_bench.report.tables import WITH_FAILURES, both

    table = Table(title=f"{model} before learning")
    table.add_column("environment", no_wrap=True)
    for title in ("p0 (95%)", f"dead groups, N = {GROUP}", "if tasks were alike"):
        table.add_column(title)
    table.add_column("episodes to first success")
    table.add_column("no verdict")
    for one in found:
        cells = _rarity_cells(one)
        least = _rarity_cells(one.with_failures) if one.with_failures else cells
        table.add_row(one.env, *map(both, cells, least), str(one.errors))
        if one.errors:
            table.caption, table.caption_justify = WITH_FAILURES, "left"
    return table


def _rarity_cells(one: Rarity) -> Sequence[str]:
    from resd_bench.report.tables import percent

    mean, low, high = (_number(value) for value in one.episodes)
    shares = (f"{one.dead:.1%}", f"{one.dead_if_alike:.1%}")
    return (percent(one.p0), *shares, f"{mean} [{low}, {high}]")


def _number(value: float) -> str:
    return "∞" if math.isinf(value) else f"{value:.3g}"
