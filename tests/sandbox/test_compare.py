"""Comparison and the wire: what is equal, and what is not even read."""

from __future__ import annotations

import json
import math
import sys
from itertools import permutations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resd_bench.sandbox import PlainDict, PlainSet, compare
from resd_bench.sandbox.compare import NO_TOLERANCE, Tolerance, same, same_text
from resd_bench.sandbox.plain import NotPlain, decode, encode
from resd_bench.sandbox.wire import BadWire, read_report, value

LOOSE = Tolerance(rel=0.01, abs=0.001)
scalars = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(max_size=9)
)
keys = st.booleans() | st.integers() | st.text() | st.tuples(st.integers(), st.text())
plain_values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.sets(st.integers() | st.text(), max_size=4)
        | st.dictionaries(keys, inner, max_size=4)
    ),
    max_leaves=12,
)


def crossed(given_value: Any) -> Any:
    """A value as the parent gets it back."""
    line = json.dumps({"v": encode(given_value, 10_000)}).encode("ascii")
    key, body = read_report(line)
    assert key == "v"
    return value(body)


@given(plain_values)
def test_every_plain_value_is_the_same_after_crossing(given_value: Any) -> None:
    assert same(given_value, crossed(given_value))
    assert same(given_value, crossed(given_value), LOOSE)


@given(plain_values)
def test_arguments_are_decoded_to_what_was_encoded(given_value: Any) -> None:
    tree = json.loads(json.dumps(encode(given_value, 10_000)))
    assert same(given_value, crossed(decode(tree)))


@given(plain_values, plain_values)
def test_values_that_python_tells_apart_are_not_the_same(one: Any, other: Any) -> None:
    if same(one, crossed(other)) and "nan" not in repr(one):
        assert _listed(one) == _listed(other)


def _listed(item: Any) -> Any:
    return json.dumps(_with_lists(item), sort_keys=True, default=repr)


def _with_lists(item: Any) -> Any:
    if isinstance(item, list | tuple):
        return [_with_lists(one) for one in item]
    if isinstance(item, set):
        return ["set", *sorted(map(repr, item))]
    if isinstance(item, dict):
        return ["dict", *sorted((repr(k), _listed(v)) for k, v in item.items())]
    return float(item) if type(item) is int and abs(item) < 2**53 else repr(item)


@pytest.mark.parametrize(
    ("expected", "got", "tolerance", "right"),
    [
        (1, True, NO_TOLERANCE, False),
        (True, 1, LOOSE, False),
        (1, 1.0, NO_TOLERANCE, False),
        (1, 1.0, LOOSE, True),
        (1.0, 1, NO_TOLERANCE, True),
        (0.0, -0.0, NO_TOLERANCE, True),
        (100.0, 100.9, LOOSE, True),
        (100.0, 101.1, LOOSE, False),
        (1.0, 1e300, Tolerance(rel=0.5), False),
        (5, math.inf, Tolerance(rel=1e9, abs=1e300), False),
        (math.inf, math.inf, NO_TOLERANCE, True),
        (math.inf, -math.inf, LOOSE, False),
        (math.inf, 1e308, LOOSE, False),
        (math.nan, math.nan, NO_TOLERANCE, True),
        (math.nan, 1.0, LOOSE, False),
        (1.0, math.nan, LOOSE, False),
        (10**400, 1.0, LOOSE, False),
        ([1, 2], (1, 2), NO_TOLERANCE, True),
        ([1, 2], [1, 2, 3], LOOSE, False),
        ("7", 7, LOOSE, False),
        (b"7", "7", NO_TOLERANCE, False),
        (None, 0, NO_TOLERANCE, False),
        (1 + 1j, 1 + 1.0001j, LOOSE, True),
        ({1.0, 2.0}, PlainSet([2, 1]), NO_TOLERANCE, True),
        ({1, 2}, PlainSet([1, 1]), NO_TOLERANCE, False),
        ({1, 2}, [1, 2], NO_TOLERANCE, False),
        ({"a": 1, "b": 2}, PlainDict([("b", 2), ("a", 1)]), NO_TOLERANCE, True),
        ({"a": 1, "b": 2}, PlainDict([("a", 1), ("a", 1)]), NO_TOLERANCE, False),
        ({1: 2}, PlainDict([(True, 2)]), NO_TOLERANCE, False),
        ({1: 2.0}, PlainDict([(1, 2.001)]), LOOSE, True),
        (object(), object(), NO_TOLERANCE, False),
        ({0.1 + 0.2, 1.0}, PlainSet([0.3, 1.0]), Tolerance(1e-9), True),
        ({0.1, 0.25}, PlainSet([0.25, 0.1000001]), Tolerance(1e-5), True),
        ({9.9999999, 10.5}, PlainSet([10.0, 10.5]), Tolerance(1e-6), True),
        ({0.3, 0.5}, PlainSet([0.3, 0.3]), Tolerance(1e-6), False),
        # Whoever takes the first that is near enough leaves nothing for the other.
        ({0.0, 1.0}, PlainSet([0.5, -0.5]), Tolerance(abs=0.6), True),
        ({0.0, 1.0}, PlainSet([0.5, 2.0]), Tolerance(abs=0.6), False),
        ({1, 2.0}, PlainSet([1.2, 1]), Tolerance(abs=0.9), True),
        ({1, 2}, PlainSet([2, 1.2]), Tolerance(abs=0.3), True),
        ({1, 2}, PlainSet([2, 3]), Tolerance(abs=1), False),
        ({(0.0, 9.0), (0.1, 5.0)}, PlainSet([(0.1, 9.0), (0.0, 5.0)]), Tolerance(abs=0.2), True),
        ({(0.0, "a"), (0.1, "b")}, PlainSet([(0.1, "a"), (0.0, "b")]), Tolerance(abs=0.2), True),
        ({(0.0, "a"), (0.1, "b")}, PlainSet([(0.1, "a"), (0.0, "a")]), Tolerance(abs=0.2), False),
        ({frozenset({0.3}), frozenset()}, PlainSet([PlainSet(), PlainSet([0.31])]), LOOSE, False),
        ({frozenset({3.0}), frozenset()}, PlainSet([PlainSet(), PlainSet([3.01])]), LOOSE, True),
        ({0.3: "a", 2.0: "b"}, PlainDict([(2.001, "b"), (0.3001, "a")]), LOOSE, True),
        ({0.3: "a", 2.0: "b"}, PlainDict([(2.001, "a"), (0.3001, "b")]), LOOSE, False),
        ({1 + 1j, 5j}, PlainSet([5.001j, 1 + 1.001j]), LOOSE, True),
        ({math.inf, 1.0}, PlainSet([1.001, math.inf]), LOOSE, True),
        ({math.inf, 1.0}, PlainSet([1.001, 1e308]), Tolerance(rel=1e9, abs=1e300), False),
        ({10**400, 1.0}, PlainSet([1.0, 10**400]), LOOSE, True),
        ({True, 2.0}, PlainSet([1.0, 2.0]), LOOSE, False),
    ],
)
def test_values_are_compared_by_type_and_tolerance(
    expected: Any, got: Any, tolerance: Tolerance, right: bool
) -> None:
    assert same(expected, got, tolerance) is right


few_numbers = st.lists(st.sampled_from([0, 1, 2, 0.0, 0.4, 0.5, 0.9, 1.0, 1.5]), max_size=5)
few_pairs = st.lists(st.tuples(st.sampled_from([0.0, 0.4, 0.8]), st.sampled_from([0.0, 0.4, 1.0])))


@given(few_numbers | few_pairs, few_numbers | few_pairs, st.sampled_from([0.0, 0.1, 0.5, 1.0]))
def test_two_sets_are_the_same_where_some_order_of_one_is_the_other(
    wanted: list[Any], claimed: list[Any], width: float
) -> None:
    tolerance = Tolerance(abs=width)
    expected = PlainSet(dict.fromkeys(wanted))
    got = PlainSet(claimed[:6])
    right = len(expected) == len(got) and any(
        all(same(a, b, tolerance) for a, b in zip(expected, order, strict=True))
        for order in permutations(got)
    )
    assert same(expected, got, tolerance) is right
    assert same({"k": expected}, PlainDict([("k", got)]), tolerance) is right


def test_sets_whose_elements_are_all_alike_are_given_up_at_some_size(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(compare, "MAX_PAIRS", 50)
    close = {i / 100 for i in range(20)}
    assert same(close, PlainSet(close), Tolerance(abs=1.0))
    with pytest.raises(compare.TooManyPairs):
        same(close, PlainSet([0.5] * 19 + [9.0]), Tolerance(abs=1.0))


@pytest.mark.parametrize(
    ("expected", "got", "tolerance", "right"),
    [
        ("10\n1 2\n", "10  \n1 2\r\n\n\n", NO_TOLERANCE, True),
        ("1 2", "1  2", NO_TOLERANCE, False),
        ("1 2", "1  2", LOOSE, True),
        ("42", "4_2", LOOSE, False),
        ("42", "４２", LOOSE, False),
        ("42", "42.0", NO_TOLERANCE, False),
        ("42", "42.0", LOOSE, True),
        ("1e3", "1000", LOOSE, True),
        ("5", "inf", LOOSE, False),
        ("9007199254740993", "9007199254740992", Tolerance(abs=1e-9), False),
        ("yes", "Yes", LOOSE, False),
        ("1\n2", "1 2", LOOSE, False),
        ("7", "7" * 10_000, LOOSE, False),
        ("7", "1e9999", LOOSE, False),
        ("a\n\nb", "a\nb", NO_TOLERANCE, False),
    ],
)
def test_text_is_compared_by_lines_and_numbers(
    expected: str, got: str, tolerance: Tolerance, right: bool
) -> None:
    assert same_text(expected, got, tolerance) is right


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"7",
        b"[]",
        b"{}",
        b'{"v":1,"w":2}',
        b'{"v":NaN}',
        b'{"v":Infinity}',
        b'{"v":1e999}',
        b'{"v":' + b"9" * 21 + b"}",
        b'{"v":"\xff"}',
        b'{"v":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"v":' + b'{"t":[' * 300 + b"]}" * 300 + b"}",
        b'{"v":' + b"[" * 5000,
        b'{"v":{"x":[]}}',
        b'{"v":{"t":5}}',
        b'{"v":{"i":"0x"}}',
        b'{"v":{"i":"7"}}',
        b'{"v":{"i":7}}',
        b'{"v":{"i":"0x' + b"f" * 70_000 + b'"}}',
        b'{"v":{"f":"1.0"}}',
        b'{"v":{"f":[]}}',
        b'{"v":{"b":"zz"}}',
        b'{"v":{"b":"f f "}}',
        b'{"v":{"d":[[1]]}}',
        b'{"v":{"d":[1]}}',
        b'{"v":{"c":[1]}}',
        b'{"v":{"c":["1","2"]}}',
    ],
)
def test_malformed_reports_are_refused(line: bytes) -> None:
    with pytest.raises(BadWire):
        value(read_report(line)[1])


def test_deep_nesting_is_refused_whatever_the_recursion_limit_of_the_host() -> None:
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(1_000_000)
    try:
        with pytest.raises(BadWire, match="nested"):
            read_report(b'{"v":' + b"[" * 500_000 + b"}")
    finally:
        sys.setrecursionlimit(before)


def test_brackets_in_text_are_no_nesting() -> None:
    text = '["\\' * 1000
    assert crossed(text) == text


def test_what_is_not_plain_is_refused() -> None:
    loop: list[Any] = []
    loop.append(loop)
    for odd in (object(), iter([]), range(3), loop, lambda: 0):
        with pytest.raises(NotPlain):
            encode(odd, 1000)
    with pytest.raises(NotPlain, match="too many"):
        encode([0] * 1000, 1000)
