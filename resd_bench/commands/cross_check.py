"""`cross-check trl`: our methods against those of another library, on the same samples."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Annotated, Any

import typer

from resd_bench.commands.groups import group
from resd_bench.commands.shared import TO_FOLDER
from resd_bench.files.terminal import note, say
from resd_bench.options import whole_numbers

if TYPE_CHECKING:
    from resd_bench.interop.cross_check_setup import CrossCheck

app = group("Compare our methods with those of another library.")


@app.callback()
def about() -> None:
    """Compare our methods with those of another library."""


Python = Annotated[
    str,
    typer.Option(
        metavar="PYTHON",
        help="Python of an environment with TRL and resd-bench (default: this one).",
        show_default=False,
    ),
]
Env = Annotated[str, typer.Option(metavar="ENV", help="Environment of single turns.")]
Model = Annotated[str, typer.Option(metavar="MODEL", help="As in `run`.")]
Seeds = Annotated[str, typer.Option(metavar="LIST", help="Seeds: 0,1,2 or 0-4.")]
Updates = Annotated[
    int, typer.Option(min=0, metavar="INT", help="Updates of each run; 0: only one step.")
]
Tasks = Annotated[
    int, typer.Option(min=1, metavar="INT", help="Tasks of a GRPO update, 8 samples each.")
]
EvalTasks = Annotated[
    int, typer.Option(min=1, metavar="INT", help="Held-out tasks to evaluate on.")
]
EvalSamples = Annotated[int, typer.Option(min=1, metavar="INT", help="Samples per task.")]
Margin = Annotated[
    float,
    typer.Option(
        min=0.001,
        max=1,
        metavar="NUMBER",
        help="Held-out success is the same where it surely differs by less.",
    ),
]
Folder = Annotated[
    Path | None,
    typer.Option(metavar="FOLDER", callback=TO_FOLDER, help="Write trl.json and trl.md there."),
]


@app.command()
def trl(
    python: Python = sys.executable,
    env: Env = "manufactoria-has",
    model: Model = "nano-common",
    seeds: Seeds = "0-2",
    updates: Updates = 8,
    tasks: Tasks = 8,
    eval_tasks: EvalTasks = 64,
    eval_samples: EvalSamples = 2,
    margin: Margin = 0.1,
    out: Folder = None,
) -> None:
    """Compare our GRPO and SFT with TRL's: one step, then whole runs."""
    from resd_bench.interop.cross_check import cross_check, to_record
    from resd_bench.interop.cross_check_page import cross_check_page
    from resd_bench.interop.cross_check_setup import CrossCheck, check_python
    from resd_bench.monitoring.progress_bar import clock

    check = CrossCheck(
        python=python,
        env=env,
        model=model,
        seeds=whole_numbers("--seeds", seeds),
        updates=updates,
        tasks=tasks,
        eval_tasks=eval_tasks,
        eval_samples=eval_samples,
        margin=margin,
    )
    version = check_python(python)
    note(f"TRL {version}")
    began = monotonic()
    with tempfile.TemporaryDirectory(prefix="resd-cross-check-") as scratch:
        checked = cross_check(
            check, Path(scratch), lambda text: note(f"{clock(monotonic() - began)} {text}")
        )
    found = to_record(check, version, checked)
    text = cross_check_page(found, command_of(check, seeds))
    say(text)
    if out is not None:
        save(out, found, text)
    if any(one.equal is False for each in checked for one in each.batch):
        raise typer.Exit(1)


def command_of(check: CrossCheck, seeds: str) -> str:
    """What makes the page again, in an environment of its own."""
    words = f"resd-bench cross-check trl --env {check.env} --model {check.model} --seeds {seeds} "
    words += f"--updates {check.updates} --tasks {check.tasks} --eval-tasks {check.eval_tasks} "
    words += f"--eval-samples {check.eval_samples} --margin {check.margin:g} "
    return words + "--python trl-venv/bin/python"


def save(folder: Path, found: Mapping[str, Any], text: str) -> None:
    """Write the record and the page."""
    from resd_bench.files.writing import write_named

    write_named(folder / "trl.json", json.dumps(found, indent=1, allow_nan=False).encode() + b"\n")
    write_named(folder / "trl.md", text.encode())
