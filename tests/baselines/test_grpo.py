"""GRPO's usual options: how the loss is normalised, and groups without variance replaced."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest
import torch

from resd_baselines.grpo import DAPO, DR_GRPO, GRPO
from resd_baselines.losses import policy_gradient_objective
from resd_bench.objective import TokenBatch
from resd_bench.types import Group, Task
from tests.baselines.test_methods import attempt, group, make, step


def mixed(task: str = "a") -> Group:
    return group(attempt(task, True, text="yes"), attempt(task, False, text="a long answer"))


def even(task: str, success: bool = False) -> Group:
    return group(attempt(task, success, text="so"), attempt(task, success, text="or so"))


def loss(options: dict[str, Any], groups: Sequence[Group]) -> float:
    """What the update minimises where every token has the log-probability of one in five."""
    policy, agent = make(GRPO, **options)
    losses: list[float] = []

    def update(examples: Any, objective: Any, *, batch_size: int) -> dict[str, float]:
        for e in examples:
            length = len(e.completion.token_ids)
            batch = TokenBatch(
                torch.zeros(1, length, 5, dtype=torch.float64, requires_grad=True),
                None,
                torch.zeros(1, length, dtype=torch.long),
                torch.ones(1, length),
                torch.full((1, length), math.nan),
                torch.tensor([e.advantage], dtype=torch.float64),
                torch.tensor([e.weight], dtype=torch.float64),
            )
            losses.append(float(objective(batch).detach()) / batch_size)
        return {}

    policy.update = update  # type: ignore[method-assign]
    agent.learn(groups, step())
    return sum(losses)


@pytest.mark.parametrize("std", [True, False])
def test_every_normalisation_of_the_loss_is_that_of_a_loop(std: bool) -> None:
    groups = [mixed(), even("b")]
    lengths = {"yes": 3, "a long answer": 13, "so": 2, "or so": 5}
    deviation = math.sqrt(0.5) + 1e-6 if std else 1.0
    advantages = {"yes": 0.5 / deviation, "a long answer": -0.5 / deviation, "so": 0, "or so": 0}
    expected = {"sequence": 0.0, "constant": 0.0, "token": 0.0}
    for said, length in lengths.items():
        for _ in range(length):
            term = -advantages[said]  # the probability ratio is 1
            expected["sequence"] += term / length / 4
            expected["constant"] += term / 500 / 4
            expected["token"] += term / sum(lengths.values())
    for name, value in expected.items():
        options = {"loss_normalisation": name, "normalise_std": std}
        assert loss(options, groups) == pytest.approx(value, rel=1e-9, abs=1e-12), name
    assert abs(expected["token"]) > 0.1


def test_the_sum_over_tokens_is_the_mean_times_their_number() -> None:
    options: Any = {"clip_low": 0.2, "clip_high": 0.28, "dual_clip": 3.0, "importance_cap": None}
    z = torch.randn(2, 4, 5, dtype=torch.float64)
    ids, mask = torch.ones(2, 4, dtype=torch.long), torch.tensor([[1.0] * 4, [1.0, 1, 0, 0]])
    batch = TokenBatch(z, None, ids, mask, z[..., 0], torch.tensor([1.0, -2.0]), torch.ones(2))
    mean, total = (
        policy_gradient_objective(**options, temperature=1.0, aggregation=kind)(batch)
        for kind in ("mean", "sum")
    )
    assert torch.allclose(mean * torch.tensor([4.0, 2.0]), total)


def test_presets_by_name_are_the_options_of_their_papers() -> None:
    for spec, expected in (
        (GRPO, (True, "sequence", 0)),
        (DR_GRPO, (False, "constant", 0)),
        (DAPO, (True, "token", 3)),
    ):
        own = spec.config()
        assert (own.normalise_std, own.loss_normalisation, own.dynamic_sampling) == expected
        assert (own.clip_low, own.clip_high) == (0.2, 0.28)


class More:
    """Gives groups with variance for tasks whose number is even."""

    def __init__(self, room: int = 99) -> None:
        self.tasks = [Task(f"t{n}", "train", f"question {n}") for n in range(9)]
        self.room = room
        self.asked: list[list[str]] = []

    def play(self, tasks: Sequence[Task]) -> list[Group]:
        if not tasks or len(tasks) > self.room:
            return []
        self.room -= len(tasks)
        self.asked.append([task.id for task in tasks])
        return [(mixed if int(task.id[1:]) % 2 == 0 else even)(task.id) for task in tasks]


def test_without_dynamic_sampling_groups_stay_and_nothing_is_asked_for() -> None:
    more, groups = More(), [even("t0"), mixed("t1")]
    _, agent = make(GRPO)
    assert agent.collect(groups, step(), more) is groups
    assert more.asked == []
    assert not any(name.startswith("grpo/extra") for name in agent.learn(groups, step()))


def test_groups_without_variance_give_way_to_fresh_ones_of_other_tasks() -> None:
    more, groups = More(), [even("t0"), mixed("t1"), even("t2", True)]
    _, agent = make(DAPO)
    kept = agent.collect(groups, step(), more)
    metrics = agent.learn(kept, step())
    asked = [name for names in more.asked for name in names]
    assert len(asked) == len(set(asked)), "no task twice"
    assert not {"t0", "t1", "t2"} & set(asked)
    found = sum(int(name[1:]) % 2 == 0 for name in asked)
    assert len(kept) == 1 + found == metrics["grpo/mixed_groups"]
    assert len(kept) == 3 or len(more.asked) == 3
    assert metrics["grpo/extra_groups"] == len(asked)
    assert metrics["grpo/extra_rounds"] == len(more.asked)
    assert agent.collect(groups, step(), More()) == kept, "the same step asks for the same"


def test_dynamic_sampling_ends_with_the_budget_and_after_its_rounds() -> None:
    groups = [even("x"), even("y")]
    _, agent = make(DAPO)
    assert agent.collect(groups, step(), More(room=1)) == []
    assert agent.learn([], step())["grpo/extra_groups"] == 0
    _, agent = make(DAPO, dynamic_sampling=1)
    more = More()
    agent.collect(groups, step(), more)
    assert len(more.asked) == 1
