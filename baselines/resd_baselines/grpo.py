"""GRPO: reinforce each attempt by how it compares with the others at the same task.

As run in the paper (8 attempts per task, one optimiser step per batch, no KL term, no entropy
bonus): the old policy is the one being trained, so the clip never binds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import torch

from resd_baselines.base import (
    PER_TURN,
    PolicyAgent,
    TurnOptions,
    count_turns,
    make_examples,
    scored_attempts,
    signal_metrics,
)
from resd_baselines.losses import group_advantages, policy_gradient_objective
from resd_bench.agent import MethodSpec, Policy
from resd_bench.options import ABOVE_0, NOT_NEGATIVE, SHARE, InRanges, Range
from resd_bench.types import Group, Metrics, Step


@dataclass(frozen=True)
class GRPOConfig(TurnOptions, InRanges):
    """Options of GRPO, as in the paper's release."""

    RANGES = {  # noqa: RUF012
        "clip_low": SHARE,
        "clip_high": NOT_NEGATIVE,
        "dual_clip": Range(1, without_low=True),
        "importance_cap": ABOVE_0,
    }

    normalise_std: bool = True
    """Divide advantages by the standard deviation of the rewards in the group."""
    clip_low: Annotated[float, SHARE] = 0.2
    """Clip the probability ratio below 1 - clip_low."""
    clip_high: Annotated[float, NOT_NEGATIVE] = 0.28
    """Clip the probability ratio above 1 + clip_high."""
    dual_clip: Annotated[float | None, Range(1, without_low=True)] = 3.0
    """Cap on the loss per unit of negative advantage (dual clipping); none disables it."""
    importance_cap: Annotated[float | None, ABOVE_0] = 2.0
    """Cap on the per-token importance weight, which corrects for sampling from another
    distribution than the one trained; none disables the correction."""


class GRPOAgent(PolicyAgent):
    """Reinforces attempts that did better than their peers."""

    def __init__(self, policy: Policy, config: GRPOConfig) -> None:
        super().__init__(policy)
        self.config = config

    def learn(self, groups: Sequence[Group], step: Step) -> Metrics:
        """One update. `grpo/mixed_groups`: groups in which not all rewards are equal."""
        attempts = scored_attempts(groups)
        advantages = [a for group in groups for a in self._advantages(group)]
        # An advantage of 0 adds exactly 0 to the loss, so its forward pass can be skipped.
        weights = self.config.turn_weights([len(attempt.turns) for attempt in attempts])
        examples = [
            example
            for attempt, advantage, weight in zip(attempts, advantages, weights, strict=True)
            if advantage
            for example in make_examples(attempt, advantage=advantage, weight=weight)
        ]
        objective = policy_gradient_objective(
            clip_low=self.config.clip_low,
            clip_high=self.config.clip_high,
            dual_clip=self.config.dual_clip,
            importance_cap=self.config.importance_cap,
            temperature=step.sampling.temperature or 1.0,
        )
        learned = self.policy.update(examples, objective, batch_size=count_turns(attempts))
        informed = sum(advantage != 0 for advantage in advantages)
        mixed = {a.group for a, advantage in zip(attempts, advantages, strict=True) if advantage}
        return {
            **learned,
            **signal_metrics(attempts, informed),
            "grpo/mixed_groups": float(len(mixed)),
        }

    def _advantages(self, group: Group) -> list[float]:
        """One for each attempt of the group that `scored_attempts` keeps, in the same order."""
        attempts = scored_attempts([group])
        if not attempts:
            return []
        rewards = torch.tensor([[a.reward for a in attempts]], dtype=torch.float64)
        # Rounding in the mean must not turn equal rewards into a signal.
        if len(attempts) > 1 and bool((rewards == rewards[0, 0]).all()):
            return [0.0] * len(attempts)
        values: list[float] = group_advantages(rewards, normalise_std=self.config.normalise_std)[
            0
        ].tolist()
        return values


GRPO = MethodSpec(
    name="grpo",
    summary="Group-relative policy optimisation from rewards alone.",
    config=GRPOConfig,
    build=GRPOAgent,
    group_size=8,
    former=PER_TURN,
)
