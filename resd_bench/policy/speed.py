"""How fast a model reads and samples on this machine, measured in a few seconds before a run.

The prompts repeat one token, so that no prompt of the run begins like them: nothing of the probe is
left in the engine's prefix cache, and the run measures what it would have measured without it. Left
out: the speed of training, which follows from that of reading.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from resd_bench.types import Sampling, Speed

if TYPE_CHECKING:
    from resd_bench.policy.engines.base import Engine

MOST_ROWS = 32
PROBE_TOKENS, PROBE_NEW = 32, 8
"""Of the probe: a second of arithmetic for a model of 135 million parameters."""
LEAST_TIMES, MOST_TIMES, ENOUGH_SECONDS = 2, 8, 0.25
"""How often each part is done: until so much time was measured. A small model is done so quickly
that a busy machine would decide."""
_FIRST_ID = 5
_IDS = 32
"""Different token ids in the prompts: every vocabulary has them."""


def measure_speed(engine: Engine, rows: int) -> Speed:
    """Time `engine` on `rows` prompts, at most `MOST_ROWS`.

    Everything is done twice or more often, and the shortest time counts: a first call is slow, and
    the machine may be busy. To sample a token never takes less than to read one.
    """
    rows = min(rows, MOST_ROWS)
    prompts = [[_FIRST_ID + i % _IDS] * PROBE_TOKENS for i in range(rows)]
    seconds, sampled = [], 1
    for new in (1, 1 + PROBE_NEW):
        took: list[float] = []
        while len(took) < LEAST_TIMES or (sum(took) < ENOUGH_SECONDS and len(took) < MOST_TIMES):
            start = time.perf_counter()
            made = engine.generate(prompts, n=1, sampling=Sampling(1.0, 1.0, new, seed=0))
            took.append(time.perf_counter() - start)
        seconds.append(min(took))
        sampled = max(1, sum(len(one.token_ids) - 1 for one, *_ in made))
    read = seconds[0] / (rows * PROBE_TOKENS)
    return Speed(read, max(read, (seconds[1] - seconds[0]) / sampled))
