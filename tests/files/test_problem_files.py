"""A file of problems holds data: what one line of it says takes neither all memory nor all day."""

from __future__ import annotations

import base64
import json
import pickle
import subprocess
import sys
import time
import zlib
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given

from resd_envs.finer.data import parse_item
from resd_envs.python_functions.assertions import parse
from resd_envs.python_functions.loader import load

GOOD = {"task_id": 2, "text": "ok", "test_list": ["assert g(1) == 1"]}


def left_out(row: dict[str, Any], tmp_path: Path) -> str:
    """Why the first problem of a file is left out; the second is read."""
    path = tmp_path / "tasks.jsonl"
    path.write_text(f"{json.dumps(row)}\n{json.dumps(GOOD)}\n")
    began = time.process_time()
    loaded = load(path)
    assert time.process_time() - began < 5
    assert len(loaded.problems) == 1
    (reason,) = loaded.skipped.values()
    return reason


def mbpp(*lines: str) -> dict[str, Any]:
    return {"task_id": 1, "text": "x", "test_list": ["\n".join(lines)]}


COLLIDING = ", ".join(str(i * (2**61 - 1)) for i in range(20_000))
BOMBS = {
    "a width": ["assert f(1) == '%1000000000d' % 1"],
    "a precision": ["assert f(1) == '%.999999999f' % 1.0"],
    "a width that is given": ["assert f(1) == '%*d' % (1000000000, 1)"],
    "a width of a name": ["assert f(1) == '%(a)1000000000s' % {'a': 1}"],
    "a width in bytes": ["assert f(1) == b'%1000000000d' % 1"],
    "many widths": ["assert f(1) == ('%9999d' * 90000) % ((1,) * 90000)"],
    "one text many times": ["a = 'x' * 900000", "assert f(1) == '%(k)s' * 9000 % {'k': a}"],
    "shared lists": ["a = [0] * 1000", "b = [a] * 1000", "c = [b] * 300", "assert f(1) == c"],
    "shared as text": ["a = ['x' * 999] * 999", "b = [a] * 999", "assert f(1) == str(b)"],
    "shared tuples in a set": [
        "a = (0,) * 999",
        "b = (a,) * 999",
        "c = (b,) * 999",
        "assert f(1) == {c}",
    ],
    "powers": ["assert f(1) == 10 ** 300000"],
    "a power of powers": ["assert f(1) == 9 ** 9 ** 9"],
    "products": ["assert f(1) == " + " * ".join(["10 ** 20000"] * 60)],
    "squares": ["a = 10 ** 4000", *["a = a * a"] * 40, "assert f(1) == a"],
    "a number too long to write": ["assert f(1) == 10 ** 5000"],
    "a hexadecimal too long to write": ["assert f(1) == 0x" + "f" * 9000],
    "texts doubled": ["a = 'xx'", *["a = a + a"] * 60, "assert f(1) == a"],
    "lists doubled": ["a = [1]", *["a = a + a"] * 60, "assert f(1) == a"],
    "lists in lists": ["a = [1]", *["a = [a, a]"] * 60, "assert f(1) == a"],
    "arguments doubled": ["a = [1]", *["a = [a, a]"] * 60, "assert f(a) == 1"],
    "signs": ["assert f(1) == " + "-" * 50_000 + "1"],
    "sums": ["assert f(1) == " + "1+" * 20_000 + "1"],
    "attributes": ["assert f(1) == a" + ".b" * 20_000],
    "calls": ["assert f(1) == " + "abs(" * 900 + "1" + ")" * 900],
    "elements with one hash": [f"assert f(1) == {{{COLLIDING}}}"],
    "keys with one hash": [f"assert f(1) == dict.fromkeys([{COLLIDING}])"],
    "a set of a list with one hash": [f"assert f(1) == set([{COLLIDING}])"],
    "a tolerance": ["a = [0] * 999999", *["b = sorted(a)"] * 99, "assert f(1) == b"],
}


@pytest.mark.slow
@pytest.mark.parametrize("name", BOMBS)
def test_no_expression_is_a_bomb(name: str, tmp_path: Path) -> None:
    assert left_out(mbpp(*BOMBS[name]), tmp_path)


@pytest.mark.slow
def test_memory_stays_small_whatever_a_line_says(tmp_path: Path) -> None:
    path = tmp_path / "tasks.jsonl"
    rows = [mbpp(*lines) | {"task_id": name} for name, lines in BOMBS.items()]
    path.write_text("".join(json.dumps(row) + "\n" for row in [*rows, GOOD]))
    program = (
        "import re, sys\n"
        "from resd_envs.python_functions.loader import load\n"
        "skipped = len(load(sys.argv[1]).skipped)\n"
        # What resource.getrusage says counts the process that this one was forked from.
        "status = open('/proc/self/status').read()\n"
        "print(skipped, int(re.search(r'VmHWM:\\s+(\\d+)', status)[1]) >> 10)"
    )
    words = [sys.executable, "-c", program, str(path)]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    skipped, mebibytes = map(int, done.stdout.split())
    assert skipped == len(BOMBS)
    assert mebibytes < 200


HONEST = {
    "[1, 2.5, 'x', (True, None)]": [1, 2.5, "x", (True, None)],
    "[0] * 1000": [0] * 1000,
    "'ab' * 500": "ab" * 500,
    "2 ** 1000 % 97": 2**1000 % 97,
    "-10 ** 100": -(10**100),
    "'%d and %5.2f' % (3, 2.5)": "3 and  2.50",
    "'%(a)s' % {'a': 'x'}": "x",
    "{1, 2, 3}": {1, 2, 3},
    "{'a': [1], 'b': {}}": {"a": [1], "b": {}},
    "set(sorted([3, 1, 2]))": {1, 2, 3},
    "list('abc') + ['d'] * 3": ["a", "b", "c", "d", "d", "d"],
}


@pytest.mark.parametrize("text", HONEST)
def test_honest_expressions_have_the_value_that_python_gives_them(text: str) -> None:
    from resd_envs.python_functions.assertions import Constants

    (statement,) = parse(text).body
    assert Constants({}).value(statement.value) == HONEST[text]  # type: ignore[attr-defined]


VALUES = st.recursive(
    st.none() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.tuples(inner, inner),
    max_leaves=20,
)


@given(VALUES)
def test_values_are_read_as_they_are_written(value: Any) -> None:
    from resd_envs.python_functions.assertions import MAX_SIZE, Constants, measure

    (statement,) = parse(repr(value)).body
    assert Constants({}).value(statement.value) == value  # type: ignore[attr-defined]
    assert measure(value, MAX_SIZE) >= 1


# Packed tests


def packed(data: bytes) -> dict[str, Any]:
    """A problem of LiveCodeBench whose tests are packed."""
    text = base64.b64encode(zlib.compress(data)).decode()
    return {
        **{"question_id": "q", "question_content": "c", "public_test_cases": "[]"},
        **{"private_test_cases": text},
    }


PICKLES = {
    "a place far out": b"\x80\x04r\xff\xff\xff\x7f.",
    "a long text that is not there": b"\x80\x04\x8d" + (1 << 60).to_bytes(8, "little") + b"x.",
    "lists of lists": b"\x80\x04" + b"]" * 200_000 + b"a" * 199_999 + b".",
    "doubled tuples": b"\x80\x04)" + b"2\x86" * 60 + b".",
    "a frozen set": pickle.dumps(frozenset([1])),
    "two texts": pickle.dumps(("a", "b")),
    "no end": b"\x80\x04X\x01\x00\x00\x00a",
    "a name": b"cos\nsystem\n.",
    "an extension": b"\x80\x02\x82\x01.",
    "nothing": b"",
}


@pytest.mark.parametrize("name", PICKLES)
def test_no_packed_test_is_a_bomb(name: str, tmp_path: Path) -> None:
    assert "packed tests" in left_out(packed(PICKLES[name]), tmp_path)


@pytest.mark.slow
def test_tests_that_unpack_to_a_bomb_are_left_out(tmp_path: Path) -> None:
    assert "not JSON" in left_out(packed(pickle.dumps("[" * 5_000_000)), tmp_path)
    assert left_out(packed(b"0" * (1 << 28)), tmp_path)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_packed_tests_of_every_protocol_are_read(protocol: int, tmp_path: Path) -> None:
    tests = json.dumps([{"input": "1\n", "output": "é2", "testtype": "stdin"}] * 3)
    path = tmp_path / "tasks.jsonl"
    path.write_text(json.dumps(packed(pickle.dumps(tests, protocol=protocol))) + "\n")
    (problem,) = load(path).problems
    assert [case.expected for case in problem.cases] == ["é2"] * 3


# FiNER


@pytest.mark.parametrize(
    "piece", ['entity "a" in sentence: "', 'entity "', '" in sentence: "', "options:a,"]
)
def test_an_item_is_read_in_time_that_grows_as_its_text(piece: str) -> None:
    times = []
    for size in (20_000, 80_000):
        began = time.process_time()
        parse_item({"context": piece * size, "target": "A,B"}, "x")
        times.append(time.process_time() - began)
    assert times[1] < 3


def test_questions_are_found_as_they_were() -> None:
    text = 'What is best for entity "1.5" in sentence: "It was "1.5" million."\nand "x"\n' * 2
    item = parse_item({"context": text + 'entity "a" in sentence: "', "target": "A,B"}, "x")
    assert item.questions == ('"1.5"', '"1.5"')
    assert item.sentences == ('It was "1.5" million.',) * 2
