"""An engine that samples with all processes of a run.

Prompts are divided among them; since every sample has a random stream of its own, it does not
matter which process samples it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from resd_bench.distributed.process_group import ProcessGroup
from resd_bench.policy.engines.base import Engine, Generated, check_request
from resd_bench.types import Sampling


def balance(sizes: Sequence[int], hands: int) -> list[list[int]]:
    """Indices of `sizes` divided into `hands` shards of about equal total, each ascending."""
    dealt: list[list[int]] = [[] for _ in range(hands)]
    for turn, place in enumerate(sorted(range(len(sizes)), key=lambda i: (-sizes[i], i))):
        forth, position = divmod(turn, hands)
        dealt[position if forth % 2 == 0 else hands - 1 - position].append(place)
    return [sorted(hand) for hand in dealt]


class SharedEngine:
    """Samples with all processes: each takes a share of the prompts, then all get everything."""

    def __init__(
        self, engine: Engine, process_group: ProcessGroup, limit: int, ready: Callable[[], None]
    ) -> None:
        """`limit` is the model's context; `ready` is called before sampling, in all processes."""
        self._engine, self._process_group = engine, process_group
        self._limit, self._ready = limit, ready

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
        hands = balance([len(prompt) for prompt in prompts], self._process_group.size)
        made: list[list[Generated]] = []
        if mine := hands[self._process_group.rank]:
            made = self._engine.generate(
                [prompts[i] for i in mine],
                n=n,
                sampling=sampling,
                numbers=[named[i] for i in mine],
            )
        found = {
            place: group
            for hand, groups in zip(hands, self._process_group.gather(made), strict=True)
            for place, group in zip(hand, groups, strict=True)
        }
        return [found[i] for i in range(len(prompts))]
