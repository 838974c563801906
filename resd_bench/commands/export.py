"""`python -m resd_bench export`: write, and only where asked send, what a run has trained."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from resd_bench.terminal import note, out


def export_command(
    run_folder: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.")],
    to: Annotated[Path, typer.Option(metavar="FOLDER", help="A new folder to write to.")],
    checkpoint: Annotated[
        int | None, typer.Option(metavar="UPDATE", help="Which of its checkpoints; the last.")
    ] = None,
    push: Annotated[
        str | None,
        typer.Option(metavar="OWNER/NAME", help="Also send it to this repository on the Hub."),
    ] = None,
    trust_remote_code: Annotated[
        bool, typer.Option("--trust-remote-code", help="Run code that the model brings along.")
    ] = False,
    public: Annotated[
        bool, typer.Option("--public", help="Make a new repository public; it is private.")
    ] = False,
) -> None:
    """Write a run's trained model or adapter, its card and its playbook."""
    from resd_bench import export

    if push is not None:
        export.check_repository(push)
    made = export.export(run_folder, to, checkpoint, trust_remote_code=trust_remote_code)
    for text in made.notes:
        note(text)
    kind = "adapter" if made.adapter else "model"
    beside = ", its card and its playbook" if made.playbook else " and its card"
    out().print(f"{kind} after {made.update} updates{beside}: {made.folder}", soft_wrap=True)
    if push is not None:
        note(f"sending {made.folder} to {push}")
        address = export.push(made.folder, push, private=not public)
        out().print(f"sent to {address}", soft_wrap=True)
