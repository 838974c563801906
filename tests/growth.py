"""Hold the time that a function takes on longer and longer texts to linear."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable

FACTOR = 9.0
"""Four times the input may take this many times as long: linear work takes 4, quadratic 16."""
NOTICEABLE_S = 0.25
"""Shorter times say nothing: caches and allocation outweigh the work."""
REPEATS = 3


def assert_linear(
    work: Callable[[str], object],
    make: Callable[[int], str],
    largest: int,
    what: str,
    smallest: int = 1 << 11,
) -> None:
    """Double the size from `smallest` to `largest`; AssertionError where time grows faster.

    Stops at the first such size, so that what is exponential fails too instead of running on.
    """
    times: list[float] = []
    size = smallest
    while size <= largest:
        text = make(size)
        times.append(_seconds(work, text))
        if len(times) > 2 and _too_slow(times):
            # Once more: a single measurement on a busy machine may be off.
            times[-1] = min(_seconds(work, text) for _ in range(REPEATS))
            assert not _too_slow(times), (
                f"{what}: {times[-1]:.2f} s of processor time for {size} characters, "
                f"{times[-3]:.3f} s for a quarter of them"
            )
        size *= 2


def _too_slow(times: list[float]) -> bool:
    return times[-1] > max(NOTICEABLE_S, FACTOR * times[-3])


def _seconds(work: Callable[[str], object], text: str) -> float:
    # Without the collector, whose time depends on everything else that this process holds.
    gc.disable()
    try:
        begin = time.process_time()
        work(text)
        return time.process_time() - begin
    finally:
        gc.enable()
