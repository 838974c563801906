"""Pages that compare a table of the paper with ours: tables 2, 3 and 5."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from importlib.resources import files
from typing import Any

from rich.table import Table

from resd_bench.records.runs import RunData
from resd_bench.report.comparisons import common_budget
from resd_bench.report.tables import UNRANKED
from resd_bench.report.take_off_table import TakeOffs
from resd_bench.reproduce.match_records import Gathered
from resd_bench.reproduce.page import Page, empty_table
from resd_bench.reproduce.table_cells import (
    CONTRADICTED,
    INCONCLUSIVE,
    NOT_RUN,
    REPRODUCED,
    RULES,
    TAKE_OFF,
    TAKE_OFF_NOTE,
    Cell,
    Metric,
    Reported,
    Rule,
    alike_by,
    by_reported,
    cell_of,
    cell_of_runs,
    compare_with_paper,
    count_take_offs,
    judge_groups,
    judge_pairs,
    not_judged,
    outcomes_of,
    take_off_column,
    verdicts,
)
from resd_bench.stats import SATURATED

MARKS = {REPRODUCED: "✓", CONTRADICTED: "✗"}
CAPTION = (
    "last, on validation, by the paper's rule: how the reported checkpoint is chosen; the paper's "
    "rule looks at the reported tasks and is biased upwards. ✓ the difference to resd is "
    "significant and has the paper's sign, ✗ significant with the opposite sign, ? inconclusive; "
    "✓ and ✗ only where the tasks are the paper's own. "
    "95% intervals; verdicts: paired by seed, Holm over the rows of an environment."
)
TITLES: Mapping[Metric, str] = {
    "mean": "per task, mean@{k}",
    "best": "per task, best@{k}",
    "case mean": "per test case, mean@{k}",
    "case best": "per test case, best@{k}",
}
RULE_TITLES: Mapping[Rule, str] = {
    "last": "ours, last",
    "validation": "on validation",
    "paper": "by the paper's rule",
}


SATURATED_NOTE = (
    f"{UNRANKED}: all trained rows of the environment are above {SATURATED:.0%} on this measure, "
    "which therefore does not rank them."
)


@cache
def paper() -> dict[str, Any]:
    """The paper's tables, in percent."""
    text = files("resd_bench.reproduce").joinpath("paper.json").read_text(encoding="utf-8")
    loaded: dict[str, Any] = json.loads(text)
    return loaded


def paper_cell(name: str, variant: str, env: str, metric: Metric) -> float | None:
    """The paper's number in percent, None where it has none."""
    kind = "per_test_case" if metric.startswith("case") else "per_task"
    found = paper()[name].get(kind, {}).get(variant, {}).get(env)
    return None if found is None else float(found[metric.endswith("best")])


def accuracy_page(
    gathered: Gathered, name: str, title: str, metrics: Sequence[Metric], reference: str = "resd"
) -> Page:
    """Every method on every environment, with the paper's numbers: a table for each metric."""
    page = Page(name, title, [], [])
    k = samples_of_a_task(gathered)
    if k == "1":  # The best of one sample is the sample.
        metrics = [metric for metric in metrics if not metric.endswith("best")]
    split = {env: count_take_offs(gathered.groups(env), reference) for env in gathered.environments}
    for metric in metrics:
        columns = ["method", "seeds", "paper", *RULE_TITLES.values(), "verdict"]
        # It is of the mean over tasks, as the curves are.
        columns += [TAKE_OFF] if metric == "mean" and any(split.values()) else []
        made = empty_table(
            TITLES[metric].format(k=k), columns, 1, CAPTION if metric == metrics[-1] else ""
        )
        for env in gathered.environments:
            _add_environment(page, made, gathered, env, metric, reference, split[env])
            made.add_section()
        page.tables.append(made)
    page.notes += _notes(gathered)
    if any(split.values()):
        page.notes.append(TAKE_OFF_NOTE)
    if any(row["verdict"] == UNRANKED for row in page.rows):
        page.notes.append(SATURATED_NOTE)
    return page


def samples_of_a_task(gathered: Gathered) -> str:
    """How many samples of each held-out task the records have: "4", "1 or 4", or "k" of none."""
    found = {run.points[-1].per_task for run in gathered.runs.values() if run.points}
    return " or ".join(map(str, sorted(found))) or "k"


def _add_environment(
    page: Page,
    made: Table,
    gathered: Gathered,
    env: str,
    metric: Metric,
    reference: str,
    split: Mapping[str, TakeOffs],
) -> None:
    cells = {rule: environment_cells(gathered, page.name, env, metric, rule) for rule in RULES}
    made.add_row(env)
    for variant in gathered.variants:
        own = {rule: cells[rule][variant] for rule in RULES}
        shown = [_marked(cell, variant == reference) for cell in own.values()]
        number = "" if own["last"].paper is None else f"{own['last'].paper:.2f}%"
        seeds = str(len(gathered.of(env, variant)))
        verdict = "" if variant == reference else own["last"].verdict
        took_off = take_off_column(split.get(variant)) if metric == "mean" else {}
        made.add_row(variant, seeds, number, *shown, verdict, *took_off.values())
        page.rows += [
            {"env": env, "method": variant, "metric": metric, "rule": rule, "seeds": seeds}
            | cell.row()
            | (took_off if rule == "last" else {})
            for rule, cell in own.items()
        ]


def environment_cells(
    gathered: Gathered, name: str, env: str, metric: Metric, rule: Rule, reference: str = "resd"
) -> dict[str, Cell]:
    """A column of the table: a cell for each variant."""
    runs = {variant: gathered.of(env, variant) for variant in gathered.variants}
    found = verdicts(runs, reference, metric, rule)
    same = gathered.has_papers_task(env)
    numbers = {
        variant: paper_cell(name, variant, env, metric) if same else None for variant in runs
    }
    base = numbers.get(reference)
    cells = {}
    for variant, own in runs.items():
        number = numbers[variant]
        expected = None if number is None or base is None else number - base
        verdict = "" if variant == reference else compare_with_paper(found.get(variant), expected)
        cells[variant] = replace(cell_of_runs(own, metric, rule), paper=number, verdict=verdict)
    return cells


TUNED = "-tuned"
"""What a variant with tuned settings is called after the one with untuned settings."""
TUNED_CAPTION = (
    "{}. Untuned: a learning rate of 3e-4 for every method, and the paper's batch. Tuned: chosen "
    "by resd-bench tune on validation tasks by the area under the curve, as many trials for every "
    "method. 95% intervals; verdicts: paired by seed, Holm over the rows of an environment."
)
TUNED_RULES: Mapping[Reported, str] = {
    "last": "per task, mean@{k}, the last checkpoint",
    "validation": "per task, mean@{k}, the checkpoint that validation tasks choose",
    "area": "per task, area under the curve of mean@{k} over training rollouts",
}


def add_tuned(page: Page, gathered: Gathered, tuned: Gathered) -> None:
    """Show tuned settings next to untuned ones, if any of `tuned` has a record."""
    variants = [v for v in gathered.variants if v + TUNED in tuned.variants]
    if not tuned.runs or not variants:
        return
    k = samples_of_a_task(tuned)
    for rule, about in TUNED_RULES.items():
        told = about.format(k=k)
        columns = ["method", "seeds", "untuned", "tuned", "against untuned", "against tuned resd"]
        made = empty_table(f"tuned settings, {rule}", columns, 1, TUNED_CAPTION.format(told))
        for env in (env for env in gathered.environments if env in tuned.environments):
            made.add_row(env)
            untuned = {variant: gathered.of(env, variant) for variant in variants}
            own = {variant: tuned.of(env, variant + TUNED) for variant in variants}
            page.rows += _tuned_rows(made, env, rule, untuned, own)
            made.add_section()
        page.tables.append(made)


def _tuned_rows(
    made: Table,
    env: str,
    rule: Reported,
    untuned: Mapping[str, Sequence[RunData]],
    tuned: Mapping[str, Sequence[RunData]],
) -> list[dict[str, object]]:
    """Rows of every method with tuned settings on one environment, into `made` and as data."""
    every = [run for side in (untuned, tuned) for runs in side.values() for run in runs]
    budget = common_budget(every) if every else 0.0
    before, after = (
        {variant: by_reported(runs, rule, budget) for variant, runs in side.items()}
        for side in (untuned, tuned)
    )
    unlike = alike_by(rule, budget)
    common = [v for v in after if before[v].scored.keys() & after[v].scored.keys()]
    against = {v: not_judged(why) for v in common if (why := unlike((untuned[v], tuned[v])))}
    alike = [v for v in common if v not in against]
    judged = judge_pairs([(after[v], before[v]) for v in alike])
    against |= dict(zip(alike, map(str, judged), strict=True))
    others = judge_groups(tuned, "resd", after, unlike)
    rows = []
    for variant, cell in after.items():
        seeds, own = str(len(tuned[variant])), cell_of(cell)
        told = [against.get(variant, NOT_RUN), str(others.get(variant, NOT_RUN))]
        if variant == "resd":
            told[1] = ""
        made.add_row(variant, seeds, cell_of(before[variant]).shown(), own.shown(), *told)
        named = {"env": env, "method": variant + TUNED, "metric": "mean", "rule": rule}
        verdict = {"verdict": told[0], "against resd": told[1]}
        rows.append(named | {"seeds": seeds, **own.row()} | verdict)
    return rows


def _marked(cell: Cell, reference: bool) -> str:
    if cell.ours is None:
        return NOT_RUN
    if reference or cell.verdict == NOT_RUN:
        return cell.shown()
    mark = MARKS.get(cell.verdict, "?" if cell.verdict.startswith(INCONCLUSIVE) else "")
    return f"{cell.shown()} {mark}".rstrip()


def _notes(gathered: Gathered) -> list[str]:
    notes = []
    ours = [env for env in gathered.environments if not gathered.has_papers_task(env)]
    if ours:
        notes.append(
            f"Not the paper's tasks, so that no number of the paper is shown: {', '.join(ours)}."
        )
        if "finer" in ours:
            notes.append("`finer` without `env.data` is a synthetic set of ours, not the paper's.")
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
