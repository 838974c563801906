"""Pages of our own experiments, which vary one setting and keep the rest.

`phase`: rarity against feedback; `tiers`: the same over tiers; `reflector`: reflections on other
tasks; `lies`: wrong lessons in reflections and in the playbook; `handover`: RESD, then GRPO;
`teacher`: frozen or moving, with or without feedback next to a solution; `in-context`: whether what
was learned is in the weights.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from textwrap import fill
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from resd_bench.config import RunConfig
from resd_bench.packaged_models import model_name
from resd_bench.records.runs import RunData
from resd_bench.report.comparisons import overall
from resd_bench.report.figures import colours_of, panel_grid, plain_text, shared_legend
from resd_bench.report.tables import both, if_any
from resd_bench.reproduce.learning_curves import curves_page, equal_budgets
from resd_bench.reproduce.match_records import Gathered, family
from resd_bench.reproduce.page import Page, empty_table
from resd_bench.reproduce.table_cells import (
    NOT_RUN,
    TAKE_OFF,
    TAKE_OFF_NOTE,
    Cell,
    CellOutcomes,
    Judged,
    by_run,
    cell_of,
    cell_of_runs,
    compare_with_paper,
    count_take_offs,
    judge_pairs,
    outcomes_of,
    take_off_column,
    verdicts,
)
from resd_bench.stats import EvalPoint, Interval
from resd_bench.sweep.definition import Trial

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

RARITY_LEVELS = range(5)
"""Of feedback: 0 nothing to 4 expected outputs too; 5 would be the solution."""
BLIND = ("sft", "grpo")
"""Methods that read no feedback."""
ORGANISMS_LEVEL = RunConfig.feedback_level
"""Of the runs on other organisms."""
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
        "`nano-common`, `nano-rare` and `nano-rarest` are `nano` after a little more pre-training, "
        "in which untaught answers were right more often, or more rarely; all else was as before. "
        "To `nano-reflective` an attempt and raw feedback tell nothing, and a reflection much. "
        "Empty cells are not part of the experiment.",
    )


def organisms(gathered: Gathered) -> Page:
    """Success by organism and method: what depends on the model."""
    page = Page("organisms", "Other organisms: what depends on the model", [], [])
    page.notes.append(
        "`nano-keep-K-seed-S` is `nano` after 500 steps more on documents of `finer`, in which an "
        "answer keeps what the attempt above it had right with probability K, or as if there were "
        "no attempt (prior); two seeds of documents. `nano-again` is made as `nano` was, from "
        "other random weights. `before` is success before the first update of all runs."
    )
    before, cells = _Places.of(gathered).shown, by_cell(gathered)
    methods = list(dict.fromkeys(map(family, gathered.variants)))
    made = empty_table("last checkpoint", ["environment", "model", "before", *methods, "seeds"], 2)
    for place in dict.fromkeys(map(PhaseRow.of, gathered.trials)):
        own = {k: cells.get((place, k, ORGANISMS_LEVEL), []) for k in methods}
        found, texts = verdicts(own, "resd", varies=VARIES), []
        for method, runs in own.items():
            cell = _judged_cell(method, runs, found)
            took_off = _took_off(method, runs, own["resd"])
            page.rows.append(place._asdict() | {"method": method} | cell.row() | took_off)
            texts.append(_and_took_off(_with_verdict(cell), took_off))
        made.add_row(*place, before[place], *texts, _seeds(own.values()))
    made.caption = (
        "Success of the last checkpoint; verdict against resd on the same model: paired by seed, "
        "Holm over its methods."
    )
    page.tables.append(made)
    if any(TAKE_OFF in row for row in page.rows):
        page.notes.append(TAKE_OFF_NOTE)
    return page


def tier_page(gathered: Gathered) -> Page:
    """Success by tier, feedback level and method."""
    return _phase(
        gathered,
        Page("tier_page", "Tiers and feedback: where each method learns", [], []),
        "Tiers differ in more than rarity.",
    )


@dataclass(frozen=True)
class _Places:
    """The rows of a phase diagram: environments and models, by success before training."""

    rows: Sequence[PhaseRow]
    shown: Mapping[PhaseRow, str]
    """Success before training, as text; `NOT_RUN` without a run."""
    several: bool
    """Whether there are several models."""

    heads = ("environment", "model", "before", *(f"level {k}" for k in RARITY_LEVELS))

    @classmethod
    def of(cls, gathered: Gathered) -> _Places:
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
    places, cells = _Places.of(gathered), by_cell(gathered)
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


def _method_table(page: Page, method: str, places: _Places, cells: Cells) -> np.ndarray:
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
            cell, took_off = _phase_cell(method, own, resd), _took_off(method, own, resd)
            texts[level] = _and_took_off(_with_verdict(cell), took_off)
            values[i, level] = np.nan if cell.ours is None else cell.ours.mean
            which = place._asdict() | {"method": method, "feedback_level": level}
            page.rows.append(which | cell.row() | took_off)
        seeds = _seeds(cells[place, method, level] for level in asked)
        made.add_row(*place, places.shown[place], *texts, seeds)
    page.tables.append(made)
    return values


def _add_leaders(page: Page, maps: Mapping[str, np.ndarray], places: _Places, cells: Cells) -> None:
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


def _phase_cell(method: str, own: Sequence[RunData], resd: Sequence[RunData]) -> Cell:
    return _judged_cell(method, own, verdicts({"resd": resd, method: own}, "resd", varies=VARIES))


def _judged_cell(method: str, own: Sequence[RunData], found: Mapping[str, Judged]) -> Cell:
    """Success of the last checkpoint, with the verdict on `method` that is among `found`."""
    verdict = "" if method == "resd" else compare_with_paper(found.get(method), None)
    return replace(cell_of_runs(own, "mean", "last"), verdict=verdict)


def _seeds(cells: Iterable[Sequence[RunData]]) -> str:
    """The numbers of runs of a row's cells: `5`, or `3 to 5`."""
    counts = sorted(map(len, cells))
    return " to ".join(map(str, dict.fromkeys((counts[0], counts[-1]))))


def _took_off(method: str, own: Sequence[RunData], resd: Sequence[RunData]) -> dict[str, str]:
    """How many runs took off, against resd; empty unless these runs split in two."""
    found = count_take_offs({"resd": resd, method: own}, "resd", VARIES).get(method)
    return take_off_column(found) if found is not None and found.splits else {}


def _and_took_off(text: str, took_off: Mapping[str, str]) -> str:
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


_SHARE = "misplaced_reflections"


def reflector(gathered: Gathered) -> Page:
    """Success by the share of reflections that are on the right attempt."""
    columns = ["environment", "variant", "kept reflections", "seeds", "success", "verdict"]
    made = empty_table(
        "success of the last checkpoint", columns, 2, "Verdicts are against all reflections kept."
    )
    page = Page("reflector", "Reflections on other tasks", [made], [])
    page.notes.append(
        "A share of the model's own reflections is replaced by its reflections on other tasks. "
        "This turns what a reflection is about, and not whether its lesson is right: most "
        "misconceptions are shared between tasks, so that most reflections on other tasks still "
        "state a right lesson that bears on the task (`resd-bench nano check-reflections RUN` "
        "counts them), and the playbook is made from right lessons all the same. For wrong lessons "
        "see the page `lies`."
    )
    curves: dict[str, dict[str, list[tuple[float, Interval]]]] = {}
    for env in gathered.environments:
        for name in dict.fromkeys(map(family, gathered.variants)):
            labels = [v for v in gathered.variants if family(v) == name]
            groups = {v: gathered.of(env, v) for v in labels}
            found, split = verdicts(groups, labels[0]), count_take_offs(groups, labels[0])
            for label in labels:
                kept = 1 - _share(gathered, label)
                verdict = "" if label == labels[0] else compare_with_paper(found.get(label), None)
                own = replace(cell_of_runs(groups[label], "mean", "last"), verdict=verdict)
                seeds, took_off = str(len(groups[label])), take_off_column(split.get(label))
                shown = _and_took_off(own.shown(), took_off)
                made.add_row(env, name, f"{kept:.0%}", seeds, shown, verdict)
                row = {"env": env, "variant": name, "kept": kept} | own.row() | took_off
                page.rows.append(row)
                if own.ours is not None:
                    curves.setdefault(env, {}).setdefault(name, []).append((kept, own.ours))
    if any(TAKE_OFF in row for row in page.rows):
        page.notes.append(TAKE_OFF_NOTE)
    if curves:
        page.draw = partial(_draw_doses, curves, "reflections kept (%)")
    return page


def _share(gathered: Gathered, label: str) -> float:
    trial = next(t for t in gathered.trials if t.variant == label)
    return float(trial.config.method_options.get(_SHARE, 0.0))


def _draw_doses(
    curves: Mapping[str, Mapping[str, list[tuple[float, Interval]]]], dose: str
) -> Figure:
    """A panel for each place, each with as much of the scale as its values need."""
    figure, panels = panel_grid(len(curves), sharey=False)
    for panel, (place, lines) in zip(panels, curves.items(), strict=True):
        colours = colours_of(list(lines))
        for number, (name, unordered) in enumerate(lines.items()):
            points = sorted(unordered, key=lambda point: point[0])
            # Next to each other, where lines would hide each other.
            x = [100 * kept + 1.6 * (number - (len(lines) - 1) / 2) for kept, _ in points]
            y = np.array([[100 * i.mean, 100 * i.low, 100 * i.high] for _, i in points])
            errors = np.nan_to_num(np.abs(y[:, 1:].T - y[:, 0]))
            label = plain_text(name)
            panel.errorbar(x, y[:, 0], yerr=errors, fmt="o-", color=colours[name], label=label)
        panel.set_title(plain_text(place), fontsize=10)
        panel.set_xlabel(dose)
        panel.margins(y=0.15)
        panel.grid(alpha=0.25)
    panels[0].set_ylabel("success (%)")
    shared_legend(figure, panels)
    return figure


def lies(gathered: Gathered) -> Page:
    """Success by the share of reflections that lie and the lessons a playbook starts with."""
    columns = ["environment", "model", "playbook starts", "lies", "exchanged", "given lessons left"]
    made = empty_table(
        "success of the last checkpoint", [*columns, "seeds", "success", "verdict"], 3
    )
    made.caption = LIES_CAPTION
    page = Page(
        "lies", "Wrong lessons: a reflector that lies, a playbook that is wrong", [made], []
    )
    page.notes.append(
        "A share of reflections is replaced by one that states a wrong lesson, the opposite of "
        "what is right in this environment, and names no cause. Curators read it too. A playbook "
        "starts empty, with every right lesson, or with every wrong one; RESD may drop them and "
        "add others. Whether a model reads a wrong lesson as wrong stands in "
        "[lessons-obeyed](lessons-obeyed.md); nano and nano-rarest do not."
    )
    curves: dict[str, dict[str, list[tuple[float, Interval]]]] = {}
    for place in dict.fromkeys(map(PhaseRow.of, gathered.trials)):
        groups: dict[tuple[str, float], list[RunData]] = {}
        for trial in gathered.trials:
            if PhaseRow.of(trial) == place:
                key = (_start_of(trial), float(trial.config.method_options.get("lies", 0.0)))
                found = [gathered.runs[trial.index]] if trial.index in gathered.runs else []
                groups.setdefault(key, []).extend(found)
        names = {key: f"{key[0]}, {key[1]}" for key in groups}
        truth = next(iter(groups))
        judged = verdicts({names[key]: own for key, own in groups.items()}, names[truth])
        for (start, share), runs in groups.items():
            name = names[start, share]
            verdict = "" if name == names[truth] else compare_with_paper(judged.get(name), None)
            own = replace(cell_of_runs(runs, "mean", "last"), verdict=verdict)
            checks = [_exchanged(runs), _given_left(runs)]
            made.add_row(
                *(*place, start, f"{share:.0%}", *checks, str(len(runs)), own.shown(), verdict)
            )
            row = {"env": place.env, "model": place.model, "playbook": start, "lies": share}
            page.rows.append(row | {"exchanged": checks[0], "left": checks[1]} | own.row())
            if own.ours is not None:
                label = f"{place.env} · {place.model}"
                curves.setdefault(label, {}).setdefault(start, []).append((1 - share, own.ours))
    if curves:
        page.draw = partial(_draw_doses, curves, "reflections that do not lie (%)")
    return page


EXCHANGED, _GIVEN = "resd/exchanged_reflections", "resd/seeded_entries"
LIES_CAPTION = (
    "Verdicts are against the first row of the environment and model. Exchanged: reflections that "
    "another text stood for, over all updates; given lessons left: how many of the lessons that "
    "the playbook started with it holds after the first and after the last update, on average."
)


def _start_of(trial: Trial) -> str:
    """With which lessons the playbook starts: the variant says it."""
    seeded = trial.config.method_options.get("seed_playbook")
    return family(trial.variant).rpartition("-")[2] if seeded else "empty"


def _exchanged(runs: Sequence[RunData]) -> str:
    """The share of reflections that were exchanged."""
    rows = [row for run in runs for row in run.metrics if EXCHANGED in row]
    made = sum(row["resd/reflections"] for row in rows)
    return f"{sum(row[EXCHANGED] for row in rows) / made:.1%}" if made else ""


def _given_left(runs: Sequence[RunData]) -> str:
    """Given lessons in the playbook after the first and the last update."""
    counts = [[row[_GIVEN] for row in run.metrics if _GIVEN in row] for run in runs]
    ends = [(own[0], own[-1]) for own in counts if own]
    return " to ".join(f"{np.mean(end):.1f}" for end in zip(*ends, strict=True))


def handover(gathered: Gathered) -> Page:
    """RESD that hands over to GRPO, and either alone on the same batches."""
    page = curves_page(
        gathered,
        "handover",
        "RESD first, GRPO once success is no longer rare",
        variants=gathered.variants,
        reference="resd-n8",
        expected={},
        claim="All use four tasks a batch and eight rollouts a task, except `resd` (32 tasks, one "
        "rollout). The paper has no such experiment; verdicts are against `resd-n8`, RESD on the "
        "same batches: against `resd` two things would differ.",
    )
    switched = {
        f"{env}, {variant}": [_switch(run) for run in gathered.of(env, variant)]
        for env in gathered.environments
        for variant in gathered.variants
        if any(run.method == "resd-then-grpo" for run in gathered.of(env, variant))
    }
    if switched:
        when = (f"{where}: {', '.join(after)}" for where, after in switched.items())
        page.notes.append(f"Updates before GRPO took over, by seed: {'; '.join(when)}.")
    return page


def _switch(run: RunData) -> str:
    updates = [row["update"] for row in run.metrics if row.get("handover/grpo") == 1]
    return str(updates[0] - 1) if updates else "all"


def teacher(gathered: Gathered) -> Page:
    """A frozen or a moving teacher, with or without feedback next to a solution."""
    return curves_page(
        gathered,
        "teacher",
        "The teacher: frozen or moving, with or without feedback next to a solution",
        variants=gathered.variants,
        reference="moving-feedback",
        expected={},
        claim="In the paper the teacher moves and keeps feedback next to a solution; its released "
        "code does neither. Verdicts are against the paper's version.",
    )


CONTEXTS = ("", "playbook", "teacher")
CONTEXT_NAMES = {
    "": "the student",
    "playbook": "the student with the playbook",
    "teacher": "the teacher's prompt",
}


def in_context(gathered: Gathered) -> Page:
    """Success of the student alone, with its playbook, and with the teacher's prompt."""
    columns = ["environment", "method", "prompt", "seeds", "before", "after", "against the student"]
    made = empty_table("success before the first update and after the last", columns, 3, IN_CONTEXT)
    page = Page("in-context", "In context or in weights", [made], [])
    curves: dict[str, Mapping[str, Sequence[tuple[float, float]]]] = {}
    for env in gathered.environments:
        for variant in gathered.variants:
            runs = [run for run in gathered.of(env, variant) if run.extra.get("teacher")]
            if not runs:
                made.add_row(env, variant, "", "0", NOT_RUN, NOT_RUN, "")
                continue
            curves[f"{env} · {variant}"] = {c: _context_curve(runs, c) for c in CONTEXTS}
            student = _context_outcomes(runs, "", -1)
            for context in CONTEXTS:
                before, after = (_context_outcomes(runs, context, end) for end in (0, -1))
                shown = [cell_of(own).shown() if own.scored else "" for own in (before, after)]
                verdict = ""
                if context and after.scored.keys() & student.scored.keys():
                    verdict = str(judge_pairs([(after, student)])[0])
                name = CONTEXT_NAMES[context]
                made.add_row(env, variant, name, str(len(runs)), *shown, verdict)
                ours = cell_of(after, verdict=verdict)
                page.rows.append({"env": env, "method": variant, "prompt": name} | ours.row())
    if curves:
        page.draw = partial(_draw_contexts, curves)
    return page


IN_CONTEXT = (
    "The teacher's prompt shows the student's first attempt, feedback, its reflection and the "
    "playbook; the student's weights read it. Before the first update there is no playbook. What "
    "context adds at the start but no longer at the end has gone into the weights."
)


def in_context_budget(gathered: Gathered) -> Page:
    """Methods that train weights and methods that train none, at equal rollouts and tokens."""
    page = Page("in-context-budget", "In context or in weights, at equal budget", [], [])
    page.notes.append(
        "`ace` and `gepa` train no weights: what they learn is a text, which the policy reads in "
        "rollouts and in the evaluation that is reported. The others are evaluated without any."
    )
    return equal_budgets(gathered, page, ("episodes", "tokens"), "tokens")


def _context_points(run: RunData, context: str) -> Sequence[EvalPoint]:
    return run.extra.get(context, ()) if context else run.points


def _context_outcomes(runs: Sequence[RunData], context: str, end: int) -> CellOutcomes:
    """Outcomes at the run's first (0) or last (-1) update; none if it was not measured."""
    found: dict[tuple[str, int], EvalPoint] = {}
    for run in runs:
        points = [p for p in _context_points(run, context) if p.update == run.points[end].update]
        if points:
            found[run.env, run.seed] = points[0]
    return outcomes_of(found, "mean")


def _context_curve(runs: Sequence[RunData], context: str) -> list[tuple[float, float]]:
    by_update: dict[int, list[float]] = {}
    for run in runs:
        for point in _context_points(run, context):
            by_update.setdefault(point.episodes, []).append(point.mean)
    return [(x, float(np.mean(y))) for x, y in sorted(by_update.items()) if len(y) == len(runs)]


def _draw_contexts(curves: Mapping[str, Mapping[str, Sequence[tuple[float, float]]]]) -> Figure:
    figure, panels = panel_grid(len(curves))
    for panel, (name, lines) in zip(panels, curves.items(), strict=True):
        colours = colours_of([CONTEXT_NAMES[context] for context in lines])
        for style, (context, points) in zip(("o-", "s--", "^:"), lines.items(), strict=False):
            x, y = [p[0] for p in points], [100 * p[1] for p in points]
            told = CONTEXT_NAMES[context]
            panel.plot(x, y, style, color=colours[told], markersize=4, label=told)
        panel.set_title(plain_text(name), fontsize=10)
        panel.set_xlabel("training rollouts")
        panel.set_ylim(-2, 102)
    panels[0].set_ylabel("success (%)")
    shared_legend(figure, panels)
    return figure
