"""RLSD: rewards say which way a token's probability goes, a hinted teacher says how far.

After arXiv 2604.03128. The teacher is the policy itself, shown a successful peer of the same group;
its log-probabilities scale the advantage of each token and never turn its sign. Left out: the
reference answer as the hint, which would make it an upper bound, and a teacher that lags behind.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated

import torch

from resd_baselines.base import Attempt, peers
from resd_baselines.grpo import GRPOAgent, GRPOConfig
from resd_baselines.losses import reweighted_advantages
from resd_baselines.self_distillation import with_hint
from resd_bench.agent import Load, MethodSpec
from resd_bench.options import NOT_NEGATIVE, SHARE
from resd_bench.types import Example, Messages, Step


@dataclass(frozen=True)
class RLSDConfig(GRPOConfig):
    """Options of RLSD, and those of GRPO."""

    weight_clip: Annotated[float, SHARE] = 0.2
    """Bound on how far a token's weight is from 1."""
    weight_share: Annotated[float, SHARE] = 0.5
    """Share of the reweighted advantage at the start; the rest is that of GRPO."""
    decay_updates: Annotated[int, NOT_NEGATIVE] = 50
    """Updates over which that share falls linearly to 0, when it is GRPO; 0: it stays."""


class RLSDAgent(GRPOAgent):
    """Reinforces what did better than its peers, most where a hinted teacher agrees."""

    config: RLSDConfig

    def _examples(
        self,
        attempts: Sequence[Attempt],
        advantages: Sequence[float],
        weights: Sequence[float],
        step: Step,
    ) -> list[Example]:
        made: list[Example] = []
        chats: dict[int, Messages] = {}
        rows = zip(attempts, advantages, weights, strict=True)
        for place, (attempt, advantage, weight) in enumerate(rows):
            hint = next(iter(peers(attempts, place, success=True)), None)
            few = self.credited(attempt, advantage, weight)
            for example in few:
                if hint is not None:
                    chats[len(made)] = with_hint(
                        example.messages, attempt, hint, self.policy.dialect
                    )
                made.append(example)
        for place, gain in self._gains(made, chats, step).items():
            clip, mix = self.config.weight_clip, self._share(step.update)
            values = reweighted_advantages(made[place].advantage, gain, clip=clip, mix=mix)
            made[place] = replace(made[place], token_advantages=tuple(values.tolist()))
        return made

    def _gains(
        self, examples: Sequence[Example], chats: Mapping[int, Messages], step: Step
    ) -> dict[int, torch.Tensor]:
        """[T] by example: how much likelier a hint makes each token, in nats.

        None where the hint does not fit the context.
        """
        hintable = [examples[place] for place in chats]
        said = [example.completion for example in hintable]
        how = {"temperature": step.sampling.temperature or 1.0}
        teacher = self.policy.score(list(chats.values()), said, **how)
        student = self.policy.score([example.messages for example in hintable], said, **how)
        return {
            place: torch.tensor(t, dtype=torch.float64) - torch.tensor(s, dtype=torch.float64)
            for place, t, s in zip(chats, teacher, student, strict=True)
            if t and s
        }

    def _share(self, update: int) -> float:
        left = 1 - update / self.config.decay_updates if self.config.decay_updates else 1.0
        return self.config.weight_share * max(0.0, left)


RLSD = MethodSpec(
    name="rlsd",
    summary="GRPO whose token advantages are scaled by a teacher that sees a peer's success.",
    config=RLSDConfig,
    build=RLSDAgent,
    group_size=8,
    load=lambda options: Load(shown=1, scores=2),
)
