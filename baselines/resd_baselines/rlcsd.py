"""RLCSD: tokens that a right hint makes likelier than a wrong hint count for more.

After arXiv 2606.11709. What any hint does to the style of an answer is the same for a right and for
a wrong one, and cancels in the difference of log-probabilities. Hints are other attempts of the
group. Left out: a teacher that lags behind, and reference solutions as hints.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated

import torch

from resd_baselines.base import Attempt, peers
from resd_baselines.grpo import GRPOAgent, GRPOConfig
from resd_baselines.losses import contrasted_advantages, hint_contrast
from resd_baselines.self_distillation import with_hint
from resd_bench.agent import Load, MethodSpec
from resd_bench.options import ABOVE_0, NOT_NEGATIVE, POSITIVE
from resd_bench.seeds import stream
from resd_bench.types import Example, Messages, Step


@dataclass(frozen=True)
class RLCSDConfig(GRPOConfig):
    """Options of RLCSD, and those of GRPO."""

    wrong_hints: Annotated[int, POSITIVE] = 3
    """Wrong hints, at most, whose probabilities are averaged."""
    contrast_scale: Annotated[float, NOT_NEGATIVE] = 0.5
    """Largest change of a token's advantage (lambda)."""
    contrast_temperature: Annotated[float, ABOVE_0] = 1.3
    """Nats of contrast at which the change is 76% of the largest (tau)."""
    contrast_threshold: Annotated[float, NOT_NEGATIVE] = 0.02
    """Changes no larger than this are not made (delta)."""
    changed_weight: Annotated[float, NOT_NEGATIVE] = 0.5
    """Weight of the mean over changed tokens beside that over all others (eta)."""


class RLCSDAgent(GRPOAgent):
    """Reinforces what did better than its peers, most where a right hint beats wrong ones."""

    config: RLCSDConfig

    def _examples(
        self,
        attempts: Sequence[Attempt],
        advantages: Sequence[float],
        weights: Sequence[float],
        step: Step,
    ) -> list[Example]:
        rng, made = stream(step.seed, "hints"), list[Example]()
        chats: list[tuple[int, Messages]] = []
        rows = zip(attempts, advantages, weights, strict=True)
        for place, (attempt, advantage, weight) in enumerate(rows):
            right, wrong = (peers(attempts, place, success=won) for won in (True, False))
            few, hints = self.credited(attempt, advantage, weight), list[Attempt]()
            if few and right and wrong:
                chosen = rng.permutation(len(wrong))[: self.config.wrong_hints]
                hints = [right[int(rng.integers(len(right)))], *(wrong[i] for i in chosen)]
            for example in few:
                dialect, read = self.policy.dialect, example.messages
                chats += [(len(made), with_hint(read, attempt, h, dialect)) for h in hints]
                made.append(example)
        asked, said = [chat for _, chat in chats], [made[place].completion for place, _ in chats]
        scores = self.policy.score(asked, said, temperature=step.sampling.temperature or 1.0)
        found: dict[int, list[tuple[float, ...]]] = {}
        for (place, _), score in zip(chats, scores, strict=True):
            found.setdefault(place, []).append(score)
        for place, own in found.items():
            # Where a hint does not fit the context, the advantage stays as it is.
            if all(own):
                made[place] = self._contrasted(made[place], own)
        return made

    def _contrasted(self, example: Example, hints: Sequence[Sequence[float]]) -> Example:
        """With an advantage for each token, from its log-probabilities after each hint."""
        after = torch.tensor(hints, dtype=torch.float64)  # of the right one first
        values = contrasted_advantages(
            example.advantage,
            hint_contrast(after[0], after[1:]),
            scale=self.config.contrast_scale,
            temperature=self.config.contrast_temperature,
            threshold=self.config.contrast_threshold,
            selected_weight=self.config.changed_weight,
        )
        return replace(example, token_advantages=tuple(values.tolist()))


RLCSD = MethodSpec(
    name="rlcsd",
    summary="GRPO whose token advantages follow the contrast of a right and of wrong hints.",
    config=RLCSDConfig,
    build=RLCSDAgent,
    group_size=8,
    load=lambda options: Load(shown=1, scores=1 + options.wrong_hints),
)
