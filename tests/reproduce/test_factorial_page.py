"""The page `factorial`: its sweep has every cell, and its effects are those that were put in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from resd_bench.config import RunConfig, load_file
from resd_bench.records.runs import RunData
from resd_bench.reproduce.experiments import choose_experiments
from resd_bench.reproduce.factorial_page import CELLS, FACTORS, factorial
from resd_bench.reproduce.match_records import Gathered
from resd_bench.reproduce.page import Page
from resd_bench.stats import EvalPoint, FactorCell
from resd_bench.sweep.definition import Trial, load_sweep
from tests.places import ROOT

TASKS = 20


def a_run(config: RunConfig, share: float, rng: np.random.Generator) -> RunData:
    """Nothing solved before training, and `share` of 20 tasks x 4 samples after it.

    Half of it on the way, unless only the ends were evaluated.
    """
    points = []
    middle = ((20, share / 2),) if config.eval_every else ()
    for update, p in ((0, 0.0), *middle, (40, share)):
        success = tuple(map(tuple, rng.binomial(1, p, size=(TASKS, 4)).astype(float).tolist()))
        names = tuple(f"t{i}" for i in range(TASKS))
        points.append(EvalPoint(update, 32 * update, 100 * update, success, success, tasks=names))
    settings = {"env": config.env, "method": "resd", "model": config.model, "seed": config.seed}
    return RunData(Path(f"seed-{config.seed}"), settings, [], points, {})


def configs(seeds: int) -> list[tuple[FactorCell, RunConfig]]:
    names = ("use_previous_trial", "use_reflection", "success_rate_weighting")
    made = []
    for cell in CELLS:
        attempt, reflections, feedback, rebalancing = cell
        options = dict(zip(names, (attempt, reflections, rebalancing), strict=True))
        config = RunConfig(env="finer", model="nano", method_options=options)
        config = replace(config, feedback_level=3 if feedback else 0)
        made += [(cell, replace(config, seed=seed)) for seed in range(seeds)]
    return made


def page_of(shares: Mapping[FactorCell, float], seeds: int = 5, eval_every: int = 8) -> Page:
    """Cells without a share were not run."""
    rng = np.random.default_rng(0)
    trials, runs = [], {}
    for index, (cell, config) in enumerate(configs(seeds)):
        config = replace(config, eval_every=eval_every)
        trials.append(Trial(index, "factorial", config))
        if cell in shares:
            runs[index] = a_run(config, shares[cell], rng)
    return factorial(Gathered(trials, runs))


def effect(page: Page, name: str) -> Mapping[str, object]:
    return next(row for row in page.rows if row["effect"] == name)


def test_the_sweep_has_every_cell_and_one_learning_rate() -> None:
    path = ROOT / "runs/nano/factorial.yaml"
    trials = load_sweep(path, only={"env": "finer", "model": "nano", "seed": 0}).trials
    cells = []
    for trial in trials:
        options = trial.config.method_options
        assert options["use_playbook"] == options["use_reflection"]
        cells.append(tuple(factor.is_on(trial.config) for factor in FACTORS))
    assert sorted(cells) == sorted(CELLS)
    assert len({trial.config.learning_rate for trial in trials}) == 1
    # All other keys are the same for every variant, which makes the design complete.
    envs = ["finer", "manufactoria-has"]
    grid = {"env": envs, "model": ["nano", "nano-rarest", "nano-reflective"], "seed": "0-4"}
    assert load_file(path)["grid"] == grid


def test_parts_that_replace_each_other_have_a_negative_interaction() -> None:
    """Success is 0.8 with attempt or reflections or both, and 0.1 with neither."""
    page = page_of({cell: 0.8 if cell[0] or cell[1] else 0.1 for cell in CELLS})
    for name in ("attempt", "reflections + playbook"):
        assert effect(page, name)["end"] == pytest.approx(35, abs=4)
        assert effect(page, name)["end verdict"] == "helps"
        assert effect(page, name)["area verdict"] == "helps"
    both = effect(page, "attempt x reflections + playbook")
    assert both["end"] == pytest.approx(-70, abs=6)
    assert both["area"] == pytest.approx(-35, abs=4)
    assert both["end verdict"] == "less together"
    assert str(effect(page, "rebalancing")["end verdict"]).startswith("inconclusive")
    whole = effect(page, "attempt x reflections + playbook x feedback x rebalancing")
    assert whole["end verdict"] == ""


def test_runs_that_took_off_are_counted_where_a_cell_splits() -> None:
    even = page_of(dict.fromkeys(CELLS, 0.8), 2)
    assert not any("took off with" in row for row in even.rows)
    rng = np.random.default_rng(1)
    trials, runs = [], {}
    for index, (cell, config) in enumerate(configs(2)):
        trials.append(Trial(index, "factorial", config))
        runs[index] = a_run(config, 0.9 if cell[0] and config.seed else 0.0, rng)
    rows = [r for r in factorial(Gathered(trials, runs)).rows if r["effect"] == "took off"]
    assert (rows[0]["took off with"], rows[0]["took off without"]) == ("8/16", "0/16")
    assert rows[0]["took off verdict"] == "helps"
    assert str(rows[3]["took off verdict"]).startswith("inconclusive")


def test_a_cell_without_runs_is_not_run_and_leaves_no_effect() -> None:
    shares = dict.fromkeys(CELLS[1:], 0.5)
    page = page_of(shares)
    assert effect(page, "attempt")["end"] == ""
    assert effect(page, "attempt")["end verdict"] == "not run"
    cells = [row for row in page.rows if row["effect"] == "cell"]
    assert [row["end"] == "" for row in cells] == [False] * 15 + [True]
    assert page.draw is not None


def test_without_any_run_there_is_no_figure() -> None:
    page = page_of({})
    assert page.draw is None
    assert {row.get("end verdict", "not run") for row in page.rows} == {"not run"}
    assert [one.sweep for one in choose_experiments(["factorial"])] == ["factorial"]


def test_runs_without_a_curve_have_ends_and_no_area() -> None:
    shares = {cell: 0.2 + 0.5 * cell[0] for cell in CELLS}
    for eval_every, words in ((8, {"helps"}), (0, {"–"})):
        row = effect(page_of(shares, eval_every=eval_every), "attempt")
        assert row["end verdict"] == "helps"
        assert {row["area verdict"]} == words
