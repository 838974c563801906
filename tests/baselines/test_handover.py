"""RESD then GRPO, reflections that are misplaced, and contexts to evaluate with."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from resd_baselines.experiments.misplaced_reflections import shuffle_reflections
from resd_baselines.experiments.resd_then_grpo import RESD_THEN_GRPO, HandoverAgent, HandoverConfig
from resd_baselines.resd import RESDAgent, RESDConfig
from resd_bench.agent import Contextual
from resd_bench.seeds import stream
from resd_bench.testing import ScriptedPolicy
from resd_bench.types import (
    Completion,
    Feedback,
    Group,
    Sampling,
    Step,
    Task,
    Trajectory,
    Turn,
    user,
)


def model(prompt: str, seed: int, j: int) -> str:
    """Answers each compact prompt in its form."""
    if prompt.endswith("<reflect>"):
        return f"cause: it stops early\nlesson: keep going with {prompt.split()[0]}"
    return "add: keep going" if prompt.endswith("<lesson>") else "helpful: 1"


def group(name: str, wins: Sequence[bool]) -> Group:
    task = Task(name, "train", f"{name} please")
    attempts = []
    for j, win in enumerate(wins):
        text = "" if win else "passed 0 of 1: wrong_answer"
        feedback = Feedback(float(win), win, float(win), text=text)
        turn = Turn(user(task.prompt), Completion(f"answer {j}", (1, 2), (-0.1, -0.1)))
        attempts.append(Trajectory(task, (turn,), feedback))
    return Group(task, tuple(attempts))


def step(update: int) -> Step:
    return Step(update, update // 4, update % 4, Sampling(max_new_tokens=90), update)


def agent(**options: float) -> tuple[HandoverAgent, ScriptedPolicy]:
    policy = ScriptedPolicy(model)
    return HandoverAgent(policy, HandoverConfig(**options)), policy  # type: ignore[arg-type]


MIXED = [group("a", [True, False, False, False])]
LOST = [group("a", [False, False, False, False])]


def test_grpo_takes_over_once_mean_success_of_the_window_is_high_enough_and_for_good() -> None:
    learner, policy = agent(switch_at=0.2, window=2)
    charge = [
        learner.learn(groups, step(u)) for u, groups in enumerate([LOST, MIXED, MIXED, LOST, LOST])
    ]
    assert [own["handover/grpo"] for own in charge] == [0, 0, 0, 1, 1]
    assert "grpo/mixed_groups" in charge[3]
    assert "resd/entries" not in charge[3]
    assert all(example.teacher_messages is None for example in policy.updates[3])


def test_over_one_it_never_takes_over() -> None:
    learner, _ = agent(switch_at=1.5, window=1)
    won = [group("a", [True, True])]
    assert [learner.learn(won, step(u))["handover/grpo"] for u in range(3)] == [0, 0, 0]


def test_the_handover_survives_a_checkpoint() -> None:
    learner, _ = agent(switch_at=0.25, window=2)
    learner.learn(MIXED, step(0))
    other, _ = agent(switch_at=0.25, window=2)
    other.load_state_dict(learner.state_dict())
    other.learn(MIXED, step(1))
    assert other.handed_over
    third, _ = agent(switch_at=0.25, window=2)
    third.load_state_dict(other.state_dict())
    assert third.learn(LOST, step(2))["handover/grpo"] == 1


def test_it_is_run_in_groups_as_grpo_is() -> None:
    assert RESD_THEN_GRPO.group_size == 8
    with pytest.raises(ValueError, match="at least 1"):
        HandoverConfig(window=0)


def test_a_share_of_reflections_is_about_another_task_and_a_larger_share_keeps_the_smaller() -> (
    None
):
    tasks = [f"t{i}" for i in range(400)]
    mixed = {
        share: shuffle_reflections(tasks, tasks, share, stream(0, "x"))
        for share in (0.0, 0.15, 0.5, 1.0)
    }
    moved = {
        k: {t for t, answer in zip(tasks, own, strict=True) if t != answer}
        for k, own in mixed.items()
    }
    assert moved[0.0] == set()
    assert len(moved[1.0]) == 400
    assert moved[0.15] < moved[0.5] < moved[1.0]
    assert abs(len(moved[0.15]) / 400 - 0.15) < 0.06
    assert shuffle_reflections(["x", "y"], ["same", "same"], 1.0, np.random.default_rng(0)) == [
        "x",
        "y",
    ]


def test_a_misplaced_reflection_reaches_the_teacher() -> None:
    groups = [group("left", [False]), group("right", [False])]
    shown = {}
    for share in (0.0, 1.0):
        policy = ScriptedPolicy(model)
        config = RESDConfig(misplaced_reflections=share, use_playbook=False)
        RESDAgent(policy, config).learn(groups, step(0))
        [first, _] = policy.updates[0]
        assert first.teacher_messages is not None
        shown[share] = first.teacher_messages[0].content
    assert "keep going with left" in shown[0.0]
    assert "keep going with right" in shown[1.0]
    with pytest.raises(ValueError, match="misplaced_reflections: expected a value from 0 to 1"):
        RESDConfig(misplaced_reflections=1.5)


def test_contexts_show_the_playbook_or_what_the_teacher_sees_and_change_nothing() -> None:
    policy = ScriptedPolicy(model)
    learner = RESDAgent(policy, RESDConfig())
    assert isinstance(learner, Contextual)
    groups = [group("left", [False]), group("right", [True])]
    assert set(learner.contexts(groups, Sampling(max_new_tokens=90))) == {"teacher"}
    learner.learn(groups, step(0))
    spent, before = policy.ledger.generated_tokens, learner.playbook
    found = learner.contexts(groups, Sampling(max_new_tokens=90))
    assert policy.ledger.generated_tokens == spent
    assert learner.playbook == before
    assert set(found) == {"teacher", "playbook"}
    assert "keep going" in found["playbook"]["left please"]
    assert "answer 0" in found["teacher"]["left please"]
    assert "answer 0" not in found["playbook"]["left please"]
