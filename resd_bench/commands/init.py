"""`init env | method`: start a plugin package."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from resd_bench.scaffold import Kind, write_package
from resd_bench.terminal import out

app = typer.Typer(help="Start a package with an environment or a method.", no_args_is_help=True)

NewName = Annotated[str, typer.Argument(metavar="NAME", help="Short name, e.g. word-ladder.")]
Folder = Annotated[
    Path | None, typer.Option("--out", metavar="FOLDER", help="Where to write it; else ./NAME.")
]


@app.command("env")
def new_env(name: NewName, folder: Folder = None) -> None:
    """Write an installable package with a small environment and its contract test."""
    _write("env", name, folder)


@app.command("method")
def new_method(name: NewName, folder: Folder = None) -> None:
    """Write an installable package with a small method and its contract test."""
    _write("method", name, folder)


def _write(kind: Kind, name: str, folder: Path | None) -> None:
    place = folder or Path(name)
    for path in write_package(kind, name, place):
        out().print(f"wrote {path}", soft_wrap=True)
    group = "envs" if kind == "env" else "methods"
    out().print(
        f"\npip install -e {place}\npython -m resd_bench {group} check {name}\npytest {place}",
        soft_wrap=True,
    )
