"""Pages that compare methods model by model.

`phase`: rarity against feedback; `rarity`: rarity at tuned settings; `organisms`: what depends on
the model; `tiers`: tiers against feedback.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from textwrap import fill
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from resd_bench.packaged_models import model_name
from resd_bench.records.runs import RunData
from resd_bench.report.comparisons import overall
from resd_bench.report.figures import colours_of, panel_grid, plain_text, shared_legend
from resd_bench.report.tables import both, if_any
from resd_bench.reproduce.match_records import Gathered, family
from resd_bench.reproduce.page import Page, empty_table
from resd_bench.reproduce.paper_tables import TUNED
from resd_bench.reproduce.table_cells import (
    NOT_RUN,
    REPORTED,
    TAKE_OFF,
    TAKE_OFF_NOTE,
    Cell,
    Reported,
    by_run,
    count_take_offs,
    judged_cells,
    take_off_column,
    verdicts,
)
from resd_bench.stats import Interval
from resd_bench.sweep.definition import Trial

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

RARITY_LEVELS = range(5)
"""Of feedback: 0 nothing to 4 expected outputs too; 5 would be the solution."""
BLIND = ("sft", "grpo")
"""Methods that read no feedback."""
VARIES = ("feedback_level",)
"""What differs on purpose between runs that are judged: one level of a blind method stands for
all."""


class PhaseRow(NamedTuple):
    """Where all methods are compared: rows of a phase diagram."""

    env: str
    model: str

    @classmethod
    def of(cls, trial: Trial) -> PhaseRow:
        """The environment and model of a trial: a row of a phase diagram."""
        return cls(trial.config.env, model_name(trial.config.model))


Cells = Mapping[tuple[PhaseRow, str, int], list[RunData]]
"""Runs by place, method and feedback level."""


def phase(gathered: Gathered) -> Page:
    """Success by rarity, feedback level and method; rarity is the model's."""
    return _phase(
        gathered,
        Page("phase", "Rarity and feedback: where each method learns", [], []),
        f"{MODELS_OF_RARITY} To `nano-reflective` an attempt and raw feedback tell nothing, and a "
        "reflection much. Empty cells are not part of the experiment.",
    )


def organisms(gathered: Gathered) -> Page:
    """Success by organism and method: what depends on the model."""
    page = Page("organisms", "Other organisms: what depends on the model", [], [])
    page.notes.append(
        "`nano-keep-K-seed-S` is `nano` after 500 steps more on documents of `finer`, in which an "
        "answer keeps what the attempt above it had right with probability K, or as if there were "
        "no attempt (prior); two seeds of documents. `nano-again` is made as `nano` was, from "
        f"other random weights. {BEFORE} Empty cells are not part of the experiment."
    )
    places = dict.fromkeys(map(PhaseRow.of, gathered.trials))
    return _by_model(gathered, page, places, ["last"], "resd")


def by_rarity(gathered: Gathered) -> Page:
    """Success by rarity and method, every method with its own tuned settings."""
    page = Page("rarity", "Rarity at tuned settings: where each method learns", [], [])
    page.notes.append(
        "Every method has the settings that `resd-bench tune` chose for it on `nano`, where one "
        f"answer in a hundred succeeds; no other model was tuned. {MODELS_OF_RARITY} {BEFORE}"
    )
    places = Places.of(gathered)
    _by_model(gathered, page, places.rows, REPORTED, f"resd{TUNED}")
    ends = [row for row in page.rows if row["rule"] == "last" and row["ours"] != ""]
    if ends:
        page.draw = partial(_draw_by_rarity, ends, places)
    return page


BEFORE = "`before` is success before the first update of all runs."
MODELS_OF_RARITY = (
    "`nano-common`, `nano-rare` and `nano-rarest` are `nano` after a little more pre-training, in "
    "which untaught answers were right more often, or more rarely; all else was as before."
)
TABLE_NAMES: Mapping[Reported, str] = {
    "last": "last checkpoint",
    "validation": "checkpoint chosen on validation",
    "area": "area under the curve",
}
RULES_TOLD: Mapping[Reported, str] = {
    "last": "Success of the last checkpoint",
    "validation": "Success of the checkpoint that validation tasks choose",
    "area": "Area under the curve of success over training rollouts",
}


def _by_model(
    gathered: Gathered,
    page: Page,
    places: Iterable[PhaseRow],
    rules: Sequence[Reported],
    reference: str,
) -> Page:
    """Add a table for each rule: a row for each model on each environment, a column a method."""
    before, methods = Places.of(gathered).shown, [*dict.fromkeys(map(family, gathered.variants))]
    cells: dict[tuple[PhaseRow, str], list[RunData]] = defaultdict(list)
    for trial in gathered.trials:
        runs = cells[PhaseRow.of(trial), family(trial.variant)]
        runs += [gathered.runs[trial.index]] if trial.index in gathered.runs else []
    rows, judged = list(places), _AGAINST.format(reference)
    for rule in rules:
        columns = ["environment", "model", "before", *methods, "seeds"]
        made = empty_table(TABLE_NAMES[rule], columns, 2, f"{RULES_TOLD[rule]}; {judged}")
        for place in rows:
            own = {k: cells[place, k] for k in methods if (place, k) in cells}
            texts = dict.fromkeys(methods, "")
            for method, cell in judged_cells(own, reference, rule, VARIES).items():
                sides = {reference: own.get(reference, []), method: own[method]}
                took_off = _took_off(sides) if rule == "last" else {}
                which = place._asdict() | {"method": method, "rule": rule}
                page.rows.append(which | cell.row() | took_off)
                texts[method] = and_took_off(_with_verdict(cell), took_off)
            made.add_row(*place, before[place], *texts.values(), _seeds(own.values()))
        page.tables.append(made)
    if any(TAKE_OFF in row for row in page.rows):
        page.notes.append(TAKE_OFF_NOTE)
    return page


_AGAINST = "verdict against {} on the same model: paired by seed, Holm over its methods."


def _draw_by_rarity(ends: Sequence[Mapping[str, Any]], places: Places) -> Figure:
    """Success of the last checkpoint by model, the commonest success first, a panel a place."""
    envs = list(dict.fromkeys(str(row["env"]) for row in ends))
    methods = list(dict.fromkeys(str(row["method"]) for row in ends))
    figure, panels = panel_grid(len(envs))
    colours = colours_of([method.removesuffix(TUNED) for method in methods])
    for panel, env in zip(panels, envs, strict=True):
        run = [places.rows[i] for i in places.run]
        models = [place.model for place in run if place.env == env]
        for number, method in enumerate(methods):
            own = {str(r["model"]): r for r in ends if (r["env"], r["method"]) == (env, method)}
            there = [model for model in models if model in own]
            # Next to each other, where lines would hide each other.
            aside = 0.07 * (number - (len(methods) - 1) / 2)
            x = [models.index(model) + aside for model in there]
            y = np.array([[own[m][key] for key in ("ours", "low", "high")] for m in there])
            errors, name = np.abs(y[:, 1:].T - y[:, 0]), method.removesuffix(TUNED)
            label, colour = plain_text(name), colours[name]
            panel.errorbar(x, y[:, 0], yerr=errors, fmt="o-", color=colour, label=label)
        starts = [places.shown[PhaseRow(env, model)] for model in models]
        named = zip(models, starts, strict=True)
        told = [f"{plain_text(m.removeprefix('nano-'))}\n{plain_text(p)}" for m, p in named]
        panel.set_xticks(range(len(models)), told, fontsize=8)
        panel.set_title(plain_text(env), fontsize=10)
        panel.set_xlabel("model, and its success before training")
        panel.grid(alpha=0.25)
    panels[0].set_ylabel("success of the last checkpoint (%)")
    shared_legend(figure, panels)
    return figure


def tier_page(gathered: Gathered) -> Page:
    """Success by tier, feedback level and method."""
    return _phase(
        gathered,
        Page("tier_page", "Tiers and feedback: where each method learns", [], []),
        "Tiers differ in more than rarity.",
    )


@dataclass(frozen=True)
class Places:
    """The rows of a phase diagram: environments and models, by success before training."""

    rows: Sequence[PhaseRow]
    shown: Mapping[PhaseRow, str]
    """Success before training, as text; `NOT_RUN` without a run."""
    several: bool
    """Whether there are several models."""

    heads = ("environment", "model", "before", *(f"level {k}" for k in RARITY_LEVELS))

    @classmethod
    def of(cls, gathered: Gathered) -> Places:
        """Those of the trials; with several models, each environment stays together."""
        there = dict.fromkeys(map(PhaseRow.of, gathered.trials))
        base = {place: base_success(gathered, place) for place in there}
        several = len({place.model for place in there}) > 1
        apart = {env: i if several else 0 for i, env in enumerate(gathered.environments)}
        rows = sorted(base, key=lambda place: (apart[place.env], -np.nan_to_num(base[place])))
        shown = {
            place: NOT_RUN
            if np.isnan(p)
            else both(_short(p), _short(base_success(gathered, place, True)))
            for place, p in base.items()
        }
        return cls(rows, shown, several)

    @property
    def run(self) -> list[int]:
        """The places of the rows that were run."""
        return [i for i, place in enumerate(self.rows) if self.shown[place] != NOT_RUN]

    def label(self, place: PhaseRow) -> str:
        """Of a row of the figure."""
        name = f"{place.env}, {place.model}" if self.several else place.env
        return f"{name} ({self.shown[place]})"


def _phase(gathered: Gathered, page: Page, about: str) -> Page:
    page.notes.append(
        "Rows are ordered by the success of the untrained model (`before`), measured before the "
        f"first update of all its runs. {about} SFT and GRPO do not read feedback: they were run "
        "at one level, which is shown for all."
    )
    places, cells = Places.of(gathered), by_cell(gathered)
    methods = list(dict.fromkeys(map(family, gathered.variants)))
    grids = {method: _method_table(page, method, places, cells) for method in methods}
    page.tables[
        -1
    ].caption = "Success of the last checkpoint; verdict against resd at the same level."
    if any(TAKE_OFF in row for row in page.rows):
        page.notes.append(TAKE_OFF_NOTE)
    maps = {method: grids[method] for method in _contenders(cells, methods, places.rows)}
    if any(map(_is_map, maps.values())):
        _add_leaders(page, maps, places, cells)
    return page


def _method_table(page: Page, method: str, places: Places, cells: Cells) -> np.ndarray:
    """Add a method's table and rows to the page; its success [places, levels], NaN if not run."""
    values = np.full((len(places.rows), len(RARITY_LEVELS)), np.nan)
    made = empty_table(method, [*places.heads, "seeds"], 2)
    for i, place in enumerate(places.rows):
        asked = [level for level in RARITY_LEVELS if (place, method, level) in cells]
        if not asked:
            continue
        texts = [""] * len(RARITY_LEVELS)
        for level in asked:
            resd = cells.get((place, "resd", level), [])
            own = cells[place, method, level]
            sides = {"resd": resd, method: own}
            cell = judged_cells(sides, "resd", "last", VARIES)[method]
            took_off = _took_off(sides)
            texts[level] = and_took_off(_with_verdict(cell), took_off)
            values[i, level] = np.nan if cell.ours is None else cell.ours.mean
            which = place._asdict() | {"method": method, "feedback_level": level}
            page.rows.append(which | cell.row() | took_off)
        seeds = _seeds(cells[place, method, level] for level in asked)
        made.add_row(*place, places.shown[place], *texts, seeds)
    page.tables.append(made)
    return values


def _add_leaders(page: Page, maps: Mapping[str, np.ndarray], places: Places, cells: Cells) -> None:
    """Put the table of the leading methods first, and draw the maps."""
    first = [
        [_leaders(cells, place, list(maps), level) for level in RARITY_LEVELS]
        for place in places.rows
    ]
    made = empty_table("leaders", places.heads, 2, AHEAD)
    for place, leaders in zip(places.rows, first, strict=True):
        made.add_row(*place, places.shown[place], *map(", ".join, leaders))
    if any(map(any, first)):
        page.tables.insert(0, made)
    run = places.run
    page.draw = partial(
        _draw_phase,
        {method: values[run] for method, values in maps.items()},
        [first[i] for i in run],
        [places.label(places.rows[i]) for i in run],
    )


SEEDS_TO_LEAD = 3
"""With fewer, no method can be found worse than another."""
AHEAD = (
    "The method with the highest mean, and those not found worse than it (paired by seed, Holm), "
    f"over the seeds that all methods have; none where these are fewer than {SEEDS_TO_LEAD}, and "
    "none that never succeeds."
)


def ahead(cells: Cells, place: PhaseRow, methods: Sequence[str], level: int) -> list[str]:
    """The leaders: the method with the highest mean, and those not found worse than it.

    None unless all were run, and measured alike, with seeds enough to find one worse; and none that
    never succeeds. All are judged over the seeds that all were run with.
    """
    runs = {method: cells.get((place, method, level), []) for method in methods}
    every = {method: by_run(own, "mean", "last").scored for method, own in runs.items()}
    common = set.intersection(*(set(own) for own in every.values()))
    if len(common) < SEEDS_TO_LEAD:
        return []
    groups = {m: [r for r in own if (r.env, r.seed) in common] for m, own in runs.items()}
    means = {m: overall({key: own[key] for key in sorted(common)}).mean for m, own in every.items()}
    order = sorted(groups, key=lambda method: -means[method])
    found = verdicts(groups, order[0], varies=VARIES)
    if any(own.unlike for own in found.values()):
        return []
    return [m for m in order if means[m] and (m not in found or found[m].word != "worse")]


def _contenders(cells: Cells, methods: Sequence[str], rows: Sequence[PhaseRow]) -> list[str]:
    """The methods that every row asks for; ablations at some of them are not compared."""
    asked = {(place, method) for place, method, _ in cells}
    return [method for method in methods if all((place, method) in asked for place in rows)]


def _leaders(cells: Cells, place: PhaseRow, methods: Sequence[str], level: int) -> list[str]:
    """`ahead` among the methods that are asked for at `level`; none where RESD is not."""
    asked = [method for method in methods if (place, method, level) in cells]
    return ahead(cells, place, asked, level) if "resd" in asked else []


def _is_map(values: np.ndarray) -> bool:
    """Whether there are values at more than one feedback level."""
    return int((~np.isnan(values)).any(axis=0).sum()) > 1


def _short(share: float) -> str:
    return f"{100 * share:.2g}%"


def base_success(gathered: Gathered, place: PhaseRow, with_failures: bool = False) -> float:
    """Success before training over all runs at `place`; NaN without any.

    With `with_failures` attempts without a verdict count as failures.
    """
    trials = (t for t in gathered.trials if PhaseRow.of(t) == place)
    runs = [gathered.runs[t.index] for t in trials if t.index in gathered.runs]
    first = [run.points[0].with_failures() if with_failures else run.points[0] for run in runs]
    means = [point.mean for point in first if point.samples]
    return float(np.mean(means)) if means else float("nan")


def by_cell(gathered: Gathered) -> Cells:
    """The runs of every cell that a trial asks for.

    Runs of a method that does not read feedback count at all levels.
    """
    found: dict[tuple[PhaseRow, str, int], list[RunData]] = {}
    for trial in gathered.trials:
        blind = trial.config.method in BLIND
        for level in RARITY_LEVELS if blind else (trial.config.feedback_level,):
            runs = found.setdefault((PhaseRow.of(trial), family(trial.variant), level), [])
            if trial.index in gathered.runs:
                runs.append(gathered.runs[trial.index])
    return found


def _seeds(cells: Iterable[Sequence[RunData]]) -> str:
    """The numbers of runs of a row's cells: `5`, or `3 to 5`."""
    counts = sorted(map(len, cells))
    return " to ".join(map(str, dict.fromkeys((counts[0], counts[-1]))))


def _took_off(sides: Mapping[str, Sequence[RunData]]) -> dict[str, str]:
    """How many of the last group's runs took off, against the first; empty unless they split."""
    (first, *_), (*_, last) = sides, sides
    found = count_take_offs(sides, first, VARIES).get(last)
    return take_off_column(found) if found is not None and found.splits else {}


def and_took_off(text: str, took_off: Mapping[str, str]) -> str:
    return "; ".join([text, *(f"{TAKE_OFF} {shown}" for shown in took_off.values())])


def _with_verdict(cell: Cell) -> str:
    if cell.ours is None:
        return NOT_RUN
    word = "?" if cell.verdict.startswith("inconclusive") else cell.verdict
    word = "" if word == NOT_RUN else word
    least = if_any(cell.with_failures, _mean)
    return both(f"{_mean(cell.ours)} {word}".rstrip(), least)


def _mean(interval: Interval) -> str:
    return f"{100 * interval.mean:.1f}%"


def _draw_phase(
    grids: Mapping[str, np.ndarray], first: Sequence[Sequence[list[str]]], rows: Sequence[str]
) -> Figure:
    """A map for each method, three in a row, below the leaders of each cell if there are any."""
    from matplotlib.figure import Figure

    lines, led = -(-len(grids) // 3), any(map(any, first))
    each, tall = 0.75 + 0.32 * len(rows), 0.75 + 0.5 * len(rows)
    heights = [tall] * led + [each] * lines
    figure = Figure(figsize=(9.6, 0.5 + sum(heights)), layout="constrained")
    grid = figure.add_gridspec(len(heights), 3, height_ratios=heights)
    # Drawn as squares, since a raster's compressed bytes depend on the processor.
    edges = [np.arange(count + 1) - 0.5 for count in (len(RARITY_LEVELS), len(rows))]
    if led:
        _draw_leaders(figure.add_subplot(grid[0, :]), edges, first, list(grids))
    for number, (method, values) in enumerate(grids.items()):
        panel = figure.add_subplot(grid[led + number // 3, number % 3])
        mesh = panel.pcolormesh(*edges, 100 * values, vmin=0, vmax=100, cmap="viridis", **SQUARES)
        for (i, j), value in np.ndenumerate(values):
            text, dark = ("–", True) if np.isnan(value) else (f"{100 * value:.0f}", value < 0.6)
            colour = "white" if dark else "black"
            panel.text(j, i, text, ha="center", va="center", fontsize=9, color=colour)
        panel.set_title(_short_name(method), fontsize=10)
        panel.set_facecolor("0.6")
    for number, panel in enumerate(figure.axes):
        panel.set_xticks(list(RARITY_LEVELS))
        panel.set_xlabel("feedback level")
        named = (led and number == 0) or (number - led) % 3 == 0
        panel.set_yticks(range(len(rows)), map(plain_text, rows) if named else [""] * len(rows))
        panel.invert_yaxis()
    bar = figure.colorbar(mesh, ax=figure.axes[led:], label="success (%)")
    for colours in bar.ax.collections:
        colours.set_rasterized(False)
    return figure


SQUARES: Mapping[str, Any] = {"edgecolors": "white", "linewidth": 0.5}


def _draw_leaders(
    panel: Axes, edges: Sequence[np.ndarray], first: Sequence[Sequence[list[str]]], names: list[str]
) -> None:
    """The names of the leaders in each cell, on the first one's colour, paler."""
    from matplotlib.colors import to_rgb

    colours = colours_of(list(map(_short_name, names)))
    pale = {name: 1 - 0.45 * (1 - np.array(to_rgb(colours[_short_name(name)]))) for name in names}
    shades = [[pale[cell[0]] if cell else np.ones(3) for cell in row] for row in first]
    panel.pcolormesh(*edges, np.array(shades), **SQUARES)
    for i, row in enumerate(first):
        for j, cell in enumerate(row):
            told = ", ".join(map(_short_name, cell)) or "–"
            text = fill(told, 16, break_long_words=False, break_on_hyphens=False)
            panel.text(j, i, text, ha="center", va="center", fontsize=8, linespacing=1.0)
    panel.set_title("ahead, or not found worse", fontsize=10)


def _short_name(variant: str) -> str:
    return plain_text(variant.removesuffix("-phase"))
