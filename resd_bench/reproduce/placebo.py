"""The page `placebo`: does what feedback, reflections or a playbook say matter to a method?

Each text is real, shuffled (another's) or blank (filler of equal length). Strata are environments
times models, each with the same weight; pairs are of one seed. Left out: other measures than the
area under the learning curve.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
from rich.table import Table

from resd_bench.records.runs import RunData
from resd_bench.report.comparisons import (
    ByRun,
    common_budget,
    outcomes_by_task,
    overall,
    pairs,
    unlikeness,
)
from resd_bench.report.figures import colours_of, plain_text
from resd_bench.report.tables import percent
from resd_bench.reproduce.match_records import Gathered, family
from resd_bench.reproduce.page import Page, empty_table
from resd_bench.reproduce.table_cells import NOT_RUN, not_judged
from resd_bench.seeds import stream
from resd_bench.stats import ContentVerdict, Interval, judge_content

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MARGIN = 0.05
"""Declared before the runs: a smaller difference in area is none worth the name."""
TextKind = Literal["shuffled", "blank"]
KINDS: tuple[TextKind, ...] = ("shuffled", "blank")
_REAL = "-real-feedback"
"""End of the name of a variant whose plain name another sweep has for runs of other settings."""


class Contrast(NamedTuple):
    """A method, and the text that is replaced."""

    method: str
    text: str
    area: str
    """Of the metrics that check the manipulation."""

    def variant(self, kind: TextKind) -> str:
        """The variant of the sweep in which the text is replaced."""
        return f"{self.method}-{kind}-{self.text}"

    def __str__(self) -> str:
        return f"{self.method}, {self.text}"


CONTRASTS = (
    Contrast("resd", "feedback", "placebo"),
    Contrast("sdpo+ss-attempt", "feedback", "placebo"),
    Contrast("sdpo+ss", "feedback", "placebo"),
    Contrast("resd", "reflections", "resd/reflections_shown"),
    Contrast("resd", "playbook", "resd/playbook_shown"),
)
PlaceboCell = tuple[str, str]
"""Environment and model."""
PlaceboCells = Mapping[PlaceboCell, Mapping[str, Sequence[RunData]]]
"""Runs by cell and variant."""

_ABOUT = (
    "Shuffled feedback is that on a failed attempt at another task of the batch, blank feedback is "
    "filler of as many tokens; either takes the place of the real one wherever the method reads "
    "it. Reflections and playbook are replaced in the teacher's prompt alone: shuffled reflections "
    "are those on other tasks, a shuffled playbook has the words of its lessons permuted. "
    "Differences are in the area under the learning curve over rollouts, paired by seed, every "
    "environment and model with the same weight. *Matters*: real is better than the placebo. *Does "
    f"not matter*: the difference is within {100 * MARGIN:.0f} points, by two one-sided tests. "
    "Otherwise the question is open. Each with Holm's correction over the rows of a column. The "
    "verdict is that against the shuffled text; blank also takes away what kind of text it is."
)
CHECKED = (
    "Equal: share of texts that were word for word the real one all the same, because most of a "
    "batch were equal; words kept: mean share of the real one's words; length: the shorter in "
    "units of the longer. Where fewer than half of the texts were replaced by another (equal ones "
    "and, for shuffled texts, those for which only filler was left are not), or where on average "
    "they are less than half as long as the real one or more than twice, there is no verdict."
)
REPLACED = 0.5
"""Share of texts, at least, that a verdict needs to have been replaced, in every cell."""
LEAST_LENGTH = 0.5
"""How long they must be at least, the shorter in units of the longer, on average in every cell."""


def placebo(gathered: Gathered) -> Page:
    """Verdicts by method and text, and the check of the manipulation in every cell."""
    cells = by_placebo_cell(gathered)
    columns = ["method", "text", "pairs", "real", "shuffled", "blank"]
    columns += ["real - shuffled,\npoints", "verdict", "real - blank,\npoints", "against blank"]
    made = empty_table("area under the learning curve", columns, 2)
    page = Page("placebo", "Placebo: does the content matter?", [made, checks(cells)], [], [_ABOUT])
    found = {kind: judged(cells, kind) for kind in KINDS}
    for contrast in CONTRASTS:
        row: dict[str, object] = {"method": contrast.method, "text": contrast.text}
        names = [contrast.method, *map(contrast.variant, KINDS)]
        areas = [area_of(cells, name, names) for name in names]
        shown = [NOT_RUN if own is None else percent(own) for own in areas]
        ends: list[str] = []
        for kind in KINDS:
            verdict = found[kind].get(contrast, NOT_RUN)
            difference = "" if isinstance(verdict, str) else _points(verdict.verdict.difference)
            word = verdict if isinstance(verdict, str) else verdict.word
            ends += [difference, word]
            row |= _row(kind, verdict)
        number = sum(1 for _ in _areas_by_run(cells, contrast.method, names))
        made.add_row(contrast.method, contrast.text, str(number), *shown, *ends)
        page.rows.append(row)
    drawn = {
        kind: {str(c): v.verdict.difference for c, v in own.items() if not isinstance(v, str)}
        for kind, own in found.items()
    }
    if any(drawn.values()):
        page.draw = partial(draw_placebo, drawn)
    return page


def by_placebo_cell(gathered: Gathered) -> PlaceboCells:
    """The runs by environment and model, and by variant."""
    found: dict[PlaceboCell, dict[str, list[RunData]]] = {}
    for trial in gathered.trials:
        own = found.setdefault((trial.config.env, trial.config.model), {})
        runs = own.setdefault(family(trial.variant).removesuffix(_REAL), [])
        if trial.index in gathered.runs:
            runs.append(gathered.runs[trial.index])
    return found


def _areas_by_run(
    cells: PlaceboCells, variant: str, peers: Sequence[str], with_failures: bool = False
) -> ByRun:
    """By cell and seed, the area of each task, at the budget that all of `peers` reached.

    Only seeds that all of `peers` have.
    """
    found = {}
    for (env, model), variants in cells.items():
        groups = [list(variants.get(name, ())) for name in peers]
        seeds = set.intersection(*({run.seed for run in runs} for runs in groups))
        every = [run for runs in groups for run in runs if run.seed in seeds]
        for run in variants.get(variant, ()):
            if run.seed in seeds:
                own = run.with_failures() if with_failures else run
                at = outcomes_by_task(own, common_budget(every), "episodes", "area")
                found[f"{env}, {model}", run.seed] = at
    return found


def area_of(cells: PlaceboCells, variant: str, peers: Sequence[str]) -> Interval | None:
    """Mean area of a variant over cells; None without a seed that all of `peers` have."""
    own = _areas_by_run(cells, variant, peers)
    return overall(own) if own else None


def judged(cells: PlaceboCells, kind: TextKind) -> dict[Contrast, ContentVerdict | str]:
    """The verdict on each contrast that was run, or why there is none."""
    sides, again, told = [], [], {}
    for contrast in CONTRASTS:
        names = [contrast.method, contrast.variant(kind)]
        real, other = (_areas_by_run(cells, name, names) for name in names)
        if not real:
            continue
        apart = unlike(cells, names)
        told[contrast] = not_judged(apart) if apart else hardly_replaced(cells, contrast, kind)
        sides.append(pairs(real, other))
        again.append(pairs(*(_areas_by_run(cells, name, names, True) for name in names)))
    alike = [i for i, why in enumerate(told.values()) if not why]
    verdicts = judge_content(
        [sides[i] for i in alike],
        MARGIN,
        stream(0, "sign flips"),
        with_failures=[again[i] for i in alike],
    )
    found = dict(zip(alike, verdicts, strict=True))
    return {c: found.get(i, why) for i, (c, why) in enumerate(told.items())}


def unlike(cells: PlaceboCells, names: Sequence[str]) -> list[str]:
    """How the runs of two variants were measured differently, in any cell."""
    found: dict[str, None] = {}
    for variants in cells.values():
        sides = [list(variants.get(name, ())) for name in names]
        if all(sides):
            budget = common_budget([run for runs in sides for run in runs])
            found |= dict.fromkeys(unlikeness(sides, budget, "episodes", "area", ()))
    return list(found)


def hardly_replaced(cells: PlaceboCells, contrast: Contrast, kind: TextKind) -> str:
    """Why too little was replaced in a cell for a verdict on the contrast; "" where it was not."""
    name = contrast.variant(kind)
    run = {cell: runs for cell, variants in cells.items() if (runs := variants.get(name, ()))}
    shares = {cell: replaced(runs, contrast.area, kind) for cell, runs in run.items()}
    cell = min(shares, key=shares.__getitem__)
    if shares[cell] < REPLACED:
        return f"not judged: {shares[cell]:.0%} of the texts replaced on {', '.join(cell)}"
    lengths = {cell: _checked(runs, contrast.area, "length") for cell, runs in run.items()}
    for cell, length in lengths.items():
        if length is None or length < LEAST_LENGTH:
            told = "unknown length" if length is None else f"{length:.0%} of the real one's length"
            return f"not judged: texts of {told} on {', '.join(cell)}"
    return ""


def replaced(runs: Sequence[RunData], area: str, kind: TextKind) -> float:
    """Share of texts that were replaced by what they should be, a mean over updates that had any;
    0 without one."""
    shares = []
    for row in (row for run in runs for row in run.metrics):
        if (equal := row.get(f"{area}/equal_by_chance")) is not None:
            filler = (row.get(f"{area}/blank") or 0.0) if kind == "shuffled" else 0.0
            shares.append(max(0.0, 1 - equal - filler))
    return float(np.mean(shares)) if shares else 0.0


def checks(cells: PlaceboCells) -> Table:
    """Success and the check of the manipulation, by method, text and cell."""
    columns = ["method", "text", "environment", "model", "shown", "seeds", "area"]
    made = empty_table("by environment and model", [*columns, *CHECKS], 5, CHECKED)
    for contrast in CONTRASTS:
        names = [contrast.method, *map(contrast.variant, KINDS)]
        for cell, variants in cells.items():
            for kind, name in zip(("real", *KINDS), names, strict=True):
                runs = variants.get(name, ())
                area = area_of({cell: variants}, name, names)
                shown = NOT_RUN if area is None else percent(area)
                exchanged = () if kind == "real" else runs
                check = [_checked(exchanged, contrast.area, column) for column in CHECKS]
                told = ["" if value is None else f"{value:.2f}" for value in check]
                made.add_row(
                    contrast.method, contrast.text, *cell, kind, str(len(runs)), shown, *told
                )
        made.add_section()
    return made


CHECKS: Mapping[str, str] = {
    "equal": "equal_by_chance",
    "words kept": "words_kept",
    "length": "length_ratio",
}
"""Columns of the check, and their metrics."""


def _checked(runs: Sequence[RunData], area: str, column: str) -> float | None:
    """Mean over all updates of all runs; None where nothing was replaced."""
    name = f"{area}/{CHECKS[column]}"
    values = [row[name] for run in runs for row in run.metrics if row.get(name) is not None]
    return float(np.mean(values)) if values else None


def _points(own: Interval) -> str:
    low, mean, high = (100 * x for x in (own.low, own.mean, own.high))
    return f"{mean:+.1f}" if np.isnan(low) else f"{mean:+.1f} [{low:+.1f}, {high:+.1f}]"


def _row(kind: TextKind, found: ContentVerdict | str) -> dict[str, object]:
    if isinstance(found, str):
        return {f"against {kind}": found}
    own = found.verdict.difference
    return {
        f"real - {kind}": round(100 * own.mean, 4),
        f"{kind} low": "" if np.isnan(own.low) else round(100 * own.low, 4),
        f"{kind} high": "" if np.isnan(own.high) else round(100 * own.high, 4),
        f"{kind} p": "" if np.isnan(found.verdict.p_holm) else round(found.verdict.p_holm, 6),
        f"{kind} p equivalent": round(found.p_equivalent, 6),
        f"against {kind}": found.word,
    }


def draw_placebo(differences: Mapping[TextKind, Mapping[str, Interval]]) -> Figure:
    """Differences of area in points with their intervals, and the margin."""
    from matplotlib.figure import Figure

    names = [str(c) for c in CONTRASTS if any(str(c) in own for own in differences.values())]
    figure = Figure(figsize=(7, 1.2 + 0.55 * len(names)), layout="constrained")
    axes = figure.subplots()
    axes.axvspan(-100 * MARGIN, 100 * MARGIN, color="0.9", label="margin")
    axes.axvline(0, color="0.5", linewidth=0.8)
    colours = colours_of(list(differences))
    for number, (kind, own) in enumerate(differences.items()):
        places = [names.index(name) + 0.24 * number - 0.12 for name in own]
        x = np.array([[100 * i.mean, 100 * i.low, 100 * i.high] for i in own.values()])
        if len(x):
            errors = np.nan_to_num(np.abs(x[:, 1:].T - x[:, 0]))
            axes.errorbar(
                x[:, 0], places, xerr=errors, fmt="os"[number], color=colours[kind],
                label=f"against {kind}",
            )  # fmt: skip
    axes.set_yticks(range(len(names)), [plain_text(name) for name in names])
    axes.invert_yaxis()
    axes.set_xlabel("area with the real text, minus area with the other (points)")
    axes.legend(frameon=False, fontsize=8)
    return figure
