"""Every method takes a step on a model of real architecture, thinking on, with and without LoRA."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

import pytest

from resd_bench import plugins
from resd_bench.budget import Purpose
from resd_bench.policy.config import PolicyConfig
from resd_bench.policy.lm_policy import LMPolicy
from resd_bench.types import (
    Completion,
    Feedback,
    Group,
    Messages,
    Metrics,
    Sampling,
    Step,
    Task,
    Trajectory,
    Turn,
    user,
)
from tests.policy import families

METHODS = ("resd", "sdpo", "grpo", "sft")
REFLECTION = "hm</think>" + json.dumps(
    {
        "reasoning": "it stopped early",
        "bullet_tags": [],
        "operations": [{"type": "ADD", "section": "others", "content": "keep going"}],
    }
)


class Reflective(LMPolicy):
    """Answers tasks with its model; reflects and curates as scripted."""

    def sample(
        self, prompts: Sequence[Messages], *, n: int, sampling: Sampling, purpose: Purpose
    ) -> list[list[Completion]]:
        if purpose == "reflection":
            assert all("secret" not in chat[-1].content for chat in prompts)
            return [[Completion(REFLECTION)] * n for _ in prompts]
        return super().sample(prompts, n=n, sampling=sampling, purpose=purpose)


def step(method: str, **options: Any) -> tuple[Metrics, list[tuple[int, ...]], Any]:
    """One update on two tasks, the second attempt of each solved; what was sampled; the agent."""
    model = families.model("qwen3-thinking", max_position_embeddings=2048, initializer_range=0.1)
    config = PolicyConfig(learning_rate=1e-3, warmup_updates=0, thinking="on", **options)
    policy = Reflective(model, families.tokenizer("qwen3-thinking"), config)
    spec = plugins.method(method)
    agent = spec.build(policy, spec.config())
    sampling = Sampling(max_new_tokens=24, seed=5)
    tasks = [Task(name, "train", f"move {name}") for name in ("red", "blue")]
    made = agent.act([user(t.prompt) for t in tasks], n=2, sampling=sampling, purpose="rollout")
    groups = [
        Group(task, tuple(attempt(task, one, j == 1) for j, one in enumerate(group)))
        for task, group in zip(tasks, made, strict=True)
    ]
    ids = [one.token_ids for group in made for one in group]
    return agent.learn(groups, Step(0, 0, 0, sampling, 7)), ids, agent


def attempt(task: Task, completion: Completion, won: bool) -> Trajectory:
    said = Completion(
        f"secret thought</think>{completion.text}",
        completion.token_ids,
        completion.logprobs,
        completion.stop,
    )
    feedback = Feedback(float(won), won, float(won), text="" if won else "a part is missing")
    return Trajectory(task, (Turn(user(task.prompt), said),), feedback)


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 4], ids=["all weights", "lora"])
@pytest.mark.parametrize("method", METHODS)
def test_a_step_trains_and_its_loss_does_not_depend_on_the_engine(method: str, rank: int) -> None:
    (fast, ids, _), (slow, again, _) = (
        step(method, lora_rank=rank, engine=engine) for engine in ("fast", "hf")
    )
    assert ids == again
    assert fast["policy/grad_norm"] > 0
    assert fast["policy/examples"] >= 2
    assert slow["policy/loss"] == pytest.approx(fast["policy/loss"], rel=1e-3, abs=1e-5)
    assert slow["policy/grad_norm"] == pytest.approx(fast["policy/grad_norm"], rel=1e-3)


@pytest.mark.parametrize("method", METHODS)
def test_a_step_in_pieces_has_the_loss_of_one_with_whole_logits(method: str) -> None:
    whole, _, _ = step(method)
    pieces, _, _ = step(method, micro_batch_logits=2000)
    assert pieces["policy/loss"] == pytest.approx(whole["policy/loss"], rel=1e-4, abs=1e-6)
    assert pieces["policy/grad_norm"] == pytest.approx(whole["policy/grad_norm"], rel=1e-4)


def test_resd_writes_a_playbook_and_shows_its_teacher_no_thinking() -> None:
    metrics, _, agent = step("resd")
    assert metrics["resd/entries"] == 1
    assert metrics["resd/unparsed_reflections"] == 0
    assert not math.isnan(metrics["policy/loss"])
    assert [entry.content for entry in agent.playbook.entries] == ["keep going"]
