"""TextArena's games: won by what they hide, alone with their chance, safe from any move."""

from __future__ import annotations

import random
import subprocess
import sys
from itertools import combinations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resd_bench.errors import UsageError
from resd_bench.plugins import installed, make_env
from resd_bench.types import Feedback, Split, Task
from resd_envs.games import packages
from resd_envs.games.packages import TEXTARENA
from resd_envs.textarena.engine import Engine, Game, known_names
from resd_envs.textarena.env import MOST_MOVE_CHARS, read_move, short_name
from resd_envs.textarena.ids import (
    ALIKE,
    CANNOT_BE_WON,
    FILES,
    MODEL,
    OFFERED,
    PLAYERS,
    REASONS,
    SYNTAX,
    WORDS,
    find_kind,
)

PROBLEM = packages.find_problem(TEXTARENA)
ABSENT = f"GAMES ABSENT (pip install '.[textarena]'): {PROBLEM}"
needs_games = pytest.mark.skipif(PROBLEM is not None, reason=ABSENT)
SPLITS: tuple[Split, ...] = ("train", "validation", "test")
NAMES = sorted(name for name in installed("resd_bench.envs") if name.startswith("textarena-"))
QUICK = ["frozen-lake", "guess-the-number", "lights-out", "logic-puzzle", "mastermind"]
QUICK += ["minesweeper-small", "secretary", "slitherlink", "sudoku-very-easy", "three-card-monte"]


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


def test_what_is_registered_is_offered_under_its_short_name() -> None:
    assert set(NAMES) <= {short_name(name) for name in OFFERED}
    assert short_name("GuessTheNumber-v0-hardcore") == "textarena-guess-the-number-hardcore"
    assert short_name("2048-v0") == "textarena-2048"


@pytest.mark.parametrize(
    ("action", "move"),
    [
        ("[5]", "[5]"),
        ("I think [1 2 3 4] or rather\n[2 1 4 5].", "[2 1 4 5]"),
        ("my guess:\n 5 \n", "[5]"),
        ("> `up`", "[up]"),
        ("", ""),
        ("[]", ""),
        ("]up[", "[]up[]"),
        ("[\ud800 1]", "[? 1]"),
        ("[1\n2]", "[1 2]"),
        (f"[{'9' * 10_000}]", ""),
        ("9" * 10_000, ""),
        ("[1] " + "x" * 10_000, "[1]"),
    ],
    ids=lambda text: ascii(text[:16]),
)
def test_the_move_is_the_last_pair_of_brackets_or_the_last_line(action: str, move: str) -> None:
    assert read_move(action) == move


@given(st.text() | st.text(alphabet="[]0 \n\ud800x", max_size=300))
def test_any_text_gives_one_short_move_in_brackets_of_printable_ascii_or_none(action: str) -> None:
    move = read_move(action)
    assert len(move) <= MOST_MOVE_CHARS + 2
    assert move == "" or (move.startswith("[") and move.endswith("]"))
    assert all(c.isascii() and c.isprintable() for c in move)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("Wordle-v0", WORDS),
        ("TwentyQuestions-v0-hardcore", MODEL),
        ("TowerOfHanoi-v0-extreme", ALIKE),
        ("ScorableGames-v0-game1", FILES),
        ("Klondike-v0", SYNTAX),
        ("FifteenPuzzle-v0", CANNOT_BE_WON),
        ("TicTacToe-v0", PLAYERS),
    ],
)
def test_a_game_that_is_not_offered_says_why(name: str, reason: str) -> None:
    with pytest.raises(UsageError, match=f"the game {name} of TextArena {reason}") as raised:
        find_kind(name, [name])
    assert "\n" not in str(raised.value)


def test_an_unknown_game_is_answered_with_the_nearest_one() -> None:
    with pytest.raises(UsageError, match="Did you mean 'Sudoku-v0-easy'"):
        find_kind("Sudoku-easy")


def test_without_the_package_it_is_imported_and_says_what_to_install() -> None:
    code = (
        "import sys\n"
        "sys.modules['textarena'] = None\n"
        "import resd_envs.textarena as games\n"
        "from resd_bench.plugins import UsageError\n"
        "try: games.sudoku()\n"
        "except UsageError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "the package textarena is not installed" in done.stdout


@needs_games
def test_every_name_that_the_package_knows_is_offered_or_has_a_reason() -> None:
    names = {n for n in known_names() if not n.endswith(("-raw", "-train"))}
    assert set(OFFERED) <= names
    reasons: dict[str, int] = {}
    for name in names - set(OFFERED):
        with pytest.raises(UsageError) as raised:
            find_kind(name, known_names())
        (found,) = [r for r in (*REASONS, PLAYERS) if f" {r}. Offered" in str(raised.value)]
        reasons[found] = reasons.get(found, 0) + 1
    assert reasons[WORDS] == 23
    assert set(reasons) == {*REASONS, PLAYERS}


@needs_games
@pytest.mark.parametrize("name", QUICK)
def test_what_a_game_hides_wins_it(name: str) -> None:
    env = make_env(f"textarena-{name}")
    for split in SPLITS:
        task = env.tasks(split)[1]
        moves = env.oracle(task).splitlines()
        assert len(moves) <= env.max_turns
        told, feedback = play(env, task, *moves)
        assert (feedback.success, feedback.score, feedback.text) == (True, 1.0, "")
        assert len(told) == len(moves) + 1
        assert all(told[:-1])


@needs_games
@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n in NAMES if n != "textarena-blackjack"])
def test_what_a_game_hides_wins_a_fifth_of_all_its_games(name: str) -> None:
    env = make_env(name, dialect="compact")
    for split in SPLITS:
        for task in env.tasks(split)[::5]:
            assert play(env, task, *env.oracle(task).splitlines())[1].success, task.id


@needs_games
@pytest.mark.parametrize("name", ["guess-the-number", "frozen-lake", "logic-puzzle", "lights-out"])
def test_no_game_is_in_two_splits(name: str) -> None:
    env: Any = make_env(f"textarena-{name}")
    seen: dict[str, set[str]] = {}
    for split in SPLITS:
        for task in env.tasks(split):
            state = env.engine.start(Game(**task.data))
            game = env.engine.env
            hidden = sorted(getattr(game, "clues", [])) or [
                state.text,
                getattr(game, "game_number", 0),
            ]
            seen.setdefault(split, set()).add(repr(hidden))
    assert [len(found) for found in seen.values()] == [len(env.tasks(s)) for s in SPLITS]
    assert not any(a & b for a, b in combinations(seen.values(), 2))


@needs_games
def test_a_guess_of_ten_thousand_digits_is_an_invalid_move_and_no_error() -> None:
    env = make_env("textarena-guess-the-number")
    task = env.tasks("train")[0]
    for guess in (f"[{'9' * 10_000}]", "9" * 10_000, f"[-{'1' * 10_000}]"):
        told, feedback = play(env, task, guess)
        assert "invalid move" in told[1]
        assert feedback.kind == "invalid_move"


@needs_games
def test_a_reward_counts_as_a_success_only_where_no_invalid_move_ended_the_game(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    engine = Engine()
    for reward, invalid, won in ((1, False, True), (1.0, True, False), (0.99, False, False)):
        engine.start(Game("GuessTheNumber-v0", 0))
        game = engine.env
        game.state.rewards = {0: reward}
        game.state.game_info[0] |= {"reason": "a test", "invalid_move": invalid}
        monkeypatch.setattr(game, "step", lambda action: (True, {}))
        assert engine.act("[1]").won is won


@needs_games
def test_what_a_lost_game_gives_away_at_its_end_is_not_told_below_level_four() -> None:
    secret = 0
    for level in range(6):
        env = make_env("textarena-three-card-monte", feedback_level=level)
        task = env.tasks("train")[0]
        right = env.oracle(task)
        wrong = next(f"[{cup}]" for cup in range(3) if f"[{cup}]" != right)
        _, feedback = play(env, task, wrong)
        assert feedback.kind in ("lost", "")
        assert "under" not in feedback.text
        secret += right in feedback.text
        assert (right in feedback.text) == (level >= 4)
    assert secret == 2


@needs_games
def test_games_at_the_same_time_draw_from_a_generator_each_and_not_from_everybodys() -> None:
    moves = ["[Down]", "[Left]", "[Right]", "[Up]"] * 6
    alone = []
    for seed in (1, 2):
        engine = Engine()
        engine.start(Game("2048-v0-mega-easy", seed))
        alone.append([engine.act(move).text for move in moves])
    one, two = Engine(), Engine()
    random.seed(7)
    before = random.getstate()
    one.start(Game("2048-v0-mega-easy", 1))
    two.start(Game("2048-v0-mega-easy", 2))
    together: list[list[str]] = [[], []]
    for move in moves:
        together[0].append(one.act(move).text)
        together[1].append(two.act(move).text)
    assert together == alone
    assert random.getstate() == before


@needs_games
def test_each_level_of_feedback_says_more() -> None:
    texts = []
    for level in range(6):
        env = make_env("textarena-sudoku-very-easy", feedback_level=level)
        task = env.tasks("train")[0]
        texts.append(play(env, task, "[0 0 0]")[1].text)
    assert texts[:3] == ["", "wrong", "passed 0 of 1: invalid_move"]
    assert "Could not be done: [0 0 0] (2 times)" in texts[3]
    first = env.oracle(task).splitlines()[0]
    assert f"expected: {first}" in texts[4]
    assert texts[5].endswith(f"solution:\n{env.oracle(task)}")
