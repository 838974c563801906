"""`envs check`: whether environments hold what the harness relies on."""

from __future__ import annotations

from typing import Annotated

import typer

from resd_bench import errors, plugins
from resd_bench.commands.shared import DeadlineOption, EnvSets, options, show_verdicts
from resd_bench.errors import UsageError
from resd_bench.options import names_in


def check(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="NAME", help="Environments to check.")
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Check every installed environment.")
    ] = False,
    only: Annotated[
        str | None, typer.Option(metavar="LIST", help="Check only these properties: a,b,c.")
    ] = None,
    deadline: DeadlineOption = 60.0,
    seconds: Annotated[
        float,
        typer.Option(
            min=0.0, metavar="SECONDS", help="Time to spend on further tasks, per property."
        ),
    ] = 3.0,
    sets: EnvSets = None,
) -> None:
    """Check that environments keep their contract.

    Each property gets a verdict with its evidence.
    """
    from resd_bench.check import check as verdicts_on
    from resd_bench.check import property_names

    if bool(names) == everything:
        raise UsageError("give the names of environments or --all, and not both")
    known = plugins.installed("resd_bench.envs")
    for name in names or ():
        if name not in known:
            raise errors.near_miss("environment", name, known, plugins.LISTINGS["resd_bench.envs"])
    chosen = names_in(only)
    for part in chosen:
        if part not in property_names():
            raise errors.near_miss("property", part, property_names())
    failed, given = 0, options(sets, "env")
    for name in names or known:
        verdicts = verdicts_on(name, options=given, only=chosen, deadline=deadline, seconds=seconds)
        failed += show_verdicts(name, verdicts, given)
    if failed:
        raise typer.Exit(1)
