"""CPU milliseconds of a small program in the warm sandbox, beside a new Python for each.

    OMP_NUM_THREADS=1 python benchmarks/sandbox_program.py

A program is ten calls of a trivial function, which also the peer makes, in an isolated process
without a sandbox. A second row is exact programs of bouncing scenes of medium difficulty, beside a
yardstick. Left out: other kinds of programs and levels, see `sandbox_throughput.py`.
"""

from __future__ import annotations

import sys

from benchmarks.bouncing_verification import family_cpu, works
from benchmarks.in_turn import YARDSTICK, Way, in_turn, of_process, print_row, yardstick
from benchmarks.sandbox_throughput import WORKS, judge
from resd_bench.sandbox import Sandbox

PROGRAMS = 40
TURNS = 5
TARGET_MS = 5.0
SCENES = 20
EXACT_TARGET_MS = 1000 / 86
"""86 exact programs of medium scenes in a CPU second."""


def of_family(work: Way, items: int) -> Way:
    """CPU seconds per item of `work`, of this process and all that it started."""

    def way() -> float:
        begin = family_cpu()
        work()
        return (family_cpu() - begin) / items

    return way


def main() -> None:
    trivial = WORKS[0]
    program = f"{trivial.code}\nprint([solve(n) for n in range(10)])"
    with Sandbox() as box:

        def many() -> float:
            return sum(judge(box, trivial) for _ in range(PROGRAMS))

        many()
        warm = of_family(many, PROGRAMS)
        costs = in_turn(
            {"ours": warm, "peer": of_process([sys.executable, "-I", "-c", program])}, TURNS
        )
        row = (costs["ours"], costs["peer"])
        name = "sandbox: a warm program"
        print_row(name, "CPU ms", row, "a new Python", 0.001, target=TARGET_MS)
        exact = works("medium", box)["exact programs"]

        def mark() -> float:
            exact()
            return 0.0

        mark()
        costs = in_turn({"ours": of_family(mark, SCENES), "peer": yardstick}, TURNS)
        row = (costs["ours"], costs["peer"])
        name = "sandbox: exact bouncing program, medium"
        print_row(name, "CPU ms", row, YARDSTICK, 0.001, target=round(EXACT_TARGET_MS, 1))


if __name__ == "__main__":
    main()
