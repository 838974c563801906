"""What `import resd_bench` offers, and environments as Gymnasium sees them."""

from __future__ import annotations

import subprocess
import sys
import warnings
from functools import partial
from typing import Any

import gymnasium
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AsyncVectorEnv, SyncVectorEnv

import resd_bench
from resd_bench import plugins
from resd_bench.config import resolve
from resd_bench.env import TextEnv
from resd_bench.errors import UsageError
from resd_bench.jobs.run import run
from resd_bench.records.find_runs import find_runs

NAMES = tuple(plugins.installed("resd_bench.envs"))
FREE = ("guess-number", "manufactoria-has", "finer", "ifeval", "bouncingsim-basic")
"""One environment of each kind that needs no extra."""


def made(name: str) -> TextEnv:
    try:
        env = gymnasium.make(plugins.gym_id(name)).unwrapped
        assert isinstance(env, TextEnv)
        return env
    except UsageError as error:
        pytest.skip(f"NOT TESTED: {error}")


def test_the_public_functions_are_the_ones_the_commands_use() -> None:
    assert (resd_bench.resolve, resd_bench.run, resd_bench.load) == (resolve, run, find_runs)
    assert set(resd_bench.__all__) <= set(dir(resd_bench))
    with pytest.raises(AttributeError, match="no attribute 'runn'"):
        _ = resd_bench.runn


def test_environments_are_made_without_torch_or_an_import_of_ours() -> None:
    code = """
import sys, gymnasium
env = gymnasium.make("resd_bench:resd/GuessNumber-v0")
print(env.reset(seed=0, options={"split": "test"})[1]["split"], "torch" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.split() == ["test", "False"], done.stderr


def test_reset_poses_a_task_of_the_split_that_is_asked_for() -> None:
    env = resd_bench.make_env("guess-number")
    for split in ("train", "validation", "test"):
        seen = {env.reset(seed=seed, options={"split": split})[1]["task_id"] for seed in range(4)}
        assert len(seen) > 1
        assert seen <= {task.id for task in env.tasks(split)}
    assert env.reset(seed=3)[1] == env.reset(seed=3, options={"split": "train"})[1]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"splt": "test"}, ValueError, "unknown option 'splt' of reset: give task, split or both"),
        ({"split": "tset"}, KeyError, "no split 'tset': give train, validation, test"),
        ({"split": ""}, KeyError, "no split ''"),
        ({"task": "absent"}, KeyError, "no task 'absent'"),
    ],
)
def test_reset_refuses_what_it_does_not_know(
    options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        resd_bench.make_env("guess-number").reset(options=options)


@pytest.mark.parametrize("name", FREE)
def test_gymnasium_finds_nothing_wrong(name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(made(name))


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_gymnasium_finds_nothing_wrong_with_any(name: str) -> None:
    test_gymnasium_finds_nothing_wrong(name)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [SyncVectorEnv, partial(AsyncVectorEnv, shared_memory=False)])
@pytest.mark.parametrize("name", FREE)
def test_vectors_of_gymnasium_play_every_kind(name: str, kind: Any) -> None:
    envs = kind([partial(gymnasium.make, plugins.gym_id(name))] * 2)
    observations, infos = envs.reset(seed=1, options={"split": "test"})
    assert list(infos["split"]) == ["test"] * 2
    assert all(isinstance(text, str) and text for text in observations)
    for _ in range(10):
        envs.step(["a", "b"])
    envs.close()
