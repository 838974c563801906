"""A task is looked up in its split, and no two tasks of a run have one id."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from resd_bench.budget import Ledger
from resd_bench.cli import main
from resd_bench.config import RunConfig, resolve
from resd_bench.env import TextEnv
from resd_bench.errors import UsageError
from resd_bench.jobs.evaluate import score_model
from resd_bench.jobs.run import run
from resd_bench.rollout.rollout import EnvPool, roll_out
from resd_bench.testing import ScriptedPolicy
from resd_bench.types import Feedback, Sampling, Split, Task

Capture = pytest.CaptureFixture[str]
SMALL = {
    **{"env": "toy-say", "method": "toy-learner", "model": "scripted", "budget": "10ep"},
    **{"batch_size": 5, "eval_samples": 1, "max_new_tokens": 20},
}


class Same(TextEnv):
    """Every split calls its tasks 0, 1, 2."""

    name = "same-ids"

    def tasks(self, split: Split) -> Sequence[Task]:
        return [Task(str(n), split, f"say {split}{n}", {"word": f"{split}{n}"}) for n in range(3)]

    def verify(self, task: Task, action: str) -> Feedback:
        right = action == task.data["word"]
        return Feedback(float(right), right, float(right))


@pytest.mark.slow
@pytest.mark.parametrize("isolated", [False, True])
def test_rollouts_pose_the_task_of_its_own_split(isolated: bool) -> None:
    env = Same()
    policy = ScriptedPolicy(lambda prompt, seed, sample: prompt.removeprefix("say "))
    pool = EnvPool(Same, isolated=isolated)
    splits: tuple[Split, ...] = ("train", "validation", "test")
    try:
        for split in splits:
            groups = roll_out(
                policy.sample,
                pool,
                env.tasks(split),
                n=1,
                sampling=Sampling(max_new_tokens=20),
                purpose="evaluation",
                ledger=Ledger(),
                seed=0,
            )
            for group in groups:
                assert group.trajectories[0].turns[0].messages[0].content == group.task.prompt
                assert group.trajectories[0].feedback.success
    finally:
        pool.close()


def test_an_id_of_several_splits_needs_one() -> None:
    env = Same()
    assert env.find("1", "test").prompt == "say test1"
    assert env.reset(options={"task": "2", "split": "validation"})[0] == "say validation2"
    with pytest.raises(KeyError, match="in train and validation and test: say which split"):
        env.find("1")
    with pytest.raises(KeyError, match="no task '7' in test"):
        env.find("7", "test")


def test_an_id_of_one_split_needs_none(toy: ModuleType) -> None:
    env = toy.SayEnv()
    assert env.find("test-3") == env.find("test-3", "test")
    with pytest.raises(KeyError, match="did you mean 'test-3'"):
        env.find("test-33")


@pytest.fixture
def config(toy: ModuleType, tmp_path: Path) -> RunConfig:
    return resolve(SMALL, {"out": str(tmp_path / "out")})


def pose(monkeypatch: pytest.MonkeyPatch, toy: ModuleType, ids: dict[str, list[str]]) -> None:
    """Make the environment's tasks have these ids; contents are all different."""

    def tasks(self: Any, split: Split) -> list[Task]:
        return [
            Task(name, split, f"say {split}{n}", {"word": f"{split}{n}"})
            for n, name in enumerate(ids[split])
        ]

    monkeypatch.setattr(toy.SayEnv, "tasks", tasks)


UNIQUE = {s: [f"{s}{n}" for n in range(6)] for s in ("train", "validation", "test")}
TWICE = {
    "within train": UNIQUE | {"train": [*UNIQUE["train"], "train3"]},
    "within test": UNIQUE | {"test": ["a", "a"]},
    "train and test": UNIQUE | {"test": ["train0", "b"]},
    "train and validation": UNIQUE | {"validation": ["train5"]},
    "validation and test": UNIQUE | {"validation": ["test1"]},
    "all": {split: [str(n) for n in range(6)] for split in UNIQUE},
}


@pytest.mark.parametrize("where", TWICE)
def test_a_run_and_an_evaluation_refuse_two_tasks_of_one_id(
    config: RunConfig, toy: ModuleType, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    pose(monkeypatch, toy, TWICE[where])
    with pytest.raises(UsageError, match=r"names two tasks.*envs check"):
        run(config)
    assert not config.folder().exists()
    with pytest.raises(UsageError, match="names two tasks"):
        score_model({"model": "scripted", "env": "toy-say"})


def test_other_environments_of_a_run_are_held_to_it_too(
    config: RunConfig, toy: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = toy.SayEnv().tasks
    monkeypatch.setattr(toy.CountEnv, "tasks", lambda self, split: [*own(split), own(split)[0]])
    with pytest.raises(UsageError, match=r"toy-count.*names two tasks"):
        run(replace(config, eval_also="toy-count"))


def test_a_task_that_says_another_split_is_refused(
    config: RunConfig, toy: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = toy.SayEnv.tasks
    moved = {"test": "train"}
    monkeypatch.setattr(
        toy.SayEnv,
        "tasks",
        lambda self, s: [replace(t, split=moved.get(s, s)) for t in own(self, s)],
    )
    with pytest.raises(UsageError, match="of test says it is of 'train'"):
        run(config)


def test_an_unused_split_that_cannot_be_made_does_no_harm(
    config: RunConfig, toy: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = toy.SayEnv.tasks

    def tasks(self: Any, split: Split) -> Any:
        if split == "validation":
            raise UsageError("too few questions")
        return own(self, split)

    monkeypatch.setattr(toy.SayEnv, "tasks", tasks)
    assert run(config).state == "finished"


def test_saved_answers_say_the_split_of_an_id_that_several_have(
    toy: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    pose(monkeypatch, toy, TWICE["all"])
    path = tmp_path / "answers.jsonl"
    rows = [{"task": "1", "split": s, "answer": f"{s}1"} for s in ("train", "test")]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert main(["envs", "score", "toy-say", str(path)]) == 0
    assert "100.0%" in capsys.readouterr().err
    path.write_text(json.dumps({"task": "1", "answer": "test1"}) + "\n")
    assert main(["envs", "score", "toy-say", str(path)]) == 2
    assert "say which split" in capsys.readouterr().err
    path.write_text(json.dumps({"task": "1", "split": "dev", "answer": "test1"}) + "\n")
    assert main(["envs", "score", "toy-say", str(path)]) == 2
    assert "line 1" in capsys.readouterr().err
