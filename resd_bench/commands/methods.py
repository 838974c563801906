"""`methods list | info | check`."""

from __future__ import annotations

import typer

from resd_bench import errors, plugins
from resd_bench.agent import SEES_REFERENCE
from resd_bench.commands.groups import group
from resd_bench.commands.shared import (
    DeadlineOption,
    MethodSets,
    Name,
    options,
    options_table,
    show_verdicts,
)
from resd_bench.config import RunConfig, shipped_settings
from resd_bench.files.terminal import out

app = group("List, describe and check the installed methods.")


@app.command("list")
def list_methods() -> None:
    """List the installed methods."""
    from rich.table import Table

    table = Table("method", "rollouts per task", "what it does")
    for name in plugins.installed("resd_bench.methods"):
        try:
            spec = plugins.method(name)
            marked = f"{name} ({SEES_REFERENCE})" if spec.sees_reference else name
            table.add_row(marked, str(spec.group_size), spec.summary)
        except Exception as error:
            table.add_row(name, "", f"cannot be loaded: {error}")
    out().print(table)


@app.command("info")
def show_method(name: Name) -> None:
    """Show the options of a method: type and range, default, meaning."""
    spec = plugins.method(name)
    says = SEES_REFERENCE in spec.summary or not spec.sees_reference
    sees = "" if says else f" It {SEES_REFERENCE}."
    title = f"{name}: {spec.summary}{sees} Options: --set method.NAME=VALUE"
    shipped = shipped_settings(RunConfig.model, name)
    own = shipped.pop("method_options", {})
    out().print(options_table(title, spec.config, {RunConfig.model: own}))
    flags = " ".join(f"--{key.replace('_', '-')} {value}" for key, value in shipped.items())
    out().tell(
        f"Rollouts per task (--group-size): {spec.group_size}. With {RunConfig.model}: {flags}. "
        f"`run --method {name} --dry-run` shows every setting of a run."
    )


@app.command("check")
def check(name: Name, deadline: DeadlineOption = 60.0, sets: MethodSets = None) -> None:
    """Check that a method keeps its contract.

    Each property gets a verdict with its evidence.
    """
    from resd_bench.check import check_method

    known = plugins.installed("resd_bench.methods")
    if name not in known:
        raise errors.near_miss("method", name, known)
    given = options(sets, "method")
    verdicts = check_method(name, options=given, deadline=deadline)
    if show_verdicts(name, verdicts, given):
        raise typer.Exit(1)
