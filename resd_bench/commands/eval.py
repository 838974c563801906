"""`eval`: held-out success of a checkpoint or of a model, without training."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from resd_bench.commands.shared import TO_FILE, ServerOption, Sets, Trust
from resd_bench.config import RunConfig
from resd_bench.errors import UsageError
from resd_bench.files.terminal import note, out
from resd_bench.files.writing import write_named
from resd_bench.packaged_models import unspoken

if TYPE_CHECKING:
    from resd_bench.jobs.evaluate import Scored


RunFolder = Annotated[
    Path | None, typer.Argument(metavar="RUN", help="Run folder to take a checkpoint from.")
]
CheckpointUpdate = Annotated[
    int | None, typer.Option(metavar="UPDATE", help="Update of the checkpoint (default: the last).")
]
Model = Annotated[
    str | None, typer.Option(metavar="MODEL", help="Model to evaluate as it is, in place of a run.")
]
EnvName = Annotated[
    str | None, typer.Option(metavar="ENV", help="Environment (default: the one of the run).")
]
SplitName = Annotated[str | None, typer.Option(metavar="SPLIT", help="train, validation or test.")]
Samples = Annotated[str | None, typer.Option(metavar="INT", help="Samples per task.")]
Tasks = Annotated[
    str | None,
    typer.Option(metavar="INT", help="Number of tasks, the first of the split (default: all)."),
]
Temperature = Annotated[str | None, typer.Option(metavar="NUMBER", help="Sampling temperature.")]
MaxNewTokens = Annotated[
    str | None, typer.Option(metavar="INT", help="Maximum completion length in tokens.")
]
Seed = Annotated[str | None, typer.Option(metavar="INT", help="Seed of the samples.")]
DeviceName = Annotated[
    str | None, typer.Option(metavar="DEVICE", help="auto, cpu, cuda or cuda:1.")
]
RowsFile = Annotated[
    Path | None,
    typer.Option(
        "--out", metavar="FILE", callback=TO_FILE, help="Write a row per sample to this JSONL file."
    ),
]


def evaluate(
    run_folder: RunFolder = None,
    checkpoint: CheckpointUpdate = None,
    model: Model = None,
    env: EnvName = None,
    split: SplitName = None,
    samples: Samples = None,
    tasks: Tasks = None,
    temperature: Temperature = None,
    max_new_tokens: MaxNewTokens = None,
    seed: Seed = None,
    device: DeviceName = None,
    server: ServerOption = None,
    trust_remote_code: Trust = None,
    sets: Sets = None,
    save: RowsFile = None,
) -> None:
    """Measure held-out success of a checkpoint or of a model."""
    from resd_bench.jobs.evaluate import score_model, score_run

    if (run_folder is None) == (model is None):
        raise UsageError("give a run folder or --model, and not both")
    if run_folder is not None and is_model(run_folder):
        raise UsageError(
            f"{run_folder} is a model, not a run folder: give --model {run_folder} --env ENV"
        )
    flags = {
        "env": env,
        "eval_split": split,
        "eval_samples": samples,
        "eval_tasks": tasks,
        "eval_temperature": temperature,
        "max_new_tokens": max_new_tokens,
        "seed": seed,
        "device": device,
        "server": server,
        "trust_remote_code": trust_remote_code,
    }
    if run_folder is not None:
        scored = score_run(run_folder, checkpoint, flags, sets or ())
    else:
        if warning := unspoken(str(model), env or RunConfig.env):
            note(f"warning: {warning}")
        scored = score_model({**flags, "model": model}, sets or ())
    show(scored)
    if save is not None:
        write_rows(scored, save)


def is_model(folder: Path) -> bool:
    """Whether a folder holds a model, such as `export` writes."""
    return (folder / "config.json").is_file() and not (folder / "config.yaml").is_file()


def write_rows(scored: Scored, save: Path) -> None:
    """Write a row per sample, and say where."""
    from resd_bench.records.recorder import to_line

    write_named(save, b"".join(to_line(row) for row in scored.rows))
    out().print(f"rows    {save}", soft_wrap=True)


def show(scored: Scored) -> None:
    """Print the success rates of an evaluation."""
    from resd_bench.report.tables import WITH_FAILURES, best_rates, rates

    for text in scored.notes:
        note(text)
    point, console = scored.point, out()
    console.tell(f"{scored.what} on {scored.config.env}, {scored.config.eval_split} tasks")
    for name, text in (("mean", rates(point.rate())), ("best", best_rates(point))):
        head = f"{name}@{point.per_task}  "
        console.tell(head + text.replace("\n", f"\n{'':{len(head)}}"))
    console.tell(f"samples {point.samples}, without verdict {point.errors}")
    if point.errors:
        console.tell(WITH_FAILURES, style="bold red")
