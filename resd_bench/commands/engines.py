"""`engines list | info | check`."""

from __future__ import annotations

import re
from dataclasses import fields
from typing import Annotated

import typer

from resd_bench import errors, plugins
from resd_bench.commands.groups import group
from resd_bench.commands.shared import (
    DeadlineOption,
    Name,
    options,
    options_table,
    show_verdicts,
)
from resd_bench.errors import UsageError
from resd_bench.files.terminal import out
from resd_bench.policy.engines import registry

app = group("List, describe and check the installed sampling engines.")


@app.command("list")
def list_engines() -> None:
    """List the installed engines and the settings only they read."""
    from rich.table import Table

    table = Table("engine", "weights", "own settings", "what it is")
    for name in plugins.installed(registry.GROUP):
        try:
            spec = registry.find_engine(name)
            assert spec is not None
            own = [f"engine.{option.name}" for option in fields(spec.config)]
            table.add_row(name, spec.weights, ", ".join([*spec.options, *own]), spec.summary)
        except Exception as error:
            table.add_row(name, "", "", f"cannot be loaded: {error}")
    out().print(table)


@app.command("info")
def show_engine(name: Name) -> None:
    """Show the settings of an engine: type, default, meaning."""
    if (spec := registry.find_engine(name)) is None:
        raise UsageError("`auto` is a choice among engines: give the name of one of them")
    settings = ", ".join(f"--{option.replace('_', '-')}" for option in spec.options)
    title = f"{name}: {spec.summary}. Settings it reads: {settings or 'none'}."
    if not fields(spec.config):
        out().tell(f"{title} It has no options of its own.")
        return
    out().print(options_table(f"{title} Options: --set engine.NAME=VALUE", spec.config))


@app.command("check")
def check_command(
    name: Name,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Model to sample from, as in `run` (default: a small random one)."
        ),
    ] = None,
    device: Annotated[
        str | None, typer.Option(metavar="DEVICE", help="cpu, cuda or cuda:1 (default: cpu).")
    ] = None,
    deadline: DeadlineOption = 60.0,
    tolerance: Annotated[
        float | None,
        typer.Option(
            min=0.0,
            metavar="NATS",
            help="Maximum error of a log-probability (default: 0.001, for float32).",
        ),
    ] = None,
    sets: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="engine.NAME=VALUE",
            help="A setting that it reads, e.g. engine.server=URL; can be repeated.",
        ),
    ] = None,
) -> None:
    """Prove what training relies on: one verdict per property."""
    from resd_bench.check import check_engine

    known = plugins.installed(registry.GROUP)
    if name not in known:
        raise errors.near_miss("engine", name, known)
    registry.check_loaded(name)
    if device is not None and not re.fullmatch(r"cpu|cuda(:\d+)?", device):
        raise UsageError(f"unknown device {device!r}; give cpu, cuda or cuda:0")
    if model is not None:
        from resd_bench.policy.loading import local_path

        local_path(model)
    given = options(sets, "engine")
    verdicts = check_engine(
        name,
        model=model,
        options=given,
        device=device,
        deadline=deadline,
        tolerance=tolerance,
    )
    if show_verdicts(name, verdicts, given):
        raise typer.Exit(1)
