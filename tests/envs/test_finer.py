"""FiNER: verdicts against the reference, the set that ships, data from elsewhere."""

from __future__ import annotations

import gzip
import json
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from resd_bench.errors import UsageError
from resd_bench.types import Dialect, Split
from resd_envs.finer import FinerEnv, load, score
from resd_envs.finer.data import parse_item
from resd_envs.finer.scoring import number
from resd_envs.finer.sentences import tags

SPLITS: tuple[Split, ...] = ("train", "validation", "test")
DIALECTS: tuple[Dialect, ...] = ("full", "compact")
KINDS = {"": "none", "incorrect_format": "format"}


def _cases(fixtures: Path) -> list[dict[str, Any]]:
    lines = (fixtures / "envs/finer/cases.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def _row(*questions: tuple[str, str, str]) -> dict[str, str]:
    asked = "".join(
        f'\n{n}. What is best tag for entity "{entity}" in sentence: "{sentence}?"'
        for n, (entity, sentence, _) in enumerate(questions, 1)
    )
    context = f"Here are tags options: ,Alpha,Beta,Gamma. Answer the questions. {asked}\nTags:"
    return {"context": context, "target": ",".join(tag for _, _, tag in questions)}


def _write(path: Path, rows: list[dict[str, str]]) -> Path:
    text = "".join(json.dumps(row) + "\n" for row in rows)
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text, encoding="utf-8")
    return path


def _rows(count: int, first: int = 0) -> list[dict[str, str]]:
    return [
        _row((str(n), f"{n} at Acme .", "Alpha"), ("7", f"{n} or 7 .", "Beta"))
        for n in range(first, first + count)
    ]


def test_every_reference_case_gets_the_same_verdict(fixtures: Path) -> None:
    cases = _cases(fixtures)
    assert len(cases) >= 49
    for case in cases:
        expected = case["expected"]
        told: Any = {"truncated": case["truncated"], "grade": "release"}
        feedback = score(case["response"], case["gold"], **told)
        passed = [result.passed for result in feedback.cases]
        assert passed == (expected["per_entity"] or [False] * len(passed)), case["id"]
        assert feedback.score == (expected["tag_score"] or 0), case["id"]
        assert feedback.reward == expected["score_binary"], case["id"]
        assert feedback.success == bool(expected["acc"]), case["id"]
        assert KINDS.get(feedback.kind, feedback.kind) == expected["feedback_kind"], case["id"]
        dense = score(case["response"], case["gold"], partial_credit=True)
        assert dense.reward == (expected["score_dense"] or 0), case["id"]


def test_gold_may_be_a_list_or_a_string() -> None:
    answer = "<answer>b, A</answer>"
    assert score(answer, ["B", "a"]) == score(answer, "B,a")
    assert score(answer, ["B", "a"]).success


def test_arithmetic_is_read_and_programs_are_not() -> None:
    assert number("25/2") == number("12.50") == 12.5
    assert number("- 3") == -3
    assert number("1_000") == 1000
    for text in (
        "",
        "x",
        "1,000",
        "2**99999",
        "9**9**9",
        "__import__('os')",
        "1/0",
        "(" * 60,
        "1e",
    ):
        assert number(text) is None


def test_any_text_gets_a_verdict() -> None:
    for said in ("", ",", "\ud800", "\x00,\x1b", "x" * 10**6, "," * 10**6, "<answer>" * 10**5):
        feedback = score(f"<answer>{said}</answer>", "Alpha,Beta", questions=("1", "2"))
        assert not feedback.success
        feedback.render(5).encode()
        assert len(feedback.render(5)) <= feedback.MAX_CHARS


@pytest.mark.parametrize("dialect", DIALECTS)
def test_the_oracle_solves_every_task_that_ships(dialect: Dialect) -> None:
    env = FinerEnv(dialect=dialect)
    for split in SPLITS:
        for task in env.tasks(split):
            assert env.verify(task, env.oracle(task)).success


def test_the_full_set_is_large_and_its_tags_are_many() -> None:
    env = FinerEnv()
    tasks = [task for split in SPLITS for task in env.tasks(split)]
    used = Counter(tag for task in tasks for tag in task.data["gold"])
    assert len(tasks) >= 200
    assert set(used) == set(tags())
    assert len(tags()) >= 60
    assert used.most_common(1)[0][1] < 0.05 * used.total()


def test_no_sentence_of_the_full_set_is_in_two_splits() -> None:
    env = FinerEnv()
    seen: dict[str, Split] = {}
    for split in SPLITS:
        for task in env.tasks(split):
            for line in task.prompt.splitlines():
                if " in: " in line:
                    sentence = line.split(" in: ")[1]
                    assert seen.setdefault(sentence, split) == split


def test_no_sequence_of_tags_of_the_compact_set_is_in_two_splits() -> None:
    env = FinerEnv(dialect="compact")
    found = [task.data["gold"] for split in SPLITS for task in env.tasks(split)]
    assert len(found) == len(set(found))


def test_compact_prompts_have_tens_of_tokens() -> None:
    env = FinerEnv(dialect="compact")
    assert max(len(task.prompt.split()) for task in env.tasks("train")) <= 40


def test_partial_credit_pays_for_each_right_tag() -> None:
    task = FinerEnv().tasks("train")[0]
    half = f"<answer>{','.join(task.data['gold'][:2])},Nothing,Nothing</answer>"
    assert FinerEnv().verify(task, half).reward == 0
    feedback = FinerEnv(partial_credit=True).verify(task, half)
    assert (feedback.reward, feedback.score, feedback.success) == (0.5, 0.5, False)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_level_3_names_the_mistake_and_only_higher_levels_the_right_tag(dialect: Dialect) -> None:
    env = FinerEnv(dialect=dialect)
    task = env.tasks("train")[0]
    first, right, *rest = task.data["gold"]
    wrong = next(t for t in task.data["options"] if t not in task.data["gold"])
    feedback = env.verify(task, f"<answer>{','.join([first, wrong, *rest])}</answer>")
    assert wrong in feedback.render(3)
    assert task.data["questions"][1] in feedback.render(3)
    assert right not in feedback.render(3)
    assert right in feedback.render(4)
    assert f"<answer>{first},{right}," in feedback.render(5)


def test_feedback_tells_a_wrong_tag_from_an_unknown_one_and_from_none() -> None:
    env = FinerEnv(dialect="compact")
    task = env.tasks("train")[0]
    first = next(tag for tag in task.data["options"] if tag not in task.data["gold"])
    kinds = [case.kind for case in env.verify(task, f"<answer>{first},Foo</answer>").cases]
    assert kinds == ["wrong_tag", "unknown_tag", "missing", "missing"]


def test_a_file_is_split_without_sharing_a_sentence(tmp_path: Path) -> None:
    rows = _rows(150)
    linked = [
        _row(("5", f"{n} at Acme .", "Gamma"), ("6", f"new {n} .", "Beta")) for n in range(50)
    ]
    splits = load(_write(tmp_path / "all.jsonl", [*rows, *linked, rows[0]]))
    sizes = {split: len(splits[split]) for split in SPLITS}
    assert sum(sizes.values()) == 200
    assert sizes["train"] > sizes["test"] > 0 < sizes["validation"]
    seen: dict[str, Split] = {}
    for split in SPLITS:
        for item in splits[split]:
            assert item.options == ("Alpha", "Beta", "Gamma")
            for sentence in item.sentences:
                assert seen.setdefault(sentence, split) == split


def test_a_folder_gives_its_splits_and_nothing_held_out_is_trained_on(tmp_path: Path) -> None:
    _write(tmp_path / "train.jsonl", [*_rows(5), *_rows(2, first=50)])
    _write(tmp_path / "test.jsonl.gz", _rows(3, first=50))
    env = FinerEnv(data=tmp_path)
    assert [len(env.tasks(split)) for split in SPLITS] == [5, 0, 3]
    task = env.tasks("test")[0]
    assert env.verify(task, "reasoning </think> <answer>alpha, beta</answer>").success
    assert 'Question 2 ("7"): Gamma is' in env.verify(task, "<answer>Alpha,Gamma</answer>").render(
        3
    )


def test_a_dataset_of_hugging_face_is_read_by_its_splits(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = ModuleType("datasets")
    asked: dict[str, Any] = {}

    def load_dataset(name: str, **options: Any) -> dict[str, Any]:
        asked.update(options)
        return {"train": _rows(4), "test": _rows(2, first=9)}

    fake.load_dataset = load_dataset  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "datasets", fake)
    splits = load("hf:someone/finer")
    assert [len(splits[split]) for split in SPLITS] == [4, 0, 2]
    assert asked == {"trust_remote_code": False}


def test_errors_name_the_remedy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(UsageError, match=r"pip install .*\[datasets\]"):
        load("hf:someone/finer")
    with pytest.raises(UsageError, match=r"give a \.jsonl file"):
        load(tmp_path / "absent.jsonl")
    with pytest.raises(UsageError, match="is not a FiNER item"):
        load(_write(tmp_path / "other.jsonl", [{"question": "?"}]))
    (tmp_path / "broken.jsonl").write_text("{")
    with pytest.raises(UsageError, match=r"broken\.jsonl line 1 is not valid JSON"):
        load(tmp_path / "broken.jsonl")
    with pytest.raises(UsageError, match=r"no (train|test) items"):
        load(_write(tmp_path / "one.jsonl", _rows(1)))
    with pytest.raises(UsageError, match="a set of its own"):
        FinerEnv(dialect="compact", data=tmp_path)


ROWS = "envs/finer_data/rows.jsonl"


def test_questions_are_read_out_of_every_kind_of_row(fixtures: Path) -> None:
    """Quotes in sentences, words for numbers, repeated sentences and the rest that filings have."""
    for line in (fixtures / ROWS).read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        item = parse_item(row, row["tests"])
        assert list(item.sentences) == row["sentences"], row["tests"]
        assert list(item.questions) == [f'"{entity}"' for entity in row["entities"]], row["tests"]
        assert ",".join(item.gold) == row["target"], row["tests"]
        assert len(item.options) == 18, row["tests"]
        assert set(item.gold) <= set(item.options), row["tests"]


def test_a_file_of_rows_loads_and_its_gold_solves_it(fixtures: Path) -> None:
    rows = [json.loads(line) for line in (fixtures / ROWS).read_text(encoding="utf-8").splitlines()]
    env = FinerEnv(data=fixtures / ROWS)
    tasks = [task for split in SPLITS for task in env.tasks(split)]
    # One occurs twice.
    assert len(tasks) == len(rows) - 1
    for task in tasks:
        assert env.verify(task, env.oracle(task)).success
    seen: dict[str, Split] = {}
    for split, items in load(fixtures / ROWS).items():
        for sentence in (sentence for item in items for sentence in item.sentences):
            assert seen.setdefault(sentence, split) == split
