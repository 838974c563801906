"""The coin-collector curriculum: right searches, wrong searches, and what is held out."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from resd_baselines.prompts import PACK
from resd_bench.nano.curriculum import Exercise
from resd_bench.nano.documents import Author
from resd_bench.plugins import find
from resd_bench.seeds import stream
from resd_bench.types import Completion, Message, Task, Turn
from resd_envs.textworld.curriculum import CURRICULUM, ORDER, PRIORS, PROMPT, SHARED
from resd_envs.textworld.games import TIERS, recipes
from resd_envs.textworld.maze import from_content, mazes, share_of

PROMPTS = find("resd_bench.prompts", "prompt pack", "resd")
TIER = TIERS["coin", "medium"]


def test_a_search_without_mistakes_finds_every_coin_in_time() -> None:
    rng = stream(1, "exercises")
    for _ in range(300):
        exercise = CURRICULUM.exercise(rng)
        assert exercise.prompt.startswith(f"{PROMPT}\n")
        assert CURRICULUM.feedback(exercise, CURRICULUM.answer(exercise, {})) == (True, "")


@pytest.mark.slow
@pytest.mark.parametrize("key", ORDER)
def test_a_mistake_that_bears_on_a_map_fails_there_and_shows(key: str) -> None:
    rng, failed, seen = stream(2, key), 0, 0
    while seen < 40:
        exercise = CURRICULUM.exercise(rng)
        if key in CURRICULUM.priors(exercise):
            seen += 1
            mistake = CURRICULUM.mistake(exercise, key, rng)
            answer = CURRICULUM.answer(exercise, {key: mistake})
            success, text = CURRICULUM.feedback(exercise, answer)
            failed += not success
            assert success or any(sign in text for sign in SIGNS[key](mistake.where[1])), text
            assert CURRICULUM.visible({key: mistake}) == mistake
    assert failed > 30


Signs = Callable[[str], tuple[str, ...]]
"""Room and exit of a mistake in, what feedback may say of it out."""


def plain(*signs: str) -> Signs:
    return lambda where: signs


SIGNS: dict[str, Signs] = {
    "verb": plain("not understood : walk"),
    "wall": plain("no exit : go"),
    "turn": plain("turned back in"),
    "stuck": lambda where: (f"no exit : go {where.split()[1]} in {where.split()[0]}",),
    "again": plain("dead end again :"),
    "rest": plain("led nowhere : look"),
    "blind": lambda where: (f"in {where.split()[0]}",),
    "pass": plain("not taken : coin"),
    "get": plain("not understood : get coin"),
}
"""What level 3 says about each mistake."""


@pytest.mark.slow
def test_an_untaught_search_succeeds_about_once_in_a_hundred() -> None:
    rng, author = stream(5, "base"), Author(CURRICULUM, PROMPTS)
    tasks = [*recipes(TIER, "train"), *recipes(TIER, "test")]
    wins = []
    for recipe in tasks * 8:
        exercise = exercise_of(recipe.maze)
        answer = CURRICULUM.answer(exercise, author.draw(exercise, rng))
        wins.append(CURRICULUM.feedback(exercise, answer)[0])
    assert 0.003 < sum(wins) / len(wins) < 0.02


def exercise_of(content: Sequence[str]) -> Exercise:
    return CURRICULUM.of_task(Task("x", "train", PROMPT, {"maze": content}))


def test_there_are_shared_and_instance_specific_misconceptions() -> None:
    rng, kinds = stream(3, "kinds"), set()
    for _ in range(100):
        exercise = CURRICULUM.exercise(rng)
        for key in CURRICULUM.priors(exercise):
            kinds.add((key, CURRICULUM.mistake(exercise, key, rng).shared))
    assert {key for key, shared in kinds if shared} == set(SHARED)
    assert {key for key, shared in kinds if not shared} == {"stuck", "blind"}
    assert set(ORDER) == set(PRIORS)


def test_no_pretraining_map_is_one_of_a_run() -> None:
    rng = stream(4, "exercises")
    drawn = [CURRICULUM.exercise(rng) for _ in range(1_000)]
    assert {share_of(from_content(e.content)) for e in drawn} == {"pretraining"}
    reserved = {
        maze.fingerprint
        for tier in TIERS.values()
        if tier.layout is not None
        for split in ("train", "validation", "test")
        for maze in mazes(tier.layout, split, 32)
    }
    assert len({e.fingerprint for e in drawn}) > 300
    assert not reserved & {e.fingerprint for e in drawn}


def test_a_chat_is_the_transcript_that_methods_show() -> None:
    rng = stream(6, "chat")
    exercise = CURRICULUM.exercise(rng)
    mistakes = {"get": SHARED["get"]}
    answer = CURRICULUM.answer(exercise, mistakes)
    chat = CURRICULUM.chat(exercise, answer)
    assert chat[0][0] == exercise.prompt
    turns = [Turn((Message("user", seen),), Completion(said)) for seen, said in chat]
    assert PACK.attempt(turns) == answer


def test_any_text_is_an_answer() -> None:
    exercise = CURRICULUM.exercise(stream(7, "x"))
    for answer in (
        "",
        "> ",
        "no answer",
        "> go \ud800\n> \x00",
        "> go north\n" * 1_000,
        "y" * 10**6,
    ):
        success, text = CURRICULUM.feedback(exercise, answer)
        assert not success
        assert "coin" not in text or "not taken" in text
