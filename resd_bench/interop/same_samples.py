"""One step of our method and of TRL's on the same samples: what must be equal, within what.

Ours divides advantages by their deviation + 1e-6, TRL by deviation + 1e-4: a relative 3e-4, which
the tolerances allow for.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from resd_bench.env import TextEnv
from resd_bench.errors import UsageError
from resd_bench.interop.cross_check_setup import (
    CrossCheck,
    Method,
    base_job,
    config_of,
    method_over,
    samples_of,
    told_by_theirs,
)
from resd_bench.interop.trl import dataset_row
from resd_bench.objective import Objective
from resd_bench.policy import trainer
from resd_bench.policy.build import build
from resd_bench.policy.lm_policy import LMPolicy
from resd_bench.rollout.rollout import EnvPool
from resd_bench.types import Example, Group, Metrics, Turn

TOLERANCES: Mapping[str, float] = {
    "log-probabilities": 1e-4,
    "advantages": 1e-3,
    "loss": 1e-4,
    "gradients": 1e-3,
    "gradients, tokens alike": 1e-3,
}
"""Largest absolute differences; for gradients, the norm of the difference over that of ours."""


@dataclass(frozen=True, slots=True)
class Difference:
    """How far the two are apart in one quantity, on the same samples."""

    quantity: str
    difference: float
    tolerance: float | None
    """None where they differ on purpose."""

    @property
    def equal(self) -> bool | None:
        """Whether it is within the tolerance; None without one."""
        return None if self.tolerance is None else self.difference <= self.tolerance


class Caught:
    """A policy that keeps what it is to be trained on, and trains nothing."""

    def __init__(self, policy: LMPolicy) -> None:
        self.policy = policy
        self.examples: Sequence[Example] = ()
        self.objective: Objective | None = None
        self.batch_size = 1

    def update(
        self, examples: Sequence[Example], objective: Objective, *, batch_size: int
    ) -> Metrics:
        """Keep the update."""
        self.examples, self.objective, self.batch_size = examples, objective, batch_size
        return {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self.policy, name)


@dataclass(frozen=True)
class SameSamples:
    """Samples, what our method is to train on them, and the job that gives them to TRL."""

    method: Method
    caught: Caught
    groups: Sequence[Group]
    job: Mapping[str, Any]

    @property
    def turns(self) -> list[Turn]:
        """The one turn of every attempt."""
        return [attempt.turns[0] for group in self.groups for attempt in group.trajectories]


def draw_samples(check: CrossCheck, method: Method, env: TextEnv, envs: EnvPool) -> SameSamples:
    """Attempts at the first batch of tasks; for SFT, their reference solutions."""
    config = config_of(check, method, check.seeds[0])
    policy = build(config)
    step, groups = samples_of(check, config, 0, policy, env, envs)
    caught = Caught(policy)
    method_over(config, caught).learn(groups, step)
    job = base_job(config, policy, check) | {"given": True, "updates": 1}
    return SameSamples(method, caught, groups, job | given(method, env, policy, groups))


def check_signal(same: SameSamples) -> None:
    """UsageError if nothing can be learned from the samples, so that there is no gradient."""
    if not same.caught.examples:
        raise UsageError(
            f"no group of attempts at these {len(same.groups)} tasks has unequal rewards, so there "
            "is no gradient to compare: give more --tasks, another first seed, or a --model that "
            "succeeds more often"
        )


def given(
    method: Method, env: TextEnv, policy: LMPolicy, groups: Sequence[Group]
) -> dict[str, Any]:
    """The part of a job that gives samples to TRL, as token ids."""
    turns = [attempt.turns[0] for group in groups for attempt in group.trajectories]
    prompts = [policy.codec.prompt_ids(turn.messages) for turn in turns]
    said = [turn.completion for turn in turns]
    if method == "sft":
        return {
            "rows": [
                {
                    "input_ids": [*prompt, *one.token_ids],
                    "completion_mask": [0] * len(prompt) + [1] * len(one.token_ids),
                }
                for prompt, one in zip(prompts, said, strict=True)
            ]
        }
    return {
        "rows": [dataset_row(env, group.task) for group in groups],
        "prompt_ids": prompts,
        "completion_ids": [one.token_ids for one in said],
        "logprobs": [one.logprobs for one in said],
        "rewards": [a.feedback.reward for group in groups for a in group.trajectories],
    }


def compare_step(same: SameSamples, folder: Path) -> Iterator[Difference]:
    """What TRL left in `folder`, against ours."""
    from safetensors.torch import load_file

    seen, theirs = load_file(folder / "seen.safetensors"), load_file(folder / "g.safetensors")
    caught, turns, method = same.caught, same.turns, same.method
    policy = caught.policy
    prompts = [policy.codec.prompt_ids(turn.messages) for turn in turns]
    if method == "grpo":
        told = told_by_theirs(folder)["prompt_ids"]
        first = prompts[:: len(same.groups[0].trajectories)]
        wrong = sum(list(a) != list(b) for a, b in zip(first, told, strict=True))
        yield Difference("prompts with other tokens", float(wrong), 0.0)
    keys = [(*p, *turn.completion.token_ids) for p, turn in zip(prompts, turns, strict=True)]
    ours = policy.score([t.messages for t in turns], [t.completion for t in turns])
    rows = _rows(seen)
    gaps = [
        float((torch.tensor(own) - rows[key][0]).abs().max())
        for own, key in zip(ours, keys, strict=True)
    ]
    yield _within("log-probabilities", max(gaps))
    if method == "grpo":
        mine = {
            (*policy.codec.prompt_ids(e.messages), *e.completion.token_ids): e.advantage
            for e in caught.examples
        }
        yield _within("advantages", max(abs(mine.get(key, 0.0) - rows[key][1]) for key in keys))
    loss, gradients = gradients_of(caught, caught.examples)
    if method == "grpo":
        yield _within("loss", abs(loss - float(seen["loss"])))
        yield _within("gradients", distance(gradients, theirs))
        return
    yield Difference("gradients, as they are", distance(gradients, theirs), None)
    tokens = [len(example.completion.token_ids) for example in caught.examples]
    alike = [
        replace(example, weight=n * len(tokens) / sum(tokens))
        for example, n in zip(caught.examples, tokens, strict=True)
    ]
    loss, gradients = gradients_of(caught, alike)
    yield _within("loss", abs(loss - float(seen["loss"])))
    yield _within("gradients, tokens alike", distance(gradients, theirs))


def _within(quantity: str, difference: float) -> Difference:
    return Difference(quantity, difference, TOLERANCES[quantity])


def _rows(seen: Mapping[str, Tensor]) -> dict[tuple[int, ...], tuple[Tensor, float]]:
    """Log-probabilities [T] and advantage by prompt and completion; TRL shuffles a batch."""
    read, scored = seen["read"].bool(), seen["scored"].bool()
    pieces = torch.split(seen["logprobs"], scored.sum(-1).tolist())
    advantages = seen.get("advantages", torch.zeros(len(read))).tolist()
    return {
        tuple(ids[where].tolist()): (piece, advantage)
        for ids, where, piece, advantage in zip(seen["ids"], read, pieces, advantages, strict=True)
    }


def gradients_of(caught: Caught, examples: Sequence[Example]) -> tuple[float, dict[str, Tensor]]:
    """The loss of an update on `examples`, and its gradient by parameter, before clipping."""
    policy = caught.policy
    assert caught.objective is not None
    rows = [policy.row(example)[0] for example in examples]
    policy.model.zero_grad(set_to_none=True)
    loss = caught.objective(trainer.token_batch(policy.model, None, rows)).sum()
    loss = loss / caught.batch_size
    loss.backward()  # type: ignore[no-untyped-call]
    named = policy.model.named_parameters()
    found = {name: p.grad.detach().clone() for name, p in named if p.grad is not None}
    policy.model.zero_grad(set_to_none=True)
    return float(loss.detach()), found


def distance(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> float:
    """Norm of the difference over the norm of ours; ValueError if parameters differ."""
    if ours.keys() != theirs.keys():
        raise ValueError(f"other parameters: {sorted(ours.keys() ^ theirs.keys())[:4]}")
    apart = sum(float((ours[n] - theirs[n]).square().sum()) for n in ours)
    whole = sum(float(ours[n].square().sum()) for n in ours)
    return float((apart / whole) ** 0.5) if whole else float(apart > 0)
