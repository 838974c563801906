"""Every field of a file that people give has a type; the error names the file and the line."""

from __future__ import annotations

import json
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from resd_bench.cli import main
from resd_bench.errors import UsageError
from resd_bench.sweep.definition import load_sweep
from resd_envs.finer.data import read_jsonl
from resd_envs.manufactoria.problems import Problem
from resd_envs.python_functions.loader import load

Capture = pytest.CaptureFixture[str]
CASE = {"args": [1], "expected": 1}
OURS = {"id": "a", "prompt": "P", "entry": "f", "cases": [CASE], "solution": "def f(x): return x"}
STDIN = {"id": "a", "prompt": "P", "cases": [{"stdin": "1", "expected": "1"}]}
HUMAN_EVAL = {
    "task_id": "HumanEval/0",
    "prompt": "def f(x):\n    'x'\n",
    "entry_point": "f",
    "canonical_solution": "    return x\n",
    "test": "def check(candidate):\n    assert candidate(1) == 1\n",
}
MBPP = {"task_id": 1, "text": "t", "test_list": ["assert f(1) == 1"], "code": "def f(x): return x"}
LIVE = {
    **{"question_id": "q", "question_content": "c", "starter_code": "", "metadata": "{}"},
    "public_test_cases": [{"input": "1", "output": "1", "testtype": "stdin"}],
    "private_test_cases": "",
}


def write(folder: Path, *rows: Any) -> Path:
    path = folder / "problems.jsonl"
    lines = (row if isinstance(row, str) else json.dumps(row) for row in rows)
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def with_case(**fields: Any) -> dict[str, Any]:
    return {**OURS, "cases": [CASE, {**CASE, **fields}]}


def refused(path: Path, name: str) -> str:
    with pytest.raises(UsageError) as caught:
        load(path)
    message = str(caught.value)
    assert "problems.jsonl line 2" in message
    assert f"'{name}'" in message or name in message
    return message


@pytest.mark.parametrize("row", [OURS, STDIN, HUMAN_EVAL, MBPP, LIVE])
def test_records_as_they_should_be_are_read(tmp_path: Path, row: dict[str, Any]) -> None:
    found = load(write(tmp_path, row))
    assert len(found.problems) == 1


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("args", {"x": 1, "y": 2}),
        ("args", "ab"),
        ("args", 5),
        ("args", None),
        ("kwargs", [1]),
        ("kwargs", {"not a name": 1}),
        ("kwargs", "x"),
        ("rel", "0.1"),
        ("rel", -1),
        ("rel", None),
        ("rel", True),
        ("abs", "0"),
        ("abs", [0]),
        ("abs", -0.5),
    ],
)
def test_a_field_of_a_case_of_another_type_is_refused_with_its_line(
    tmp_path: Path, name: str, value: Any
) -> None:
    message = refused(write(tmp_path, OURS, with_case(**{name: value})), name)
    assert "case 1" in message


@pytest.mark.parametrize("text", ["NaN", "Infinity", "-Infinity", "1e999", "-1e999"])
@pytest.mark.parametrize("field", ["rel", "abs", "expected"])
def test_numbers_that_json_does_not_have_are_refused(tmp_path: Path, field: str, text: str) -> None:
    row = json.dumps(with_case(**{field: "HERE"})).replace('"HERE"', text)
    refused(write(tmp_path, OURS, row), "is not valid JSON")


def test_a_key_that_stands_there_twice_is_refused(tmp_path: Path) -> None:
    row = json.dumps(OURS).replace('"id": "a"', '"id": "a", "id": "b"')
    refused(write(tmp_path, OURS, row), "id")


@pytest.mark.parametrize(
    ("row", "name", "value"),
    [
        (OURS, "id", None),
        (OURS, "id", [1, 2]),
        (OURS, "id", ""),
        (OURS, "id", 1.5),
        (OURS, "id", True),
        (OURS, "prompt", None),
        (OURS, "prompt", [{"role": "user", "content": "hi"}]),
        (OURS, "entry", 5),
        (OURS, "cases", None),
        (OURS, "cases", [1]),
        (OURS, "cases", CASE),
        (OURS, "solution", ["def f(): pass"]),
        (OURS, "preamble", 1),
        (OURS, "split", 1),
        (STDIN, "cases", [{"stdin": 1, "expected": "1"}]),
        (STDIN, "cases", [{"stdin": "1", "expected": 1}]),
        (HUMAN_EVAL, "test", None),
        (HUMAN_EVAL, "prompt", ["def f(x):"]),
        (HUMAN_EVAL, "entry_point", 7),
        (HUMAN_EVAL, "canonical_solution", {"code": ""}),
        (MBPP, "test_list", "assert f(1) == 1"),
        (MBPP, "test_list", None),
        (MBPP, "test_list", [1]),
        (MBPP, "text", None),
        (MBPP, "text", 3),
        (MBPP, "challenge_test_list", "assert f(1) == 1"),
        (LIVE, "question_content", None),
        (LIVE, "starter_code", []),
        (LIVE, "public_test_cases", 5),
        (LIVE, "metadata", 5),
    ],
)
def test_a_field_of_another_type_is_refused_with_its_line(
    tmp_path: Path, row: dict[str, Any], name: str, value: Any
) -> None:
    named = {"cases": "expected" if value == [{"stdin": "1", "expected": 1}] else "cases"}
    named |= {"cases": "stdin"} if value == [{"stdin": 1, "expected": "1"}] else {}
    refused(write(tmp_path, OURS, {**row, name: value}), named.get(name, name))


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=4,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)
@given(st.sampled_from([OURS, STDIN, HUMAN_EVAL, MBPP, LIVE]), st.data())
def test_whatever_a_field_holds_it_is_read_or_refused_and_never_a_traceback(
    tmp_path: Path, row: dict[str, Any], data: st.DataObject
) -> None:
    changed = dict(row)
    changed[data.draw(st.sampled_from(sorted(row)))] = data.draw(VALUES)
    if isinstance(changed.get("cases"), list) and changed["cases"] == row.get("cases"):
        name = data.draw(st.sampled_from(["args", "kwargs", "rel", "abs", "stdin", "expected"]))
        changed["cases"] = [{**row["cases"][0], name: data.draw(VALUES)}]
    with warnings.catch_warnings(), suppress(UsageError):
        warnings.simplefilter("ignore")
        load(write(tmp_path, OURS, changed))


@pytest.mark.parametrize(
    "row",
    [
        {"context": "c", "target": ["A", "B"]},
        {"context": 1, "target": "A"},
        {"context": "c", "target": "A,,B"},
        {"context": "c", "target": "A,"},
        '{"context": "c", "target": "A", "target": "B"}',
        '{"context": "c", "target": "A", "score": NaN}',
    ],
)
def test_items_of_finer_are_held_to_their_types(tmp_path: Path, row: Any) -> None:
    with pytest.raises(UsageError, match=r"problems.jsonl line 2"):
        read_jsonl(write(tmp_path, {"context": "c", "target": "A"}, row))


RECORD: dict[str, Any] = {
    **{"id": "a", "family": "starts_with", "params": {"sequence": "R"}, "name": "n"},
    "criteria": "c",
    "tests": [
        {"input": "R", "expected_accepted": True, "check_output": False, "expected_output": ""}
    ],
}


@pytest.mark.parametrize(
    ("name", "value"),
    [("id", 1), ("params", []), ("tests", {}), ("tests", [1]), ("criteria", None)],
)
def test_records_of_manufactoria_are_held_to_their_types(name: str, value: Any) -> None:
    assert len(Problem.from_record(RECORD).tests) == 1
    with pytest.raises(UsageError, match=name):
        Problem.from_record({**RECORD, name: value})


@pytest.mark.parametrize(
    ("name", "value"), [("input", 5), ("expected_accepted", "yes"), ("check_output", 1)]
)
def test_tests_of_manufactoria_are_held_to_their_types(name: str, value: Any) -> None:
    test = {**RECORD["tests"][0], name: value}
    with pytest.raises(UsageError, match=rf"test 0: '{name}'"):
        Problem.from_record({**RECORD, "tests": [test]})


@pytest.mark.parametrize(
    "row",
    [
        {"success": "1"},
        {"success": 2},
        {"score": -0.5},
        {"update": 1.5},
        {"update": "0"},
        {"episodes": None},
        {"sample": True},
        {"task": ["t"]},
    ],
)
def test_rows_of_an_evaluation_are_held_to_their_types(
    tmp_path: Path, capsys: Capture, row: dict[str, Any]
) -> None:
    good = {"update": 0, "episodes": 0, "generated_tokens": 0, "task": "t", "sample": 0}
    good |= {"success": 1, "score": 1}
    path = write(tmp_path, good, {**good, "sample": 1, **row})
    assert main(["results", "show", str(path)]) == 2
    error = capsys.readouterr().err
    assert "problems.jsonl line 2" in error
    assert f"'{next(iter(row))}'" in error


@pytest.mark.parametrize("line", ['{"task": "a", "answer": "x", "answer": "y"}', '{"task": NaN}'])
def test_saved_answers_are_json(tmp_path: Path, capsys: Capture, line: str) -> None:
    path = write(tmp_path, line)
    assert main(["envs", "score", "guess-number", str(path)]) == 2
    assert "problems.jsonl line 1 is not valid JSON" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("out: {a: b}", "out: expected text"),
        ("out:", "out: expected text"),
        ("name: [a]", "name: expected text"),
        ("base: {model: [nano]}", "model: expected text"),
        ("base: {seed: true}", "seed: expected a whole number"),
        ("grid: {seed: [0, 9007199254740993.0]}", "seed: expected a whole number"),
        ("base: {learning_rate: .nan}", "learning_rate: expected"),
    ],
)
def test_a_sweep_is_held_to_its_types(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "sweep.yaml"
    path.write_text(text + "\n")
    with pytest.raises(UsageError, match=rf"sweep.yaml.*{message}"):
        load_sweep(path)
