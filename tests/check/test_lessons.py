"""The lesson audit: planted answers and wrong solutions are found, ordinary lessons are not."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from resd_bench.check import lessons
from resd_bench.check.lessons import Secrets, Written, audit, copied, grams
from resd_bench.cli import main
from resd_bench.config import resolve
from resd_bench.jobs.run import run
from resd_bench.plugins import make_env
from tests.vouched import vouch

NANO: dict[str, Any] = {
    "method": "resd",
    "env": "manufactoria-has",
    "model": "nano-common",
    "budget": "2upd",
}
NANO |= {"batch_size": "16", "eval_samples": "1", "eval_every": "0", "eval_tasks": "1"}


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the method that writes texts."""
    return run(resolve({**NANO, "out": str(tmp_path_factory.mktemp("runs"))})).folder


def test_a_fresh_run_copies_nothing_and_its_solutions_are_right(fresh: Path) -> None:
    found = audit(fresh)
    assert found.findings == ()
    assert found.texts > 10
    assert found.secrets > 600
    assert found.solutions > 0


def edited(fresh: Path, to: Path, change: Callable[[Path], None]) -> Path:
    shutil.copytree(fresh, to)
    change(to)
    vouch(to)
    return to


def test_a_lesson_with_a_held_out_answer_is_found(fresh: Path, tmp_path: Path) -> None:
    env = make_env("manufactoria-has", dialect="compact")
    task = env.tasks("test")[0]
    gold = env.oracle(task)

    def plant(folder: Path) -> None:
        path = folder / "context" / "update-0002.json"
        context: dict[str, Any] = json.loads(path.read_text())
        context["playbook"][0]["content"] = f"for such tapes write {gold} and no more"
        context["playbook"][1]["content"] = "read the tape before you write to it, then go to end"
        path.write_text(json.dumps(context))

    [found] = audit(edited(fresh, tmp_path / "run", plant)).findings
    assert (found.kind, found.split, found.share) == ("gold answer", "test", 1.0)
    assert env.oracle(env.find(found.task, "test")) == gold
    assert found.where.startswith("playbook entry")


def test_a_wrong_solution_is_found_and_the_command_fails(
    fresh: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def plant(folder: Path) -> None:
        path = folder / "episodes.jsonl"
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        [lost, *_] = [row for row in rows if not row["success"]]
        lost["success"] = True
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))

    folder = edited(fresh, tmp_path / "run", plant)
    assert [found.kind for found in audit(folder).findings] == ["wrong solution"]
    assert main(["results", "audit", str(folder)]) == 1
    assert "the verifier does not accept it" in capsys.readouterr().out
    assert main(["results", "audit", str(fresh)]) == 0


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("reviews", [{"task": "t", "text": "", "diagnoses": [{"turn": 1, "text": "GOLD"}]}]),
        ("texts", [{"text": "## OTHERS\n[misc-00001] helpful=0 harmful=0 :: GOLD", "score": 1.0}]),
        ("memory", {"of mine": ["GOLD"]}),
        ("note", "GOLD"),
    ],
)
def test_an_answer_is_found_wherever_a_method_writes_it(
    key: str, value: Any, fresh: Path, tmp_path: Path
) -> None:
    env = make_env("manufactoria-has", dialect="compact")
    gold = env.oracle(env.tasks("test")[0])

    def plant(folder: Path) -> None:
        path = folder / "context" / "update-0002.json"
        written = json.dumps(value).replace("GOLD", json.dumps(gold)[1:-1])
        path.write_text(json.dumps({**json.loads(path.read_text()), key: json.loads(written)}))

    [found] = audit(edited(fresh, tmp_path / "run", plant)).findings
    assert (found.kind, found.split, found.share) == ("gold answer", "test", 1.0)


def test_every_success_is_graded_again_and_not_the_latest_of_a_task_alone(
    fresh: Path, tmp_path: Path
) -> None:
    def plant(folder: Path) -> None:
        path = folder / "episodes.jsonl"
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        [won, *_] = [row for row in rows if row["success"]]
        wrong = json.loads(json.dumps(won))
        wrong["turns"][0]["response"] = "a wrong program"
        path.write_text("".join(json.dumps(row) + "\n" for row in (wrong, *rows)))

    [found] = audit(edited(fresh, tmp_path / "run", plant)).findings
    assert (found.kind, found.text) == ("wrong solution", "a wrong program")


def test_what_was_not_looked_at_is_said(fresh: Path) -> None:
    """Against a count by hand."""
    env = make_env("manufactoria-has", dialect="compact")
    tasks = [env.tasks("train"), env.tasks("test")]
    seen = [task for own in tasks for task in own[:: -(-len(own) // lessons.MOST_TASKS)]]
    told = audit(fresh).left_out
    assert f"{sum(map(len, tasks)) - len(seen)} tasks left out, evenly spread" in told
    counts = Counter(gram for task in seen for gram in grams(task.prompt))
    most = lessons._COMMON * len(seen)
    mute = sum(all(counts[gram] > most for gram in grams(task.prompt)) for task in seen)
    assert 0 < mute < len(seen)
    why = "not searched for: too short, or too much like others"
    assert f"{mute} of {len(seen)} prompts {why}" in told


ANSWERS = {
    "a": "if red go left then if blue go right then stop at the red end and write one",
    "b": "if red go left then wait for two blue in a row and write nothing before the end",
    "c": "five",
}


def secrets() -> Secrets:
    made = Secrets()
    rows = [("test", task, text) for task, text in ANSWERS.items()]
    lessons._add(made, "gold answer", rows)  # type: ignore[arg-type]
    return made


def found(text: str) -> list[str]:
    return [one.task for one in copied([Written("lesson", text)], secrets())]


def test_half_of_an_answer_is_copied_and_a_quarter_is_not() -> None:
    words = ANSWERS["a"].split()
    assert found(" ".join(words)) == ["a"]
    assert found("Remember: " + " ".join(words[:14]).upper() + "!") == ["a"]
    assert found(" ".join(words[:10])) == []
    assert found("five") == []
    assert found("when red comes first go left and stop at the end") == []


def test_answers_that_stand_anywhere_by_chance_have_no_ngrams() -> None:
    assert grams("five") == grams("one two three") == grams("a b c d") == set()
    assert len(grams("alpha beta gamma delta")) == 1
    assert len(grams(ANSWERS["a"])) == len(ANSWERS["a"].split()) - 7


def test_what_many_tasks_share_tells_none_of_them() -> None:
    made = Secrets()
    rows = [
        ("test", f"t{i}", f"begin here and go on to the next state number {i}") for i in range(20)
    ]
    lessons._add(made, "gold answer", rows)  # type: ignore[arg-type]
    assert list(copied([Written("x", "begin here and go on to the next state")], made)) == []
    [one] = copied([Written("x", rows[7][2])], made)
    assert (one.task, one.share) == ("t7", 1.0)
