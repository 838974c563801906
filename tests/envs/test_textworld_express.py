"""Games of TextWorldExpress: won by their solutions, the same each time."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from resd_bench.errors import UsageError
from resd_bench.plugins import installed, make_env
from resd_bench.rollout.vector_env import EpisodeSlot, SubprocessVectorEnv
from resd_bench.types import Dialect, Feedback, Task
from resd_envs.games import java, packages
from resd_envs.games.packages import TEXTWORLD_EXPRESS
from resd_envs.games.record import CommandOutcome
from resd_envs.textworld_express.brief import brief
from resd_envs.textworld_express.env import _why_not, find_tier, resolve_command
from resd_envs.textworld_express.games import LEFT_OUT, SIZES, TIERS, Tier, games

PROBLEM = packages.find_problem(TEXTWORLD_EXPRESS)
ABSENT = f"GAMES ABSENT (pip install '.[textworld-express]'): {PROBLEM}"
needs_games = pytest.mark.skipif(PROBLEM is not None, reason=ABSENT)
DIALECTS: tuple[Dialect, ...] = ("full", "compact")
ODD_TEXTS = ["", "\ud800", "take coin\udfff", "\x00\x07", "x" * 10**6, "9" * 10_000, "{} %s"]


def pose(env: Any, task: Task) -> str:
    return str(env.reset(options={"task": task.id})[0])


def play(env: Any, task: Task, *actions: str) -> tuple[list[str], Feedback]:
    """Play the actions in turn, then the last one again until the episode ends."""
    told = [pose(env, task)]
    for turn in range(env.max_turns):
        text, reward, over, cut, info = env.step(actions[min(turn, len(actions) - 1)])
        told.append(text)
        if over or cut:
            assert info["feedback"].reward == reward
            return told, info["feedback"]
        assert reward == 0
    raise AssertionError("the episode did not end")


@pytest.fixture
def ended() -> Iterator[None]:
    """Machines are ended afterwards."""
    yield
    java.end_all()


def test_every_tier_is_installed_under_its_name() -> None:
    names = {name for name in installed("resd_bench.envs") if name.startswith("textworld-express-")}
    assert names == {tier.name for tier in TIERS.values()}


@pytest.mark.parametrize("tier", TIERS.values(), ids=lambda tier: tier.name)
def test_no_seed_is_in_two_splits_and_none_that_is_left_out_is_taken(tier: Tier) -> None:
    seeds = {split: {game.seed for game in games(tier, split)} for split in SIZES}
    assert {split: len(found) for split, found in seeds.items()} == dict(SIZES)
    assert not any(a & b for a, b in combinations(seeds.values(), 2))
    assert not set().union(*seeds.values()) & LEFT_OUT.get(tier.name, frozenset())
    assert set(LEFT_OUT) <= {tier.name for tier in TIERS.values()}


def test_an_unknown_game_is_answered_with_the_nearest_one_and_an_unknown_level_with_the_known() -> (
    None
):
    with pytest.raises(UsageError, match="Did you mean 'cookingworld'"):
        find_tier("cookingwrld", "medium")
    with pytest.raises(UsageError, match="no level 'easy': give medium"):
        find_tier("sorting", "easy")


@pytest.mark.parametrize(
    ("said", "full", "compact"),
    [
        ("move north", "move north", "move north"),
        ("go north", "move north", None),
        ("north", "move north", None),
        ("get the coin", "take coin", None),
        ("read cookbook", None, None),
        ("look", "look around", None),
    ],
)
def test_the_full_dialect_takes_synonyms_and_the_compact_one_does_not(
    said: str, full: str | None, compact: str | None
) -> None:
    possible = ["move north", "take coin", "look around"]
    assert resolve_command(said, possible, "full") == full
    assert resolve_command(said, possible, "compact") == compact


def test_what_is_impossible_here_is_told_from_what_is_no_command() -> None:
    possible = ["take coin", "move north"]
    assert _why_not("", possible) is CommandOutcome.NO_COMMAND
    assert _why_not("take moon", possible) is CommandOutcome.NOT_POSSIBLE
    assert _why_not("dance", possible) is CommandOutcome.NOT_UNDERSTOOD


@pytest.mark.parametrize(
    ("text", "short"),
    [
        (
            "You are in the kitchen. In one part of the room you see a stove. You also see a "
            "counter that has a knife, a red hot pepper, and a cookbook on it. There is also a "
            "fridge that is closed.\nTo the North you see a closed wood door. Through an open "
            "plain door, to the East you see the pantry. To the West you see the corridor.",
            "kitchen , stove , counter : knife + red hot pepper + cookbook , fridge closed , "
            "north wood door closed , east pantry , west corridor",
        ),
        (
            "Inventory (maximum capacity is 2 items):\nYour inventory is currently empty.",
            "holding , nothing",
        ),
        ("You take the coin.", "take coin"),
        ("Simon says, 'smell pineapple'.", "simon says smell pineapple"),
        ("", ""),
    ],
)
def test_the_compact_dialect_says_the_same_in_fewer_words(text: str, short: str) -> None:
    assert brief(text) == short


def test_without_the_package_it_is_imported_and_its_seeds_are_listed() -> None:
    code = (
        "import sys\n"
        "sys.modules['textworld_express'] = sys.modules['py4j'] = None\n"
        "import resd_envs.textworld_express as games\n"
        "from resd_bench.plugins import UsageError\n"
        "try: games.coin()\n"
        "except UsageError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "the package textworld-express is not installed" in done.stdout


@needs_games
@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("game", ["coin-easy", "mapreader", "simonsays", "sorting", "twc-easy"])
def test_the_solution_wins_and_only_its_last_command_is_rewarded(
    game: str, dialect: Dialect
) -> None:
    env = make_env(f"textworld-express-{game}", dialect=dialect)
    for split in SIZES:
        task = env.tasks(split)[3]
        commands = env.oracle(task).splitlines()
        assert len(commands) < env.max_turns
        told, feedback = play(env, task, *commands)
        assert (feedback.success, feedback.score, feedback.text) == (True, 1.0, "")
        assert len(told) == len(commands) + 1
        assert all(told[:-1])


@needs_games
def test_the_score_is_the_share_of_the_goals_parts_and_only_winning_is_rewarded() -> None:
    env = make_env("textworld-express-twc", dialect="compact")
    task = env.tasks("train")[0]
    *way, _ = env.oracle(task).splitlines()
    scores = [play(env, task, *way[:n], "look around")[1].score for n in range(1, len(way) + 1)]
    assert scores == sorted(scores)
    assert {scores[0], scores[-1]} < {n / 8 for n in range(8)}
    _, feedback = play(env, task, *way, "look around")
    assert (feedback.reward, feedback.kind, len(feedback.cases)) == (0, "turn_limit", 8)
    assert sum(case.passed for case in feedback.cases) == 8 * feedback.score


@needs_games
def test_a_lost_game_ends_with_what_lost_it() -> None:
    env = make_env("textworld-express-simonsays", dialect="compact", admissible=True)
    task = env.tasks("train")[0]
    right = env.oracle(task).splitlines()[0]
    possible = pose(env, task).rpartition("can ")[2].split(" , ")
    wrong = next(command for command in possible if command != right)
    _, _, over, cut, info = env.step(wrong)
    assert (over, cut) == (True, False)
    assert info["feedback"].kind == "lost"
    assert f"lost by : {wrong}" in info["feedback"].text
    assert right not in info["feedback"].text


@needs_games
def test_each_level_of_feedback_says_more() -> None:
    texts = []
    for level in range(6):
        env = make_env("textworld-express-coin-easy", dialect="full", feedback_level=level)
        task = env.tasks("train")[0]
        texts.append(play(env, task, "dance", "take moon", "look around")[1].text)
    assert texts[:2] == ["", "wrong"]
    assert texts[2] == "passed 0 of 1: turn_limit"
    assert "Not understood: dance" in texts[3]
    assert "take coin" not in texts[3]
    assert "expected: take coin" in texts[4]
    assert texts[5].endswith(f"solution:\n{env.oracle(task)}")


@needs_games
@pytest.mark.parametrize("text", ODD_TEXTS, ids=lambda text: ascii(text[:12]))
def test_any_text_is_an_answer_and_none_but_commands_reach_the_game(
    text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    env: Any = make_env("textworld-express-coin-easy")
    task = env.tasks("train")[0]
    reached: list[str] = []
    monkeypatch.setattr(env.engine, "act", reached.append)
    told, feedback = play(env, task, text)
    assert not feedback.success
    assert reached == []
    assert len(set(told[1:-1])) == 1


@needs_games
def test_a_solution_is_the_same_in_another_process() -> None:
    code = (
        "from resd_bench.plugins import make_env\n"
        "env = make_env('textworld-express-coin')\n"
        "print(env.oracle(env.tasks('test')[5]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    env = make_env("textworld-express-coin")
    assert done.stdout.strip() == env.oracle(env.tasks("test")[5])


@needs_games
def test_games_at_the_same_time_do_not_disturb_each_other_nor_does_a_machine_that_died(
    ended: None,
) -> None:
    one, two = (make_env("textworld-express-cookingworld-easy") for _ in range(2))
    a, b = one.tasks("train")[:2]
    ways = [one.oracle(task).splitlines() for task in (a, b)]
    alone = [play(one, task, *way)[0] for task, way in zip((a, b), ways, strict=True)]
    together = [[pose(one, a)], [pose(two, b)]]
    for turn in range(max(map(len, ways))):
        if turn == 2:
            for machine in list(java._machines.values()):
                os.kill(machine._process.pid, signal.SIGKILL)
                machine._process.wait()
        for env, way, told in zip((one, two), ways, together, strict=True):
            if turn < len(way):
                told.append(env.step(way[turn])[0])
    assert together == alone


@needs_games
def test_a_game_that_hangs_or_dies_ends_its_own_episode_as_an_error_and_no_other(
    ended: None,
) -> None:
    make = partial(make_env, "textworld-express-simonsays", dialect="compact")
    env = make()
    tasks = env.tasks("train")[:3]
    ways = [env.oracle(task).splitlines() for task in tasks]
    java.end_all()
    vector = SubprocessVectorEnv(make, deadline=2.0, workers=1)
    slots = [EpisodeSlot(0, {"task": task.id}) for task in tasks]
    try:
        vector.reset(slots)
        for number, signum in enumerate((signal.SIGSTOP, signal.SIGKILL)):
            for child in _machines_below(os.getpid()):
                os.kill(child, signum)
            time.sleep(0.2)
            if signum == signal.SIGSTOP:
                (stuck,) = vector.step(slots[:1], [ways[0][0]])
                assert "did not answer within 2 s" in stuck.error
            for slot, way in zip(slots[1:], ways[1:], strict=True):
                (answer,) = vector.step([slot], [way[number]])
                assert answer.error == ""
                assert answer.observation.startswith("simon says")
    finally:
        vector.close()
    assert _machines_below(os.getpid()) == []


def _machines_below(pid: int) -> list[int]:
    """Java machines that descend from a process."""
    rows: dict[int, tuple[int, str]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        # Processes end while we look.
        with contextlib.suppress(OSError, ValueError, IndexError):
            name, _, rest = stat.read_text().partition(" (")[2].rpartition(") ")
            rows[int(stat.parent.name)] = (int(rest.split()[1]), name)
    ours = {pid}
    while more := {child for child, (parent, _) in rows.items() if parent in ours} - ours:
        ours |= more
    return [child for child, (_, name) in rows.items() if name == "java" and child in ours]


@needs_games
@pytest.mark.slow
@pytest.mark.parametrize("name", ["coin", "coin-easy", "twc-easy", "simonsays-easy"])
def test_no_game_is_twice_in_a_tier(name: str) -> None:
    env: Any = make_env(f"textworld-express-{name}")
    seen: dict[tuple[str, ...], str] = {}
    for split in SIZES:
        for task in env.tasks(split):
            told, _ = play(env, task, *env.oracle(task).splitlines())
            content = (env.engine.description, *told)
            assert content not in seen, (task.id, seen[content])
            seen[content] = task.id
