"""The page on many turns: every game and model by itself, at equal turns."""

from __future__ import annotations

from dataclasses import replace

import pytest

from resd_bench.reproduce.many_turns import many_turns
from resd_bench.reproduce.match_records import Gathered
from resd_bench.sweep.definition import load_sweep
from tests.places import ROOT
from tests.reproduce.test_reproduce import a_run

TRIALS = load_sweep(ROOT / "runs/nano/many-turns.yaml").trials
ENDS = {"hero": 0.9, "hero-transcript": 0.3, "grpo": 0.9}
"""Success of the last checkpoint; where success is rare, a tenth less each."""


def test_the_sweep_asks_for_both_games_at_both_rarities_with_five_seeds() -> None:
    asked = {(t.variant, t.config.env, t.config.model, t.config.seed) for t in TRIALS}
    assert len(asked) == len(TRIALS) == 260
    assert {trial.config.budget for trial in TRIALS} == {"8kturn"}
    assert {trial.config.dialect for trial in TRIALS} == {"compact"}


def test_each_game_and_model_is_judged_by_itself_at_equal_turns() -> None:
    runs = {}
    for trial in TRIALS:
        method, _, rarity = trial.variant.rpartition("-")
        if method in ENDS and trial.config.env == "guess-number":
            rare = "rare" in trial.config.model
            assert rarity == ("rare" if rare else "usual")
            end = ENDS[method] - 0.1 * rare
            run = a_run(trial.config.method, trial.config.seed, [0.0, end], env="guess-number")
            measured = {"turns": 6.0, "wasted_turns": 0.25 + 0.5 * rare}
            points = [replace(point, measured=measured) for point in run.points]
            settings = {**run.settings, "model": trial.config.model}
            runs[trial.index] = replace(run, points=points, settings=settings)
    page = many_turns(Gathered(TRIALS, runs))
    rows = {(row["env"], row["method"]): row for row in page.rows}
    assert len(rows) == 4 * 13
    for place, taken in (("guess-number, turns", 0.0), ("guess-number, turns-rare", 10.0)):
        assert rows[place, "hero-transcript"]["verdict"] == "worse"
        assert rows[place, "grpo"]["verdict"] != "worse"
        assert rows[place, "hero"]["last ours"] == pytest.approx(90.0 - taken)
        assert rows[place, "sft"]["verdict"] == "not run"
    assert rows["textworld-coin, turns", "hero"]["verdict"] == "not run"
    curves, turns = page.tables
    assert "over turns" in str(curves.title)
    cells = [list(column.cells) for column in turns.columns]
    shown = {
        (game, method): wasted
        for game, method, wasted in zip(cells[0], cells[1], cells[4], strict=True)
    }
    assert shown["guess-number, turns", "hero"] == "25.0%"
    assert shown["guess-number, turns-rare", "grpo"] == "75.0%"
    assert page.draw is not None
