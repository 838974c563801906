"""`export`: write, and only where asked upload, what a run has trained."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from resd_bench.commands.shared import TO_FOLDER
from resd_bench.files.terminal import note, out


def export(
    run_folder: Annotated[Path, typer.Argument(metavar="RUN", help="Run folder.")],
    to: Annotated[
        Path, typer.Option(metavar="FOLDER", callback=TO_FOLDER, help="New folder to write to.")
    ],
    checkpoint: Annotated[
        int | None,
        typer.Option(metavar="UPDATE", help="Update of the checkpoint (default: the last)."),
    ] = None,
    push: Annotated[
        str | None,
        typer.Option(metavar="OWNER/NAME", help="Also upload to this repository on the Hub."),
    ] = None,
    trust_remote_code: Annotated[
        bool, typer.Option("--trust-remote-code", help="Run code that comes with the model.")
    ] = False,
    public: Annotated[
        bool, typer.Option("--public", help="Make a new repository public (default: private).")
    ] = False,
) -> None:
    """Write a run's trained model or adapter, with card and playbook."""
    from resd_bench.jobs import export as job

    if push is not None:
        job.check_repository(push)
    made = job.export(run_folder, to, checkpoint, trust_remote_code=trust_remote_code)
    for text in made.notes:
        note(text)
    kind = "adapter" if made.adapter else "model"
    parts = ", its card and its playbook" if made.playbook else " and its card"
    out().print(f"{kind} after {made.update} updates{parts}: {made.folder}", soft_wrap=True)
    if push is not None:
        note(f"sending {made.folder} to {push}")
        address = job.push(made.folder, push, private=not public)
        out().print(f"sent to {address}", soft_wrap=True)
