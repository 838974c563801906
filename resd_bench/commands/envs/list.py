"""`envs list`."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from importlib.metadata import EntryPoint
from typing import Annotated

import typer

from resd_bench import packaged_models, plugins
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


def _show_sizes(installed: Mapping[str, EntryPoint]) -> None:
    from rich.table import Table

    from resd_bench.rollout.contract import checked_tasks

    title = "Environments; `envs info NAME` describes one"
    table = Table("environment", title=title, title_justify="left")
    for name in (*SPLITS, "turns"):
        table.add_column(name.replace("validation", "valid."), justify="right")
    missing: dict[str, list[str]] = {}
    for name, entry in installed.items():
        try:
            env = plugins.make_env(name)
            sizes = [str(len(checked_tasks(env, split))) for split in SPLITS]
            about = [name, _description(entry), plugins.gym_id(name)]
            table.add_row("\n".join(filter(None, about)), *sizes, str(env.max_turns))
            table.add_section()
        except Exception as error:
            missing.setdefault(str(error), []).append(name)
    console = out()
    console.print(table)
    for why, names in missing.items():
        console.tell(f"{', '.join(names)}\ncannot be made: {why}\n")
    speaks = ", ".join(name for name in packaged_models.spoken("nano") if name in installed)
    console.tell(f"nano, the default model, speaks {speaks}; the others need a real model")


def _description(entry: EntryPoint) -> str:
    """The first paragraph of the docstring of what makes an environment; "" where it has none."""
    text = inspect.getdoc(entry.load()) or ""
    return " ".join(text.partition("\n\n")[0].split())
