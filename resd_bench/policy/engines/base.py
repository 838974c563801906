"""What all sampling engines share: the protocol, the random streams, the choice of a token.

Sample j of prompt i draws its uniforms from its own stream, named by (seed, i, j), and every token
is chosen by inverting the cumulative distribution. So in fp32 a sequence does not depend on which
others are decoded with it, on the chunking, or on the engine. Left out: beams, penalties, top-k.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from resd_bench.errors import UsageError
from resd_bench.seeds import derive
from resd_bench.types import Sampling, Stop

_T = TypeVar("_T")
_Floats = np.ndarray[tuple[int, ...], np.dtype[np.float32]]
_MANY_TOKENS = 1 << 13
"""Vocabularies above this are not sorted, nor summed token by token, which takes several times as
long at 49,152 tokens."""
_BLOCK = 128
"""Tokens of such a vocabulary whose probabilities are summed together."""
_ROWS = 16
"""Rows whose bins are counted together; more leave the processor's cache."""
_BIN_BITS = 19
"""Last bits of a float32 that tell apart what is in one bin."""


class NonFiniteLogits(Exception):
    """A model's logits hold NaN or infinity: samples from them are meaningless."""


@dataclass(frozen=True, slots=True)
class Generated:
    """One sampled continuation of a prompt."""

    token_ids: tuple[int, ...]
    """Sampled ids, including the stop token if it was sampled."""
    logprobs: tuple[float, ...]
    """Log-probability (nats) of each id under the distribution it was drawn from, after temperature
    and top-p; for greedy decoding, under the softmax at temperature 1."""
    stop: Stop
    """`EOS` if a stop token ended it, `LENGTH` if `max_new_tokens` did."""

    def __post_init__(self) -> None:
        # One NaN logit makes every log-probability of its row NaN, and a sum keeps it.
        if math.isnan(sum(self.logprobs)):
            raise NonFiniteLogits


SampleIndex = tuple[int, int]
"""(prompt, sample)."""


class Engine(Protocol):
    """Samples continuations of token prompts with the current weights of a model."""

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        *,
        n: int,
        sampling: Sampling,
        numbers: Sequence[int] | None = None,
    ) -> list[list[Generated]]:
        """`n` continuations of each prompt; UsageError if one does not fit the context.

        `numbers` names the random stream of each prompt; by default, its index in `prompts`.
        """
        ...


@runtime_checkable
class RemoteWeightsEngine(Engine, Protocol):
    """An engine that holds a copy of the weights, or runs in another program.

    With several processes, each has one, and `generate` is called in all of them together, with no
    prompts where a process has none: each can take over the weights then.
    """

    def sync_weights(self) -> None:
        """Sample with the model's new weights from the next call on."""
        ...


class TrainedWeights(Protocol):
    """The weights being trained, wherever they are placed, for an engine that copies them.

    With several processes, all of them call a function together: each may hold only a shard.
    """

    @property
    def device(self) -> torch.device:
        """Where this process computes."""
        ...

    @property
    def trained_model(self) -> Any:
        """The Hugging Face model; its parameters may be shards."""
        ...

    def read(self, compute: Callable[[Any], _T]) -> _T:
        """`compute(model)`, without gradients; the model can be called in it."""
        ...


def context_limit(config: Any) -> int:
    """Maximum number of tokens (prompt and response) of a model with this Hugging Face config."""
    text = config.get_text_config() if hasattr(config, "get_text_config") else config
    return int(getattr(text, "max_position_embeddings", None) or 2**31 - 1)


def check_request(prompts: Sequence[Sequence[int]], n: int, sampling: Sampling, limit: int) -> None:
    """UsageError if a model with a context of `limit` tokens cannot serve a request."""
    if n < 1 or sampling.max_new_tokens < 1:
        raise UsageError(
            f"n={n} samples of max_new_tokens={sampling.max_new_tokens} were asked for; "
            "both must be at least 1 (--group-size, --max-new-tokens)"
        )
    if sampling.temperature < 0 or not 0 < sampling.top_p <= 1:
        raise UsageError(
            f"temperature {sampling.temperature} must be at least 0 (--temperature) and "
            f"top-p {sampling.top_p} in (0, 1] (--top-p)"
        )
    lengths = [len(prompt) for prompt in prompts]
    if min(lengths, default=1) == 0:
        raise ValueError(f"prompt {lengths.index(0)} is empty; a prompt has at least one token")
    longest = max(lengths, default=0)
    if longest + sampling.max_new_tokens > limit:
        raise UsageError(
            f"a prompt of {longest} tokens and {sampling.max_new_tokens} new ones exceed this "
            f"model's context of {limit} tokens; give --max-new-tokens of at most "
            f"{max(limit - longest, 0)}, shorter prompts, or a model with a longer context"
        )


def uniforms(
    sampling: Sampling, rows: Sequence[SampleIndex], numbers: Sequence[int] | None
) -> Tensor:
    """Float64 [rows, max_new_tokens] in [0, 1), one stream per (seed, prompt number, sample)."""
    length, seed = sampling.max_new_tokens, sampling.seed
    if sampling.temperature == 0:
        return torch.zeros(len(rows), length, dtype=torch.float64)
    named = rows if numbers is None else [(numbers[i], j) for i, j in rows]
    streams = [np.random.default_rng([seed, i, j]).random(length) for i, j in named]
    return torch.from_numpy(np.stack(streams))


def row_seed(sampling: Sampling, number: int, sample: int) -> int:
    """Seed of one sample, for engines with their own generators, named as in `uniforms`.

    It has 31 bits, which every sampler accepts.
    """
    return derive(sampling.seed, number, sample) >> 32


def chunks(
    prompts: Sequence[Sequence[int]], n: int, new: int, max_tokens: int
) -> Iterator[list[SampleIndex]]:
    """All rows by prompt length, in chunks of at most `max_tokens` padded tokens (with `new`)."""
    chunk: list[SampleIndex] = []
    for i in sorted(range(len(prompts)), key=lambda i: len(prompts[i])):
        for j in range(n):
            if chunk and (len(chunk) + 1) * (len(prompts[i]) + new) > max_tokens:
                yield chunk
                chunk = []
            chunk.append((i, j))
    if chunk:
        yield chunk


def choose(logits: Tensor, u: Tensor, sampling: Sampling) -> tuple[Tensor, Tensor]:
    """Choose one token per row.

    `logits` [b, V] float32, `u` [b] float64 in [0, 1). Returns ids [b] int64 and their
    log-probabilities [b] float32. Top-p keeps the smallest set of most probable tokens whose
    probabilities sum to at least `top_p`, and every token tied with the least probable of them.
    """
    if sampling.temperature == 0:
        ids = logits.argmax(-1)
        return ids, logits.log_softmax(-1).gather(-1, ids[:, None])[:, 0]
    probs = (logits / sampling.temperature if sampling.temperature != 1 else logits).softmax(-1)
    if sampling.top_p < 1:
        # In vocabulary order, not rank order, so near ties cannot swap what a uniform selects.
        probs = probs * (probs >= _least_kept(probs, sampling.top_p))
    if probs.shape[-1] > _MANY_TOKENS:
        ids, total = _drawn_of_many(probs, u[:, None])
    else:
        cumulative = probs.cumsum(-1, dtype=torch.float64)
        total = cumulative[:, -1:]
        ids = torch.searchsorted(cumulative, u[:, None] * total, right=True)
        ids.clamp_(max=logits.shape[-1] - 1)
    return ids[:, 0], (probs.gather(-1, ids) / total).log()[:, 0].float()


def _drawn_of_many(probs: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
    """The tokens [b, 1] at which the sums of `probs` [b, V] pass the share `u` [b, 1] of the whole
    sum [b, 1] float64, which is returned too.

    Token by token, only one block of each row is summed.
    """
    rest = -probs.shape[-1] % _BLOCK
    padded = torch.nn.functional.pad(probs, (0, rest)) if rest else probs
    blocks = padded.view(len(probs), padded.shape[-1] // _BLOCK, _BLOCK)
    ends = blocks.sum(-1, dtype=torch.float64).cumsum(-1)
    total = ends[:, -1:]
    block = _passing(ends, u * total)
    inside = blocks[torch.arange(len(u), device=u.device), block[:, 0]]
    sums = inside.cumsum(-1, dtype=torch.float64)
    start = ends.gather(-1, block) - sums[:, -1:]
    # Rounding must not let a token without mass be the first.
    return block * _BLOCK + _passing(sums, (u * total - start).clamp_(min=0)), total


def _passing(sums: Tensor, share: Tensor) -> Tensor:
    """The first places [b, 1] at which ascending `sums` [b, n] are above `share` [b, 1].

    Where rounding makes a share as large as the last sum, the first place that reaches it: what
    comes after has no mass.
    """
    reached = (sums < sums[:, -1:]).sum(-1, keepdim=True)
    return torch.searchsorted(sums, share, right=True).minimum(reached)


def check_first(logprobs: Tensor) -> None:
    """Raise NonFiniteLogits right after the first token instead of waiting for the others."""
    if bool(logprobs.isnan().any()):
        raise NonFiniteLogits


def logprobs_of(logits: Tensor, ids: Tensor, sampling: Sampling) -> Tensor:
    """Log-probabilities [n], float32, of `ids` [n] as `choose` samples from `logits` [n, V].

    A token outside the nucleus gets the value it would have if it were kept, which is finite.
    """
    scaled = logits if sampling.temperature in (0, 1) else logits / sampling.temperature
    logprobs = scaled.log_softmax(-1)
    chosen = logprobs.gather(-1, ids[:, None])[:, 0]
    if sampling.temperature == 0 or sampling.top_p == 1:
        return chosen
    probs = logprobs.exp()
    kept = probs * (probs >= _least_kept(probs, sampling.top_p))
    return chosen - kept.sum(-1, dtype=torch.float64).log().float()


def _least_kept(probs: Tensor, top_p: float) -> Tensor:
    """Probability [b, 1] of the least probable token in each row's nucleus."""
    if probs.device.type != "cpu":
        ascending = probs.sort(-1).values
    elif probs.shape[-1] > _MANY_TOKENS:
        starts = range(0, len(probs), _ROWS)
        parts = [_least_of_many(probs[i : i + _ROWS].numpy(), top_p) for i in starts]
        return torch.from_numpy(np.concatenate(parts))
    else:  # numpy sorts float32 with vector instructions, torch does not
        ascending = torch.from_numpy(np.sort(probs.numpy(), -1))
    below = ascending.cumsum(-1, dtype=torch.float64)
    dropped = (below <= below[:, -1:] * (1 - top_p)).sum(-1, keepdim=True)
    return ascending.gather(-1, dropped.clamp_(max=probs.shape[-1] - 1))


def _least_of_many(probs: _Floats, top_p: float) -> _Floats:
    """`_least_kept` of a few rows of a large vocabulary, of which almost nothing is sorted.

    Floats that are not negative sort as their bits do, so the leading bits make bins; only the bin
    in which the nucleus ends is sorted. NaN where a row has one.
    """
    bins = probs.view(np.uint32) >> _BIN_BITS
    count = 1 << (32 - _BIN_BITS)
    first = np.arange(len(probs), dtype=np.uint32)[:, None] * count
    mass = np.bincount((bins + first).ravel(), probs.ravel(), len(probs) * count)
    mass = mass.reshape(len(probs), count)
    below = mass.cumsum(-1)
    limit = below[:, -1] * (1 - top_p)
    least = np.full((len(probs), 1), np.nan, np.float32)
    for row, end in enumerate(np.minimum((below <= limit[:, None]).sum(-1), bins.max(-1))):
        own = np.sort(probs[row][bins[row] == end])
        if len(own) and not np.isnan(limit[row]):
            dropped = below[row, end] - mass[row, end] + own.cumsum(dtype=np.float64)
            least[row] = own[min(int((dropped <= limit[row]).sum()), len(own) - 1)]
    return least


def stop_table(stop_ids: Iterable[int], vocabulary: int, device: torch.device) -> Tensor:
    """Bool [V]: whether a token ends a turn."""
    table = torch.zeros(vocabulary, dtype=torch.bool, device=device)
    table[[i for i in stop_ids if i < vocabulary]] = True
    return table


def cut(ids: Tensor, logprobs: Tensor, is_stop: Tensor) -> list[Generated]:
    """Rows of sampled ids and log-probabilities [b, T], each cut after its first stop token."""
    stopped = is_stop[ids]
    ended = stopped.any(-1)
    lengths = torch.where(ended, stopped.int().argmax(-1) + 1, ids.shape[1]).tolist()
    rows = zip(ids.tolist(), logprobs.tolist(), lengths, ended.tolist(), strict=True)
    return [
        Generated(tuple(i[:length]), tuple(p[:length]), Stop.EOS if end else Stop.LENGTH)
        for i, p, length, end in rows
    ]


def ungroup(n: int, flat: Mapping[SampleIndex, Generated]) -> list[list[Generated]]:
    """Generated rows keyed by (prompt, sample) as one list of `n` per prompt."""
    return [[flat[i, j] for j in range(n)] for i in range(len(flat) // n)]
