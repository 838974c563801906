"""Extra rollouts are charged, recorded and seeded like any other, and end with the budget."""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType
from typing import Any

import pytest

from resd_bench import plugins
from resd_bench.budget import Budget
from resd_bench.rollout.more_rollouts import EXTRA, UpdateRollouts
from resd_bench.rollout.rollout import EnvPool
from resd_bench.testing import ScriptedPolicy
from resd_bench.types import Message, Messages, Sampling, Step


class Plain:
    """Answers with its policy."""

    def __init__(self) -> None:
        self.policy = ScriptedPolicy(lambda prompt, seed, j: f"{prompt} {seed} {j}")

    def act(self, prompts: Sequence[Messages], **how: Any) -> Any:
        return self.policy.sample(prompts, **how)


class Reminded(Plain):
    """Shows its policy how often it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0

    def posed(self, messages: Messages) -> Messages:
        return (Message("user", f"{self.asked} {messages[0].content}"), *messages[1:])

    def act(self, prompts: Sequence[Messages], **how: Any) -> Any:
        self.asked += 1
        return super().act([self.posed(chat) for chat in prompts], **how)


def rollouts(agent: Any, budget: str = "100ep", update: int = 2) -> UpdateRollouts:
    pool = EnvPool(lambda: plugins.make_env("toy-say"))
    step = Step(update, 0, 0, Sampling(max_new_tokens=50, seed=7), seed=8)
    tasks = plugins.make_env("toy-say").tasks("train")
    ledger = agent.policy.ledger
    return UpdateRollouts(agent, pool, tasks, 2, step, ledger, Budget.parse(budget), 0)


def test_extra_attempts_have_numbers_and_samples_of_their_own(toy: ModuleType) -> None:
    made = rollouts(agent := Plain())
    own = made.first(made.tasks[:2], 4)
    extra = [made.play(made.tasks[:2]), made.play(made.tasks[1:3])]
    assert [played.first_attempt for played in made.played] == [4, 3 * EXTRA + 2, 3 * EXTRA + 4]
    assert made.groups == [*own, *extra[0], *extra[1]]
    said = {t.response for group in made.groups for t in group.trajectories}
    assert len(said) == 12, "no sample is drawn twice"
    assert agent.policy.ledger.episodes == 12
    assert {call.purpose for call in agent.policy.calls} == {"rollout"}
    again = rollouts(Plain())
    again.first(again.tasks[:2], 4)
    assert again.play(again.tasks[:2]) == extra[0], "the same update asks for the same"


@pytest.mark.parametrize(
    ("budget", "expected"), [("8ep", [2, 2, 0, 0]), ("7ep", [2, 0, 0, 1]), ("1tok", [2, 0, 0, 0])]
)
def test_what_the_budget_has_no_room_for_is_not_played(
    budget: str, expected: list[int], toy: ModuleType
) -> None:
    made = rollouts(agent := Plain(), budget)
    tasks = made.tasks
    found = [made.first(tasks[:2], 0), *(made.play(tasks[:k]) for k in (2, 2, 1))]
    assert list(map(len, found)) == expected
    assert agent.policy.ledger.episodes == 2 * sum(expected)


def test_nothing_is_played_for_no_tasks(toy: ModuleType) -> None:
    made = rollouts(Plain())
    assert made.play([]) == []
    assert made.played == []


def test_what_the_policy_read_is_kept_beside_what_the_environment_said(toy: ModuleType) -> None:
    made = rollouts(Reminded())
    made.first(made.tasks[:1], 0)
    made.play(made.tasks[:1])
    read = [own.read[0].trajectories[0].turns[0].messages[0].content for own in made.played]
    said = [own.groups[0].trajectories[0].turns[0].messages[0].content for own in made.played]
    assert said[0] == said[1]
    assert read == [f"1 {said[0]}", f"2 {said[0]}"]
