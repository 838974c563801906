"""Plugins are found by entry point, as a third-party package's are, and checked by contract."""

from __future__ import annotations

from dataclasses import replace
from types import ModuleType
from typing import Any

import gymnasium as gym
import pytest

from resd_bench import plugins
from resd_bench.errors import UsageError, near_miss
from resd_bench.testing import check_agent, check_env
from resd_bench.types import Feedback, Task


def test_an_installed_plugin_is_found_by_name(toy: ModuleType) -> None:
    assert plugins.make_env("toy-say", feedback_level=2).feedback_level == 2
    assert plugins.method("toy-learner") is toy.LEARNER


def test_gymnasium_makes_an_installed_plugin(toy: ModuleType) -> None:
    plugins.register_envs()
    try:
        env = gym.make("resd/ToySay-v0", disable_env_checker=True)
        observation, info = env.reset(options={"task": "test-1"})
        assert (observation, info["task_id"]) == ("say test1", "test-1")
    finally:
        for name in ("ToySay", "ToyCount", "ToyCrash"):
            gym.registry.pop(f"resd/{name}-v0", None)


@pytest.mark.parametrize("kind", ["environment", "method"])
def test_an_unknown_name_is_answered_with_the_nearest(toy: ModuleType, kind: str) -> None:
    find = plugins.make_env if kind == "environment" else plugins.method
    name = "toy-sya" if kind == "environment" else "toy-learnr"
    near = "toy-say" if kind == "environment" else "toy-learner"
    with pytest.raises(UsageError, match=f"unknown {kind} '{name}'. Did you mean '{near}'"):
        find(name)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("manufactoria-has", "resd/ManufactoriaHas-v0"), ("guess-number-v2", "resd/GuessNumber-v2")],
)
def test_short_names_have_gymnasium_ids(name: str, expected: str) -> None:
    assert plugins.gym_id(name) == expected


@pytest.mark.parametrize("name", ["toy-say", "toy-count"])
def test_a_sound_environment_passes_the_check(toy: ModuleType, name: str) -> None:
    check_env(plugins.make_env(name))


def test_the_check_names_what_an_environment_breaks(toy: ModuleType) -> None:
    class Overlapping(toy.SayEnv):  # type: ignore[misc,name-defined]
        def tasks(self, split: Any) -> Any:
            return [replace(t, prompt="say it", data={}) for t in super().tasks(split)]

        def verify(self, task: Task, action: str) -> Feedback:
            return Feedback(0.0, False, 0.0)

    class Generous(toy.SayEnv):  # type: ignore[misc,name-defined]
        def verify(self, task: Task, action: str) -> Feedback:
            return Feedback(1.0, True, 1.0)

    class Hopeless(toy.SayEnv):  # type: ignore[misc,name-defined]
        def oracle(self, task: Task) -> str:
            return "wrong"

    broken: list[tuple[Any, str]] = [
        (Overlapping, "in more than one split"),
        (Generous, "counts as a success"),
        (Hopeless, "oracle's answer does not succeed"),
    ]
    for kind, message in broken:
        with pytest.raises(AssertionError, match=message):
            check_env(kind())


@pytest.mark.parametrize("name", ["toy-learner", "toy-group"])
def test_a_sound_method_passes_the_check(toy: ModuleType, name: str) -> None:
    check_agent(plugins.method(name))


def test_the_check_names_a_method_that_forgets(toy: ModuleType) -> None:
    class Forgetful(toy.Learner):  # type: ignore[misc,name-defined]
        def load_state_dict(self, state: Any) -> None:
            self.solved = list(state["solved"])

    with pytest.raises(AssertionError, match="policy's own state"):
        check_agent(replace(toy.LEARNER, build=Forgetful))


def test_of_many_names_an_error_lists_the_nearest_and_says_what_lists_all() -> None:
    names = [f"game-{number}" for number in range(100)]
    few = str(near_miss("game", "gam-42", names[:40]))
    assert all(name in few for name in names[:40])
    many = str(near_miss("game", "gam-42", names, "games --names"))
    assert "Did you mean 'game-42'? Known: " in many
    assert many.endswith(" and 92 more: `games --names` lists all")
    assert len(many) < 200
