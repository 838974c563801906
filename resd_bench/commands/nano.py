"""`nano`: make the embedded model, measure it, and know its curriculum where runs may not."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from resd_bench.commands.groups import group
from resd_bench.commands.shared import TO_FOLDER, options_table
from resd_bench.errors import UsageError
from resd_bench.files import terminal
from resd_bench.files.terminal import say

if TYPE_CHECKING:
    from resd_bench.nano.pretrain import PretrainConfig

app = group("Pre-train and measure the embedded model.")


MadeIn = Annotated[
    Path,
    typer.Option(
        metavar="FOLDER", callback=TO_FOLDER, help="Folder for checkpoints and the model."
    ),
]


@app.command()
def pretrain(
    out: MadeIn = Path("nano-out"),
    steps: Annotated[
        int | None, typer.Option(min=1, metavar="INT", help="Total number of optimiser steps.")
    ] = None,
    seed: Annotated[int, typer.Option(metavar="INT", help="Seed of weights and documents.")] = 0,
    threads: Annotated[
        int, typer.Option(min=1, metavar="INT", help="Number of torch threads.")
    ] = 1,
    curriculum: Annotated[
        str | None,
        typer.Option(metavar="LIST", help="Environments with a curriculum, separated by commas."),
    ] = None,
    start: Annotated[
        str,
        typer.Option(
            metavar="MODEL", help="Model to start from, e.g. nano (default: random weights)."
        ),
    ] = "",
    odds: Annotated[
        float | None,
        typer.Option(
            metavar="NUMBER",
            help="Factor on the odds of untaught answers; below 1, success is rarer. "
            "The same as --dial odds=NUMBER.",
        ),
    ] = None,
    dial: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE",
            help="How able the model is, e.g. keep=prior or raw=0.05; can be given several times. "
            "`nano dials` lists them.",
        ),
    ] = None,
    learning_rate: Annotated[
        float | None, typer.Option(metavar="NUMBER", help="Peak learning rate.")
    ] = None,
) -> None:
    """Pre-train from scratch, or resume an interrupted pre-training."""
    from resd_bench.nano.documents import Dials
    from resd_bench.nano.pretrain import PretrainConfig
    from resd_bench.policy.loading import tune_allocator

    tune_allocator()
    given: dict[str, Any] = {
        "steps": steps,
        "curriculum": curriculum,
        "learning_rate": learning_rate,
    }
    config = PretrainConfig(
        seed=seed,
        threads=threads,
        start=start,
        dials=Dials.parse([*(dial or []), *_odds(odds)]),
        **{key: value for key, value in given.items() if value is not None},
    )
    say(f"model in {_pretrained(config, out)}")


def _odds(odds: float | None) -> list[str]:
    """What `--odds` says, as `--dial` would; UsageError unless it is above 0."""
    if odds is None:
        return []
    if odds <= 0:
        raise UsageError(f"--odds {odds}: give a number above 0; 1 leaves success as rare as it is")
    return [f"odds={odds}"]


def _pretrained(config: PretrainConfig, out: Path) -> Path:
    """Pre-train under a progress bar; the model's folder."""
    from rich.progress import Progress as Bar

    from resd_bench.nano.pretrain import PretrainProgress, pretrain

    with Bar() as bar:
        row = bar.add_task("pre-training", total=config.steps)

        def show(p: PretrainProgress) -> None:
            text = f"loss {p.loss:.3f}, {p.tokens / max(p.seconds, 1e-9):,.0f} tokens/s"
            bar.update(row, completed=p.step, description=text)

        return pretrain(config, out, show)


@app.command()
def dials() -> None:
    """List the dials of `nano pretrain --dial`, with their defaults."""
    from resd_bench.nano.documents import Dials

    terminal.out().print(options_table("Dials: --dial NAME=VALUE", Dials))


@app.command()
def probe(
    model: Annotated[
        str, typer.Option(metavar="MODEL", help="`nano`, or the folder of a model.")
    ] = "nano",
    env: Annotated[
        str, typer.Option(metavar="ENV", help="Environment with a curriculum.")
    ] = "manufactoria-has",
    samples: Annotated[
        int, typer.Option(min=1, metavar="INT", help="Samples per held-out task.")
    ] = 4,
) -> None:
    """Measure success with each kind of context on held-out tasks."""
    from resd_bench.nano.card import dials_of
    from resd_bench.nano.probe import Probe, probe_table
    from resd_bench.policy.lm_policy import LMPolicy
    from resd_bench.policy.loading import local_path

    dials = dials_of(Path(local_path(model)))
    say(probe_table(Probe(LMPolicy.load(model), env, samples, dials=dials).rows()))


@app.command()
def card(
    model: Annotated[
        str, typer.Option(metavar="MODEL", help="`nano`, or the folder of a model.")
    ] = "nano",
    samples: Annotated[
        int, typer.Option(min=1, metavar="INT", help="Samples per held-out task.")
    ] = 4,
) -> None:
    """Measure the model and write its card, README.md, into its folder."""
    from resd_bench.nano.card import write
    from resd_bench.policy.loading import local_path

    say(write(Path(local_path(model)), samples))


@app.command("lessons")
def lessons_command(
    env: Annotated[str, typer.Option(metavar="ENV", help="Environment with a curriculum.")],
    wrong: Annotated[
        bool, typer.Option("--wrong", help="The opposite of each lesson (default: the right ones).")
    ] = False,
) -> None:
    """Print the shared lessons of an environment as JSON lines."""
    import json
    from dataclasses import asdict

    from resd_bench import plugins
    from resd_bench.nano.lessons import lessons

    curriculum = plugins.find("resd_bench.curricula", "curriculum", env)
    for row in lessons(curriculum, wrong=wrong):
        say(json.dumps(asdict(row)))


@app.command("check-reflections")
def check_reflections_command(
    runs: Annotated[
        list[str], typer.Argument(metavar="RUN", help="Run folders, or folders of them.")
    ],
) -> None:
    """Compare the reflections of runs with the curriculum."""
    from resd_bench.nano.check_reflections import check_run, table
    from resd_bench.records.run_files import run_folders

    folders = [folder for place in runs for folder in run_folders(Path(place))]
    if not folders:
        raise UsageError(f"no run found in {', '.join(runs)}: give run folders, or a parent")
    say(table({str(folder): check_run(folder) for folder in folders}))
