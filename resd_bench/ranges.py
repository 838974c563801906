"""Ranges of numbers that people give: one way to say them, to check them and to print them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

EXACT = 2**53
"""Whole numbers up to this are floats exactly; beyond, two become one."""


@dataclass(frozen=True, slots=True)
class Range:
    """Finite numbers from `low` to `high`, without those that are left out."""

    low: float = -math.inf
    high: float = math.inf
    without_low: bool = False
    without_high: bool = False

    def __contains__(self, value: object) -> bool:
        """Whether `value` is a finite number in the range; true and false are none."""
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        # A whole number of 400 digits is finite and no float.
        finite = isinstance(value, int) or math.isfinite(value)
        above = value > self.low if self.without_low else value >= self.low
        below = value < self.high if self.without_high else value <= self.high
        return finite and above and below

    def __str__(self) -> str:
        """`at least 1`, `above 0`, `in (0, 1]`, `from 0 to 5`."""
        if math.isinf(self.high):
            return f"above {self.low:.10g}" if self.without_low else f"at least {self.low:.10g}"
        if not (self.without_low or self.without_high):
            return f"from {self.low:.10g} to {self.high:.10g}"
        left, right = "(" if self.without_low else "[", ")" if self.without_high else "]"
        return f"in {left}{self.low:.10g}, {self.high:.10g}{right}"


POSITIVE, NOT_NEGATIVE, ABOVE_0 = Range(1), Range(0), Range(0, without_low=True)
SHARE, NUCLEUS = Range(0, 1), Range(0, 1, without_low=True)


def check(options: object, ranges: Mapping[str, Range]) -> None:
    """ValueError for an attribute of `options` that is not in its range; None is not given."""
    for name, allowed in ranges.items():
        value = getattr(options, name)
        if value is not None and value not in allowed:
            raise ValueError(f"{name}: expected a value {allowed}, got {value!r}")


class InRanges:
    """A dataclass whose numbers are checked when it is made, by `RANGES` of it and its parents."""

    RANGES: ClassVar[Mapping[str, Range]] = {}

    def __post_init__(self) -> None:
        for kind in type(self).__mro__:
            check(self, vars(kind).get("RANGES", {}))
