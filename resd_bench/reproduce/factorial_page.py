"""The page `factorial`: what each part of RESD does, alone and together with the others.

Leaving one part out at a time cannot see two parts that replace each other; here every combination
of four parts was run. Left out: other methods, and parts that were not varied.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from rich.table import Table

from resd_bench.config import RunConfig
from resd_bench.records.runs import RunData
from resd_bench.report.comparisons import (
    ByTask,
    Measure,
    common_budget,
    outcomes_by_task,
    overall,
    unlikeness,
)
from resd_bench.report.figures import colours_of, plain_text
from resd_bench.report.tables import percent
from resd_bench.report.take_off_table import RULE
from resd_bench.reproduce.match_records import Gathered
from resd_bench.reproduce.page import Page, empty_table
from resd_bench.reproduce.table_cells import NOT_RUN, not_judged
from resd_bench.seeds import stream
from resd_bench.stats import (
    Effect,
    FactorCell,
    Interval,
    Pair,
    Verdict,
    contrast,
    count_taken_off,
    effects_of,
    judge,
    judge_taken_off,
    measured_ends,
    splits_in_two,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


class Factor(NamedTuple):
    """A part of RESD that a run has or lacks."""

    name: str
    is_on: Callable[[RunConfig], bool]


def _option(name: str) -> Callable[[RunConfig], bool]:
    return lambda config: bool(config.method_options.get(name, True))


FACTORS = (
    Factor("attempt", _option("use_previous_trial")),
    Factor("reflections + playbook", _option("use_reflection")),
    Factor("feedback", lambda config: config.feedback_level > 0),
    Factor("rebalancing", _option("success_rate_weighting")),
)
CELLS: tuple[FactorCell, ...] = tuple(product((False, True), repeat=len(FACTORS)))
EFFECTS = effects_of(len(FACTORS))
FAMILY = [effect for effect in EFFECTS if len(effect) <= 2]
"""The effects that are judged, together: declared before any run."""
_VARIES = ("feedback_level",)
_WORDS = {
    1: {"better": "helps", "worse": "hurts"},
    2: {"better": "more together", "worse": "less together"},
}
"""Verdicts on effects by the number of factors."""
_ABOUT = (
    "RESD with and without four of its parts, in every combination (16 cells). *attempt*: the "
    "teacher sees the attempt that it scores. *reflections + playbook*: both, or neither. "
    "*feedback*: the environment's, at level 3, or none at all (level 0): it is then hidden from "
    "the reflection too, since a reflection that had read it would hand it on to the teacher and "
    "`no feedback` would not be without it. *rebalancing*: successes and failures are weighted by "
    "the success rate of the batch (Eq. 2). The buffer of solutions is always on.",
    "A failure is distilled only if the teacher knows something about it: feedback, a reflection, "
    "or a solution of the same task. With neither feedback nor reflections RESD learns from its "
    "successes and from failures on tasks it has solved before, and the attempt can matter only "
    "there; with the attempt off too, the teacher sees nothing but remembered solutions.",
    "Effects are in points, averaged over all combinations of the other parts and paired by seed: "
    "of one part, success with it minus success without; of two, what one adds where the other is "
    "there minus what it adds where the other is not, so that parts which replace each other have "
    "a negative one; of three and four, the same again. In the figure a dot is a run, and a line "
    "joins means.",
    "A run that was evaluated only before and after training has no curve: where there is one "
    "among the runs of a model, the area under the curve is left out (–).",
)
JUDGED = (
    "95% t intervals over seeds, not corrected. Judged, for each environment and model and for "
    "each of the two measures: the four parts and the six pairs, Holm over these ten. Effects of "
    "three and four parts are shown without a verdict."
)


class FactorialPlace(NamedTuple):
    """Where all cells were run."""

    env: str
    model: str


@dataclass(frozen=True, slots=True)
class FactorialOutcome:
    """A run's outcomes by task: success of the last checkpoint, or area under the curve."""

    scored: ByTask
    with_failures: ByTask


MeasuredCells = Mapping[FactorCell, Mapping[int, FactorialOutcome]]
"""By cell and seed."""


def factorial(gathered: Gathered) -> Page:
    """Effects and interactions of RESD's parts, and all cells."""
    page = Page("factorial", "RESD's parts in every combination", [], [], list(_ABOUT))
    shown: dict[FactorialPlace, dict[FactorCell, list[float]]] = {}
    for place, runs in _by_place(gathered).items():
        ends = _measure(runs, "success")
        areas = _measure(runs, "area") if _have_curves(runs) else {}
        page.tables.append(_effects_table(page, place, runs, ends, areas))
        page.tables.append(_cells_table(page, place, ends, areas))
        if ends:
            shown[place] = {
                cell: [_mean(one.scored) for one in own.values()] for cell, own in ends.items()
            }
            if any(map(splits_in_two, shown[place].values())):
                page.tables.append(_take_off_table(page, place, ends))
    if shown:
        page.draw = partial(_draw, shown)
    return page


Runs = Mapping[FactorCell, Sequence[RunData]]


def _by_place(gathered: Gathered) -> dict[FactorialPlace, dict[FactorCell, list[RunData]]]:
    found: dict[FactorialPlace, dict[FactorCell, list[RunData]]] = {}
    for trial in gathered.trials:
        cells = found.setdefault(FactorialPlace(trial.config.env, trial.config.model), {})
        runs = cells.setdefault(tuple(factor.is_on(trial.config) for factor in FACTORS), [])
        if trial.index in gathered.runs:
            runs.append(gathered.runs[trial.index])
    return found


def _budget(runs: Runs) -> float:
    """Rollouts that every run spent."""
    every = [run for own in runs.values() for run in own]
    return common_budget(every) if every else 0.0


def _have_curves(runs: Runs) -> bool:
    """Whether every run was evaluated at a point between the first and the last."""
    return all(len(run.points) > 2 for own in runs.values() for run in own)


def _not_there(measure: str, ends: Mapping[Any, object]) -> str:
    """What stands for a value that is not there: runs without a curve have no area."""
    return "–" if measure == "area" and ends else NOT_RUN


def _measure(runs: Runs, measure: Measure) -> dict[FactorCell, dict[int, FactorialOutcome]]:
    budget = _budget(runs)

    def outcome(run: RunData) -> ByTask:
        return outcomes_by_task(run, budget, "episodes", measure)

    return {
        cell: {
            run.seed: FactorialOutcome(outcome(run), outcome(run.with_failures())) for run in own
        }
        for cell, own in runs.items()
        if own
    }


def _mean(tasks: ByTask) -> float:
    return float(np.mean([x for own in tasks.values() for x in own]))


def effect_verdicts(measured: MeasuredCells) -> dict[Effect, Verdict]:
    """Every effect over the seeds that all cells have; {} if there is none.

    Holm is over the effects of the family; those beyond it are judged alone.
    """
    seeds = sorted(set.intersection(*(set(measured.get(cell, ())) for cell in CELLS)))
    if not seeds:
        return {}

    scored = [{cell: measured[cell][seed].scored for cell in CELLS} for seed in seeds]
    least = [{cell: measured[cell][seed].with_failures for cell in CELLS} for seed in seeds]
    found: dict[Effect, Verdict] = {}
    for family in (FAMILY, *([effect] for effect in EFFECTS if effect not in FAMILY)):
        sides = [_pairs(scored, family)]
        sides += [sides[0] if least == scored else _pairs(least, family)]
        judged = judge(sides[0], stream(0, "sign flips"), with_failures=sides[1])
        found |= dict(zip(family, judged, strict=True))
    return found


def _pairs(
    seeds: Sequence[Mapping[FactorCell, ByTask]], family: Sequence[Effect]
) -> list[dict[str, list[Pair]]]:
    return [{"": [contrast(cells, effect) for cells in seeds]} for effect in family]


def _effects_table(
    page: Page, place: FactorialPlace, runs: Runs, ends: MeasuredCells, areas: MeasuredCells
) -> Table:
    columns = ["effect of", "last checkpoint,\npoints", "verdict", "area under\nthe curve, points"]
    made = empty_table(f"effects: {place.env}, {place.model}", [*columns, "verdict"], 1, JUDGED)
    budget = _budget(runs)
    groups = [own for own in runs.values() if own]
    unlike = [unlikeness(groups, budget, "episodes", m, _VARIES) for m in ("success", "area")]
    sides = [effect_verdicts(own) for own in (ends, areas)]
    for effect in EFFECTS:
        if len(effect) > 1 and len(effect) != len(EFFECTS[EFFECTS.index(effect) - 1]):
            made.add_section()
        name = " x ".join(FACTORS[i].name for i in effect)
        texts: list[str] = []
        row: dict[str, object] = {**place._asdict(), "effect": name}
        for measure, found, why in zip(("end", "area"), sides, unlike, strict=True):
            own = found.get(effect)
            missing = _not_there(measure, ends if sides[0] else {})
            verdict = missing if own is None else not_judged(why) if why else _word(own, effect)
            texts += [missing if own is None else _points(own.difference), verdict]
            row |= _effect_columns(measure, own, verdict)
        made.add_row(name, *texts)
        page.rows.append(row)
    return made


def _word(found: Verdict, effect: Effect) -> str:
    if len(effect) not in _WORDS:
        return ""
    return _WORDS[len(effect)].get(found.word, str(found))


def _points(difference: Interval) -> str:
    low, mean, high = (100 * x for x in (difference.low, difference.mean, difference.high))
    return f"{mean:+.1f}" if np.isnan(low) else f"{mean:+.1f} [{low:+.1f}, {high:+.1f}]"


def _effect_columns(measure: str, found: Verdict | None, verdict: str) -> dict[str, object]:
    names = [f"{measure}{end}" for end in ("", " low", " high", " detectable")]
    row: dict[str, object] = dict.fromkeys(names, "")
    if found is not None:
        d = found.difference
        limits = (d.mean, d.low, d.high, found.detectable)
        values = ("" if np.isnan(x) else round(100 * x, 4) for x in limits)
        row = dict(zip(names, values, strict=True))
        row[f"{measure} p"] = "" if np.isnan(found.p) else round(found.p, 6)
        row[f"{measure} seeds"] = d.n
    return row | {f"{measure} verdict": verdict}


def _cells_table(
    page: Page, place: FactorialPlace, ends: MeasuredCells, areas: MeasuredCells
) -> Table:
    columns = [*(factor.name for factor in FACTORS), "seeds", "last checkpoint", "area"]
    made = empty_table(f"cells: {place.env}, {place.model}", columns, len(FACTORS))
    for cell in reversed(CELLS):
        row: dict[str, object] = {**place._asdict(), "effect": "cell"}
        row |= {factor.name: int(on) for factor, on in zip(FACTORS, cell, strict=True)}
        texts = []
        for measure, measured in (("end", ends), ("area", areas)):
            own = {(place.env, seed): one for seed, one in measured.get(cell, {}).items()}
            mean = overall({key: one.scored for key, one in own.items()}) if own else None
            missing = _not_there(measure, ends.get(cell, {}))
            texts.append(missing if mean is None else percent(mean))
            row[measure] = "" if mean is None else round(100 * mean.mean, 4)
        marks = ["yes" if on else "–" for on in cell]
        made.add_row(*marks, str(len(ends.get(cell, ()))), *texts)
        page.rows.append(row)
    return made


TAKE_OFF_CAPTION = (
    f"{RULE}. All runs with a part against all without it, Boschloo's exact test, Holm over the "
    "parts. The intervals of effects above cover too little where they rest on a single such cell."
)


def _take_off_table(page: Page, place: FactorialPlace, ends: MeasuredCells) -> Table:
    """How many runs took off with each part and without it, over all other parts."""
    columns = ["part", "with it", "without it", "cells that split", "verdict"]
    made = empty_table(f"took off: {place.env}, {place.model}", columns, 1, TAKE_OFF_CAPTION)
    sides = [[_ends_where(ends, i, on) for on in (True, False)] for i in range(len(FACTORS))]
    least = [[_ends_where(ends, i, on, True) for on in (True, False)] for i in range(len(FACTORS))]
    known = [i for i, pair in enumerate(sides) if all(pair)]
    judged = judge_taken_off(
        [(sides[i][0], sides[i][1]) for i in known],
        with_failures=[(least[i][0], least[i][1]) for i in known],
    )
    split = sum(splits_in_two([_mean(one.scored) for one in own.values()]) for own in ends.values())
    for i, verdict in zip(known, judged, strict=True):
        word = _WORDS[1].get(verdict.word, str(verdict))
        counts = [f"{count_taken_off(own)}/{len(own)}" for own in sides[i]]
        made.add_row(FACTORS[i].name, *counts, f"{split}/{len(ends)}", word)
        row = dict(zip(("took off with", "took off without"), counts, strict=True))
        name = {"effect": "took off", "part": FACTORS[i].name}
        page.rows.append(place._asdict() | name | row | {"took off verdict": word})
    return made


def _ends_where(
    ends: MeasuredCells, part: int, on: bool, with_failures: bool = False
) -> list[float]:
    runs = [one for cell, own in ends.items() if cell[part] == on for one in own.values()]
    return measured_ends([_mean(o.with_failures if with_failures else o.scored) for o in runs])


COLUMNS = ((False, False), (True, False), (False, True), (True, True))
"""Attempt, and reflections with playbook: the places on the figure's axis."""
TICKS = ("neither", "attempt", "reflections\n+ playbook", "both")
LINES = ((True, True), (True, False), (False, True), (False, False))
"""Feedback and rebalancing: a line each."""


def _draw(shown: Mapping[FactorialPlace, Mapping[FactorCell, Sequence[float]]]) -> Figure:
    from matplotlib.figure import Figure

    rows = -(-len(shown) // 2)
    figure = Figure(figsize=(8, 0.7 + 3.1 * rows), layout="constrained")
    panels = figure.subplots(rows, 2, sharex=True, sharey=True, squeeze=False).ravel()
    for panel, (place, cells) in zip(panels, shown.items(), strict=False):
        _draw_place(panel, cells)
        panel.set_title(plain_text(f"{place.env} · {place.model}"), fontsize=11)
    for panel, above in zip(panels[len(shown) :], panels[len(shown) - 2 :], strict=False):
        panel.set_visible(False)
        above.tick_params(labelbottom=True)
    for panel in panels[::2]:
        panel.set_ylabel("success, last checkpoint (%)")
    lines, names = panels[0].get_legend_handles_labels()
    figure.legend(lines, names, loc="outside lower center", ncols=2, frameon=False)
    return figure


def _draw_place(panel: Axes, cells: Mapping[FactorCell, Sequence[float]]) -> None:
    with_feedback, without = colours_of(["feedback", "no feedback"]).values()
    for number, line in enumerate(LINES):
        feedback, rebalancing = line
        colour = with_feedback if feedback else without
        x = np.arange(len(COLUMNS)) + 0.09 * (number - 1.5)
        values = [cells.get((*column, *line), ()) for column in COLUMNS]
        for at, own in zip(x, values, strict=True):
            panel.plot([at] * len(own), [100 * v for v in own], ".", color=colour, alpha=0.35)
        name = f"{'' if feedback else 'no '}feedback, {'' if rebalancing else 'no '}rebalancing"
        panel.plot(
            x,
            [100 * float(np.mean(own)) if own else float("nan") for own in values],
            "o-" if rebalancing else "s--",
            color=colour,
            markerfacecolor=colour if rebalancing else "white",
            label=name,
        )
    panel.set_xticks(range(len(TICKS)), TICKS)
    panel.set_xlim(-0.4, len(TICKS) - 0.6)
    panel.set_ylim(-3, 103)
    panel.grid(axis="y", alpha=0.3)
