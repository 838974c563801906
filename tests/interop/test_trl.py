"""Our environments as TRL sees them; what needs TRL itself is skipped where it is missing."""

from __future__ import annotations

import inspect
from collections.abc import Sequence

import pytest
from transformers.utils.chat_template_utils import get_json_schema

from resd_bench.env import TextEnv
from resd_bench.errors import UsageError
from resd_bench.interop.trl import (
    EnvEpisode,
    RewardFunction,
    dataset,
    dataset_row,
    environment_factory,
)
from resd_bench.plugins import make_env
from resd_bench.types import Feedback, Split, Task


class SumEnv(TextEnv):
    """Add two numbers; the third task breaks the environment."""

    name = "sum"

    def tasks(self, split: Split) -> Sequence[Task]:
        return [Task(f"{split}/{n}", split, f"{n}+1", {"answer": str(n + 1)}) for n in range(3)]

    def verify(self, task: Task, action: str) -> Feedback:
        if task.id.endswith("2"):
            raise RuntimeError("broken")
        right = action == task.data["answer"]
        return Feedback(float(right), right, float(right))


def chat(text: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": text}]


def test_rewards_are_those_of_the_environment_in_the_order_of_the_completions() -> None:
    logged: dict[str, float] = {}
    reward = RewardFunction(SumEnv())
    names, splits = ["train/0", "train/1", "train/1", "train/2"], ["train"] * 4
    given = reward(
        [chat("1"), chat("1"), chat("2"), chat("3")],
        task=names,
        split=splits,  # type: ignore[arg-type]
        log_metric=logged.__setitem__,
        prompts=[],
        trainer_state=None,
    )
    assert given == [1.0, 0.0, 1.0, None], "no verdict is not a reward of 0"
    assert logged == {"success": pytest.approx(2 / 3), "score": pytest.approx(2 / 3)}
    assert reward(["<think>2?</think>1"], task=["test/0"], split=["test"]) == [1.0]
    assert reward([], task=[], split=[]) == []


def test_a_completion_without_a_stop_token_counts_as_cut_off() -> None:
    told = []

    class Listening(SumEnv):
        def verify(self, task: Task, action: str) -> Feedback:
            told.append(getattr(action, "stop", None))
            return super().verify(task, action)

    reward = RewardFunction(Listening(), stop_ids=[9])
    ids = [[1, 9], [1, 2]]
    reward(["1", "1"], task=["train/0"] * 2, split=["train"] * 2, completion_ids=ids)
    assert told == ["eos", "length"]


def test_a_row_poses_its_task_and_names_it() -> None:
    env = SumEnv()
    task = env.tasks("test")[1]
    row = dataset_row(env, task)
    assert row == {
        "prompt": [{"role": "user", "content": "1+1"}],
        "task": "test/1",
        "split": "test",
    }
    turns = make_env("guess-number")
    assert dataset_row(turns, turns.tasks("train")[0])["prompt"][0]["content"] == ""


def test_an_environment_of_several_turns_has_no_reward_function() -> None:
    with pytest.raises(UsageError, match="give environment_factory"):
        RewardFunction(make_env("guess-number"))


def test_an_episode_is_played_by_its_tool_and_pays_once() -> None:
    env = make_env("guess-number")
    row = dataset_row(env, env.tasks("test")[0])
    number = int(env.tasks("test")[0].data["number"])
    episode = environment_factory("guess-number")()
    assert episode.reset(**row).startswith("I think of a whole number")
    wrong = number % 200 + 1
    assert f"{wrong} is too" in episode.act(str(wrong))
    assert episode.get_reward() == 0.0
    episode.act(str(number))
    assert episode.get_reward() == 1.0
    assert episode.act("1") == "The episode is over."
    assert episode.get_reward() == 1.0
    episode.reset(**row)
    for _ in range(8):
        episode.act("no number")
    assert (episode.get_reward(), episode.act("x")) == (0.0, "The episode is over.")


def test_the_only_tool_is_described_as_trl_needs_it() -> None:
    public = [
        name
        for name, _ in inspect.getmembers(EnvEpisode, inspect.isfunction)
        if not name.startswith("_")
    ]
    assert public == ["act", "get_reward", "reset"]
    assert "Args:\n" in (EnvEpisode.act.__doc__ or "")
    schema = get_json_schema(environment_factory("guess-number")().act)
    assert schema["function"]["parameters"]["required"] == ["text"]


def test_the_dataset_holds_every_task_of_the_split() -> None:
    pytest.importorskip("datasets", reason="DATASETS ABSENT: pip install '.[datasets]'")
    env = SumEnv()
    made = dataset(env, "validation")
    assert made["task"] == [task.id for task in env.tasks("validation")]
    assert dataset(env, tasks=env.tasks("train")[:1])[0]["prompt"][0]["content"] == "0+1"
