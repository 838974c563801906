"""Rollouts: one loop for one turn and many, charged once, and never brought down by a verifier."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest

from resd_bench.budget import Ledger, Purpose
from resd_bench.evaluation.held_out import EvalSet, eval_rows, evaluate
from resd_bench.plugins import make_env
from resd_bench.rollout.rollout import EnvPool, roll_out
from resd_bench.seeds import derive
from resd_bench.testing import ScriptedPolicy
from resd_bench.types import Group, Sampling, Stop

pytestmark = pytest.mark.usefixtures("toy")

Answer = Callable[[str, int, int], str]


def say(prompt: str, seed: int, j: int) -> str:
    return prompt.removeprefix("say ")


def count(prompt: str, seed: int, j: int) -> str:
    return {"go on after 1": "2", "go on after 2": "done"}.get(prompt, "1")


def play(
    env: str,
    answer: Answer,
    *,
    n: int = 1,
    tasks: int = 3,
    purpose: Purpose = "rollout",
    max_new_tokens: int = 64,
) -> tuple[ScriptedPolicy, list[Group]]:
    policy = ScriptedPolicy(answer)
    groups = roll_out(
        policy.sample,
        EnvPool(lambda: make_env(env)),
        make_env(env).tasks("train")[:tasks],
        n=n,
        sampling=Sampling(max_new_tokens=max_new_tokens, seed=5),
        purpose=purpose,
        ledger=policy.ledger,
        seed=11,
    )
    return policy, groups


def test_groups_come_in_the_order_of_tasks_with_n_attempts_each() -> None:
    _, groups = play("toy-say", say, n=2)
    assert [group.task.id for group in groups] == ["train-0", "train-1", "train-2"]
    assert all(len(group.trajectories) == 2 for group in groups)
    assert all(t.feedback.success and t.stop is Stop.EOS for g in groups for t in g.trajectories)


def test_equal_prompts_of_a_group_are_sent_once() -> None:
    policy, _ = play("toy-say", say, n=4)
    (call,) = policy.calls
    assert (len(call.prompts), call.n) == (3, 4)


def test_many_turns_go_through_the_same_loop_with_their_history() -> None:
    policy, groups = play("toy-count", count, tasks=2)
    (attempt,) = groups[0].trajectories
    assert [turn.completion.text for turn in attempt.turns] == ["1", "2", "done"]
    assert [m.role for m in attempt.turns[2].messages] == ["user", "assistant"] * 2 + ["user"]
    assert attempt.turns[2].messages[-1].content == "go on after 2"
    assert [len(call.prompts) for call in policy.calls] == [2, 2, 2]
    assert len({call.sampling.seed for call in policy.calls}) == 3


def test_the_turn_limit_ends_an_episode_with_a_verdict() -> None:
    _, groups = play("toy-count", lambda *_: "1", tasks=1)
    (attempt,) = groups[0].trajectories
    assert (attempt.stop, len(attempt.turns)) == (Stop.TURNS, 4)
    assert not attempt.feedback.success


def test_a_verifier_that_fails_costs_its_own_episode_only() -> None:
    policy, groups = play("toy-crash", say, tasks=4)
    stops = [group.trajectories[0].stop for group in groups]
    assert stops == [Stop.EOS, Stop.ERROR, Stop.EOS, Stop.ERROR]
    failed = groups[1].trajectories[0]
    assert failed.error == "RuntimeError: the verifier broke"
    assert failed.turns[0].completion.text == "train1"
    assert policy.ledger.episodes == 4


def test_an_environment_that_cannot_be_made_or_reset_is_an_error_on_record() -> None:
    def broken() -> Any:
        raise OSError("no engine")

    task = make_env("toy-say").tasks("train")[0]
    policy = ScriptedPolicy(say)
    (group,) = roll_out(
        policy.sample,
        EnvPool(broken),
        [task],
        n=1,
        sampling=Sampling(),
        purpose="rollout",
        ledger=policy.ledger,
        seed=0,
    )
    assert group.trajectories[0].error == "OSError: no engine"
    assert policy.calls == []


def test_a_truncated_answer_is_marked() -> None:
    _, groups = play("toy-say", say, max_new_tokens=2)
    assert {group.trajectories[0].stop for group in groups} == {Stop.LENGTH}


def test_rollouts_are_charged_and_evaluation_is_not() -> None:
    policy, _ = play("toy-count", count, n=2, tasks=3)
    assert (policy.ledger.episodes, policy.ledger.env_steps) == (6, 18)
    assert policy.ledger.sampled_tokens == 6 * len("12done")
    policy, _ = play("toy-count", count, n=2, tasks=3, purpose="evaluation")
    spent = policy.ledger
    assert (spent.episodes, spent.env_steps, spent.generated_tokens) == (0, 0, 0)
    assert spent.evaluation_tokens == 6 * len("12done")


class SeedEnv:
    """Records the seeds that environments are reset with."""

    def __init__(self, seen: list[int | None], inner: Any) -> None:
        self.seen, self.inner = seen, inner
        self.unwrapped = inner

    def reset(self, *, seed: int | None, options: dict[str, Any]) -> Any:
        self.seen.append(seed)
        return self.inner.reset(seed=seed, options=options)

    def step(self, action: str) -> Any:
        return self.inner.step(action)


def recording(seen: list[int | None]) -> Callable[[], Any]:
    return lambda: SeedEnv(seen, make_env("toy-say"))


def seeds_of(n: int, first: int) -> list[int | None]:
    seen: list[int | None] = []
    pool = EnvPool(recording(seen))
    task = make_env("toy-say").tasks("train")[0]
    roll_out(
        ScriptedPolicy(say).sample,
        pool,
        [task],
        n=n,
        sampling=Sampling(),
        purpose="rollout",
        ledger=Ledger(),
        seed=3,
        first_attempt=first,
    )
    return seen


def test_environment_seeds_depend_on_task_and_attempt_not_on_the_group_size() -> None:
    assert seeds_of(4, 0) == [seed for first in range(4) for seed in seeds_of(1, first)]
    assert seeds_of(1, 0) == [derive(3, "env", "train-0", 0)]


def test_every_evaluation_poses_the_same_episodes(toy: ModuleType) -> None:
    tasks = make_env("toy-say").tasks("test")
    eval_set = EvalSet(tasks, 3, Sampling(seed=9), seed=1)
    seen: list[list[int | None]] = []
    for _ in range(2):
        seeds: list[int | None] = []
        pool = EnvPool(recording(seeds))
        policy = ScriptedPolicy(say)
        groups = evaluate(policy.sample, pool, eval_set, policy.ledger)
        seen.append(seeds)
    assert seen[0] == seen[1]
    assert len(set(seen[0])) == 18
    rows = eval_rows(groups, 4, policy.ledger)
    assert [row["sample"] for row in rows[:3]] == [0, 1, 2]
    assert all(row["success"] == 1.0 for row in rows)


def test_an_unscored_sample_is_null_in_the_log() -> None:
    policy, groups = play("toy-crash", lambda *_: "crash", tasks=1)
    (row,) = eval_rows(groups, 0, policy.ledger)
    assert row["success"] is None
    assert row["score"] is None
    assert "verifier broke" in row["error"]
