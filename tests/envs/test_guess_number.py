"""The multi-turn example behaves like one."""

from __future__ import annotations

import pytest

from resd_bench.types import Dialect
from resd_envs.guess_number import HIGHEST, LOWEST, GuessNumberEnv, read_guess

DIALECTS: list[Dialect] = ["full", "compact"]


@pytest.mark.parametrize("dialect", DIALECTS)
def test_bisection_finds_every_number_in_time(dialect: Dialect) -> None:
    env = GuessNumberEnv(dialect=dialect)
    for task in [*env.tasks("train"), *env.tasks("validation"), *env.tasks("test")]:
        env.reset(options={"task": task.id})
        low, high, over, turns = LOWEST, HIGHEST, False, 0
        while not over:
            guess, turns = (low + high) // 2, turns + 1
            hint, reward, over, truncated, info = env.step(f"thinking\n{guess}\n")
            assert not truncated
            low, high = (guess + 1, high) if "low" in hint else (low, guess - 1)
        assert reward == 1
        assert info["success"]
        assert turns <= env.max_turns


def test_the_splits_share_no_number_and_cover_all() -> None:
    env = GuessNumberEnv()
    numbers = [t.data["number"] for s in ("train", "validation", "test") for t in env.tasks(s)]
    assert sorted(numbers) == list(range(LOWEST, HIGHEST + 1))


@pytest.mark.parametrize("level", range(6))
def test_each_level_says_more(level: int) -> None:
    env = GuessNumberEnv(dialect="compact", feedback_level=level)
    task = next(task for task in env.tasks("train") if task.data["number"] > 100)
    env.reset(options={"task": task.id})
    for action in ["1", "no idea"] * 4:
        text, reward, over, truncated, info = env.step(action)
    assert (reward, over, truncated) == (0, False, True)
    assert info["stop_reason"] == "turns"
    assert ("no_number" in text) == (level >= 2)
    assert ("1 low , no number" in text) == (level >= 3)
    assert (f"expected: {task.data['number']}" in text) == (level >= 4)
    assert ("solution" in text) == (level == 5)


def test_a_new_episode_forgets_the_old_guesses() -> None:
    env = GuessNumberEnv(dialect="compact")
    for _ in range(2):
        env.reset(seed=1)
        for _ in range(env.max_turns):
            text, *_ = env.step("-1")
    assert text.count("-1 low") == env.max_turns


@pytest.mark.parametrize(
    ("action", "guess"),
    [("7", 7), (" -3 \n\n", -3), ("I say\n12", 12), ("12 or 13", None), ("", None), ("²", None)],
)
def test_the_guess_is_the_last_line(action: str, guess: int | None) -> None:
    assert read_guess(action) == guess
    assert read_guess("9" * 1_000_000) is None
