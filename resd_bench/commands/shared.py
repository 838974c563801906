"""Arguments and output that several commands share."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from resd_bench import plugins
from resd_bench.errors import UsageError
from resd_bench.files.terminal import out
from resd_bench.files.writing import check_folder_target, check_target
from resd_bench.options import coerce, field_help, field_types, notation
from resd_bench.types import Split

if TYPE_CHECKING:
    from rich.table import Table

    from resd_bench.check.result import PropertyVerdict
    from resd_bench.env import TextEnv


def _target(check: Callable[[Path, str], Path]) -> Callable[[typer.CallbackParam, Any], Any]:
    def checked(param: typer.CallbackParam, value: Any) -> Any:
        if value is not None:
            check(Path(value), param.opts[0])
        return value

    return checked


TO_FILE = _target(check_target)
TO_FOLDER = _target(check_folder_target)
"""Callbacks of options that name what a command writes: they refuse, before the command begins and
imports anything, where it could not."""
Name = Annotated[str, typer.Argument(metavar="NAME", help="Name, as shown by `list`.")]
Runs = Annotated[
    list[str], typer.Argument(metavar="RUN", help="Run folders, globs or .jsonl files.")
]
Sets = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Any setting, e.g. method.NAME=4; can be repeated."
    ),
]
EnvSets = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="env.NAME=VALUE", help="An option of the environment; can be repeated."
    ),
]
MethodSets = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="method.NAME=VALUE", help="An option of the method; can be repeated."
    ),
]
Varies = Annotated[
    str | None,
    typer.Option(
        metavar="LIST",
        help="Settings of the measurement that differ on purpose, e.g. model,feedback_level. "
        "Without it, runs that were measured differently get no verdict.",
    ),
]
AxisOption = Annotated[
    str | None,
    typer.Option(
        metavar="AXIS",
        help="Budget axis: episodes, turns, tokens, updates, seconds or flops (default: the unit "
        "of --budget, else episodes).",
    ),
]
AtBudget = Annotated[
    str | None,
    typer.Option(
        metavar="BUDGET",
        help="Compare at this budget, e.g. 640ep or 2Mtok (default: the largest that all runs "
        "reached).",
    ),
]
Baseline = Annotated[
    str | None,
    typer.Option(
        metavar="METHOD",
        help="Method, or label of a group, that the others are compared with (default: the first).",
    ),
]
Markdown = Annotated[bool, typer.Option("--markdown", help="Print the tables as Markdown.")]
ServerOption = Annotated[
    str | None,
    typer.Option(metavar="URL", help="As in `run`; a file cannot set it."),
]
Trust = Annotated[
    str | None,
    typer.Option(metavar="true|false", help="As in `run`; a file cannot set it."),
]
Device = Annotated[
    str | None, typer.Option(metavar="DEVICE", help="auto, cpu, cuda or cuda:1 (default: auto).")
]
SplitFlag = Annotated[
    str, typer.Option("--split", metavar="SPLIT", help="train, validation or test.")
]
DialectFlag = Annotated[
    str, typer.Option("--dialect", metavar="full|compact", help="Wording of prompts.")
]
LevelOption = Annotated[
    int,
    typer.Option(
        "--feedback-level",
        min=0,
        max=5,
        metavar="INT",
        help="How much feedback a failure gets, from 0 (none) to 5 (the solution).",
    ),
]
DeadlineOption = Annotated[
    float,
    typer.Option(min=0.1, metavar="SECONDS", help="Time limit of a single call in seconds."),
]


def options(sets: Iterable[str] | None, prefix: str) -> dict[str, Any]:
    """The options that `--set PREFIX.NAME=VALUE` give; UsageError for anything else."""
    from resd_bench.files.bounded_yaml import parse_yaml

    found: dict[str, Any] = {}
    for text in sets or ():
        key, equals, value = text.partition("=")
        name = key.strip().removeprefix(f"{prefix}.").replace("-", "_")
        if not equals or not key.startswith(f"{prefix}.") or not name.isidentifier():
            raise UsageError(f"--set {text!r} is not understood: give {prefix}.NAME=VALUE")
        try:
            found[name] = parse_yaml(value)
        except ValueError as error:
            raise UsageError(f"--set {text!r}: the value is not valid YAML: {error}") from None
    return found


def open_env(name: str, sets: Iterable[str] | None, **keywords: Any) -> TextEnv:
    """Make an environment; UsageError where it refuses its options."""
    try:
        return plugins.make_env(name, **keywords, **options(sets, "env"))
    except (TypeError, ValueError) as error:
        raise plugins.refused_options(name, error) from None


def read_split(name: str) -> Split:
    """The split called `name`; UsageError for another."""
    split: Split = coerce("--split", name, Split)
    return split


def show_verdicts(name: str, verdicts: Iterable[PropertyVerdict], given: Iterable[str] = ()) -> int:
    """Print each verdict as it comes; the number of properties that do not hold.

    UsageError if one of the options that were `given` is unknown: that is no fault of `name`.
    """
    console, failed, seen = out(), 0, 0
    for verdict in verdicts:
        if given and verdict.evidence.startswith("UsageError: unknown option"):
            raise UsageError(verdict.evidence.removeprefix("UsageError: "))
        for option in given:
            if f"unexpected keyword argument '{option}'" in verdict.evidence:
                raise UsageError(f"{name} has no option {option!r}: check --set")
        if not seen:
            console.print(name)
        console.tell(f"  {verdict}", indent=" " * 20)
        failed, seen = failed + verdict.failed, seen + 1
    word = "passes" if not failed else f"FAILS {failed} of {seen} properties"
    console.tell(f"{name} {word}")
    return failed


def options_table(title: str, kind: Any, shipped: Mapping[str, Mapping[str, Any]] = {}) -> Table:
    """The fields of a dataclass that can be built without arguments, as a table.

    `shipped` holds, by model, defaults that come with it.
    """
    from rich.table import Table

    helps, types, default = field_help(kind), field_types(kind), kind()
    table = Table(title=title)
    table.add_column("option", no_wrap=True)
    for name in ("type", "default", "meaning"):
        table.add_column(name, overflow="fold")
    for option in fields(kind):
        value = getattr(default, option.name)
        shown = json.dumps(value, default=str).strip('"') if value is not None else "none"
        for model, own in shipped.items():
            shown += f" ({own[option.name]} with {model})" if option.name in own else ""
        table.add_row(option.name, notation(types[option.name]), shown, helps.get(option.name, ""))
    return table
