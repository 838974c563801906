"""How many BouncingSim answers are graded per CPU second on one core.

    OMP_NUM_THREADS=1 python benchmarks/bouncing_verification.py [repeats]

Prints medians over repeats, for 15 tests an answer, counting every process of the sandbox. Right
answers are programs of exact contacts. Left out: a comparison with the released verifier, which is
not installable.
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

from resd_bench.sandbox import Sandbox
from resd_bench.seeds import stream
from resd_envs.bouncingsim.oracle import contacts_program, solution
from resd_envs.bouncingsim.physics import simulate
from resd_envs.bouncingsim.scenes import TIMES, Difficulty, generate
from resd_envs.bouncingsim.verifier import right_positions, verify

SCENES = 20


def family_cpu() -> float:
    """Processor seconds of this process, its children, and what those have waited for."""
    tick = os.sysconf("SC_CLK_TCK")
    total = time.process_time()
    for child in _descendants(os.getpid()):
        fields = Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()
        total += sum(int(field) for field in fields[11:15]) / tick
    return total


def _descendants(pid: int) -> list[int]:
    words = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [p for word in words for p in (int(word), *_descendants(int(word)))]


def per_second(work: Callable[[], object], items: int, repeats: int) -> float:
    """Median of items per CPU second over `repeats` runs of `work`, after one to warm up."""
    work()
    rates = []
    for _ in range(repeats):
        begin = family_cpu()
        work()
        rates.append(items / (family_cpu() - begin))
    return statistics.median(rates)


def works(tier: Difficulty, box: Sandbox) -> dict[str, Callable[[], object]]:
    """What is measured, by name; each goes over all scenes once."""
    scenes = [generate("G", tier, stream(0, "benchmark", n)) for n in range(SCENES)]
    rights = [right_positions(scene) for scene in scenes]
    programs = {
        "exact programs": [contacts_program(scene) for scene in scenes],
        "tables": [solution(TIMES, right) for right in rights],
        "wrong programs": ["def predict_position(t):\n    return [[0, 0]]"] * SCENES,
    }

    def marking(name: str) -> Callable[[], object]:
        rows = list(zip(programs[name], scenes, rights, strict=True))
        return lambda: [verify(f"```python\n{p}\n```", s, r, box=box) for p, s, r in rows]

    found = {name: marking(name) for name in programs}
    found["simulation alone"] = lambda: [simulate(scene, TIMES) for scene in scenes]
    return found


def main(repeats: int) -> None:
    """Measure and print one line per kind of work."""
    with Sandbox() as box:
        print(f"{SCENES} scenes, 15 tests each, median of {repeats}, sandbox level {box.level}")
        tiers: tuple[Difficulty, ...] = ("easy", "medium")
        for tier in tiers:
            for name, work in works(tier, box).items():
                rate = per_second(work, SCENES, repeats)
                print(f"{tier:7} {name:17} {rate:8,.0f} per CPU second")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 7)
