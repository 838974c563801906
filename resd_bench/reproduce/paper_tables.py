"""Pages that compare a table of the paper with ours: tables 2, 3 and 5."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from importlib.resources import files
from typing import Any

from rich.table import Table

from resd_bench.reproduce.match_records import Gathered
from resd_bench.reproduce.page import Page, empty_table
from resd_bench.reproduce.table_cells import (
    CONTRADICTED,
    INCONCLUSIVE,
    NOT_RUN,
    REPRODUCED,
    RULES,
    Cell,
    Metric,
    Rule,
    cell_of,
    cell_of_runs,
    compare_with_paper,
    judge_pairs,
    outcomes_of,
    verdicts,
)

PAPER_ENVIRONMENTS = {"bouncingsim-basic": "bouncingsim-easy"}
"""Environments of the small tier that stand in for another one of the paper."""
MARKS = {REPRODUCED: "✓", CONTRADICTED: "✗"}
CAPTION = (
    "last, on validation, by the paper's rule: how the reported checkpoint is chosen; the paper's "
    "rule looks at the reported tasks and is biased upwards. ✓ the difference to resd is "
    "significant and has the paper's sign, ✗ significant with the opposite sign, ? inconclusive. "
    "95% intervals; verdicts: paired by seed, Holm over the rows of an environment."
)
TITLES: Mapping[Metric, str] = {
    "mean": "per task, mean@4",
    "best": "per task, best@4",
    "case mean": "per test case, mean@4",
    "case best": "per test case, best@4",
}
RULE_TITLES: Mapping[Rule, str] = {
    "last": "ours, last",
    "validation": "on validation",
    "paper": "by the paper's rule",
}


@cache
def paper() -> dict[str, Any]:
    """The paper's tables, in percent."""
    text = files("resd_bench.reproduce").joinpath("paper.json").read_text(encoding="utf-8")
    loaded: dict[str, Any] = json.loads(text)
    return loaded


def paper_cell(name: str, variant: str, env: str, metric: Metric) -> float | None:
    """The paper's number in percent, None where it has none."""
    kind = "per_test_case" if metric.startswith("case") else "per_task"
    rows = paper()[name].get(kind, {}).get(variant, {})
    found = rows.get(PAPER_ENVIRONMENTS.get(env, env))
    return None if found is None else float(found[metric.endswith("best")])


def accuracy_page(
    gathered: Gathered, name: str, title: str, metrics: Sequence[Metric], reference: str = "resd"
) -> Page:
    """Every method on every environment, with the paper's numbers: a table for each metric."""
    page = Page(name, title, [], [])
    for metric in metrics:
        columns = ["method", "seeds", "paper", *RULE_TITLES.values(), "verdict"]
        made = empty_table(TITLES[metric], columns, 1, CAPTION if metric == metrics[-1] else "")
        for env in gathered.environments:
            _add_environment(page, made, gathered, env, metric, reference)
            made.add_section()
        page.tables.append(made)
    page.notes += _notes(gathered)
    return page


def _add_environment(
    page: Page, made: Table, gathered: Gathered, env: str, metric: Metric, reference: str
) -> None:
    cells = {rule: environment_cells(gathered, page.name, env, metric, rule) for rule in RULES}
    made.add_row(env)
    for variant in gathered.variants:
        own = {rule: cells[rule][variant] for rule in RULES}
        shown = [_marked(cell, variant == reference) for cell in own.values()]
        number = "" if own["last"].paper is None else f"{own['last'].paper:.2f}%"
        seeds = str(len(gathered.of(env, variant)))
        verdict = "" if variant == reference else own["last"].verdict
        made.add_row(variant, seeds, number, *shown, verdict)
        page.rows += [
            {"env": env, "method": variant, "metric": metric, "rule": rule, "seeds": seeds}
            | cell.row()
            for rule, cell in own.items()
        ]


def environment_cells(
    gathered: Gathered, name: str, env: str, metric: Metric, rule: Rule, reference: str = "resd"
) -> dict[str, Cell]:
    """A column of the table: a cell for each variant."""
    runs = {variant: gathered.of(env, variant) for variant in gathered.variants}
    found = verdicts(runs, reference, metric, rule)
    numbers = {variant: paper_cell(name, variant, env, metric) for variant in runs}
    base = numbers.get(reference)
    cells = {}
    for variant, own in runs.items():
        number = numbers[variant]
        expected = None if number is None or base is None else number - base
        verdict = "" if variant == reference else compare_with_paper(found.get(variant), expected)
        cells[variant] = replace(cell_of_runs(own, metric, rule), paper=number, verdict=verdict)
    return cells


def _marked(cell: Cell, reference: bool) -> str:
    if cell.ours is None:
        return NOT_RUN
    if reference or cell.verdict == NOT_RUN:
        return cell.shown()
    mark = MARKS.get(cell.verdict, "?" if cell.verdict.startswith(INCONCLUSIVE) else "")
    return f"{cell.shown()} {mark}".rstrip()


def _notes(gathered: Gathered) -> list[str]:
    notes = []
    for env in gathered.environments:
        if env in PAPER_ENVIRONMENTS:
            notes.append(f"{env} is compared with the paper's {PAPER_ENVIRONMENTS[env]}.")
    if not gathered.runs:
        return notes
    if not any(run.validation for run in gathered.runs.values()):
        notes.append(
            'The records hold no evaluation on validation tasks, so the column "on validation" is '
            "empty; runs made with `--eval-validation` have one."
        )
    elif not all(run.validation for run in gathered.runs.values()):
        notes.append('Some records hold no validation; "on validation" covers the others.')
    return notes


def table2(gathered: Gathered) -> Page:
    """Success of every method."""
    title = "Table 2: methods on held-out tasks"
    return accuracy_page(gathered, "table2", title, ("mean", "best", "case mean", "case best"))


def table3(gathered: Gathered) -> Page:
    """RESD without one of its parts."""
    title = "Table 3: RESD without one of its parts"
    return accuracy_page(gathered, "table3", title, ("case mean", "case best", "mean", "best"))


def forgetting(gathered: Gathered) -> Page:
    """Success on other environments before and after training, paired by seed."""
    columns = [
        "trained on",
        "method",
        "measured on",
        "seeds",
        "before",
        "after",
        "paper",
        "verdict",
    ]
    made = empty_table("success on other environments", columns, 3, FORGETTING_CAPTION)
    page = Page("table5", "Table 5: what training on one environment does to others", [made], [])
    for env in gathered.environments:
        for variant in gathered.variants:
            _add_elsewhere(page, made, gathered, env, variant)
        made.add_section()
    if not page.rows:
        page.notes.append(
            "No record holds an evaluation on other environments: runs need `--eval-also`."
        )
    return page


FORGETTING_CAPTION = (
    "mean@k before the first update and after the last; verdict on their difference, paired by "
    "seed, Holm over the environments that a method's runs were measured on. Paper: IFEval, per "
    "task, before and after RESD."
)


def _add_elsewhere(page: Page, made: Table, gathered: Gathered, env: str, variant: str) -> None:
    runs = gathered.of(env, variant)
    names = dict.fromkeys(n for run in runs for n in run.extra if n.startswith("env:"))
    ends = {
        name: [
            outcomes_of(
                {
                    (run.env, run.seed): run.extra[name][end]
                    for run in runs
                    if len(run.extra.get(name, ())) > 1
                },
                "mean",
            )
            for end in (0, -1)
        ]
        for name in names
    }
    ends = {name: own for name, own in ends.items() if own[0].scored}
    judged = judge_pairs([(after, before) for before, after in ends.values()])
    for (name, (before, after)), verdict in zip(ends.items(), judged, strict=True):
        there, number = name.removeprefix("env:"), _ifeval(env, name)
        first, last = cell_of(before), cell_of(after, verdict=str(verdict))
        word = {"worse": "forgotten", "better": "improved"}.get(verdict.word, str(verdict))
        seeds = str(len(before.scored))
        made.add_row(env, variant, there, seeds, first.shown(), last.shown(), number, word)
        page.rows.append(
            {"env": env, "method": variant, "elsewhere": there, "seeds": len(before.scored)}
            | {f"before_{key}": value for key, value in first.row().items() if key == "ours"}
            | last.row()
            | {"verdict": word}
        )


def _ifeval(env: str, evaluation: str) -> str:
    numbers = paper()["table5"]
    if evaluation != "env:ifeval" or env not in numbers:
        return ""
    return f"{numbers['base'][2]:.2f}% → {numbers[env][2]:.2f}%"
