"""Text games: won by their walkthroughs, marked by what happened, safe from what is said."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from resd_bench.errors import UsageError
from resd_bench.files.cache import CACHE_VARIABLE
from resd_bench.plugins import gym_id, installed, make_env
from resd_bench.seeds import stream
from resd_bench.types import Dialect, Feedback, Task
from resd_envs.textworld import TextWorldEnv, coin, cooking_easy, maker, treasure, treasure_easy
from resd_envs.textworld.commands import failure, read_command, resolve_command
from resd_envs.textworld.curriculum import _Play
from resd_envs.textworld.env import _recipe
from resd_envs.textworld.games import (
    TIERS,
    Family,
    Level,
    Recipe,
    cache_folder,
    make_games,
    read_walkthrough,
    recipes,
)
from resd_envs.textworld.journal import Outcome, Scene
from resd_envs.textworld.maze import from_content

pytestmark = pytest.mark.slow


PRESENT = importlib.util.find_spec("textworld") is not None
needs_textworld = pytest.mark.skipif(
    not PRESENT, reason="TEXTWORLD ABSENT: pip install '.[textworld]'"
)
DIALECTS: list[Dialect] = ["full", "compact"]
NAMES = [n for n, ep in installed("resd_bench.envs").items() if ep.module == "resd_envs.textworld"]
TOLD: list[tuple[Family, Level]] = [("coin", "medium"), ("treasure", "easy"), ("cooking", "easy")]
"""Tiers that are played in both dialects."""
ODD_TEXTS = ["", " \n", "\ud800", "\x00\x07", "x" * 10**6, "go \ud800", "naïve 🌍", "{} %s ${y}"]
META = ["save", "restore", "quit", "restart", "undo", "tw-trace-actions", "go north. quit", "goal"]


@pytest.fixture(scope="module", autouse=True)
def games(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A cache of games of its own, with those that several tests play."""
    before = os.environ.get(CACHE_VARIABLE)
    folder = tmp_path_factory.mktemp("games")
    os.environ[CACHE_VARIABLE] = str(folder)
    if PRESENT:
        coins, hunts, meals = (
            [*recipes(TIERS[family, level], "train")[:6], *recipes(TIERS[family, level], "test")]
            for family, level in TOLD
        )
        make_games([*coins[:2], *coins[6:8], *hunts[:2], *hunts[6:8], *meals[:2]], story=True)
        make_games([*recipes(TIERS[TOLD[0]], "train"), *coins[8:], *hunts[2:6]], story=False)
    yield folder
    del os.environ[CACHE_VARIABLE]
    if before is not None:
        os.environ[CACHE_VARIABLE] = before


def pose(env: TextWorldEnv, task: Task) -> str:
    return env.reset(options={"task": task.id})[0]


def play(env: TextWorldEnv, task: Task, *actions: str) -> tuple[list[str], Feedback]:
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


@needs_textworld
@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("make", [coin, treasure_easy, cooking_easy])
def test_the_walkthrough_wins_and_only_the_last_command_is_rewarded(
    make: Any, dialect: Dialect
) -> None:
    env = make(dialect=dialect)
    for task in env.tasks("train")[:2]:
        commands = env.oracle(task).splitlines()
        assert len(commands) <= env.max_turns
        told, feedback = play(env, task, *commands)
        assert (feedback.success, feedback.score, feedback.text) == (True, 1.0, "")
        assert len(told) == len(commands) + 1


@needs_textworld
@pytest.mark.parametrize("dialect", DIALECTS)
def test_no_observation_tells_the_way(dialect: Dialect) -> None:
    for make in (coin, treasure_easy):
        env = make(dialect=dialect)
        for task in env.tasks("test")[:2]:
            told, feedback = play(env, task, "look", "help", "goal", "hint", "x me", "look")
            way = env.oracle(task).splitlines()
            text = " ".join("\n".join([*told, feedback.text]).split())
            assert " ".join(way) not in text
            assert not any(f"{a}, {b}" in text for a, b in pairwise(way))


@needs_textworld
def test_each_level_of_feedback_says_more() -> None:
    texts = []
    for level in range(6):
        env = coin(dialect="compact", feedback_level=level)
        task = env.tasks("train")[0]
        first = env.oracle(task).splitlines()[0]
        _, feedback = play(env, task, first, "walk north", "go up")
        texts.append(feedback.text)
    assert texts[:2] == ["", "wrong"]
    assert texts[2] == "passed 1 of 4: not_found"
    assert "not understood : walk north" in texts[3]
    assert "never tried" in texts[3]
    assert "expected: go " in texts[4]
    assert texts[5].endswith(f"solution:\n{coin().oracle(task)}")


@needs_textworld
def test_the_score_is_the_best_progress_made() -> None:
    env = coin(dialect="compact")
    task = env.tasks("train")[1]
    *way, _ = env.oracle(task).splitlines()
    scores = [play(env, task, *way[:made], "look")[1].score for made in range(len(way) + 1)]
    assert scores == [0, 0.25, 0.5, 0.75]


@needs_textworld
def test_taking_the_wrong_thing_loses() -> None:
    env = treasure_easy(dialect="compact", admissible=True)
    lost = 0
    for task in env.tasks("train")[:6]:
        goal = env.oracle(task).splitlines()[-1]
        text, over = pose(env, task), False
        info: dict[str, Any] = {}
        rng = stream(0, task.id)
        while not over and "stop_reason" not in info:
            can = text.rpartition("can ")[2].split(" , ")
            takes = [c for c in can if c.startswith("take ") and c != goal]
            moves = [c for c in can if c.startswith("go ")]
            choice = takes or moves
            text, _, over, _, info = env.step(choice[int(rng.integers(len(choice)))])
        if over:
            lost += 1
            assert info["feedback"].kind == "lost"
            assert "lost by : take" in text
    assert lost > 0


@needs_textworld
@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("text", [*ODD_TEXTS, *META], ids=ascii)
def test_any_text_is_an_answer_and_none_reaches_the_interpreter(
    text: str, dialect: Dialect, games: Path
) -> None:
    env = coin(dialect=dialect)
    task = env.tasks("train")[0]
    told, feedback = play(env, task, text)
    assert not feedback.success
    assert all(len(observation) < 3_000 for observation in told)
    assert len(set(told[1:-1])) == 1, "it changed the game"
    assert not list(games.rglob("*.qzl"))
    assert play(env, task, *env.oracle(task).splitlines())[1].success


@needs_textworld
def test_games_at_the_same_time_do_not_disturb_each_other() -> None:
    one, two = coin(), coin()
    a, b = one.tasks("train")[:2]
    alone = [play(one, task, *one.oracle(task).splitlines())[0] for task in (a, b)]
    ways = [one.oracle(task).splitlines() for task in (a, b)]
    together = [[pose(one, a)], [pose(two, b)]]
    for first, second in zip(*ways, strict=True):
        together[0].append(one.step(first)[0])
        together[1].append(two.step(second)[0])
    assert together == alone


@needs_textworld
def test_the_imagined_games_of_the_curriculum_are_the_real_ones() -> None:
    env = coin(dialect="compact")
    words = ["north", "east", "south", "west"]
    said = [*(f"go {w}" for w in words), "look", "inventory", "take coin", "walk east", "", "get x"]
    for number, task in enumerate(env.tasks("train")[:12]):
        rng = stream(number, "parity")
        imagined = _Play(from_content(task.data["maze"]), env.max_turns)
        way = env.oracle(task).splitlines()
        actions = [said[int(i)] for i in rng.integers(len(said), size=env.max_turns)]
        actions[: number % 4] = way[: number % 4]
        told, feedback = play(env, task, *actions)
        for action in actions[: len(told) - 1]:
            imagined.act(action)
        assert imagined.over
        assert imagined.observations[: len(told) - 1] == told[:-1]
        assert (imagined.won, imagined.feedback) == (feedback.success, feedback.text)


def test_a_closed_door_is_told_from_a_wall() -> None:
    scene = Scene("hall", ("east",), barred=("north oak door closed",))
    outcomes = [failure(f"go {way}", ["go"], scene, "full") for way in ("north", "south")]
    assert outcomes == [Outcome.BARRED, Outcome.NO_EXIT]


@needs_textworld
def test_possible_commands_are_listed_on_demand() -> None:
    env = coin(dialect="full", admissible=True)
    task = env.tasks("train")[0]
    assert "You can: go " in pose(env, task)
    assert "You can:" not in pose(coin(dialect="full"), task)


@needs_textworld
def test_compact_observations_are_short() -> None:
    env = coin(dialect="compact")
    for task in env.tasks("test")[:8]:
        told, _ = play(env, task, "go north", "go east", "go south", "go west", "look", "say hi")
        assert all(len(text.split()) < 25 for text in told[:-1])


@needs_textworld
def test_a_game_depends_on_its_recipe_and_not_on_those_made_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = [
        recipes(TIERS[family, "easy"], "test")[number]
        for family in ("coin", "treasure")
        for number in range(2)
    ]
    made = []
    for number, order in enumerate((few, [few[3], few[1]])):
        monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / str(number)))
        # Each time in a process of its own.
        maker.end()
        make_games(order, story=False)
        made.append([recipe.state_file.read_bytes() for recipe in (few[1], few[3])])
    assert made[0] == made[1]


@needs_textworld
def test_the_process_that_makes_games_is_replaced_when_it_has_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))
    first, second = recipes(TIERS["coin", "easy"], "train")[:2]
    make_games([first], story=False)
    assert maker._running is not None
    os.kill(maker._running.pid, signal.SIGKILL)
    make_games([second], story=False)
    assert first.state_file.exists()
    assert second.state_file.exists()


@needs_textworld
def test_one_game_made_at_once_by_several_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))
    recipe = recipes(TIERS["coin", "medium"], "train")[0]
    cache_folder().mkdir()
    order = {**recipe.order, "name": recipe.name}
    asked = json.dumps({"folder": str(cache_folder()), "story": False, "orders": [order]}) + "\n"
    makers = [
        subprocess.Popen(
            [sys.executable, "-m", "resd_envs.textworld.make"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONHASHSEED": "0"},
            text=True,
        )
        for _ in range(3)
    ]
    for process in makers:
        assert process.stdin is not None
        process.stdin.write(asked)
        process.stdin.flush()
    assert [process.communicate()[0] for process in makers] == ["{}\n"] * 3
    assert read_walkthrough(recipe)[-1] == "take coin"
    assert [path.suffix for path in cache_folder().iterdir()] == [".json"]


def test_the_environments_are_installed_and_registered() -> None:
    listed = [name for name in NAMES if name.endswith("-listed")]  # a tier of a tier
    assert len(NAMES) - len(listed) == len(TIERS)
    assert gym_id("textworld-coin") == "resd/TextworldCoin-v0"


@needs_textworld
def test_tasks_are_listed_without_making_a_game(games: Path) -> None:
    before = sorted(games.rglob("*"))
    for name in NAMES:
        env = make_env(name)
        assert [len(env.tasks(s)) for s in ("train", "validation", "test")] == [128, 32, 64]
    assert sorted(games.rglob("*")) == before


def test_without_the_extra_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "textworld", None)
    with pytest.raises(UsageError, match=r"pip install .*\[textworld\]"):
        coin()


def test_without_the_extra_the_package_is_imported_and_its_tasks_drawn() -> None:
    code = (
        "import sys; sys.modules['textworld'] = sys.modules['jericho'] = None\n"
        "import resd_envs.textworld as t, resd_envs.textworld.curriculum\n"
        "from resd_envs.textworld.games import recipes, TIERS\n"
        "print(len(recipes(TIERS['coin', 'medium'], 'train')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "128"


@needs_textworld
def test_an_unknown_tier_is_answered_with_the_known_ones() -> None:
    with pytest.raises(UsageError, match="easy, medium or hard"):
        TextWorldEnv(family="coin", level="huge")  # type: ignore[arg-type]


@needs_textworld
def test_a_cache_that_cannot_be_written_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "file"))
    env = treasure(dialect="compact")
    with pytest.raises(UsageError, match=CACHE_VARIABLE):
        pose(env, env.tasks("train")[0])


@needs_textworld
def test_a_recipe_that_cannot_be_made_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))
    with pytest.raises(RuntimeError, match="level"):
        make_games([Recipe("treasure", 1, {"level": 99})], story=False)


@pytest.mark.parametrize(
    ("action", "command"),
    [
        ("go north", "go north"),
        ("I think so.\n\n> Go North.\n", "go north"),
        ("`take coin`", "take coin"),
        ("", ""),
        ("\n \n", ""),
        ("go north\nlook", "look"),
    ],
)
def test_the_command_is_the_last_line_that_is_not_blank(action: str, command: str) -> None:
    assert read_command(action) == command


@pytest.mark.parametrize(
    ("said", "full", "compact"),
    [
        ("go north", "go north", "go north"),
        ("n", "go north", None),
        ("north", "go north", None),
        ("walk north", "go north", None),
        ("get the red key", "take red key from table", None),
        ("take red key from table", "take red key from table", "take red key from table"),
        ("cook it with bbq", "cook it with BBQ", "cook it with BBQ"),
        ("go west", None, None),
        ("take", None, None),
    ],
)
def test_the_full_dialect_takes_synonyms_and_the_compact_one_does_not(
    said: str, full: str | None, compact: str | None
) -> None:
    possible = ["go north", "take red key from table", "look", "cook it with BBQ"]
    assert resolve_command(said, possible, "full") == full
    assert resolve_command(said, possible, "compact") == compact


def flip(content: bytes, place: int) -> bytes:
    return bytes([*content[:place], content[place] ^ 4, *content[place + 1 :]])


@needs_textworld
@pytest.mark.parametrize(
    ("dialect", "suffix"), [("compact", ".json"), ("full", ".json"), ("full", ".z8")]
)
def test_a_damaged_game_is_named_with_its_remedy_and_made_again_when_it_is_gone(
    dialect: Dialect, suffix: str
) -> None:
    env = coin(dialect=dialect)
    task = env.tasks("train")[0]
    story = pose(env, task)
    path = _recipe(task).state_file.with_suffix(suffix)
    whole = path.read_bytes()
    digit = whole.index(b"1", 2000)
    for harm in (
        b"",
        b"\0" * 40,
        whole[: len(whole) // 3],
        flip(whole, digit),
        flip(whole, len(whole) // 2),
    ):
        path.write_bytes(harm)
        with pytest.raises(UsageError, match=rf"{path.name} is damaged .*: delete it, and"):
            pose(coin(dialect=dialect), task)
    path.write_bytes(whole)
    assert pose(coin(dialect=dialect), task) == story


@needs_textworld
def test_a_damaged_game_that_is_deleted_is_made_again_as_it_was() -> None:
    recipe = recipes(TIERS[TOLD[0]], "train")[1]
    whole = recipe.state_file.read_bytes()
    recipe.state_file.write_bytes(whole[:-5])
    with pytest.raises(UsageError, match="delete it"):
        read_walkthrough(recipe)
    recipe.state_file.unlink()
    make_games([recipe], story=False)
    assert recipe.state_file.read_bytes() == whole


@needs_textworld
def test_games_of_before_there_was_a_hash_are_read() -> None:
    recipe = recipes(TIERS[TOLD[0]], "train")[2]
    whole = recipe.state_file.read_bytes()
    state = json.loads(whole)
    del state["sha256"]
    recipe.state_file.write_text(json.dumps(state))
    assert read_walkthrough(recipe)[-1] == "take coin"
    recipe.state_file.write_bytes(whole)
