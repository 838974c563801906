"""How many Manufactoria-HAS answers are graded per CPU second on one core.

    python benchmarks/dsl_verification.py [repeats]

Prints the median over repeats for correct answers (all 874 problems), the same with names that no
answer had before (nodes that were read before are not read again), for answers that reject
everything (which need feedback) and for parsing alone. Left out: a comparison with the released
verifier, which is not installable.
"""

from __future__ import annotations

import re
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from itertools import count

from resd_bench.parsing import last_code_block
from resd_envs.manufactoria.machine import parse
from resd_envs.manufactoria.problems import has_split, make_problem
from resd_envs.manufactoria.verifier import TAG, oracle_program, verify


def per_second(work: Callable[[], object], items: int, repeats: int) -> float:
    """Median of items per CPU second over `repeats` runs of `work`, after one to warm up."""
    work()
    rates = []
    for _ in range(repeats):
        begin = time.process_time()
        work()
        rates.append(items / (time.process_time() - begin))
    return statistics.median(rates)


def renamed(answers: list[str]) -> Iterator[list[str]]:
    """The answers again and again, each time with other names of their nodes."""
    for turn in count():
        yield [re.sub(r"\bs(\d+x?)\b", rf"n{turn}_{n}_\1", a) for n, a in enumerate(answers)]


def main(repeats: int) -> None:
    """Measure and print one line per kind of work."""
    problems = [make_problem(s.family, s.params) for split in has_split() for s in split]
    answers = [f"```{TAG}\n{oracle_program(problem)}\n```" for problem in problems]
    programs = [last_code_block(answer, TAG) or "" for answer in answers]
    reject = f"```{TAG}\nSTART start:\n    NEXT NONE\nEND end\n```"
    pairs = list(zip(answers, problems, strict=True))
    unseen = renamed(answers)
    # Before measuring: one to warm up, and one a repeat.
    fresh = iter([next(unseen) for _ in range(repeats + 1)])
    tests = sum(len(problem.tests) for problem in problems) / len(problems)
    works: dict[str, Callable[[], object]] = {
        "correct answers": lambda: [verify(answer, problem) for answer, problem in pairs],
        "with unseen names": lambda: [
            verify(answer, problem) for answer, problem in zip(next(fresh), problems, strict=True)
        ],
        "reject everything": lambda: [verify(reject, problem) for problem in problems],
        "parsing alone": lambda: [parse(program) for program in programs],
    }
    print(f"{len(problems)} problems, {tests:.1f} tests each, median of {repeats}")
    for name, work in works.items():
        print(f"{name:20} {per_second(work, len(problems), repeats):10,.0f} per CPU second")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 7)
