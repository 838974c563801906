"""`engines list | check`."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.table import Table

from resd_bench import errors, plugins
from resd_bench.commands.shared import DeadlineOption, Name, group, options, show_verdicts
from resd_bench.files.terminal import out
from resd_bench.policy.engines import registry

app = group("List and check the installed sampling engines.")


@app.command("list")
def list_engines() -> None:
    """List the installed engines and the settings only they read."""
    table = Table("engine", "weights", "own settings", "what it is")
    for name in plugins.installed(registry.GROUP):
        try:
            spec = registry.find_engine(name)
            assert spec is not None
            table.add_row(name, spec.weights, ", ".join(spec.options), spec.summary)
        except Exception as error:
            table.add_row(name, "", "", f"cannot be loaded: {error}")
    out().print(table)


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
    verdicts = check_engine(
        name,
        model=model,
        options=options(sets, "engine"),
        device=device,
        deadline=deadline,
        tolerance=tolerance,
    )
    if show_verdicts(name, verdicts):
        raise typer.Exit(1)
