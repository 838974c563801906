"""`python -m resd_bench results keep`: keep the records of runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Records of runs, to commit and to share.", no_args_is_help=True)


# With a single command, Typer would drop its name without this.
@app.callback()
def results() -> None:
    """Records of runs, to commit and to share."""


@app.command("keep")
def keep_command(
    runs: Annotated[list[str], typer.Argument(metavar="RUN...", help="Run folders or globs.")],
    to: Annotated[Path, typer.Option(metavar="FOLDER", help="Writes TO/ENV/METHOD/seed-K.")],
) -> None:
    """Copy what tables and figures are made from; episodes and checkpoints stay where they are."""
    from resd_bench.report.archive import keep
    from resd_bench.report.runs import find_runs

    for folder in keep(find_runs(runs), to):
        typer.echo(folder)
