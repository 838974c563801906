"""Whatever bytes a child sends, the parent has a verdict on them, soon."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from resd_bench.sandbox import PlainDict, PlainSet, Sandbox, judge, preload, wire
from resd_bench.sandbox.compare import Tolerance, same, same_text
from resd_envs.python_functions.compare import python_equal
from tests.growth import assert_linear

FAILURES = ("wrong", "timeout", "memory", "crash", "forbidden", "bad_output", "verifier_limit")
EXPECTED: tuple[Any, ...] = (
    *(None, True, 1, 1.5, 10**400, float("inf"), float("nan"), 1 + 2j, "x", b"x", [1, 2], (1, 2)),
    *({1, 2}, {1.5, 2.0}, {(1.0, "a"), (2, "b")}, {"a": 1}, {1.5: [2.0]}, frozenset({frozenset()})),
)
TOLERANCES = (Tolerance(), Tolerance(1e-6, 1e-6), Tolerance(3.0), Tolerance(abs=1e308))
MEGABYTE = 1 << 20

numbers = st.sampled_from(
    ["0", "-1", "99999999999999999999", "1e308", "-0.0", "1e-320", "1e400", "0.1", "NaN"]
)
integers = st.sampled_from(["0x1", "-0x0", "0x" + "f" * 300, "0x" + "f" * 6000, "0x", "7", "0xg"])
scalars = st.one_of(
    st.sampled_from(["null", "true", "false"]),
    numbers,
    st.text(max_size=5).map(json.dumps),
    integers.map(lambda text: f'{{"i":"{text}"}}'),
    integers.map(lambda text: f'{{"i":"\\u0030x{text[2:]}"}}'),
    st.sampled_from(['{"f":"nan"}', '{"f":"-inf"}', '{"f":"1"}', '{"b":"00"}', '{"b":"0"}']),
)


def _containers(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    lists = st.lists(inner, max_size=4).map(",".join)
    pairs = st.lists(st.tuples(inner, inner).map(lambda p: f"[{p[0]},{p[1]}]"), max_size=3)
    return st.one_of(
        lists.map(lambda items: f"[{items}]"),
        st.tuples(st.sampled_from("tscdxv"), lists).map(lambda p: f'{{"{p[0]}":[{p[1]}]}}'),
        pairs.map(lambda items: f'{{"d":[{",".join(items)}]}}'),
        st.tuples(inner, inner).map(lambda p: f'{{"c":[{p[0]},{p[1]}]}}'),
    )


trees = st.recursive(scalars, _containers, max_leaves=10)
reports = st.tuples(st.sampled_from(["v", "ex", "bad", "load", "x"]), trees).map(
    lambda pair: f'{{"{pair[0]}":{pair[1]}}}'.encode("utf-8", "surrogatepass")
)
HUGE_COMPLEX = b'{"v":{"c":[{"i":"0x1' + b"0" * 300 + b'"},1]}}'
ESCAPED_INTEGER = b'{"v":{"i":"\\u0030x' + b"f" * 6000 + b'"}}'


@given(reports | st.binary(max_size=60), st.sampled_from(EXPECTED), st.sampled_from(TOLERANCES))
@example(HUGE_COMPLEX, 1, Tolerance())
@example(b'{"v":{"c":[1.0,{"i":"-0x1' + b"0" * 400 + b'"}]}}', 1 + 2j, Tolerance(1.0))
def test_any_bytes_get_a_verdict_and_no_exception(
    line: bytes, expected: Any, tolerance: Tolerance
) -> None:
    for case in ({}, {"expected": expected}):
        verdict, value = judge._answered(line, case, tolerance)
        assert verdict.kind in ("ok", *FAILURES)
        assert verdict.detail.isascii()
        assert repr(value)


@pytest.mark.parametrize("line", [HUGE_COMPLEX, b'{"v":{"c":[1,2]}}', b'{"v":{"c":[true,1.0]}}'])
def test_the_parts_of_a_complex_number_are_floats(line: bytes) -> None:
    verdict, value = judge._answered(line, {}, Tolerance())
    assert (verdict.kind, value) == ("bad_output", None)


def test_an_integer_is_too_long_to_print_however_its_text_is_spelled() -> None:
    for line in (ESCAPED_INTEGER, ESCAPED_INTEGER.replace(b"\\u0030", b"0")):
        verdict, value = judge._answered(line, {}, Tolerance())
        assert (verdict.kind, value) == ("bad_output", None)
        verdict, value = judge._answered(line, {"expected": 16**6000 - 1}, Tolerance())
        assert (verdict.kind, value) == ("ok", None)


def test_what_the_comparison_cannot_bear_is_the_programs_failure(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(*_: Any) -> bool:
        raise RecursionError("too deep")

    monkeypatch.setattr(judge, "same", broken)
    verdict, value = judge._answered(b'{"v":1}', {"expected": 1}, Tolerance())
    assert (verdict.kind, value) == ("verifier_limit", None)
    assert "RecursionError" in verdict.detail


FORGED = """
import os
def solve(n):
    left = memoryview({line!r} + b"\\n")
    while left: left = left[os.write(3, left):]
    return 0
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "line", [HUGE_COMPLEX, ESCAPED_INTEGER, b'{"v":', b"\x00\xff", b'{"v":[' + b"[" * 260 + b'"\\']
)
def test_a_program_that_writes_its_own_report_fails(line: bytes) -> None:
    with Sandbox(want="kernel") as box:
        case = {"args": [1], "expected": 1}
        result = box.run_program(FORGED.format(line=line), [case], entry="solve")
    assert set(result.kinds) <= {"wrong", "bad_output"}
    assert repr(result)


DEEP = "[" * 260
PIECES = {
    "escaped quotes": (f'{{"v":{DEEP}"', '\\"', ""),
    "quotes and escapes": (f'{{"v":{DEEP}', '"\\"', ""),
    "a lone escape at the end": (f'{{"v":{DEEP}', '\\"', "\\"),
    "open strings": (f'{{"v":{DEEP}', '"a', ""),
    "brackets": ('{"v":', "[", ""),
    "objects": ('{"v":', '{"t":', ""),
    "closed brackets": ('{"v":[', "[],", "1]}"),
    "hexadecimal digits": ('{"v":{"b":"', "f", 'x"}}'),
    "an integer": ('{"v":{"i":"0x', "f", '"}}'),
    "an integer literal": ('{"v":', "9", "}"),
    "nested sets": ('{"v":{"s":[', '{"s":[{"s":[1.5]}]},', "1]}}"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", PIECES)
def test_reading_a_report_takes_linear_time(name: str) -> None:
    before, piece, after = PIECES[name]

    def make(size: int) -> str:
        return before + piece * (size // len(piece)) + after

    def work(text: str) -> None:
        judge._answered(text.encode(), {"expected": {1.5}}, Tolerance(0.1))

    assert_linear(work, make, MEGABYTE, name)


LARGE: dict[str, tuple[Callable[[int], Any], Callable[[int], Any]]] = {
    "equal claims": (lambda n: {float(i) for i in range(n)}, lambda n: PlainSet([1.5] * n)),
    "near claims": (
        lambda n: {float(i) for i in range(n)},
        lambda n: PlainSet([i + 0.01 for i in reversed(range(n))]),
    ),
    "pairs": (
        lambda n: {(float(i), "a") for i in range(n)},
        lambda n: PlainSet([(i + 0.01, "a") for i in range(n)]),
    ),
    "equal pairs": (
        lambda n: {(float(i), "a") for i in range(n)},
        lambda n: PlainSet([(7.0, "a")] * n),
    ),
    "texts": (lambda n: {str(i) for i in range(n)}, lambda n: PlainSet(["7"] * n)),
    "entries": (
        lambda n: {str(i): 1.0 for i in range(n)},
        lambda n: PlainDict([("7", 1.0)] * n),
    ),
    "nested": (
        lambda n: {frozenset({float(i), str(i)}) for i in range(n)},
        lambda n: PlainSet([PlainSet([i + 0.01, str(i)]) for i in range(n)]),
    ),
    "alike": (
        lambda n: {frozenset({float(i)}) for i in range(n)},
        lambda n: PlainSet([PlainSet([0.01])] * n),
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("tolerance", [Tolerance(), Tolerance(abs=0.1)])
@pytest.mark.parametrize("name", LARGE)
def test_comparing_sets_takes_linear_time(name: str, tolerance: Tolerance) -> None:
    wanted, claimed = LARGE[name]

    def work(text: str) -> None:
        same(wanted(len(text)), claimed(len(text)), tolerance)
        python_equal(wanted(len(text)), claimed(len(text)))

    assert_linear(work, lambda size: "x" * size, 1 << 13, name, smallest=1 << 8)


@pytest.mark.slow
@pytest.mark.parametrize("piece", ["1", "1.", "1 ", "1" * 299 + "x ", "1e5 ", "\n", " \n", "\t"])
def test_comparing_printed_text_takes_linear_time(piece: str) -> None:
    def work(text: str) -> None:
        same_text("1" * 300 + " 2", text, Tolerance(0.1))
        same_text(text, text + "3", Tolerance(0.1))

    assert_linear(work, lambda size: piece * (size // len(piece)), MEGABYTE, repr(piece))


@pytest.mark.parametrize(
    ("before", "piece"),
    [
        *(("from ", p) for p in ("_", "a.", "a", " ", "\t", "from ", "from.")),
        *(("", p) for p in ("from ", "from a.b ", "import ", "import a,", "import\t", "a,")),
    ],
)
def test_choosing_a_zygote_takes_linear_time(before: str, piece: str) -> None:
    assert_linear(
        lambda text: preload.is_light(text, ("numpy",)),
        lambda size: before + piece * (size // len(piece)),
        1 << 18,
        before + piece,
    )


def test_a_report_that_is_nested_too_deeply_is_refused_before_it_is_parsed() -> None:
    for line in (b'{"v":' + b"[" * 5000 + b"]" * 5000 + b"}", b'{"v":' + b'["",' * 5000):
        with pytest.raises(wire.BadWire, match="nested too deeply"):
            wire.read_report(line)


def test_brackets_in_strings_do_not_count_as_nesting() -> None:
    text = json.dumps({"v": ["[" * 300, '"[{' * 300, "\\" * 301]}).encode()
    assert wire.read_report(text)[0] == "v"
