"""ScienceWorld: done by its own solutions, the same each time, with progress that can be read."""

from __future__ import annotations

import subprocess
import sys
from itertools import combinations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resd_bench.env import TextEnv
from resd_bench.errors import UsageError
from resd_bench.plugins import make_env
from resd_bench.types import Dialect, Feedback, Task
from resd_envs.games import java, packages
from resd_envs.games.java import GameEngineError
from resd_envs.games.packages import SCIENCEWORLD
from resd_envs.scienceworld.brief import brief
from resd_envs.scienceworld.engine import Engine, GameState
from resd_envs.scienceworld.env import VERBS
from resd_envs.scienceworld.progress import read_progress
from resd_envs.scienceworld.tasks import (
    COUNTS,
    LEFT_OUT,
    SIZES,
    TIERS,
    Variation,
    find_tasks,
    read_simplifications,
    split_numbers,
    turns_of,
    variations,
)

PROBLEM = packages.find_problem(SCIENCEWORLD)
ABSENT = f"GAMES ABSENT (pip install '.[scienceworld]'): {PROBLEM}"
needs_games = pytest.mark.skipif(PROBLEM is not None, reason=ABSENT)
DIALECTS: tuple[Dialect, ...] = ("full", "compact")
RULER = "-" * 100
PRINTED = f"""Completed keys: 
{RULER}
Sequential Subgoals:
{RULER}
0\ttrue\t                               GoalFind\tfocus on substance
1\tfalse\t                GoalChangeStateOfMatter\tsubstance is in a liquid state
{RULER}
Unordered and Optional Subgoals:
{RULER}
0\tfalse\t             GoalActivateDeviceWithName\tactivate heater (stove)
1\ttrue\t                   GoalInRoomWithObject\tbe in same location as water
{RULER}
"""


def play(env: Any, task: Task, *actions: str) -> tuple[list[str], Feedback]:
    """Play the actions in turn, then the last one again until the episode ends."""
    told = [str(env.reset(options={"task": task.id})[0])]
    for turn in range(env.max_turns):
        text, reward, over, cut, info = env.step(actions[min(turn, len(actions) - 1)])
        told.append(text)
        if over or cut:
            assert info["feedback"].reward == reward
            return told, info["feedback"]
        assert reward == 0
    raise AssertionError("the episode did not end")


def find(env: TextEnv, task: str) -> Task:
    return next(one for one in env.tasks("train") if one.data["task"] == task)


def test_required_subgoals_are_told_from_those_that_may_help() -> None:
    progress = read_progress(PRINTED)
    assert [(p.what, p.reached) for p in progress.required] == [
        ("focus on substance", True),
        ("substance is in a liquid state", False),
    ]
    assert [p.what for p in progress.helpful if p.reached] == ["be in same location as water"]
    assert progress.reached == 1


@given(st.text())
def test_what_holds_no_subgoals_is_an_error_and_no_progress(text: str) -> None:
    with pytest.raises(ValueError, match="no subgoals in"):
        read_progress(text)


def test_the_splits_are_those_of_the_package() -> None:
    splits = [split_numbers(count) for count in COUNTS.values()]
    sizes = {split: sum(len(found[split]) for found in splits) for split in SIZES}
    assert len(COUNTS) == 30
    assert sizes == {"train": 3592, "validation": 1796, "test": 1819}


@pytest.mark.parametrize("tier", [*TIERS, "all", "boil"])
def test_no_variation_is_in_two_splits_and_all_tasks_are_in_each(tier: str) -> None:
    tasks = find_tasks(tier)
    taken = {split: variations(tasks, "easy", split) for split in SIZES}
    for a, b in combinations(taken.values(), 2):
        assert not set(a) & set(b)
    for split, found in taken.items():
        assert {one.task for one in found} == set(tasks)
        for one in found:
            assert one.number in split_numbers(COUNTS[one.task])[split]
            assert one.number not in LEFT_OUT.get(one.task, ())
        # The first ones show every task, so that a few of them do.
        assert len({one.task for one in found[: len(tasks)]}) == len(tasks)
    assert turns_of(tasks) == max(t.turns for t in TIERS.values() if set(t.tasks) & set(tasks))


def test_an_unknown_task_or_simplification_is_answered_with_the_nearest_one() -> None:
    with pytest.raises(UsageError, match="Did you mean 'boil'"):
        find_tasks("boill")
    with pytest.raises(UsageError, match="Did you mean 'openDoors'"):
        read_simplifications("openDors")
    with pytest.raises(UsageError, match="unknown simplification"):
        read_simplifications("easy,openDoors")
    assert read_simplifications("openDoors , teleportAction") == "openDoors,teleportAction"
    assert read_simplifications("") == ""


def test_a_question_of_the_game_and_what_it_does_not_understand_are_told_apart() -> None:
    assert GameState("Ambiguous request: Please enter the number").asks
    assert GameState("No known action matches that input.").unknown
    assert not GameState("You move to the kitchen.").asks
    assert not GameState("You move to the kitchen.").unknown
    assert {"look", "focus", "go", "teleport", "wait1", "examine"} <= VERBS


def test_the_compact_dialect_says_the_same_in_fewer_words() -> None:
    room = (
        "This room is called the hallway. In it, you see: \n\tthe agent\n\ta substance called air\n"
        "\ta cupboard. The cupboard door is closed. \n\ta table. On the table is: a glass cup "
        "(containing nothing).\nYou also see:\n\tA door to the kitchen (that is open)"
    )
    assert brief(room) == (
        "hallway : air , cupboard closed , table : glass cup ( nothing ) , door to kitchen open"
    )
    assert brief("No known action matches that input.") == "not possible"


class FailingServer:
    """A game that has caught an error of its own, and tells it like an observation."""

    def step(self, command: str) -> str:
        return "java.lang.StackOverflowError"

    def agentInterface(self) -> Any:
        return self

    def get(self) -> Any:
        return self

    def isInErrorState(self) -> bool:
        return True


def test_an_error_that_the_game_caught_itself_is_an_error_and_no_verdict(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    engine = Engine.__new__(Engine)
    engine._server = FailingServer()
    monkeypatch.setattr(engine, "_take_over", lambda: None)
    with pytest.raises(GameEngineError, match=r"failed at 'look around': java\.lang\.Stack"):
        engine._tell("look around")


def test_without_the_package_it_is_imported_and_its_tasks_are_listed() -> None:
    code = (
        "import sys\n"
        "sys.modules['scienceworld'] = sys.modules['py4j'] = None\n"
        "import resd_envs.scienceworld as games\n"
        "from resd_bench.plugins import UsageError\n"
        "try: games.easy()\n"
        "except UsageError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "the package scienceworld is not installed" in done.stdout


@needs_games
@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("task", ["find-animal", "lifespan-longest-lived", "power-component"])
def test_the_games_own_solution_does_the_task(task: str, dialect: Dialect) -> None:
    env = make_env("scienceworld-easy", dialect=dialect)
    one = find(env, task)
    told, feedback = play(env, one, *env.oracle(one).splitlines())
    assert (feedback.success, feedback.score, feedback.text) == (True, 1.0, "")
    assert all(told[:-1])


@needs_games
def test_the_score_is_the_share_of_required_subgoals_and_a_wrong_focus_loses() -> None:
    env = make_env("scienceworld-easy")
    task = find(env, "find-animal")
    *way, _ = env.oracle(task).splitlines()
    _, feedback = play(env, task, *way, "look around")
    assert (feedback.kind, feedback.reward, feedback.score) == ("turn_limit", 0, 0.5)
    _, feedback = play(env, task, "focus on picture")
    assert (feedback.kind, feedback.reward) == ("lost", 0)
    assert "The game was lost by: focus on picture" in feedback.text


@needs_games
def test_a_question_of_the_game_is_answered_by_a_number() -> None:
    env = make_env("scienceworld-easy", simplifications="")
    told, _ = play(env, find(env, "find-animal"), "open door", "0", "open door", "nothing", "7")
    assert told[1].startswith("Ambiguous request")
    assert told[2] == "The door is now open."
    assert told[4].startswith("Unknown action.")
    # If it asks nothing, a number is not a command.
    assert told[5] == "That's not a command I recognise."


@needs_games
def test_each_level_of_feedback_says_more() -> None:
    texts = []
    for level in range(6):
        env = make_env("scienceworld-easy", feedback_level=level)
        task = find(env, "find-animal")
        texts.append(play(env, task, "dance", "pick up moon", "look around")[1].text)
    assert texts[:3] == ["", "wrong", "passed 0 of 2: turn_limit"]
    assert "Not understood: dance" in texts[3]
    assert "Could not be done: pick up moon" in texts[3]
    assert "expected: focus on an animal" in texts[4]
    assert texts[5].endswith(f"solution:\n{env.oracle(task)}")


@needs_games
def test_the_package_has_as_many_variations_as_are_listed() -> None:
    engine = Engine()
    engine.start(Variation("boil", 0, "easy"))
    assert {name: engine._server.getTaskMaxVariations(name) for name in COUNTS} == dict(COUNTS)
    assert set(engine._server.getTaskNames()) == set(COUNTS)


@needs_games
@pytest.mark.slow
def test_the_same_commands_give_the_same_answers_again_and_beside_another_episode() -> None:
    """The game shares its counter of things, random generator and simplifications."""
    boil, fruit = Variation("boil", 0, "easy"), Variation("find-animal", 3, "")
    heat = ["pour counter into sink", "activate sink", "use lighter on drawer", "look around"]
    ways = [
        ["teleport to kitchen", *heat] * 3,
        ["look around", "wait1", "open door to kitchen"] * 5,
    ]
    one, two = Engine(), Engine()

    def alone(engine: Engine, variation: Variation, way: list[str]) -> list[str]:
        return [engine.start(variation).text, *(engine.act(command).text for command in way)]

    told = [alone(one, boil, ways[0]), alone(one, fruit, ways[1])]
    assert [alone(two, boil, ways[0]), alone(two, fruit, ways[1])] == told
    together = [[one.start(boil).text], [two.start(fruit).text]]
    for number, (a, b) in enumerate(zip(*ways, strict=True)):
        if number == 9:
            # The machine dies; both are played again on another one.
            java.end_all()
        together[0].append(one.act(a).text)
        together[1].append(two.act(b).text)
    assert together == told
    assert any("steam" in text for text in told[0])
