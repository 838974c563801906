"""`cross-check trl`: our methods against those of another library, on the same samples."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from resd_bench.commands.groups import group
from resd_bench.files.terminal import note, say
from resd_bench.options import whole_numbers

app = group("Compare our methods with those of another library.")


@app.callback()
def about() -> None:
    """Compare our methods with those of another library."""


@app.command()
def trl(
    python: Annotated[
        str,
        typer.Option(
            metavar="PYTHON",
            help="Python of an environment with TRL and resd-bench (default: this one).",
            show_default=False,
        ),
    ] = sys.executable,
    env: Annotated[
        str, typer.Option(metavar="ENV", help="Environment of single turns.")
    ] = "manufactoria-has",
    model: Annotated[str, typer.Option(metavar="MODEL", help="As in `run`.")] = "nano-common",
    seeds: Annotated[str, typer.Option(metavar="LIST", help="Seeds: 0,1,2 or 0-4.")] = "0-2",
    updates: Annotated[
        int, typer.Option(min=0, metavar="INT", help="Updates of each run; 0: only one step.")
    ] = 8,
    tasks: Annotated[
        int, typer.Option(min=1, metavar="INT", help="Tasks of a GRPO update, 8 samples each.")
    ] = 8,
    eval_tasks: Annotated[
        int, typer.Option(min=1, metavar="INT", help="Held-out tasks to evaluate on.")
    ] = 64,
    eval_samples: Annotated[int, typer.Option(min=1, metavar="INT", help="Samples per task.")] = 2,
    margin: Annotated[
        float,
        typer.Option(
            min=0.001,
            max=1,
            metavar="NUMBER",
            help="Held-out success is the same where it surely differs by less.",
        ),
    ] = 0.1,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Write trl.json and trl.md there."),
    ] = None,
) -> None:
    """Compare our GRPO and SFT with TRL's: one step, then whole runs."""
    from resd_bench.files.writing import check_folder_target, write_named
    from resd_bench.interop.cross_check import cross_check, to_record
    from resd_bench.interop.cross_check_page import cross_check_page
    from resd_bench.interop.cross_check_setup import CrossCheck, check_python

    if out is not None:
        check_folder_target(out, "--out")
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
    note(f"TRL {version}; this says nothing until all runs are done")
    with tempfile.TemporaryDirectory(prefix="resd-cross-check-") as scratch:
        checked = cross_check(check, Path(scratch))
    found = to_record(check, version, checked)
    words = f"resd-bench cross-check trl --env {env} --model {model} --seeds {seeds} "
    words += f"--updates {updates} --tasks {tasks} --eval-tasks {eval_tasks} "
    words += f"--eval-samples {eval_samples} "
    text = cross_check_page(found, f"{words}--margin {margin:g} --python trl-venv/bin/python")
    say(text)
    if out is not None:
        write_named(out / "trl.json", json.dumps(found, indent=1).encode() + b"\n")
        write_named(out / "trl.md", text.encode())
    if any(one.equal is False for each in checked for one in each.batch):
        raise typer.Exit(1)
