"""What an engine keeps of its last calls: keys and values of sequences that may be continued.

An episode's next prompt is its last one, the answer to it, and the environment's reply. Once a call
continues the last one like this, sequences are kept for the following calls, and only what is new
is read. Any common beginning is used, not only whole sequences. Where two groups of episodes take
turns, two calls are remembered. Left out: more of them, and anything computed with other weights.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

_Tokens = tuple[int, ...]

_PROBES = 8
"""Number of prompts examined to see whether a call continues the last one."""
_BITS = {2: torch.int16, 4: torch.int32, 8: torch.int64}


@dataclass(frozen=True, slots=True)
class CachedSequence:
    """A sequence of the last call."""

    tokens: _Tokens
    """Prompt and answer, without the last token, which no model has read."""
    prompt: int
    """Number of tokens in the prompt."""
    cache: Tensor | None
    """[layers, 2, rows, key-value heads, columns, head size], None if it was not kept."""
    row: int
    column: int
    """Column of the first token in `cache`."""


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
    """The sequences of one call, or of two."""

    def __init__(
        self,
        said: Iterable[CachedSequence] = (),
        weights: Tensor | None = None,
        before: PrefixCache | None = None,
    ) -> None:
        """`weights` is the fingerprint of the weights that the caches were computed with.

        Of the call `before` this one, those that were computed with the same are remembered too.
        """
        self._last = list(said)
        self.weights = weights
        earlier = [] if before is None else [self._usable(one, before) for one in before._last]
        self._said = sorted([*self._last, *earlier], key=_tokens)

    def _usable(self, one: CachedSequence, before: PrefixCache) -> CachedSequence:
        """A sequence of the call `before`, without a cache that other weights may have computed."""
        mine, its = self.weights, before.weights
        same = mine is not None and its is not None and torch.equal(mine, its)
        return one if same else replace(one, cache=None)

    def goes_on(self, prompts: Sequence[Sequence[int]]) -> bool:
        """Whether prompts reach into answers of the last call; only a few are tried."""
        some = prompts[:: max(1, len(prompts) // _PROBES)]
        near = [self._nearest(tuple(prompt)) for prompt in some]
        return any(found is not None and found.tokens > found.said.prompt for found in near)

    def beginning(self, prompt: Sequence[int]) -> CachedPrefix | None:
        """The longest cached beginning of `prompt`; its last token is always left to read."""
        found = self._nearest(tuple(prompt[:-1]))
        return None if found is None or found.said.cache is None or not found.tokens else found

    def _nearest(self, asked: _Tokens) -> CachedPrefix | None:
        """The sequence that shares the longest beginning with `asked`."""
        at = bisect_right(self._said, asked, key=_tokens)
        # Among sorted sequences, a neighbour has the most in common.
        near = [
            CachedPrefix(said, common(said.tokens, asked))
            for said in self._said[at - (at > 0) : at + 1]
        ]
        return max(near, key=lambda one: one.tokens, default=None)


def _tokens(said: CachedSequence) -> _Tokens:
    return said.tokens


def common(one: _Tokens, other: _Tokens) -> int:
    """Length of the common beginning of two sequences."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def weights_fingerprint(weights: Iterable[Tensor]) -> Tensor:
    """A fingerprint, int64 [weights], of the weights' bits: it changes when they do."""
    return torch.stack([w.view(_BITS[w.itemsize]).sum(dtype=torch.int64) for w in weights])
