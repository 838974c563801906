"""The page `many-turns`: hindsight about each turn against hindsight about the whole attempt.

Learning curves over turns, by game and by how rare success is at the start, and what the turns of
the last checkpoint did.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import PurePath

from resd_bench.records.runs import RunData
from resd_bench.reproduce.learning_curves import curves_page
from resd_bench.reproduce.match_records import Gathered
from resd_bench.reproduce.page import Page, empty_table
from resd_bench.reproduce.table_cells import NOT_RUN

REFERENCE = "hero"
CLAIM_OF_HERO = (
    "The abstract of HERO (arXiv 2606.11559) says, of TauBench and WebShop, that it improves "
    "success and saves turns over self-distillation from the environment's feedback alone "
    "(`hero-observation`) and over GRPO, most where the budget of turns is small, and that the "
    "naive form (`hero-transcript`) degrades. Here each variant is compared with `hero` by the "
    "area under its curve up to the turns that all runs took, paired by seed, Holm per game and "
    "model. With `-successes` a method also learns from successes as RESD does, by the attempt as "
    "the solution; `resd-failures` does not. The games are not the paper's: no verdict names it."
)
MEASURED = {
    "turns": "turns",
    "turns_to_success": "of a success",
    "wasted_turns": "wasted",
    "invalid_turns": "invalid",
}
"""Measurements of turns, and the heads of their columns."""
_RARITIES = ("-usual", "-rare")
"""Ends of the names of variants: how rarely their model succeeds."""


def many_turns(gathered: Gathered) -> Page:
    """Success over turns, and the turns of the last checkpoint."""
    places = by_place(gathered)
    page = curves_page(
        places,
        "many-turns",
        "Many turns: hindsight about each turn, or about the whole attempt",
        variants=places.variants,
        reference=REFERENCE if REFERENCE in places.variants else next(iter(places.variants)),
        expected={},
        claim=CLAIM_OF_HERO,
        axis="turns",
    )
    made = empty_table("turns at the last checkpoint", ["game", "method", *MEASURED.values()], 2)
    for place in places.environments:
        for variant in places.variants:
            runs = places.of(place, variant)
            cells = [_cell(name, runs) for name in MEASURED] if runs else [NOT_RUN] * len(MEASURED)
            made.add_row(place, variant, *cells)
        made.add_section()
    made.caption = (
        "Means over held-out attempts of all runs: turns taken, those of a success, and the shares "
        "that the game says changed nothing or could not be carried out."
    )
    page.tables.append(made)
    return page


def by_place(gathered: Gathered) -> Gathered:
    """`gathered` with each pair of game and model as an environment of its own."""
    trials, runs = [], dict(gathered.runs)
    for trial in gathered.trials:
        path = PurePath(trial.config.model)
        model = path.parent.name if path.name == "model" else path.name
        place = f"{trial.config.env}, {model}"
        config = replace(trial.config, env=place)
        trials.append(replace(trial, variant=_method(trial.variant), config=config))
        if trial.index in runs:
            own = runs[trial.index]
            runs[trial.index] = replace(own, settings={**own.settings, "env": place})
    return Gathered(trials, runs)


def _method(variant: str) -> str:
    """The variant's name without how rarely its model succeeds."""
    return next((variant.removesuffix(r) for r in _RARITIES if variant.endswith(r)), variant)


def _cell(name: str, runs: Sequence[RunData]) -> str:
    """The mean of a measurement over the last evaluations; shares in percent."""
    last = [run.points[-1].measured.get(name, math.nan) for run in runs]
    known = [value for value in last if not math.isnan(value)]
    if not known:
        return ""
    mean = sum(known) / len(known)
    return f"{100 * mean:.1f}%" if name.endswith("d_turns") else f"{mean:.1f}"
