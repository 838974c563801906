"""An engine that samples with all processes of a run.

Prompts are divided among them; since every sample has a random stream of its own, it does not
matter which process samples it. Each gets about the same number of tokens: what a prompt's answers
were long before, they are taken to be again, as in the updates on one batch and in evaluations.
Left out: moving a sample to another process once it turns out to be long, and dividing the samples
of one prompt.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence

from resd_bench.distributed.process_group import ProcessGroup
from resd_bench.policy.engines.base import Engine, Generated, check_request
from resd_bench.types import Sampling

REMEMBERED = 10_000
"""Prompts whose answers' lengths are remembered, those asked last."""


def balance(sizes: Sequence[float], hands: int) -> list[list[int]]:
    """Indices of `sizes` divided into `hands` shards of about equal total, each ascending.

    The largest goes first, each to the shard with the smallest total so far: no total is more than
    4/3 of the least possible largest one (Graham 1969).
    """
    dealt: list[list[int]] = [[] for _ in range(hands)]
    totals = [0.0] * hands
    for place in sorted(range(len(sizes)), key=lambda i: (-sizes[i], i)):
        least = min(range(hands), key=lambda hand: (totals[hand], len(dealt[hand]), hand))
        dealt[least].append(place)
        totals[least] += sizes[place]
    return [sorted(hand) for hand in dealt]


class AnswerLengths:
    """How long the answers to a prompt were, to say how long they will be."""

    def __init__(self) -> None:
        self._last: OrderedDict[int, float] = OrderedDict()
        """Mean tokens of the last answers, by the prompt's hash; the oldest first."""
        self._total = 0.0
        """Sum of its values."""

    def expected(self, prompt: Sequence[int]) -> float:
        """Tokens of one answer; of a prompt that was not seen, the mean over all prompts."""
        overall = self._total / len(self._last) if self._last else 1.0
        return self._last.get(hash(tuple(prompt)), overall)

    def note(self, prompt: Sequence[int], answers: Sequence[Generated]) -> None:
        """Remember how long these answers are."""
        key = hash(tuple(prompt))
        self._total -= self._last.pop(key, 0.0)
        self._last[key] = sum(len(one.token_ids) for one in answers) / len(answers)
        self._total += self._last[key]
        if len(self._last) > REMEMBERED:
            self._total -= self._last.popitem(last=False)[1]


class SharedEngine:
    """Samples with all processes: each takes a share of the prompts, then all get everything."""

    def __init__(
        self, engine: Engine, process_group: ProcessGroup, limit: int, ready: Callable[[], None]
    ) -> None:
        """`limit` is the model's context; `ready` is called before sampling, in all processes."""
        self._engine, self._process_group = engine, process_group
        self._limit, self._ready = limit, ready
        self._lengths = AnswerLengths()

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        *,
        n: int,
        sampling: Sampling,
        numbers: Sequence[int] | None = None,
    ) -> list[list[Generated]]:
        """`n` continuations of each prompt, see `Engine.generate`."""
        # Checked for all prompts in every process, so that either all processes refuse or none.
        check_request(prompts, n, sampling, self._limit)
        self._ready()
        named = range(len(prompts)) if numbers is None else numbers
        sizes = [len(prompt) + n * self._lengths.expected(prompt) for prompt in prompts]
        hands = balance(sizes, self._process_group.size)
        mine = hands[self._process_group.rank]
        made = self._engine.generate(
            [prompts[i] for i in mine], n=n, sampling=sampling, numbers=[named[i] for i in mine]
        )
        found = {
            place: group
            for hand, groups in zip(hands, self._process_group.gather(made), strict=True)
            for place, group in zip(hand, groups, strict=True)
        }
        for place, group in found.items():
            self._lengths.note(prompts[place], group)
        return [found[i] for i in range(len(prompts))]
