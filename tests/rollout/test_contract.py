"""What plug-ins return is checked where it comes in: refused, or recorded as a failed episode."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resd_bench import plugins
from resd_bench.agent import MethodSpec
from resd_bench.cli import main
from resd_bench.config import RunConfig, resolve
from resd_bench.env import Reply, TextEnv
from resd_bench.errors import UsageError
from resd_bench.jobs.run import run
from resd_bench.rollout.rollout import EnvPool, roll_out
from resd_bench.testing import ScriptedPolicy
from resd_bench.types import CaseResult, Feedback, Sampling, Split, Stop, Task, Trajectory

GOOD = Feedback(1.0, True, 1.0, (CaseResult("case", True, "pass"),))
CASE = CaseResult("case", False, "wrong_answer", "what it did")
NAN = math.nan


def odd_case(**changes: Any) -> CaseResult:
    """A case with fields that it must not have."""
    return CaseResult(**{"name": "case", "passed": False, **changes})


class Odd(TextEnv):
    """An environment of which a test says what it returns."""

    name = "odd"

    def __init__(self, **told: Any) -> None:
        super().__init__()
        self.told = told

    def tasks(self, split: Split) -> Sequence[Task]:
        made: Sequence[Task] = self.told.get("tasks", plain_tasks)(split)
        return made

    def opening(self, task: Task) -> str:
        text: str = self.told.get("opening", task.prompt)
        return text

    def reply(self, task: Task, action: str) -> Reply:
        return Reply(feedback=self.told.get("feedback", GOOD))

    def step(self, action: str) -> Any:
        returned = super().step(action)
        change = self.told.get("step")
        return returned if change is None else change(*returned)

    def reset(self, **keywords: Any) -> Any:
        returned = super().reset(**keywords)
        return self.told.get("reset", lambda *same: same)(*returned)


def plain_tasks(split: Split) -> list[Task]:
    return [Task(f"{split}-{i}", split, f"say {split} {i}") for i in range(6)]


def attempt(**told: Any) -> Trajectory:
    """One episode of an environment that returns what is told."""
    policy = ScriptedPolicy(lambda prompt, seed, j: "hello")
    pool = EnvPool(lambda: Odd(**told))
    [group] = roll_out(
        policy.sample,
        pool,
        plain_tasks("train")[:1],
        n=1,
        sampling=Sampling(),
        purpose="rollout",
        ledger=policy.ledger,
        seed=0,
    )
    pool.close()
    return group.trajectories[0]


FEEDBACK: dict[str, tuple[dict[str, Any], str]] = {
    "nan reward": ({"reward": NAN}, "reward is nan"),
    "infinite reward": ({"reward": math.inf}, "reward is inf"),
    "huge reward": ({"reward": -1e30}, r"reward is -1e\+30"),
    "no reward": ({"reward": None}, "float"),
    "text reward": ({"reward": "1"}, r"feedback\.reward is '1'"),
    "nan score": ({"score": NAN}, r"feedback\.score is nan"),
    "score of 2": ({"score": 2.0}, r"feedback\.score is 2\.0: expected a share, from 0 to 1"),
    "score below 0": ({"score": -0.01}, r"feedback\.score is -0\.01"),
    "text score": ({"score": "0.5"}, r"feedback\.score is '0\.5'"),
    "text success": ({"success": "False"}, r"feedback\.success is 'False': expected True or False"),
    "success as a number": ({"success": 1}, r"feedback\.success is 1: expected True or False"),
    "no success": ({"success": None}, r"feedback\.success is None"),
    "cases as text": ({"cases": "abc"}, r"feedback\.cases is 'abc'|'str' object"),
    "cases of dicts": ({"cases": ({"name": "a"},)}, "CaseResult|'dict' object"),
    "no kind": ({"kind": None}, r"feedback\.kind is None: expected text"),
    "kind as a number": ({"kind": 3}, r"feedback\.kind is 3"),
    "text in bytes": ({"kind": b"late"}, r"feedback\.kind is b'late'"),
    "shown beyond": ({"success": False, "cases": (CASE,), "shown": (7,)}, "index out of|7"),
    "shown before": ({"success": False, "cases": (CASE,), "shown": (-1,)}, "shown is -1"),
    "a case's name": ({"cases": (odd_case(name=None),)}, "a case's name is None"),
    "a case's passed": (
        {"cases": (odd_case(passed="no"),)},
        "a case's passed is 'no'",
    ),
}


@pytest.mark.parametrize(("changes", "told"), FEEDBACK.values(), ids=FEEDBACK)
def test_a_verdict_that_is_none_is_a_failure_of_the_environment_on_record(
    changes: dict[str, Any], told: str
) -> None:
    done = attempt(feedback=replace(GOOD, **changes))
    assert (done.stop, done.feedback.kind) == (Stop.ERROR, "environment_error")
    assert (done.feedback.success, done.feedback.reward) == (False, 0.0)
    assert re.search(told, done.error), done.error


def raw(**changes: Any) -> Callable[..., Any]:
    """The five values of a step, some of them others."""

    def change(observation: Any, reward: Any, over: Any, cut: Any, info: Any) -> Any:
        values = {"observation": observation, "reward": reward, "over": over, "cut": cut}
        values |= {"info": info} | changes
        return tuple(values.values())

    return change


STEPS: dict[str, tuple[Any, str]] = {
    "nothing": (lambda *five: None, "what step returned is None: expected a tuple of 5"),
    "four values": (lambda *five: five[:4], "what step returned is of type tuple"),
    "no observation": (raw(observation=None), "the observation is None: expected text"),
    "a number": (raw(observation=5), "the observation is 5"),
    "bytes": (raw(observation=b"x"), "the observation is b'x'"),
    "nan reward": (raw(reward=NAN), "the reward is nan"),
    "no reward": (raw(reward=None), "the reward is None: expected a number"),
    "over as text": (raw(over="False"), "terminated is 'False'"),
    "cut as a number": (raw(cut=1), "truncated is 1"),
    "no info": (raw(info=None), "the info is None: expected a mapping"),
    "info as a list": (raw(info=[]), "the info is of type list"),
    "no feedback": (raw(info={}), r"ended without info\['feedback'\]"),
    "feedback as a dict": (raw(info={"feedback": {"reward": 1}}), "without info"),
}


@pytest.mark.parametrize(("change", "told"), STEPS.values(), ids=STEPS)
def test_a_step_that_returns_what_it_must_not_names_the_environment(change: Any, told: str) -> None:
    done = attempt(step=change)
    assert done.stop is Stop.ERROR
    assert done.error.startswith("ContractError: odd: ")
    assert re.search(told, done.error), done.error


RESETS: dict[str, tuple[Any, str]] = {
    "nothing": (lambda *two: None, "what reset returned is None"),
    "text alone": (lambda text, info: text, "what reset returned is 'say train 0'"),
    "no observation": (lambda text, info: (None, info), "the first observation is None"),
    "a number": (lambda text, info: (12345, info), "the first observation is 12345"),
    "no info": (lambda text, info: (text, None), "the info is None"),
}


@pytest.mark.parametrize(("change", "told"), RESETS.values(), ids=RESETS)
def test_a_reset_that_returns_what_it_must_not_names_the_environment(
    change: Any, told: str
) -> None:
    done = attempt(reset=change)
    assert (done.stop, done.turns) == (Stop.ERROR, ())
    assert done.error.startswith(f"ContractError: odd: {told}")


def test_numbers_and_texts_of_numpy_are_taken_as_pythons() -> None:
    yes: Any = np.bool_(True)
    one: Any = np.float32(1)
    zero: Any = np.int64(0)
    case = CaseResult(np.str_("a"), yes, np.str_("pass"))
    feedback = Feedback(one, yes, np.float64(1), (case,), shown=(zero,))
    done = attempt(feedback=feedback, step=raw(reward=np.float32(1), over=np.bool_(True)))
    assert done.error == ""
    assert type(done.feedback.success) is bool
    assert [type(v) for v in (done.feedback.reward, done.feedback.score)] == [float, float]
    assert [type(v) for v in (case.name, done.feedback.cases[0].name)] == [np.str_, str]
    assert json.dumps(done.feedback.shown) == "[0]"


@pytest.mark.parametrize(
    "feedback",
    [
        Feedback(0.0, True, 1.0),
        Feedback(-1.5, False, 0.0),
        Feedback(7.0, True, 0.5),
        Feedback(True, True, 1),
    ],
)
def test_what_a_reward_means_is_the_environments_own_affair(feedback: Feedback) -> None:
    done = attempt(feedback=feedback)
    assert done.error == ""
    assert done.feedback.reward == float(feedback.reward)


ODD_VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=5),
    st.binary(max_size=3),
    st.lists(st.integers(), max_size=2),
    st.dictionaries(st.text(max_size=2), st.integers(), max_size=2),
)


@given(st.data())
def test_whatever_a_verdict_holds_the_attempt_ends_with_a_sound_one(data: st.DataObject) -> None:
    fields = ("reward", "success", "score", "cases", "kind", "text", "shown", "solution")
    chosen = data.draw(st.sets(st.sampled_from(fields), min_size=1, max_size=3))
    wrong = {name: data.draw(ODD_VALUES, label=name) for name in sorted(chosen)}
    done = attempt(step=raw(info={"feedback": replace(GOOD, **wrong)}))
    own = done.feedback
    assert (done.stop is Stop.ERROR) == bool(done.error)
    assert type(own.success) is bool
    assert type(own.reward) is float
    assert math.isfinite(own.reward)
    assert 0 <= own.score <= 1
    assert all(isinstance(text, str) for text in (own.kind, own.text, own.solution))
    json.dumps([own.shown, [case.name for case in own.cases]])


TASKS: dict[str, tuple[Any, str]] = {
    "none": (None, "is None: expected a list of tasks"),
    "a number": (5, "is 5: expected a list of tasks"),
    "text": ("abc", "is 'abc': expected a list of tasks"),
    "prompts": (["say a"], "number 0: 'say a' is not a Task"),
    "a number as id": ([Task(7, "train", "p")], "its id is 7"),  # type: ignore[arg-type]
    "an empty id": ([Task("", "train", "p")], "its id is ''"),
    "half a surrogate": (
        [Task("a\ud800", "train", "p")],
        r"its id is 'a\\ud800', which holds a lone surrogate",
    ),
    "no prompt": ([Task("a", "train", None)], "the prompt of 'a' is None"),  # type: ignore[arg-type]
    "no data": ([Task("a", "train", "p", None)], "the data of 'a' is None"),  # type: ignore[arg-type]
    "another split": ([Task("a", "test", "p")], "'a' of train says it is of 'test'"),
    "one id twice": ([Task("a", "train", p) for p in "pq"], "the id 'a' names two tasks"),
}


@pytest.fixture
def odd(toy: ModuleType, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the environment `toy-say` returns, in place of its own."""
    told: dict[str, Any] = {}
    real = plugins.make_env

    def make(name: str, **keywords: Any) -> TextEnv:
        return Odd(**told) if name == "toy-say" else real(name, **keywords)

    monkeypatch.setattr(plugins, "make_env", make)
    return told


def config(tmp_path: Path, **changes: Any) -> RunConfig:
    settings: dict[str, Any] = {"env": "toy-say", "method": "toy-learner", "budget": "20ep"}
    settings |= {"model": "scripted"} | {
        "batch_size": 5,
        "eval_samples": 2,
        "max_new_tokens": 20,
        "out": str(tmp_path),
    }
    return resolve(settings, changes)


@pytest.mark.parametrize(("tasks", "told"), TASKS.values(), ids=TASKS)
def test_tasks_that_are_none_are_refused_before_anything_is_run(
    odd: dict[str, Any], tmp_path: Path, tasks: Any, told: str
) -> None:
    odd["tasks"] = lambda split: tasks if split == "train" else plain_tasks(split)
    with pytest.raises(UsageError, match=rf"^odd: tasks\('train'\).*{told}"):
        run(config(tmp_path))
    assert not config(tmp_path).folder().exists()


def test_tasks_may_be_given_by_a_generator(odd: dict[str, Any], tmp_path: Path) -> None:
    odd["tasks"] = lambda split: (task for task in plain_tasks(split))
    assert run(config(tmp_path)).state == "finished"
    assert main(["envs", "info", "toy-say"]) == 0


def failing(on: Split) -> Callable[..., Any]:
    def step(observation: str, reward: float, over: bool, cut: bool, info: Any) -> Any:
        if info["split"] == on:
            raise RuntimeError(f"it broke on {on}")
        return observation, reward, over, cut, info

    return step


def test_an_evaluation_in_which_every_episode_fails_ends_the_run_with_the_commonest_error(
    odd: dict[str, Any], tmp_path: Path
) -> None:
    odd["step"] = failing("test")
    told = r"no sample of the evaluation.*RuntimeError: it broke on test \(12 of 12\)"
    with pytest.raises(UsageError, match=told):
        run(config(tmp_path))
    status = json.loads((config(tmp_path).folder() / "status.json").read_text())
    assert status["state"] == "failed"


def test_training_in_which_every_episode_fails_ends_the_run_with_the_commonest_error(
    odd: dict[str, Any], tmp_path: Path
) -> None:
    odd["step"] = failing("train")
    told = r"none of the last 10 training episodes.*update 2\..*it broke on train \(5 of 5\)"
    with pytest.raises(UsageError, match=told):
        run(config(tmp_path))
    rows = (config(tmp_path).folder() / "episodes.jsonl").read_text().splitlines()
    assert all("it broke on train" in json.loads(row)["error"] for row in rows)


def test_a_short_run_without_any_verdict_ends_so_too(odd: dict[str, Any], tmp_path: Path) -> None:
    odd["step"] = failing("train")
    with pytest.raises(UsageError, match="none of the last 5 training episodes"):
        run(config(tmp_path, budget="5ep"))


def test_episodes_that_fail_now_and_then_end_nothing(odd: dict[str, Any], tmp_path: Path) -> None:
    count = iter(range(10**6))

    def step(*five: Any) -> Any:
        if next(count) % 3:
            raise RuntimeError("now and then")
        return five

    odd["step"] = step
    assert run(config(tmp_path, batch_size=2)).state == "finished"


def test_the_command_ends_with_code_2_and_one_line(
    odd: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    odd["feedback"] = replace(GOOD, score=NAN)
    settings = ["--env", "toy-say", "--method", "toy-learner", "--model", "scripted"]
    sizes = ["--budget", "20ep", "--batch-size", "5", "--max-new-tokens", "20"]
    assert main(["run", *settings, *sizes, "--out", str(tmp_path)]) == 2
    told = capsys.readouterr().err
    assert "odd: feedback.score is nan: expected" in told
    assert "Traceback" not in told


class Method:
    """A method of which a test says what it returns."""

    def __init__(self, inner: Any, told: Mapping[str, Any]) -> None:
        self.inner, self.told = inner, told

    def __getattr__(self, name: str) -> Any:
        if name in self.told:
            return lambda *args, **keywords: self.told[name]
        return getattr(self.inner, name)


METHODS: dict[str, tuple[dict[str, Any], str]] = {
    "no metrics": ({"learn": None}, r"toy-learner: learn\(\) gave None: expected metrics"),
    "metrics of text": ({"learn": {"a": "b"}}, r"learn\(\) gave the metric 'a' as 'b'"),
    "a number as name": ({"learn": {3: 1.0}}, r"learn\(\) gave the metric 3"),
    "the run's own": ({"learn": {"episodes": 1.0}}, "gave the metric 'episodes', which is the run"),
    "no context": ({"context": None}, r"context\(\) gave None: expected a mapping"),
    "no answers": ({"act": None}, r"act\(\) was asked for .* and gave None"),
    "one answer": ({"act": [["x"]]}, r"act\(\) was asked for .* gave \[1\]"),
}


@pytest.mark.parametrize(("told", "message"), METHODS.values(), ids=METHODS)
def test_what_a_method_returns_is_checked_too(
    toy: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    told: dict[str, Any],
    message: str,
) -> None:
    def build(policy: Any, options: Any) -> Any:
        return Method(toy.LEARNER.build(policy, options), told)

    spec = replace(toy.LEARNER, build=build)

    def method(name: str) -> MethodSpec:
        found: MethodSpec = spec
        return found

    monkeypatch.setattr(plugins, "method", method)
    with pytest.raises(UsageError, match=message):
        run(config(tmp_path))


def test_a_metric_that_is_not_finite_is_recorded_as_null(
    toy: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def build(policy: Any, options: Any) -> Any:
        return Method(toy.LEARNER.build(policy, options), {"learn": {"toy/x": NAN}})

    spec = replace(toy.LEARNER, build=build)
    monkeypatch.setattr(plugins, "method", lambda name: spec)
    folder = run(config(tmp_path)).folder
    row = json.loads((folder / "metrics.jsonl").read_text().splitlines()[0])
    assert row["toy/x"] is None
