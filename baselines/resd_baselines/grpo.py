"""GRPO: reinforce each attempt by how it compares with the others at the same task.

As run in the paper (8 attempts per task, one optimiser step per batch, no KL term, no entropy
bonus): the old policy is the one being trained, so the clip never binds. Every turn has the
advantage of its attempt; with `turn_credit` a turn in vain is not reinforced by it. `dr-grpo`
(arXiv 2503.20783) and `dapo` (arXiv 2503.14476) are the same with other defaults. Left out: DAPO's
soft penalty on answers that are nearly too long.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import torch

from resd_baselines.base import (
    PER_TURN,
    Attempt,
    CreditOptions,
    PolicyAgent,
    count_turns,
    make_examples,
    scored_attempts,
    signal_metrics,
)
from resd_baselines.losses import group_advantages, policy_gradient_objective
from resd_bench.agent import MethodSpec, MoreRollouts, Policy
from resd_bench.options import ABOVE_0, NOT_NEGATIVE, SHARE, InRanges, Range
from resd_bench.seeds import stream
from resd_bench.types import Example, Group, Metrics, Step, Task

LossNormalisation = Literal["sequence", "constant", "token"]


@dataclass(frozen=True)
class GRPOConfig(CreditOptions, InRanges):
    """Options of GRPO, as in the paper's release."""

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
    loss_normalisation: LossNormalisation = "sequence"
    """What the summed loss of a sequence is divided by: `sequence`, its own length; `constant`, the
    limit on completions (Dr. GRPO); `token`, the mean length in the batch, so that every token of
    the batch counts alike (DAPO)."""
    dynamic_sampling: Annotated[int, NOT_NEGATIVE] = 0
    """Rounds, at most, in which groups without variance are replaced by fresh ones of other tasks
    (DAPO). The extra rollouts are charged."""


@dataclass(frozen=True)
class DrGRPOConfig(GRPOConfig):
    """Options of Dr. GRPO."""

    normalise_std: bool = False
    """Divide advantages by the standard deviation of the rewards in the group."""
    loss_normalisation: LossNormalisation = "constant"
    """What the summed loss of a sequence is divided by: `sequence`, its own length; `constant`, the
    limit on completions; `token`, the mean length in the batch."""


@dataclass(frozen=True)
class DAPOConfig(GRPOConfig):
    """Options of DAPO."""

    loss_normalisation: LossNormalisation = "token"
    """What the summed loss of a sequence is divided by: `sequence`, its own length; `constant`, the
    limit on completions; `token`, the mean length in the batch."""
    dynamic_sampling: Annotated[int, NOT_NEGATIVE] = 3
    """Rounds, at most, in which groups without variance are replaced by fresh ones of other tasks.
    The extra rollouts are charged."""


class GRPOAgent(PolicyAgent):
    """Reinforces attempts that did better than their peers."""

    def __init__(self, policy: Policy, config: GRPOConfig) -> None:
        super().__init__(policy)
        self.config = config
        self.extra: list[int] = []
        """Groups asked for in each round of dynamic sampling of this step."""

    def collect(self, groups: Sequence[Group], step: Step, more: MoreRollouts) -> Sequence[Group]:
        """Dynamic sampling: groups without variance give way to fresh ones of other tasks."""
        self.extra = []
        if not self.config.dynamic_sampling:
            return groups
        kept = [group for group in groups if any(self._advantages(group))]
        rng, seen = stream(step.seed, "dynamic sampling"), {group.task.id for group in groups}
        for _ in range(self.config.dynamic_sampling):
            others = [task for task in more.tasks if task.id not in seen]
            count = min(len(groups) - len(kept), len(others))
            chosen: list[Task] = [others[i] for i in rng.permutation(len(others))[:count]]
            fresh = more.play(chosen)
            if not fresh:
                break
            self.extra.append(len(fresh))
            seen |= {group.task.id for group in fresh}
            kept += [group for group in fresh if any(self._advantages(group))]
        return kept

    def learn(self, groups: Sequence[Group], step: Step) -> Metrics:
        """One update. `grpo/mixed_groups`: groups in which not all rewards are equal.

        With dynamic sampling, `grpo/extra_groups` and `grpo/extra_rounds` it took.
        """
        attempts = scored_attempts(groups)
        advantages = [a for group in groups for a in self._advantages(group)]
        examples = self._examples(attempts, advantages, self._weights(attempts, step), step)
        objective = policy_gradient_objective(
            clip_low=self.config.clip_low,
            clip_high=self.config.clip_high,
            dual_clip=self.config.dual_clip,
            importance_cap=self.config.importance_cap,
            temperature=step.sampling.temperature or 1.0,
            aggregation="mean" if self.config.loss_normalisation == "sequence" else "sum",
        )
        learned = self.policy.update(examples, objective, batch_size=count_turns(attempts))
        informed = sum(advantage != 0 for advantage in advantages)
        mixed = {a.group for a, advantage in zip(attempts, advantages, strict=True) if advantage}
        asked = {"extra_groups": sum(self.extra), "extra_rounds": len(self.extra)}
        return {
            **learned,
            **signal_metrics(attempts, informed),
            "grpo/mixed_groups": float(len(mixed)),
            **{f"grpo/{k}": float(v) for k, v in asked.items() if self.config.dynamic_sampling},
        }

    def _weights(self, attempts: Sequence[Attempt], step: Step) -> list[float]:
        """The factor of each turn's loss, a mean or a sum over its tokens, by attempt.

        Where every token of the batch counts alike, or as in Dr. GRPO no length divides, an attempt
        of more turns has more of them: its own number of turns divides nothing either.
        """
        turns = count_turns(attempts)
        if self.config.loss_normalisation == "token":
            tokens = sum(len(turn.completion.token_ids) for a in attempts for turn in a.turns)
            return [turns / max(1, tokens)] * len(attempts)
        if self.config.loss_normalisation == "sequence":
            return self.config.turn_weights([len(attempt.turns) for attempt in attempts])
        averaged = turns if self.config.turn_weighting == "turn" else max(1, len(attempts))
        return [turns / averaged / step.sampling.max_new_tokens] * len(attempts)

    def _examples(
        self,
        attempts: Sequence[Attempt],
        advantages: Sequence[float],
        weights: Sequence[float],
        step: Step,
    ) -> list[Example]:
        return [
            example
            for attempt, advantage, weight in zip(attempts, advantages, weights, strict=True)
            for example in self.credited(attempt, advantage, weight)
        ]

    def credited(self, attempt: Attempt, advantage: float, weight: float) -> list[Example]:
        """Examples of the turns that are credited with the attempt's advantage."""
        # An advantage of 0 adds exactly 0 to the loss, so its forward pass can be skipped.
        if not advantage:
            return []
        examples = make_examples(attempt, advantage=advantage, weight=weight)
        return [
            example
            for example, turn in zip(examples, attempt.turns, strict=True)
            if advantage < 0 or self.config.earns(turn)
        ]

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
DR_GRPO = MethodSpec(
    name="dr-grpo",
    summary="GRPO without division by the deviation of rewards or by lengths.",
    config=DrGRPOConfig,
    build=GRPOAgent,
    group_size=8,
)
DAPO = MethodSpec(
    name="dapo",
    summary="GRPO with every token alike, and fresh groups for those without variance.",
    config=DAPOConfig,
    build=GRPOAgent,
    group_size=8,
)
