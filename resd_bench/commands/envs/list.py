"""`envs list`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

import typer

from resd_bench import plugins
from resd_bench.files.terminal import out, say
from resd_bench.types import SPLITS


def list_envs(
    names: Annotated[
        bool, typer.Option("--names", help="Print only the names, and make no environment.")
    ] = False,
) -> None:
    """List the installed environments with their numbers of tasks."""
    installed = plugins.installed("resd_bench.envs")
    if names:
        for name in installed:
            say(name)
        return
    _show_sizes(installed)


def _show_sizes(names: Iterable[str]) -> None:
    from rich.table import Table

    from resd_bench.rollout.contract import checked_tasks

    table = Table("environment", *SPLITS, "turns", "Gymnasium id")
    for name in names:
        try:
            env = plugins.make_env(name)
            sizes = [str(len(checked_tasks(env, split))) for split in SPLITS]
            table.add_row(name, *sizes, str(env.max_turns), plugins.gym_id(name))
        except Exception as error:
            table.add_row(name, f"cannot be made: {error}")
    out().print(table)
