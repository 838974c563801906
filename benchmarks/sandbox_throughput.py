"""How many programs the sandbox judges per second, and what each costs in processor time.

    python benchmarks/sandbox_throughput.py [programs] [workers]

One program is ten calls of a trivial function, of one that uses numpy, or ten runs of a script.
Prints for each level that this machine has: the least and the median wall time of a program (one
at a time), the processor time of parent and children together, and programs per second with
`workers` threads. A zygote's own work while it waits is counted once it has ended. Left out: a
comparison with a cold subprocess per program.
"""

from __future__ import annotations

import os
import statistics
import sys
import time
import warnings
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from resd_bench.sandbox import LEVELS, Level, Sandbox, SandboxError


@dataclass(frozen=True)
class Work:
    """One kind of program."""

    name: str
    code: str
    entry: str | None
    cases: Sequence[Mapping[str, Any]]


CALLS = [{"args": [number], "expected": 2 * number + 1} for number in range(10)]
STDIN = [{"stdin": f"{number}\n", "expected": f"{2 * number + 1}\n"} for number in range(10)]
WORKS = (
    Work("trivial", "def solve(n):\n    return 2 * n + 1", "solve", CALLS),
    Work(
        "numpy",
        "import numpy as np\ndef solve(n):\n    return int(np.array([n, n, 1]).sum())",
        "solve",
        CALLS,
    ),
    Work("script", "print(2 * int(input()) + 1)", None, STDIN),
)


def processor_s() -> float:
    """Processor time of this process and of its children that have ended."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def judge(box: Sandbox, work: Work) -> float:
    """Wall time of one program; AssertionError where it is not right."""
    begin = time.perf_counter()
    result = box.run_program(work.code, work.cases, entry=work.entry)
    assert result.score == 1, result
    return time.perf_counter() - begin


def measure(level: Level, work: Work, programs: int, workers: int) -> str:
    """One line of the table."""
    before = processor_s()
    with Sandbox(level, want=level, workers=workers) as box:
        judge(box, work)
    start_s = processor_s() - before
    before = processor_s()
    with Sandbox(level, want=level, workers=workers) as box:
        walls = [judge(box, work) for _ in range(programs)]
        name = box.level
    cpu_ms = (processor_s() - before - start_s) / programs * 1000
    with Sandbox(level, want=level, workers=workers) as box, ThreadPoolExecutor(workers) as pool:
        list(pool.map(lambda _: judge(box, work), range(2 * workers)))
        begin = time.perf_counter()
        list(pool.map(lambda _: judge(box, work), range(programs)))
        rate = programs / (time.perf_counter() - begin)
    least, median = min(walls) * 1000, statistics.median(walls) * 1000
    return f"{name:<10} {work.name:<8} {least:7.2f} {median:9.2f} {cpu_ms:7.2f} {rate:11.0f}"


def main(programs: int, workers: int) -> None:
    """Measure every level and every kind of program."""
    warnings.simplefilter("ignore", RuntimeWarning)
    print(
        f"{'level':<10} {'work':<8} {'min ms':>7} {'median ms':>9} {'cpu ms':>7} {'per second':>11}"
    )
    for level in LEVELS:
        for work in WORKS:
            try:
                print(measure(level, work, programs, workers), flush=True)
            except SandboxError as error:
                print(f"{level}: {error}")
                break


if __name__ == "__main__":
    given = [int(text) for text in sys.argv[1:3]]
    main(*given, *(200, 2)[len(given) :])
