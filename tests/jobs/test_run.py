"""A run: the same tasks for every method, to the budget, evaluated and recorded."""

from __future__ import annotations

import json
import os
import signal
import threading
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from resd_bench.config import RunConfig, resolve
from resd_bench.errors import UsageError
from resd_bench.jobs.run import batch_of, run
from resd_bench.plugins import make_env
from resd_bench.records.log_files import LogRow, read_log
from resd_bench.records.recorder import read_json
from resd_bench.stats import EvalPoint, eval_points

SMALL = {
    "env": "toy-say",
    "method": "toy-learner",
    "model": "scripted",
    "budget": "40ep",
    "batch_size": 5,
    "inner_steps": 2,
    "eval_every": 2,
    "eval_samples": 2,
    "max_new_tokens": 20,
}


@pytest.fixture
def small(toy: ModuleType, tmp_path: Path) -> RunConfig:
    return resolve(SMALL, {"out": str(tmp_path / "out")})


def rows(folder: Path, name: str) -> list[LogRow]:
    return list(read_log(folder / name))


def test_a_run_stops_at_its_budget_and_has_everything_on_record(small: RunConfig) -> None:
    outcome = run(small)
    assert (outcome.state, outcome.folder) == ("finished", small.folder())
    metrics = rows(outcome.folder, "metrics.jsonl")
    assert [row["update"] for row in metrics] == list(range(1, 9))
    assert [row["episodes"] for row in metrics] == [5 * u for u in range(1, 9)]
    assert [(row["batch"], row["inner"]) for row in metrics[:4]] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    points = eval_points(rows(outcome.folder, "evals.jsonl"))
    assert [point.update for point in points] == [0, 2, 4, 6, 8]
    assert all(point.samples == 12 for point in points)
    assert len(rows(outcome.folder, "episodes.jsonl")) == 40
    assert read_json(outcome.folder / "status.json")["state"] == "finished"
    summary = read_json(outcome.folder / "summary.json")
    assert summary["last"]["per_task_mean@2"] == points[-1].mean
    assert summary["last"]["per_task_mean@2"] > summary["first"]["per_task_mean@2"]
    assert len(list((outcome.folder / "checkpoints").iterdir())) == 2
    assert len(list((outcome.folder / "context").iterdir())) == 8


def test_evaluation_is_on_record_and_not_charged(small: RunConfig) -> None:
    often = run(small)
    seldom = run(replace(small, eval_every=0, out=small.out + "2"))
    a, b = (rows(o.folder, "metrics.jsonl")[-1] for o in (often, seldom))
    assert a["generated_tokens"] == b["generated_tokens"]
    assert a["evaluation_tokens"] > b["evaluation_tokens"]
    assert [p.update for p in eval_points(rows(seldom.folder, "evals.jsonl"))] == [0, 8]


def test_the_same_seed_gives_every_method_the_same_tasks_in_the_same_order(
    small: RunConfig,
) -> None:
    shuffled = replace(small, task_order="shuffled")
    single = run(shuffled)
    grouped = run(replace(shuffled, method="toy-group", group_size=4, budget="160ep"))
    posed = []
    for outcome in (single, grouped):
        order: dict[int, list[str]] = {}
        for row in rows(outcome.folder, "episodes.jsonl"):
            order.setdefault(row["update"], []).append(row["task"])
        posed.append([list(dict.fromkeys(tasks)) for tasks in order.values()])
    assert posed[0] == posed[1]


def test_attempts_are_numbered_on_over_updates_and_epochs(small: RunConfig) -> None:
    run(replace(small, budget="60ep"))
    found = [r for r in rows(small.folder(), "episodes.jsonl") if r["task"] == "train-0"]
    assert [row["attempt"] for row in found] == [0, 1, 2, 3, 4, 5]


def test_equal_seeds_give_equal_runs_and_other_seeds_others(small: RunConfig) -> None:
    results = []
    for seed, out in ((0, "a"), (0, "b"), (1, "a")):
        outcome = run(replace(small, seed=seed, out=small.out + out))
        results.append([r["success"] for r in rows(outcome.folder, "evals.jsonl")])
    assert results[0] == results[1] != results[2]


def test_batches_keep_the_order_of_the_data_set_and_leave_out_its_tail(small: RunConfig) -> None:
    tasks = make_env("toy-say").tasks("train")
    config = replace(small, batch_size=4)
    ids = [[t.id[-1] for t in batch_of(tasks, config, b)[1]] for b in range(3)]
    assert ids == [["0", "1", "2", "3"], ["4", "5", "6", "7"], ["0", "1", "2", "3"]]
    assert batch_of(tasks, config, 2)[0] == 1


def test_shuffled_batches_differ_by_epoch_and_hold_each_task_once(small: RunConfig) -> None:
    tasks = make_env("toy-say").tasks("train")
    config = replace(small, task_order="shuffled")
    epochs = [
        [t.id for b in (2 * e, 2 * e + 1) for t in batch_of(tasks, config, b)[1]] for e in (0, 1)
    ]
    assert epochs[0] != epochs[1]
    assert sorted(epochs[0]) == sorted(epochs[1]) == sorted(t.id for t in tasks)


def test_a_finished_run_is_left_alone(small: RunConfig) -> None:
    run(small)
    before = (small.folder() / "metrics.jsonl").read_bytes()
    assert run(small).state == "already finished"
    assert (small.folder() / "metrics.jsonl").read_bytes() == before


def test_another_configuration_in_the_folder_is_refused_by_name(small: RunConfig) -> None:
    run(small)
    with pytest.raises(UsageError, match=r"learning_rate: 1e-06 there, 0.5 here.*--out") as caught:
        run(replace(small, learning_rate=0.5))
    assert "config.yaml" in str(caught.value)


def test_a_folder_that_is_no_run_is_refused(small: RunConfig) -> None:
    small.folder().mkdir(parents=True)
    (small.folder() / "thesis.tex").write_text("do not touch")
    with pytest.raises(UsageError, match=r"is not a run: give another --out"):
        run(small)
    assert os.listdir(small.folder()) == ["thesis.tex"]


def test_a_model_that_cannot_be_loaded_leaves_nothing_behind(small: RunConfig) -> None:
    def missing(config: RunConfig) -> Any:
        raise UsageError("no such model")

    with pytest.raises(UsageError, match="no such model"):
        run(small, policy=missing)
    assert not small.folder().exists()


def test_too_large_a_batch_is_refused_with_the_largest_that_fits(small: RunConfig) -> None:
    with pytest.raises(UsageError, match="--batch-size of at most 10"):
        run(replace(small, batch_size=32))


def test_an_option_the_environment_does_not_know_is_a_usage_error(small: RunConfig) -> None:
    with pytest.raises(UsageError, match=r"environment toy-say: .*'size'.*--set env"):
        run(replace(small, env_options={"size": 3}))


class Interrupter:
    """Sends a signal to this process after some updates."""

    def __init__(self, after: int, number: signal.Signals) -> None:
        self.after, self.number = after, number

    def updated(self, row: LogRow) -> None:
        if row["update"] == self.after:
            signal.raise_signal(self.number)

    def evaluated(self, point: EvalPoint) -> None:
        pass


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_run_after_the_update_and_resuming_finishes_it(
    small: RunConfig, number: signal.Signals
) -> None:
    assert threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(number)
    outcome = run(small, watchers=[Interrupter(3, number)])
    assert (outcome.state, outcome.signal) == ("interrupted", number)
    assert read_json(outcome.folder / "status.json")["update"] == 3
    assert signal.getsignal(number) is handler
    with pytest.raises(UsageError, match=r"unfinished run \(interrupted\).*--resume"):
        run(small)
    assert run(small, resume=True).state == "finished"
    assert not list(outcome.folder.glob("*.orphaned"))
    assert [r["update"] for r in rows(outcome.folder, "metrics.jsonl")] == list(range(1, 9))


def test_episodes_whose_verifier_failed_are_on_record_with_the_cause(small: RunConfig) -> None:
    outcome = run(replace(small, env="toy-crash", method="toy-group", group_size=2))
    failed = [r for r in rows(outcome.folder, "episodes.jsonl") if r["stop"] == "error"]
    assert {row["error"] for row in failed} == {"RuntimeError: the verifier broke"}
    assert rows(outcome.folder, "metrics.jsonl")[0]["train/errors"] == 4.0


def test_an_agent_that_fails_leaves_the_run_marked_and_resumable(small: RunConfig) -> None:
    class Faulty(Interrupter):
        def updated(self, row: LogRow) -> None:
            if row["update"] == 5:
                raise ZeroDivisionError("a fault")

    with pytest.raises(ZeroDivisionError):
        run(small, watchers=[Faulty(0, signal.SIGINT)])
    status = read_json(small.folder() / "status.json")
    assert (status["state"], status["error"]) == ("failed", "ZeroDivisionError: a fault")
    assert run(small, resume=True).state == "finished"


def test_the_manifest_says_what_made_the_run(small: RunConfig) -> None:
    manifest = json.loads((run(small).folder / "manifest.json").read_text())
    assert {"packages", "hardware", "task_panel_sha256", "seed_streams", "sessions"} <= set(
        manifest
    )
    assert manifest["packages"]["torch"]
