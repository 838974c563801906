"""`envs score` marks saved answers line by line."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from resd_bench import plugins
from resd_bench.cli import main
from resd_bench.errors import UsageError
from resd_bench.evaluation.grade_answers import grade, read_answers

Capture = pytest.CaptureFixture[str]


def _graded(name: str, *rows: Any) -> list[dict[str, Any]]:
    lines = [json.dumps(row).encode() for row in rows]
    return list(grade(plugins.make_env(name), read_answers(lines, "test")))


def test_each_answer_gets_its_verdict_and_keeps_its_line(toy: ModuleType) -> None:
    right, wrong = _graded(
        "toy-say",
        {"task": "test-0", "answer": "test0", "note": "mine"},
        {"task_id": "test-1", "answer": "\ud800"},
    )
    assert (right["success"], right["score"], right["note"]) == (True, 1.0, "mine")
    assert (wrong["success"], wrong["score"], wrong["answer"]) == (False, 0.0, "\ud800")
    assert wrong["feedback"].startswith("passed 0 of 1")


def test_several_turns_are_played_in_order(toy: ModuleType) -> None:
    (row,) = _graded("toy-count", {"task": "test-0", "answers": ["1", "2", "test0"]})
    assert (row["success"], row["turns_taken"]) == (True, 3)


def test_a_line_of_an_episode_log_is_understood(toy: ModuleType) -> None:
    turns = [{"response": "1", "messages": []}, {"response": "test0", "messages": []}]
    assert _graded("toy-count", {"task": "test-0", "turns": turns})[0]["success"]


def test_an_episode_without_an_end_and_a_broken_environment_are_unscored(toy: ModuleType) -> None:
    (short,) = _graded("toy-count", {"task": "test-0", "answer": "1"})
    (crash,) = _graded("toy-crash", {"task": "test-0", "answer": "crash"})
    assert short["success"] is None
    assert "continues after 1 answers" in short["error"]
    assert crash["success"] is None
    assert crash["error"] == "RuntimeError: the verifier broke"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 2 is not valid JSON"),
        ("[]", "line 2 is not a JSON object"),
        ('{"task": "test-0"}', "line 2 has no answer"),
        ('{"task": "test-0", "answer": 3}', "line 2: the answer is not text"),
        ('{"task": "test-0", "answers": []}', "line 2: the answer is not text"),
        ('{"answer": "x"}', "line 2 names no task"),
        ('{"task": "test-00", "answer": "x"}', "did you mean 'test-0'"),
    ],
)
def test_a_bad_line_is_named(toy: ModuleType, line: str, message: str) -> None:
    lines = [b'{"task": "test-0", "answer": "x"}', line.encode()]
    with pytest.raises(UsageError, match=message):
        list(grade(plugins.make_env("toy-say"), read_answers(lines, "answers.jsonl")))


def test_a_line_separator_of_unicode_inside_an_answer_ends_no_line(
    toy: ModuleType, tmp_path: Path, capsys: Capture
) -> None:
    path = tmp_path / "answers.jsonl"
    path.write_text('{"task": "test-0", "answer": "a\u2028b"}\n', encoding="utf-8")
    assert main(["envs", "score", "toy-say", str(path)]) == 0
    assert json.loads(capsys.readouterr().out)["answer"] == "a\u2028b"


def test_the_command_reads_and_writes_json_lines(
    toy: ModuleType, tmp_path: Path, capsys: Capture
) -> None:
    file = tmp_path / "answers.jsonl"
    file.write_text('{"task": "test-0", "answer": "test0"}\n\n{"task": "test-1", "answer": ""}\n')
    assert main(["envs", "score", "toy-say", str(file)]) == 0
    printed = capsys.readouterr()
    assert [json.loads(line)["success"] for line in printed.out.splitlines()] == [True, False]
    assert "success 50.0%" in printed.err
    out = tmp_path / "new" / "verdicts.jsonl"
    assert main(["envs", "score", "toy-say", str(file), "--out", str(out)]) == 0
    assert out.read_text() == printed.out
    assert main(["envs", "score", "toy-say", str(tmp_path / "absent")]) == 2
    assert "Give a JSONL file" in capsys.readouterr().err
