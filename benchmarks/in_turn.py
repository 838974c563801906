"""Measure two things in turn, and print the medians as a row for `resd-bench bench`.

    python benchmarks/in_turn.py        # this machine's yardstick, CPU seconds

Processor time is measured, which other work on the machine disturbs less than wall time does. Where
no other library does the same, the peer is a yardstick: a loop of fixed length, so that the ratio
says how many such loops one piece of our work costs, on whatever machine.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence

YARDSTICK = "a loop of 10^6 steps"
Way = Callable[[], float]
"""Does a piece of work, and returns what it cost."""


def yardstick() -> float:
    """CPU seconds of 10^6 steps of a loop in Python."""
    start, total = time.process_time(), 0
    for number in range(1_000_000):
        total += number & 7
    return time.process_time() - start


def of_call(work: Callable[[], object]) -> Way:
    """CPU seconds of a call in this process."""

    def way() -> float:
        start = time.process_time()
        work()
        return time.process_time() - start

    return way


def of_process(words: Sequence[str], **environment: str) -> Way:
    """CPU seconds of a process and of its children."""

    def way() -> float:
        process = subprocess.Popen(
            words, stdout=subprocess.DEVNULL, env={**os.environ, **environment}
        )
        _, status, used = os.wait4(process.pid, 0)
        if status:
            sys.exit(f"{' '.join(words)} failed")
        return used.ru_utime + used.ru_stime

    return way


def of_printed(words: Sequence[str], **environment: str) -> Way:
    """What a process prints, which is a number and nothing else."""

    def way() -> float:
        own = {**os.environ, **environment}
        return float(subprocess.run(words, check=True, stdout=subprocess.PIPE, env=own).stdout)

    return way


def in_turn(ways: Mapping[str, Way], turns: int) -> dict[str, list[float]]:
    """The costs of each way, one after the other, `turns` times."""
    costs: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(turns):
        for name, way in ways.items():
            costs[name].append(way())
    return costs


def print_row(
    name: str,
    unit: str,
    costs: tuple[Sequence[float], Sequence[float]],
    peer_name: str,
    scale: float = 1.0,
    **told: float,
) -> None:
    """The row of a claim: `costs` are ours and the peer's by turn; a unit is `scale` seconds.

    `told` are the target and whatever else is worth recording.
    """
    ours, peer = ([cost / scale for cost in each] for each in costs)
    ratios = [theirs / own for own, theirs in zip(ours, peer, strict=True)]
    middle = statistics.median(ratios)
    row = {
        "name": name,
        "unit": unit,
        "ours": float(f"{statistics.median(ours):.3g}"),
        "peer": float(f"{statistics.median(peer):.3g}"),
        "peer_name": peer_name,
        "spread": round(max(abs(ratio - middle) for ratio in ratios) / middle, 2),
        "turns": len(ours),
        **told,
    }
    print(json.dumps(row), flush=True)


if __name__ == "__main__":
    print(yardstick())
