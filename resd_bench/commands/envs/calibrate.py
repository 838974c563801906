"""`envs calibrate`: how rare success is before learning."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from resd_bench.commands.shared import Device, EnvSets, Name, SplitFlag, options, read_split
from resd_bench.errors import UsageError
from resd_bench.files.terminal import note, out
from resd_bench.options import names_in

if TYPE_CHECKING:
    from rich.table import Table

    from resd_bench.jobs.difficulty import Rarity


def calibrate(
    name: Name,
    model: Annotated[
        str, typer.Option(metavar="MODEL", help="Model, as in `run --model`.")
    ] = "nano",
    target: Annotated[
        float | None,
        typer.Option(
            metavar="RATE", help="Wanted success rate, e.g. 0.01; measures all difficulty tiers."
        ),
    ] = None,
    chosen: Annotated[
        str | None,
        typer.Option("--tiers", metavar="LIST", help="Measure only these tiers: a,b,c."),
    ] = None,
    split: SplitFlag = "train",
    tasks: Annotated[
        int, typer.Option(min=1, metavar="INT", help="Number of tasks, the first of the split.")
    ] = 64,
    samples: Annotated[int, typer.Option(min=1, metavar="INT", help="Samples per task.")] = 16,
    temperature: Annotated[
        float, typer.Option(min=0.0, metavar="NUMBER", help="Sampling temperature.")
    ] = 1.0,
    max_new_tokens: Annotated[
        str | None, typer.Option(metavar="INT", help="Maximum completion length in tokens.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, metavar="INT", help="Seed of the samples.")] = 0,
    device: Device = None,
    sets: EnvSets = None,
) -> None:
    """Measure how rare success is before learning.

    Reports the success rate p0, the share of zero-variance groups, and the expected number of
    episodes to the first success.
    """
    from resd_bench.jobs.difficulty import all_tiers, nearest

    if target is not None and not 0 < target < 1:
        raise UsageError(f"--target {target} is not a success rate: give one between 0 and 1")
    read_split(split)
    names = names_in(chosen)
    names = names or (all_tiers(name) if target is not None else [name])
    flags = {
        "model": model,
        "eval_split": split,
        "eval_tasks": tasks,
        "eval_samples": samples,
        "eval_temperature": temperature,
        "max_new_tokens": max_new_tokens,
        "seed": seed,
        "device": device,
        "env_options": options(sets, "env"),
    }
    found = list(measured(names, flags))
    out().print(rarity_table(found, model))
    if target is not None:
        best = nearest(found, target)
        out().tell(f"nearest to {target:g}: {best.env}")


def measured(names: Sequence[str], flags: Mapping[str, Any]) -> Iterator[Rarity]:
    """The rarity of success on each tier, told as it is found."""
    from resd_bench.jobs.difficulty import calibrate as measure

    for one in measure(names, flags):
        note(f"{one.env}: done, {one.p0.n} samples")
        yield one


def rarity_table(found: Sequence[Rarity], model: str) -> Table:
    """A row per tier."""
    from rich.table import Table

    from resd_bench.jobs.difficulty import GRPO_GROUP
    from resd_bench.report.tables import WITH_FAILURES, both

    table = Table(title=f"{model} before learning")
    table.add_column("environment", no_wrap=True)
    for title in ("p0 (95%)", f"zero-variance groups, N = {GRPO_GROUP}", "if tasks were alike"):
        table.add_column(title)
    table.add_column("episodes to first success")
    table.add_column("no verdict")
    for one in found:
        cells = _rarity_cells(one)
        least = _rarity_cells(one.with_failures) if one.with_failures else cells
        table.add_row(one.env, *map(both, cells, least), str(one.errors))
        if one.errors:
            table.caption, table.caption_justify = WITH_FAILURES, "left"
    return table


def _rarity_cells(one: Rarity) -> Sequence[str]:
    from resd_bench.report.tables import percent

    mean, low, high = (_number(value) for value in one.episodes)
    shares = (f"{one.dead:.1%}", f"{one.dead_if_alike:.1%}")
    return (percent(one.p0), *shares, f"{mean} [{low}, {high}]")


def _number(value: float) -> str:
    return "∞" if math.isinf(value) else f"{value:.3g}"
