"""`methods list | info | check`."""

from __future__ import annotations

import json
from dataclasses import fields
from typing import Annotated

import typer
from rich.table import Table

from resd_bench import plugins
from resd_bench.commands.shared import Name, options, show_verdicts
from resd_bench.config import field_help
from resd_bench.terminal import out

app = typer.Typer(help="The installed methods.", no_args_is_help=True)


@app.command("list")
def list_methods() -> None:
    """Every installed method."""
    table = Table("method", "rollouts per task", "what it does")
    for name in plugins.installed("resd_bench.methods"):
        try:
            spec = plugins.method(name)
            table.add_row(name, str(spec.group_size), spec.summary)
        except Exception as error:
            table.add_row(name, "", f"cannot be loaded: {error}")
    out().print(table)


@app.command("info")
def show_method(name: Name) -> None:
    """The options of a method, for `--set method.NAME=VALUE`."""
    spec = plugins.method(name)
    helps = field_help(spec.config)
    table = Table("option", "default", "meaning", title=f"{name}: {spec.summary}")
    for option in fields(spec.config):
        default = getattr(spec.config(), option.name)
        table.add_row(
            f"method.{option.name}", json.dumps(default, default=str), helps.get(option.name, "")
        )
    out().print(table)


@app.command("check")
def check_command(
    name: Name,
    deadline: Annotated[
        float, typer.Option(min=0.1, help="Seconds a single call may take.")
    ] = 60.0,
    sets: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="method.NAME=VALUE", help="An option of the method."),
    ] = None,
) -> None:
    """Prove what the harness relies on: a verdict per property with the evidence."""
    from resd_bench.check import check_method

    known = plugins.installed("resd_bench.methods")
    if name not in known:
        raise plugins.near_miss("method", name, known)
    verdicts = check_method(name, options=options(sets, "method"), deadline=deadline)
    if show_verdicts(name, verdicts):
        raise typer.Exit(1)
