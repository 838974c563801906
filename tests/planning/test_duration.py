"""How long a run will take: arithmetic, and a probe that changes nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from resd_bench.budget import Ledger
from resd_bench.cli import main
from resd_bench.config import RunConfig, resolve
from resd_bench.monitoring import duration as monitoring
from resd_bench.monitoring.duration import DurationEstimate
from resd_bench.planning.duration import (
    Duration,
    beyond_budget,
    estimate,
    evaluations_left,
    in_words,
)
from resd_bench.planning.memory import Lengths
from resd_bench.policy.config import PolicyConfig
from resd_bench.policy.lm_policy import LMPolicy
from resd_bench.policy.speed import measure_speed
from resd_bench.types import Sampling, Speed, Task, user
from tests.policy import tiny

CONFIG = resolve({"method": "sft", "budget": "640ep", "batch_size": 32, "eval_every": 8})
LENGTHS = Lengths(100, 50)


def simulated(updates: int, every: int, done: int) -> int:
    """Evaluations of the loop in `jobs.run` from `done` updates on."""
    evaluated, made = done, 0
    for update in range(done + 1, updates + 1):
        if every > 0 and update % every == 0:
            made, evaluated = made + 1, update
    return made + (evaluated != updates)


@pytest.mark.parametrize("every", [0, 1, 4, 7, 40])
@pytest.mark.parametrize("updates", [1, 8, 20])
def test_evaluations_left_are_those_that_the_loop_makes(updates: int, every: int) -> None:
    for done in range(updates):
        assert len(evaluations_left(updates, every, done)) == simulated(updates, every, done)


def test_the_estimate_adds_up_what_is_sampled_read_and_trained_on() -> None:
    found = estimate(CONFIG, Speed(read=0.01, sampled=0.1), LENGTHS, held_out=10, context=4096)
    assert found is not None
    sampling, reading = 32 * 50 * 0.1, (32 * 100 + 3 * 32 * 150) * 0.01
    assert found.update == pytest.approx(sampling + reading)
    each = 10 * CONFIG.eval_samples * 50 * 0.1 + 10 * 100 * 0.01
    assert found.evaluation == pytest.approx(each)
    assert (found.updates, found.evaluations) == (20, 4)
    assert found.seconds == pytest.approx(20 * found.update + 4 * found.evaluation)


def test_what_is_done_is_not_counted_again() -> None:
    found = estimate(CONFIG, Speed(0.01, 0.1), LENGTHS, held_out=10, context=4096, done=12)
    assert found is not None
    assert (found.updates, found.evaluations) == (8, 2)


def test_a_budget_in_minutes_has_no_estimate_and_one_in_tokens_has() -> None:
    for budget, updates in (("10min", None), ("16ktok", 10)):
        config = replace(CONFIG, budget=budget)
        found = estimate(config, Speed(0.01, 0.1), LENGTHS, held_out=1, context=4096)
        assert (found.updates if found else None) == updates


def test_the_flag_that_is_named_is_that_of_the_larger_part() -> None:
    config = RunConfig()
    assert "--eval-every 0" in Duration(4, 1.0, 9, 100.0).shorter(config)
    assert "--eval-tasks" in Duration(4, 1.0, 2, 100.0).shorter(config)
    assert "--budget, such as 2upd" in Duration(4, 100.0, 9, 1.0).shorter(config)
    assert "--budget" not in Duration(1, 100.0, 2, 1.0).shorter(config)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.04, "0.04 s"), (45.2, "45 s"), (119, "119 s"), (180, "3 min"), (4800, "1 h 20 min")],
)
def test_durations_are_written_as_people_say_them(seconds: float, text: str) -> None:
    assert in_words(seconds) == text


def test_a_probe_leaves_no_trace_in_samples_ledger_and_generators() -> None:
    sampling = Sampling(1.0, 0.95, 12, seed=3)
    prompts = [user("one"), user("two and more")]

    def later(probe: bool) -> Any:
        policy = LMPolicy(tiny.model(), tiny.tokenizer(), PolicyConfig())
        before = torch.random.get_rng_state()
        found = policy.speed(4) if probe else None
        assert (found is not None) == probe
        assert torch.equal(before, torch.random.get_rng_state())
        assert policy.ledger == Ledger()
        return policy.sample(prompts, n=2, sampling=sampling, purpose="rollout")

    assert later(True) == later(False)


def test_a_probe_measures_what_an_engine_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("time.perf_counter", lambda: now[0])

    class Slow:
        started = False

        def generate(self, prompts: Any, *, n: int, sampling: Sampling, numbers: Any = None) -> Any:
            new = sampling.max_new_tokens
            now[0] += 0.5 * sum(map(len, prompts)) + 2.0 * (new - 1) * len(prompts)
            if not self.started:
                now[0] += 500.0
                self.started = True
            made = type("Made", (), {"token_ids": (1,) * new})()
            return [[made] for _ in prompts]

    assert measure_speed(Slow(), rows=3) == Speed(read=0.5, sampled=2.0)
    now[0], later = 0.0, iter((9.6, 9.6, 8.0, 8.0))

    class Disturbed(Slow):
        def generate(self, prompts: Any, *, n: int, sampling: Sampling, numbers: Any = None) -> Any:
            start = now[0]
            made = super().generate(prompts, n=n, sampling=sampling)
            now[0] = start + next(later)
            return made

    told = measure_speed(Disturbed(), rows=3)
    assert told.sampled == told.read == pytest.approx(0.1)


class Policy:
    """Has a known speed and does nothing else."""

    context_limit = 4096
    ledger = Ledger(seconds=100.0, evaluation_seconds=30.0)

    def speed(self, rows: int) -> Speed:
        return Speed(0.01, 0.1)

    def count_tokens(self, text: str) -> int:
        return len(text)


def test_the_watcher_says_it_before_the_run_and_after_its_first_update(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told: list[str] = []
    monkeypatch.setattr(monitoring, "note", told.append)
    config = replace(CONFIG, max_new_tokens=50)
    watcher, policy = DurationEstimate(config), Policy()
    tasks = [Task(str(i), "train", "x" * 100) for i in range(40)]
    watcher.starting(policy, tasks, 10, 1, 0)  # type: ignore[arg-type]
    expected = estimate(config, Speed(0.01, 0.1), LENGTHS, 10, 4096)
    assert expected is not None
    assert f"at most about {in_words(expected.seconds)} here" in told[0]
    policy.ledger = Ledger(seconds=100.0, evaluation_seconds=34.0)
    watcher.evaluated(None)  # type: ignore[arg-type]
    for update in (1, 2):
        watcher.updated({"update": update, "seconds": 100.0 + 7 * update, "generated_tokens": 1})
    left = Duration(19, 7.0, 3, 4.0)
    assert told[1:] == [
        f"about {in_words(left.seconds)} left (19 updates of 7 s, 3 evaluations of 4 s); shorter "
        "with a smaller --budget, such as 9upd, or --max-new-tokens"
    ]


def test_an_update_larger_than_the_budget_is_told_before_it_begins_and_in_a_plan(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small = {"method": "sft", "env": "manufactoria-has", "budget": "16ep", "batch_size": 8}
    assert beyond_budget(resolve(small)) == ""
    large = resolve({**small, "batch_size": 32})
    says = "an update takes 32 rollouts and is finished, beyond --budget 16ep"
    assert beyond_budget(large) == f"{says}; --batch-size 16 stays within it"
    groups = resolve({**small, "method": "grpo", "group_size": 32})
    assert beyond_budget(groups) == says.replace("32", "256")
    told: list[str] = []
    monkeypatch.setattr(monitoring, "note", told.append)
    for done in (0, 1):
        DurationEstimate(large).starting(Policy(), [Task("0", "train", "x")], 1, 1, done)  # type: ignore[arg-type]
    assert [line for line in told if "beyond" in line] == [beyond_budget(large)]
    flags = ["--method", "sft", "--budget", "16ep", "--batch-size", "32"]
    assert main(["run", *flags, "--dry-run"]) == 0
    assert f"# {says}" in capsys.readouterr().out


@pytest.mark.parametrize(("speed", "said"), [(0.00001, 0), (0.1, 2)])
def test_a_run_of_seconds_gets_no_estimate(
    monkeypatch: pytest.MonkeyPatch, speed: float, said: int
) -> None:
    told: list[str] = []
    monkeypatch.setattr(monitoring, "note", told.append)
    policy = Policy()
    policy.ledger = Ledger()
    monkeypatch.setattr(policy, "speed", lambda rows: Speed(speed, speed))
    watcher = DurationEstimate(replace(CONFIG, max_new_tokens=50))
    watcher.starting(policy, [Task("0", "train", "x" * 100)], 10, 1, 0)  # type: ignore[arg-type]
    seconds = 10.0 if said else 0.01
    watcher.updated({"update": 1, "seconds": seconds, "generated_tokens": 1})
    assert len(told) == said
