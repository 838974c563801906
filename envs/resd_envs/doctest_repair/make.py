"""Make `mutants.json`: which mutants of which functions fail their examples.

    python -m resd_envs.doctest_repair.make

A function is used if its examples pass as they are, twice; a mutant, if it runs to its end and an
example shows something else. Left out: functions with f-strings, which versions of Python write
differently, functions whose examples can be met by a guess, and mutants that do not end.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path

from resd_bench.files.writing import write_atomically
from resd_bench.sandbox import Limits, Sandbox
from resd_envs.doctest_repair.library import PACKAGE, PACKAGE_VERSION, Function, functions
from resd_envs.doctest_repair.mutations import count, mutant
from resd_envs.doctest_repair.verifier import run

TRIED, KEPT = 16, 6
"""Mutants of a function that are tried and kept."""
MAX_SOURCE = 2500
"""Characters of a function."""
GUESSES = {"True\n", "False\n", "None\n", ""}
"""What examples must not all show: a program that computes nothing may show it, such as
`all(map(isclose, f(x), y))` where `f` returns nothing."""
ENDS = {"pass", "wrong_output", "exception"}
_LIMITS = Limits(call_cpu_s=0.3, total_cpu_s=1.0)


def main() -> None:
    """Write the file next to this one."""
    with Sandbox() as box:
        found = {
            name: kept
            for name, function in sorted(functions().items())
            if usable(function, box) and (kept := sorted(failing(function, box)))
        }
    record = {"package": PACKAGE, "version": PACKAGE_VERSION, "mutants": found}
    lines = [f' "{name}": {json.dumps(numbers)}' for name, numbers in found.items()]
    body = ",\n".join(lines)
    head = json.dumps({k: v for k, v in record.items() if k != "mutants"})[:-1]
    text = f'{head}, "mutants": {{\n{body}\n}}}}\n'
    place = Path(__file__).with_name("mutants.json")
    write_atomically(place, text.encode(), place.parent)
    print(f"{len(found)} functions, {sum(map(len, found.values()))} mutants", file=sys.stderr)


def usable(function: Function, box: Sandbox) -> bool:
    """Whether the original passes, and can be shown."""
    if "f'" in function.source or 'f"' in function.source or len(function.source) > MAX_SOURCE:
        return False
    wanted = {example.wanted for example in function.examples}
    if len(wanted) == 1 and wanted <= GUESSES:
        return False
    twice = [run(function.source, function, box, _LIMITS) for _ in range(2)]
    return all(outcome.kind == "pass" for outcomes in twice for outcome in outcomes)


def failing(function: Function, box: Sandbox) -> Iterator[int]:
    """Numbers of mutants that fail, no two of which are the same program."""
    seen, kept = {function.source}, 0
    for number in sorted(range(count(function.source)), key=lambda n: _chance(function.name, n))[
        :TRIED
    ]:
        source = mutant(function.source, number)
        if source in seen or kept == KEPT:
            continue
        seen.add(source)
        kinds = {outcome.kind for outcome in run(source, function, box, _LIMITS)}
        if kinds <= ENDS and kinds != {"pass"}:
            kept += 1
            yield number


def _chance(name: str, number: int) -> str:
    return hashlib.sha256(f"{name} {number}".encode()).hexdigest()


if __name__ == "__main__":
    main()
