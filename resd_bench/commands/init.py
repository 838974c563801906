"""`init env | method`: start a plugin package."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from resd_bench.commands.groups import group
from resd_bench.commands.shared import TO_FOLDER
from resd_bench.files.terminal import out
from resd_bench.scaffold import PluginKind, write_package

app = group("Create a package with a new environment or method.")

NewName = Annotated[
    str, typer.Argument(metavar="NAME", help="Name of the plug-in, e.g. word-ladder.")
]
Folder = Annotated[
    Path | None,
    typer.Option(
        "--out",
        metavar="FOLDER",
        callback=TO_FOLDER,
        help="Folder to write to (default: ./NAME).",
    ),
]


@app.command("env")
def new_env(name: NewName, folder: Folder = None) -> None:
    """Create a package with a small environment and its test."""
    _write("env", name, folder)


@app.command("method")
def new_method(name: NewName, folder: Folder = None) -> None:
    """Create a package with a small method and its test."""
    _write("method", name, folder)


def _write(kind: PluginKind, name: str, folder: Path | None) -> None:
    place = folder or Path(name)
    for path in write_package(kind, name, place):
        out().print(f"wrote {path}", soft_wrap=True)
    group = "envs" if kind == "env" else "methods"
    python = f"{_python()} -m"
    out().print(
        f"\n{python} pip install -e {place} pytest\n"
        f"{python} resd_bench {group} check {name}\n{python} pytest {place}",
        soft_wrap=True,
    )


def _python() -> str:
    """How this Python is called from here: by its path, unless its environment is activated."""
    if "VIRTUAL_ENV" in os.environ:
        return "python"
    path = Path(sys.executable)
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)
