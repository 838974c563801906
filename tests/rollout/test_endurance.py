"""Many episodes leave nothing behind: the search for leaks finds one, and rollouts have none."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from benchmarks.endurance import Held, grown, look
from resd_bench.budget import Ledger
from resd_bench.rollout.rollout import EnvPool, roll_out
from resd_bench.types import Completion, Messages, Sampling
from resd_envs.guess_number import GuessNumberEnv

FLAT = [Held(3, 1, 20, 100.0)] * 12


@pytest.mark.parametrize(
    ("field", "more", "found"),
    [
        *(("processes", 1, True), ("machines", 1, True), ("descriptors", 1, True)),
        *(("memory", 8, True), ("memory", 0.5, False)),
    ],
)
def test_what_goes_on_growing_after_the_first_quarter_is_found(
    field: str, more: float, found: bool
) -> None:
    def held(by: Sequence[float]) -> list[Held]:
        return [
            replace(one, **{field: getattr(one, field) + more * n})
            for one, n in zip(FLAT, by, strict=True)
        ]

    assert bool(grown(held(range(12)), 0.1)) == found
    assert not grown(held([0, 1, 2, *[2] * 9]), 0.1), "warming up is not a leak"


@pytest.mark.skipif(sys.platform != "linux", reason="Linux only: /proc")
def test_a_process_and_a_descriptor_that_stay_are_seen() -> None:
    before = look()
    read, write = os.pipe()
    try:
        assert look().descriptors == before.descriptors + 2
    finally:
        os.close(read)
        os.close(write)
    after = look()
    assert after == replace(before, memory=after.memory)


@pytest.mark.skipif(sys.platform != "linux", reason="Linux only: /proc")
@pytest.mark.slow
@pytest.mark.parametrize("slots", [0, 5])
@pytest.mark.parametrize("isolated", [False, True])
def test_rollouts_one_after_another_hold_no_more_than_the_first(slots: int, isolated: bool) -> None:
    make = partial(GuessNumberEnv, dialect="compact")
    before = look()
    pool = EnvPool(make, isolated=isolated, workers=2, slots=slots)
    tasks = make().tasks("train")[:40]

    def act(prompts: Sequence[Messages], *, n: int, **_: Any) -> list[list[Completion]]:
        return [[Completion(str(len(chat) * 7 % 64), (1,))] * n for chat in prompts]

    def once(seed: int) -> Held:
        roll_out(
            act,
            pool,
            tasks,
            n=1,
            sampling=Sampling(),
            purpose="evaluation",
            ledger=Ledger(),
            seed=seed,
        )
        return look()

    threads = threading.active_count()
    seen = [once(seed) for seed in range(12)]
    assert not grown(seen, 0.1)
    assert threading.active_count() <= threads + 1, "only the thread that calls environments stays"
    pool.close()
    assert look().processes == before.processes
