"""Expected against claimed, both plain data. Runs only in the parent.

- A bool is no int. An int for an expected float is right, a float for an expected int only under a
  tolerance. Two ints are compared exactly.
- NaN equals NaN and nothing else; no tolerance reaches an infinity; the relative tolerance scales
  with the expected value, never with the claimed one.
- Lists and tuples are interchangeable, sets and dicts have no order.
- In text, space at the end of lines and empty lines at the end do not count.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

from resd_bench.sandbox.wire import PlainDict, PlainSet

NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,4})?|[+-]?inf|nan")
"""`float` alone is too kind: it takes `4_2`, full-width digits and white space around."""
INTEGER = re.compile(r"[+-]?[0-9]+")
MAX_NUMBER_CHARS = 300
BLANKS = " \t\r\n\f\v"
WORD = re.compile(r"[^ \t\r\n\f\v]+")


@dataclass(frozen=True, slots=True)
class Tolerance:
    """How far a number may be from the expected e: the larger of `abs` and `rel * |e|`."""

    rel: float = 0.0
    abs: float = 0.0

    def __post_init__(self) -> None:
        for name, bound in (("rel", self.rel), ("abs", self.abs)):
            if not 0 <= bound < math.inf:
                raise ValueError(f"{name} = {bound!r}: a tolerance is finite and not negative")

    def __bool__(self) -> bool:
        return self.rel > 0 or self.abs > 0

    def around(self, expected: float) -> float:
        """The largest distance from `expected` that counts as equal."""
        return max(self.abs, self.rel * abs(expected))


EXACT = Tolerance()


def same(expected: Any, got: Any, tolerance: Tolerance = EXACT) -> bool:
    """Whether the claimed value is the expected one."""
    if type(expected) in (int, float) and type(got) in (int, float):
        return _same_number(expected, got, tolerance)
    if isinstance(expected, PlainSet | set | frozenset):
        return type(got) is PlainSet and _same_items(
            sorted(expected, key=order), sorted(got, key=order), tolerance
        )
    if isinstance(expected, PlainDict | dict):
        return type(got) is PlainDict and _same_pairs(expected, got, tolerance)
    if type(expected) in (list, tuple):
        return type(got) in (list, tuple) and _same_items(expected, got, tolerance)
    if type(expected) is not type(got):
        return False
    if type(expected) is complex:
        return _same_number(expected.real, got.real, tolerance) and _same_number(
            expected.imag, got.imag, tolerance
        )
    return type(expected) in (bool, str, bytes, type(None)) and bool(expected == got)


def _same_number(expected: float, got: float, tolerance: Tolerance) -> bool:
    if type(expected) is int and type(got) is int:
        return expected == got
    if type(expected) is int and not tolerance:
        return False
    try:
        wanted, claimed = float(expected), float(got)
    except OverflowError:
        return False
    if math.isnan(wanted) or math.isnan(claimed):
        return math.isnan(wanted) and math.isnan(claimed)
    if math.isinf(wanted) or math.isinf(claimed):
        return wanted == claimed
    return abs(wanted - claimed) <= tolerance.around(wanted)


def _same_items(expected: Any, got: Any, tolerance: Tolerance) -> bool:
    return len(expected) == len(got) and all(
        same(one, other, tolerance) for one, other in zip(expected, got, strict=True)
    )


def _same_pairs(expected: Any, got: Any, tolerance: Tolerance) -> bool:
    wanted = expected.items() if isinstance(expected, dict) else expected
    ours = sorted(wanted, key=lambda pair: order(pair[0]))
    theirs = sorted(got, key=lambda pair: order(pair[0]))
    return len(ours) == len(theirs) and all(
        same(key, their_key) and same(item, their_item, tolerance)
        for (key, item), (their_key, their_item) in zip(ours, theirs, strict=True)
    )


def order(value: Any) -> str:
    """A text that is the same for equal values; used for sorting alone."""
    if isinstance(value, PlainDict | dict):
        pairs = value.items() if isinstance(value, dict) else value
        return "<" + ",".join(sorted(f"{order(key)}:{order(item)}" for key, item in pairs)) + ">"
    if isinstance(value, PlainSet | set | frozenset):
        return "{" + ",".join(sorted(order(item) for item in value)) + "}"
    if type(value) in (list, tuple):
        return "[" + ",".join(order(item) for item in value) + "]"
    if type(value) is float and value.is_integer():
        value = int(value)
    # Not the decimal text, whose length Python limits.
    return f"i{value:x}" if type(value) is int else f"{type(value).__name__[0]}{value!r}"


def same_text(expected: str, got: str, tolerance: Tolerance = EXACT) -> bool:
    """Whether the printed text is the expected one; a tolerance compares it number by number."""
    wanted, claimed = _lines(expected), _lines(got)
    if wanted == claimed:
        return True
    return (
        bool(tolerance)
        and len(wanted) == len(claimed)
        and all(_same_line(*pair, tolerance) for pair in zip(wanted, claimed, strict=True))
    )


def _lines(text: str) -> list[str]:
    return [line.rstrip(BLANKS) for line in text.rstrip(BLANKS).split("\n")]


def _same_line(expected: str, got: str, tolerance: Tolerance) -> bool:
    wanted, claimed = WORD.findall(expected), WORD.findall(got)
    return len(wanted) == len(claimed) and all(
        one == other or _same_word(one, other, tolerance)
        for one, other in zip(wanted, claimed, strict=True)
    )


def _same_word(expected: str, got: str, tolerance: Tolerance) -> bool:
    if max(len(expected), len(got)) > MAX_NUMBER_CHARS:
        return False
    if INTEGER.fullmatch(expected) and INTEGER.fullmatch(got):
        # Exactly: floats would lose the last digits of long integers.
        whole = int(expected)
        return abs(whole - int(got)) <= max(tolerance.abs, tolerance.rel * abs(float(whole)))
    if not NUMBER.fullmatch(expected) or not NUMBER.fullmatch(got):
        return False
    return _same_number(float(expected), float(got), tolerance)
