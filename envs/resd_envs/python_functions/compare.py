"""Whether a value that a program returned passes a case. Runs in the parent alone.

Values are plain data whose strings and numbers the program chose: nothing of it is hashed, and no
method of a class of the program's is called. Generated tests compare as the sandbox does (`equal`);
tests that were written as Python assertions compare as Python does (`python`), those that are JSON
alike, but take tuples for lists (`json`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from resd_bench.sandbox import PlainDict, PlainSet
from resd_bench.sandbox.compare import Tolerance, same, same_text
from resd_envs.python_functions.problem import Case


def passes(case: Case, value: Any) -> bool:
    """Whether `value` is right; for a case with standard input it is the standard output."""
    tolerance = Tolerance(case.rel, case.abs)
    if case.stdin is not None:
        return isinstance(value, str) and same_text(str(case.expected), value, tolerance)
    if case.check == "equal":
        return same(case.expected, value, tolerance)
    if case.check in ("truthy", "falsy"):
        return _truth(value) == (case.check == "truthy")
    if case.wrap:
        value = _wrapped(case.wrap, value)
        if value is _FAILED:
            return False
    if case.check == "close":
        return _is_number(value) and same(float(case.expected), value, tolerance)
    if case.check == "json":
        return same(case.expected, value, tolerance) or python_equal(case.expected, _listed(value))
    return python_equal(case.expected, value) != (case.check == "differs")


def python_equal(expected: Any, got: Any) -> bool:
    """Whether Python's `==` holds between a literal and a plain value of a program's."""
    if _is_number(expected) and _is_number(got):
        return bool(expected == got)
    if isinstance(expected, set | frozenset | PlainSet):
        return isinstance(got, PlainSet) and _same_elements(expected, got)
    if isinstance(expected, dict):
        return isinstance(got, PlainDict) and _same_pairs(list(expected.items()), got)
    if type(expected) in (list, tuple):
        return (
            type(got) is type(expected)
            and len(got) == len(expected)
            and all(python_equal(one, other) for one, other in zip(expected, got, strict=True))
        )
    return type(expected) is type(got) and bool(expected == got)


def _listed(value: Any) -> Any:
    """Tuples as lists; texts are keys of objects, so no dict holds any."""
    if isinstance(value, PlainDict):
        return PlainDict((key, _listed(item)) for key, item in value)
    if type(value) in (list, tuple):
        return [_listed(item) for item in value]
    return value


def _is_number(value: Any) -> bool:
    return type(value) in (bool, int, float, complex)


def _same_elements(expected: Any, got: Sequence[Any]) -> bool:
    wanted = list(expected)
    return (
        len(wanted) == len(got)
        and all(_among(item, wanted) for item in got)
        and all(_among(item, got) for item in wanted)
    )


def _same_pairs(expected: Sequence[tuple[Any, Any]], got: Sequence[tuple[Any, Any]]) -> bool:
    return len(expected) == len(got) and all(
        any(python_equal(key, k) and python_equal(item, v) for k, v in got)
        for key, item in expected
    )


def _among(item: Any, items: Sequence[Any]) -> bool:
    return any(python_equal(item, other) for other in items)


def _truth(value: Any) -> bool:
    # Sets and dicts are tuples here, which are true where they hold something.
    return bool(value)


_FAILED = object()


def _wrapped(wrap: str, value: Any) -> Any:
    """`len`, `sorted`, `set`, `list` or `tuple` of a plain value; `_FAILED` where Python raises."""
    if not isinstance(value, str | bytes | list | tuple):
        return _FAILED
    if wrap == "len":
        return len(value)
    items = [pair[0] for pair in value] if isinstance(value, PlainDict) else list(value)
    if wrap == "sorted":
        try:
            return sorted(items)
        except TypeError:
            return _FAILED
    if wrap == "set":
        unhashable = any(isinstance(item, list | PlainSet | PlainDict) for item in items)
        return _FAILED if unhashable else PlainSet(_distinct(items))
    return tuple(items) if wrap == "tuple" else items


MAX_DISTINCT = 2_000
"""More different elements than any literal in a test has."""


def _distinct(items: Sequence[Any]) -> list[Any]:
    found: list[Any] = []
    for item in items:
        if len(found) > MAX_DISTINCT:
            break
        if not _among(item, found):
            found.append(item)
    return found
