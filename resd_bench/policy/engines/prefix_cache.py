"""What an engine remembers of its last call: keys and values of sequences that may go on.

An episode's next prompt is its last one, the answer to it, and what the environment said. Where a
call goes on like this, the sequences of the next ones are kept, and only what is new is read. Any
tokens that a prompt begins with serve, not only whole sequences. Left out: remembering more than
one call, and what other weights made.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

_Tokens = tuple[int, ...]

_PROBES = 8
"""Prompts that are looked at to see whether a call goes on where the last one ended."""
_BITS = {2: torch.int16, 4: torch.int32, 8: torch.int64}


@dataclass(frozen=True, slots=True)
class CachedSequence:
    """A sequence of the last call."""

    tokens: _Tokens
    """Prompt and answer without its last token, which no model has read."""
    prompt: int
    """Tokens of the prompt."""
    cache: Tensor | None
    """[layers, 2, rows, key-value heads, columns, head size], None where it was not kept."""
    row: int
    column: int
    """Where in `cache` the first token is."""


@dataclass(frozen=True, slots=True)
class CachedPrefix:
    """The first tokens of a prompt, read before."""

    said: CachedSequence
    tokens: int

    def read(self) -> Tensor:
        """[layers, 2, key-value heads, tokens, head size]."""
        assert self.said.cache is not None
        first = self.said.column
        return self.said.cache[:, :, self.said.row, :, first : first + self.tokens]


class PrefixCache:
    """The sequences of one call."""

    def __init__(self, said: Iterable[CachedSequence] = (), weights: Tensor | None = None) -> None:
        """`weights` is the fingerprint of the weights that made what is in caches."""
        self._said = sorted(said, key=_tokens)
        self.weights = weights

    def goes_on(self, prompts: Sequence[Sequence[int]]) -> bool:
        """Whether prompts reach into answers of the last call; a few of them are tried."""
        some = prompts[:: max(1, len(prompts) // _PROBES)]
        near = [self._nearest(tuple(prompt)) for prompt in some]
        return any(found is not None and found.tokens > found.said.prompt for found in near)

    def beginning(self, prompt: Sequence[int]) -> CachedPrefix | None:
        """The longest beginning of `prompt` in a cache; its last token is always left to read."""
        found = self._nearest(tuple(prompt[:-1]))
        return None if found is None or found.said.cache is None or not found.tokens else found

    def _nearest(self, asked: _Tokens) -> CachedPrefix | None:
        """The sequence that has the longest beginning in common with `asked`."""
        at = bisect_right(self._said, asked, key=_tokens)
        # Of sequences in order, a neighbour has the most in common.
        near = [
            CachedPrefix(said, common(said.tokens, asked))
            for said in self._said[at - (at > 0) : at + 1]
        ]
        return max(near, key=lambda one: one.tokens, default=None)


def _tokens(said: CachedSequence) -> _Tokens:
    return said.tokens


def common(one: _Tokens, other: _Tokens) -> int:
    """How many tokens two sequences begin with alike."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def weights_fingerprint(weights: Iterable[Tensor]) -> Tensor:
    """[weights] int64: what changes when weights do, from their bits."""
    return torch.stack([w.view(_BITS[w.itemsize]).sum(dtype=torch.int64) for w in weights])
