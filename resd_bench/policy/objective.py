"""What a loss sees: one micro-batch of scored tokens."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor


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
    """[b, T] float32: log-probability each token was sampled with; NaN where unknown."""
    advantages: Tensor
    """[b] float32."""
    weights: Tensor
    """[b] float32: factor on each sequence's loss."""


Objective = Callable[[TokenBatch], Tensor]
"""A micro-batch in, [b] per-sequence losses out (weights applied, not yet averaged)."""
