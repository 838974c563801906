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
    """Quadruple the size, from `smallest` on or later, up to `largest`.

    AssertionError where the time grows faster, at the first such size, so that what is
    exponential fails too instead of running on.
    """
    times: list[float] = []
    sizes = [largest]
    while sizes[0] // 4 >= smallest:
        sizes.insert(0, sizes[0] // 4)
    for size in sizes:
        text = make(size)
        times.append(_seconds(work, text))
        if len(times) > 1 and _too_slow(times):
            # Once more: a single measurement on a busy machine may be off.
            times[-1] = min(_seconds(work, text) for _ in range(REPEATS))
            assert not _too_slow(times), (
                f"{what}: {times[-1]:.2f} s of processor time for {size} characters, "
                f"{times[-2]:.3f} s for a quarter of them"
            )


def _too_slow(times: list[float]) -> bool:
    return times[-1] > max(NOTICEABLE_S, FACTOR * times[-2])


def _seconds(work: Callable[[str], object], text: str) -> float:
    # Without the collector, whose time depends on everything else that this process holds.
    gc.disable()
    try:
        begin = time.process_time()
        work(text)
        return time.process_time() - begin
    finally:
        gc.enable()
