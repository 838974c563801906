"""Pages of our own experiments, which vary one setting and keep the rest.

`reflector`: reflections on other tasks; `lies`: wrong lessons in reflections and in the playbook;
`handover`: RESD, then GRPO; `teacher`: frozen or moving, with or without feedback next to a
solution; `in-context`: whether what was learned is in the weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from resd_bench.records.runs import RunData
from resd_bench.report.figures import colours_of, panel_grid, plain_text, shared_legend
from resd_bench.reproduce.by_model import PhaseRow, and_took_off
from resd_bench.reproduce.learning_curves import curves_page, equal_budgets
from resd_bench.reproduce.match_records import Gathered, family
from resd_bench.reproduce.page import Page, empty_table
from resd_bench.reproduce.table_cells import (
    NOT_RUN,
    TAKE_OFF,
    TAKE_OFF_NOTE,
    CellOutcomes,
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
    from matplotlib.figure import Figure

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
                shown = and_took_off(own.shown(), took_off)
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
