"""Whether a value that a program returned passes a case. Runs only in the parent.

Values are plain data whose strings and numbers the program chose: nothing in them is hashed, and no
method of a class of the program is called. Generated tests compare as the sandbox does (`equal`);
tests written as Python assertions compare as Python does (`python`), and JSON tests too, except
that tuples count as lists (`json`); `stripped` compares printed lines as LiveCodeBench does. The
time it takes grows with the value no faster than sorting does.
"""

from __future__ import annotations

import sys
from decimal import Decimal
from typing import Any

from resd_bench.sandbox import PlainDict, PlainSet
from resd_bench.sandbox.compare import NUMBER, Tolerance, same, same_text
from resd_envs.python_functions.problem import Case


def passes(case: Case, value: Any) -> bool:
    """Whether `value` is right; for a case with standard input, it is the standard output."""
    tolerance = Tolerance(case.rel, case.abs)
    if case.stdin is not None:
        return isinstance(value, str) and _same_output(case, value, tolerance)
    if case.check == "equal":
        return same(case.expected, value, tolerance)
    if case.check in ("truthy", "falsy"):
        # Sets and dicts are tuples here, which are true if they are not empty.
        return bool(value) == (case.check == "truthy")
    if case.check == "close":
        return _is_number(value) and same(_as_float(case.expected), value, tolerance)
    if case.check == "json":
        return same(case.expected, value, tolerance) or python_equal(case.expected, _listed(value))
    return python_equal(case.expected, value) != (case.check == "differs")


def _as_float(number: float) -> float:
    """A float, so that two integers need not be equal; one that is too large stays."""
    return float(number) if abs(number) <= sys.float_info.max else number


def python_equal(expected: Any, got: Any) -> bool:
    """Whether Python's `==` holds between a literal and a plain value from a program."""
    return _spelled(expected, "expected") == _spelled(got, "got")


def _spelled(value: Any, side: str) -> str:
    """Equal texts for values that Python calls equal, and for no others.

    NaN, which equals nothing, is spelled differently on each side.
    """
    if isinstance(value, PlainDict | dict):
        pairs = value.items() if isinstance(value, dict) else value
        entries = sorted(f"{_spelled(key, side)}:{_spelled(item, side)}" for key, item in pairs)
        return "<" + ",".join(entries) + ">"
    if isinstance(value, PlainSet | set | frozenset):
        return "{" + ",".join(sorted(_spelled(item, side) for item in value)) + "}"
    if type(value) in (list, tuple):
        opening, closing = "[]" if type(value) is list else "()"
        return opening + ",".join([_spelled(item, side) for item in value]) + closing
    return _number(value, side) if _is_number(value) else repr(value)


def _number(value: complex, side: str) -> str:
    if value != value:
        return f"nan {side}"
    if isinstance(value, complex) and value.imag:
        return f"{_number(value.real, side)}+{_number(value.imag, side)}j"
    real = value.real
    if isinstance(real, float) and not real.is_integer():
        return repr(real)
    # Not decimal, because Python limits the length of that text.
    return f"{int(real):x}"


def _listed(value: Any) -> Any:
    """Tuples as lists; keys of JSON objects are texts, so dicts do not contain any."""
    if isinstance(value, PlainDict):
        return PlainDict((key, _listed(item)) for key, item in value)
    if type(value) in (list, tuple):
        return [_listed(item) for item in value]
    return value


def _is_number(value: Any) -> bool:
    return type(value) in (bool, int, float, complex)


# Printed lines.


def _same_output(case: Case, text: str, tolerance: Tolerance) -> bool:
    if case.check != "stripped":
        return same_text(str(case.expected), text, tolerance)
    wanted, claimed = _lines(str(case.expected)), _lines(text)
    return len(wanted) == len(claimed) and all(map(_same_line, wanted, claimed))


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.strip().split("\n")]


def _same_line(expected: str, got: str) -> bool:
    """Equal as texts, or number by number and exactly: 1.50 is 1.5."""
    if expected == got:
        return True
    wanted, claimed = expected.split(), got.split()
    return len(wanted) == len(claimed) and all(map(_same_number, wanted, claimed))


def _same_number(expected: str, got: str) -> bool:
    # The published comparison accepts whatever makes a Decimal, even digits of other scripts.
    numbers = NUMBER.fullmatch(expected) and NUMBER.fullmatch(got)
    return numbers is not None and Decimal(expected) == Decimal(got)
