"""The input of a loss: one micro-batch of scored tokens.

An objective that is a sum over tokens can be declared as such (`TokenObjective`); it is then
computed a few tokens at a time if the logits of a whole sequence would not fit into memory.

Shapes: b sequences, T response tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Aggregation = Literal["mean", "sum"]
"""How the losses of a sequence's tokens are combined."""


@dataclass(frozen=True, slots=True)
class TokenBatch:
    """b examples of one micro-batch; T is the longest completion among them, V the vocabulary."""

    student_logits: Tensor
    """[b, T, V] float32, with gradient: logits that predict `token_ids`."""
    teacher_logits: Tensor | None
    """[b, T, V] float32, without gradient, at the same tokens after the teacher's prompt."""
    token_ids: Tensor
    """[b, T] int64."""
    mask: Tensor
    """[b, T] float32: 1 where a token is scored, 0 on padding."""
    behaviour_logprobs: Tensor
    """[b, T] float32: log-probability that each token was sampled with; NaN if unknown."""
    advantages: Tensor
    """[b] float32; [b, T] where they differ within a sequence."""
    weights: Tensor
    """[b] float32: factor on each sequence's loss."""


Objective = Callable[[TokenBatch], Tensor]
"""From a micro-batch to per-sequence losses [b] (weights applied, not yet averaged)."""


@dataclass(frozen=True, slots=True)
class TokenObjective:
    """An `Objective` that is a sum of per-token terms.

    A token's term may depend only on what the batch holds for that token: its logits, its id, and
    the advantage and weight of its sequence. The trainer may therefore pass any n tokens as n
    sequences of one token each.
    """

    per_token: Callable[[TokenBatch], Tensor]
    """From a batch to terms [b, T], with all weights applied but not the mask."""
    aggregation: Aggregation = "mean"

    def __call__(self, batch: TokenBatch) -> Tensor:
        return sequence_losses(self.per_token(batch), batch.mask, self.aggregation)


def sequence_losses(per_token: Tensor, mask: Tensor, aggregation: Aggregation = "mean") -> Tensor:
    """Mean (or sum) [b] of `per_token` [b, T] over scored tokens; 0 for a sequence without any."""
    # A product would let non-finite values at masked positions through.
    totals = torch.where(mask > 0, per_token * mask, 0.0).sum(-1)
    return totals if aggregation == "sum" else totals / mask.sum(-1).clamp(min=1)
