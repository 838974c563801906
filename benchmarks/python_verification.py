"""How many answers to Python problems are graded per second, and where the time goes.

    python benchmarks/python_verification.py [repeats]

Prints medians over repeats for right answers, for answers that raise, and for texts without a
program, one worker at a time: per second of wall time, and per processor second of this process,
which holds comparison and feedback but not the sandboxed programs. Also the median processor time
of a program. Left out: the start of the sandbox, and answers that never end, whose cost is the time
limit.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Sequence

from resd_bench.sandbox import Sandbox, shared
from resd_envs.python_functions import Problem, PythonFunctionsEnv, verify
from resd_envs.python_functions.answer import TAG

PROBLEMS = 48
"""Of each tier."""


def rates(work: Callable[[], object], items: int, repeats: int) -> tuple[float, float]:
    """Medians of items per second of wall time and of this process's, after a run to warm up."""
    work()
    walls, processors = [], []
    for _ in range(repeats):
        wall, processor = time.perf_counter(), time.process_time()
        work()
        walls.append(items / (time.perf_counter() - wall))
        processors.append(items / (time.process_time() - processor))
    return statistics.median(walls), statistics.median(processors)


def program_ms(problems: Sequence[Problem], box: Sandbox) -> float:
    """Median processor time of a right program on all its cases, in milliseconds."""
    times = [
        box.run_program(p.solution, [{"args": list(c.args)} for c in p.cases], entry=p.entry).cpu_s
        for p in problems
    ]
    return 1_000 * statistics.median(times)


def main(repeats: int) -> None:
    """Measure and print one line per tier and kind of answer."""
    box = shared()
    print(f"{PROBLEMS} problems a tier, sandbox level {box.level}, medians of {repeats}")
    for tier in ("basic", "easy", "hard"):
        tasks = PythonFunctionsEnv(tier=tier).tasks("train")[:PROBLEMS]
        problems: list[Problem] = [task.data["function"] for task in tasks]
        cases = statistics.mean(len(problem.cases) for problem in problems)
        print(f"{tier}: {cases:.1f} cases, {program_ms(problems, box):.1f} ms a right program")
        answers = {
            "right": [f"```{TAG}\n{p.solution}\n```" for p in problems],
            "raises": [f"```{TAG}\ndef {p.entry}(*a):\n    return 1 / 0\n```" for p in problems],
            "no program": ["I do not know."] * len(problems),
        }
        for name, texts in answers.items():
            pairs = list(zip(texts, problems, strict=True))
            wall, own = rates(lambda p=pairs: [verify(*x, box=box) for x in p], PROBLEMS, repeats)  # type: ignore[misc]
            print(f"  {name:12} {wall:9,.0f} per second {own:9,.0f} per own processor second")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
