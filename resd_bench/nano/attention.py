"""Causal attention with plain matrix products, for pre-training short documents on a CPU.

At these lengths the fused CPU kernel is slower, above all its backward pass. Padding is not masked:
rows are padded at the end, where nothing is learned. Left out: dropout.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

ATTENTION = "resd_causal"
"""Its name for `set_attn_implementation`."""


def attend(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Attention of (B, H, L, D) queries over (B, G, L, D) keys and values; (B, L, H, D).

    H must be a multiple of G. Under autocast all of it is bfloat16, the softmax included.
    """
    rows, heads, length, size = query.shape
    groups = key.shape[1]
    lean = torch.is_autocast_enabled("cpu")
    with torch.autocast("cpu", enabled=False):
        if lean:
            query, key, value = (x.to(torch.bfloat16) for x in (query, key, value))
        # The queries that share a key form one long matrix.
        query = (query * (scaling or size**-0.5)).reshape(rows, groups, -1, size)
        scores = (query @ key.transpose(-1, -2)).view(rows, groups, -1, length, length)
        weights = scores.masked_fill(_later(length), float("-inf")).softmax(-1)
        mixed = weights.view(rows, groups, -1, length) @ value
    return mixed.view(rows, heads, length, size).transpose(1, 2).contiguous(), None


@lru_cache(maxsize=8)
def _later(length: int) -> Tensor:
    """(L, L): whether a column is later than its row."""
    return torch.ones(length, length, dtype=torch.bool).triu(1)


ALL_ATTENTION_FUNCTIONS.register(ATTENTION, attend)
