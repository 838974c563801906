"""Compares expected with claimed values, both plain data. Runs only in the parent.

- A bool is not an int. An int for an expected float is right, a float for an expected int only
  under a tolerance. Two ints are compared exactly.
- NaN equals NaN and nothing else; no tolerance reaches an infinity; the relative tolerance scales
  with the expected value, never with the claimed one.
- Lists and tuples are interchangeable, sets and dicts have no order. Under a tolerance a set is
  right if its elements can be matched one-to-one with the expected ones, a dict if its entries can.
- In text, trailing white space and empty lines at the end do not count.

The time it takes grows with the claimed value no faster than sorting does. Where the expected value
itself makes it expensive (large sets of numbers that are all within the tolerance of each other),
`TooManyPairs` is raised.
"""

from __future__ import annotations

import math
import re
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import groupby
from typing import Any

from resd_bench.sandbox.plain import PlainDict, PlainSet

NUMBER = re.compile(
    r"[+-]?(?:[0-9]++(?:\.[0-9]*+)?|\.[0-9]++)(?:[eE][+-]?[0-9]{1,4})?|[+-]?inf|nan"
)
"""`float` alone is too lenient: it accepts `4_2`, full-width digits and surrounding white space."""
INTEGER = re.compile(r"[+-]?[0-9]+")
MAX_NUMBER_CHARS = 300
BLANKS = " \t\r\n\f\v"
WORD = re.compile(r"[^ \t\r\n\f\v]+")
MAX_PAIRS = 1_000_000
"""Maximum number of pairs considered when two sets are matched under a tolerance."""


class TooManyPairs(ValueError):
    """Two sets cannot be compared: too many of their elements are within the tolerance."""


@dataclass(frozen=True, slots=True)
class Tolerance:
    """How far a number may be from the expected e: at most the larger of `abs` and `rel * |e|`."""

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


NO_TOLERANCE = Tolerance()


def same(expected: Any, got: Any, tolerance: Tolerance = NO_TOLERANCE) -> bool:
    """Whether the claimed value is the expected one; TooManyPairs, see the module."""
    if type(expected) in (int, float) and type(got) in (int, float):
        return _same_number(expected, got, tolerance)
    if isinstance(expected, _SETS | _DICTS):
        kind = PlainDict if isinstance(expected, _DICTS) else PlainSet
        return (
            type(got) is kind
            and len(got) == len(expected)
            and _same_unordered(arranged(expected), arranged(got), tolerance)
        )
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


# Sets and dicts.

_SETS, _DICTS = PlainSet | set | frozenset, PlainDict | dict


@dataclass(frozen=True, slots=True)
class Arranged:
    """A set, or the entries of a dict, in a canonical order: the same for equal ones."""

    brackets: str
    """`{}` for a set, `<>` for a dict."""
    items: tuple[Any, ...]
    """Elements, or (key, value) pairs, sorted by their texts, with their contents arranged too."""


Leaf = Callable[[Any], str]
"""Spells a value that is not a container."""


def arranged(value: Any) -> Any:
    """`value` with every set and dict in it `Arranged`; each is sorted once."""
    return _arrange(value, _spelled)[1]


def _arrange(value: Any, leaf: Leaf) -> tuple[str, Any]:
    """A text that equal values share, and the value arranged."""
    if isinstance(value, _DICTS):
        pairs = value.items() if isinstance(value, dict) else value
        return _sorted("<>", (_arrange_pair(pair, leaf) for pair in pairs))
    if isinstance(value, _SETS):
        return _sorted("{}", (_arrange(item, leaf) for item in value))
    if type(value) in (list, tuple):
        parts = [_arrange(item, leaf) for item in value]
        return "[" + ",".join(text for text, _ in parts) + "]", [item for _, item in parts]
    return leaf(value), value


def _arrange_pair(pair: tuple[Any, Any], leaf: Leaf) -> tuple[str, Any]:
    (key_text, key), (text, item) = (_arrange(part, leaf) for part in pair)
    return f"{key_text}:{text}", (key, item)


def _sorted(brackets: str, parts: Iterable[tuple[str, Any]]) -> tuple[str, Any]:
    in_order = sorted(parts, key=_text_of)
    text = brackets[0] + ",".join(text for text, _ in in_order) + brackets[1]
    return text, Arranged(brackets, tuple(item for _, item in in_order))


def _text_of(part: tuple[str, Any]) -> str:
    return part[0]


def _spelled(value: Any) -> str:
    """Equal texts for equal values that are not containers; whole floats are spelled as ints."""
    if type(value) is float and value.is_integer():
        value = int(value)
    # Not decimal, because Python limits the length of that text.
    return f"i{value:x}" if type(value) is int else f"{type(value).__name__[0]}{value!r}"


def _same_unordered(expected: Arranged, got: Any, tolerance: Tolerance) -> bool:
    if type(got) is not Arranged or got.brackets != expected.brackets:
        return False
    if len(expected.items) != len(got.items):
        return False
    if not tolerance:
        return all(_alike(*pair, tolerance) for pair in zip(expected.items, got.items, strict=True))
    ours, theirs = _by_shape(expected.items), _by_shape(got.items)
    return [(shape, len(group)) for shape, group in ours] == [
        (shape, len(group)) for shape, group in theirs
    ] and all(
        _matched(wanted, claimed, tolerance)
        for (_, wanted), (_, claimed) in zip(ours, theirs, strict=True)
    )


def _alike(expected: Any, got: Any, tolerance: Tolerance) -> bool:
    """Like `same`, for arranged values."""
    if type(expected) is Arranged:
        return _same_unordered(expected, got, tolerance)
    if type(expected) in (list, tuple):
        return (
            type(got) in (list, tuple)
            and len(expected) == len(got)
            and all(_alike(*pair, tolerance) for pair in zip(expected, got, strict=True))
        )
    return type(got) is not Arranged and same(expected, got, tolerance)


def _by_shape(items: Sequence[Any]) -> list[tuple[str, list[Any]]]:
    """The elements grouped by what no tolerance affects: everything except numbers."""
    shapes = sorted(((_shape(item), item) for item in items), key=_text_of)
    return [(shape, [item for _, item in group]) for shape, group in groupby(shapes, key=_text_of)]


def _shape(value: Any) -> str:
    if type(value) is Arranged:
        # Its order may change when its numbers do.
        return value.brackets[0] + ",".join(sorted(map(_shape, value.items))) + value.brackets[1]
    if type(value) in (list, tuple):
        return "[" + ",".join(map(_shape, value)) + "]"
    return (
        "#" if type(value) in (int, float) else "c" if type(value) is complex else _spelled(value)
    )


def _place(value: Any) -> float:
    """The first number outside sets and dicts, or 0; equal values have the same one.

    NaN is skipped, since nothing can be sorted by it.
    """
    return next(_numbers(value), 0.0)


def _numbers(value: Any) -> Iterator[float]:
    if type(value) in (list, tuple):
        for item in value:
            yield from _numbers(item)
    elif type(value) in (int, float, complex):
        try:
            number = float(value.real)
        except OverflowError:
            number = math.inf if value > 0 else -math.inf
        if not math.isnan(number):
            yield number


def _matched(expected: Sequence[Any], got: Sequence[Any], tolerance: Tolerance) -> bool:
    """Whether the elements, equally many and of one shape, can be matched one-to-one."""
    ours, theirs = sorted(expected, key=_place), sorted(got, key=_place)

    @cache
    def alike(one: int, other: int) -> bool:
        return _alike(ours[one], theirs[other], tolerance)

    if all(alike(place, place) for place in range(len(ours))):
        return True
    places = list(map(_place, theirs))
    candidates: list[list[int]] = []
    looked_at = 0
    for one, item in enumerate(ours):
        near = _near(_place(item), places, tolerance)
        looked_at += len(near)
        if looked_at > MAX_PAIRS:
            raise TooManyPairs(f"over {MAX_PAIRS} pairs of elements are within the tolerance")
        candidates.append([other for other in near if alike(one, other)])
        if not candidates[-1]:
            return False
    return _can_be_matched(candidates)


def _near(place: float, places: Sequence[float], tolerance: Tolerance) -> range:
    """The range of the sorted `places` that is within the tolerance of `place`."""
    low = high = place
    if not math.isinf(place):
        reach = tolerance.around(place)
        # Widened by more than rounding can change.
        reach += 1e-9 * (reach + abs(place))
        low, high = place - reach, place + reach
    return range(bisect_left(places, low), bisect_right(places, high))


def _can_be_matched(candidates: Sequence[Sequence[int]]) -> bool:
    """Whether every row can be given a candidate of its own."""
    # Slow to import and rarely needed.
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import maximum_bipartite_matching

    rows = [row for row, found in enumerate(candidates) for _ in found]
    columns = [column for found in candidates for column in found]
    size = len(candidates)
    graph = csr_array(([1] * len(rows), (rows, columns)), shape=(size, size))
    return bool((maximum_bipartite_matching(graph, perm_type="column") >= 0).all())


# Printed text.


def same_text(expected: str, got: str, tolerance: Tolerance = NO_TOLERANCE) -> bool:
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
        # Exact, because floats would lose the last digits of long integers.
        whole = int(expected)
        return abs(whole - int(got)) <= max(tolerance.abs, tolerance.rel * abs(float(whole)))
    if not NUMBER.fullmatch(expected) or not NUMBER.fullmatch(got):
        return False
    return _same_number(float(expected), float(got), tolerance)
