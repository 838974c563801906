"""Notes at the end of a run: each says what the records hold, and a clean run has none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from resd_bench.records.runs import RunData
from resd_bench.report.html.suite import suite
from resd_bench.report.run_notes import next_commands, run_notes
from resd_bench.report.tables import mean_over_seeds
from resd_bench.stats import eval_points


def made(metrics: list[dict[str, Any]], seed: int = 0, **settings: Any) -> RunData:
    named = {"env": "e", "method": "m", "model": "nano", "seed": seed, "budget": "8ep"}
    rows = [
        {"update": u, "episodes": 4 * u, "generated_tokens": 0, "task": f"t{t}", "sample": s}
        | {"success": float((t + s + seed) % 4 < u), "score": 0.5}
        for u in (0, 2)
        for t in range(4)
        for s in range(2)
    ]
    return RunData(Path("runs-out/e/m/seed-0"), named | settings, metrics, eval_points(rows), {})


def update(number: int, **own: Any) -> dict[str, Any]:
    ledger = {"episodes": 4 * number, "generated_tokens": 0, "updates": number, "seconds": 1.0}
    return {"update": number, **ledger, "policy/examples": 4.0, "train/truncated": 0.0, **own}


def test_a_clean_run_has_no_notes() -> None:
    assert run_notes(made([update(1), update(2)])) == []


@pytest.mark.parametrize(
    ("own", "settings", "told"),
    [
        (
            {"train/truncated": 0.5},
            {"max_new_tokens": 9},
            "truncated: 2 of 8 training rollouts",
        ),
        (
            {"train/truncated": 0.5, "train/unanswered": 0.5},
            {"max_new_tokens": 9},
            "truncated: 2 of 8 training rollouts, by a full context",
        ),
        ({"train/errors": 3.0}, {}, "environment errors: 3 training rollouts"),
        ({"policy/overlong_prompts": 2.0}, {}, "over-long: 2 prompts were not answered"),
        (
            {"policy/examples": 0.0},
            {},
            "no training signal: 1 of 2 updates had nothing to train on: give a larger --batch",
        ),
        (
            {"policy/examples": 0.0, "grpo/mixed_groups": 0.0},
            {"group_size": 8},
            "no training signal: 1 of 2 updates had nothing to train on: give a larger --group",
        ),
        (
            {"resd/reflections": 5.0, "resd/unparsed_reflections": 2.0},
            {},
            "unparsed: 2 of 5 reflections",
        ),
        (
            {"policy/lr": 1e-4},
            {"learning_rate": 1e-3, "warmup_updates": 9},
            "warm-up: the learning rate rose over 1 of 2 updates",
        ),
        ({"policy/lr": 1e-3}, {"learning_rate": 1e-3, "warmup_updates": 9}, None),
        ({}, {"budget": "5ep"}, "budget: 60% more than 5ep was spent"),
        ({"train/truncated": None, "train/errors": None}, {}, None),
    ],
)
def test_what_happened_is_said_once(
    own: dict[str, Any], settings: dict[str, Any], told: str | None
) -> None:
    notes = run_notes(made([update(1), update(2, **own)], **settings))
    assert [note[: len(told or "")] for note in notes] == ([told] if told else [])


def test_a_report_names_the_runs_that_mostly_had_nothing_to_train_on() -> None:
    rows = [update(n) for n in (1, 2, 3, 4)]
    idle = [{**row, "policy/examples": 0.0} for row in rows]
    told = [
        suite({"m": [made(rows[:-count] + idle[-count:])]}, 8, "episodes")["faults"]
        for count in (1, 2, 3)
    ]
    assert [len(lines) for lines in told] == [0, 0, 1]
    assert "no training signal: 3 of 4 updates had nothing to train on" in told[-1][0]


def test_the_mean_over_seeds_is_the_mean_of_the_runs() -> None:
    runs = [made([update(1), update(2)], seed) for seed in (0, 1, 3)]
    table = mean_over_seeds(runs)
    cells = [list(column.cells) for column in table.columns]
    assert cells[0] == ["0", "1", "3", "mean"]
    expected = np.mean([run.points[-1].mean for run in runs])
    assert str(cells[2][-1]).startswith(f"{100 * expected:.1f}% [")


def test_the_next_commands_name_the_run_and_what_is_next_to_it() -> None:
    told = next_commands(Path("out dir/e/m/seed-0"), made([update(1)]))
    assert told[0] == "resd-bench show 'out dir/e/m/seed-0' --failed"
    assert told[1] == "resd-bench trace 'out dir/e/m/seed-0'"
    assert told[-1] == "resd-bench compare 'out dir/e'"


@pytest.mark.parametrize("metrics", [[], [update(1, **{"policy/examples": 0.0})]])
def test_a_run_that_trained_on_nothing_has_no_update_to_trace(
    metrics: list[dict[str, Any]],
) -> None:
    assert not any("trace" in told for told in next_commands(Path("o/e/m/seed-0"), made(metrics)))
