"""`envs list`."""

from __future__ import annotations

from rich.table import Table

from resd_bench import plugins
from resd_bench.files.terminal import out
from resd_bench.rollout.contract import checked_tasks
from resd_bench.types import SPLITS


def list_envs() -> None:
    """List the installed environments with their numbers of tasks."""
    table = Table("environment", *SPLITS, "turns", "Gymnasium id")
    for name in plugins.installed("resd_bench.envs"):
        try:
            env = plugins.make_env(name)
            sizes = [str(len(checked_tasks(env, split))) for split in SPLITS]
            table.add_row(name, *sizes, str(env.max_turns), plugins.gym_id(name))
        except Exception as error:
            table.add_row(name, f"cannot be made: {error}")
    out().print(table)
