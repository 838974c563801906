"""The curriculum of the basic tier: right answers, wrong answers, symptoms, what is held out."""

from __future__ import annotations

from collections import Counter

import pytest

from resd_bench.nano.documents import Author
from resd_bench.plugins import find
from resd_bench.sandbox import SandboxTooWeak, shared
from resd_bench.seeds import stream
from resd_bench.types import Split
from resd_envs.python_functions import PythonFunctionsEnv, verify
from resd_envs.python_functions.curriculum import CURRICULUM, ORDER, PRIORS, SHARED
from resd_envs.python_functions.steps import Chain, problem

ENV = PythonFunctionsEnv(tier="basic", dialect="compact")
SPLITS: tuple[Split, ...] = ("train", "validation", "test")


def _author() -> Author:
    return Author(CURRICULUM, find("resd_bench.prompts", "prompt pack", "resd"))


def test_an_answer_without_mistakes_is_the_reference_of_every_task() -> None:
    for split in SPLITS:
        for task in ENV.tasks(split):
            exercise = CURRICULUM.of_task(task)
            assert exercise.prompt == task.prompt
            answer = CURRICULUM.answer(exercise, {})
            assert answer == ENV.oracle(task)
            assert CURRICULUM.feedback(exercise, answer) == (True, "")


def test_an_answer_without_mistakes_solves_pretraining_exercises() -> None:
    rng = stream(1, "exercises")
    for _ in range(200):
        exercise = CURRICULUM.exercise(rng)
        assert CURRICULUM.feedback(exercise, CURRICULUM.answer(exercise, {})) == (True, "")


@pytest.mark.slow
@pytest.mark.parametrize("key", ORDER)
def test_a_single_mistake_mostly_fails_with_a_symptom(key: str) -> None:
    rng, failed = stream(2, key), Counter[bool]()
    while failed.total() < 60:
        exercise = CURRICULUM.exercise(rng)
        if key in CURRICULUM.priors(exercise):
            mistakes = {key: CURRICULUM.mistake(exercise, key, rng)}
            success, text = CURRICULUM.feedback(exercise, CURRICULUM.answer(exercise, mistakes))
            assert success == (text == "")
            assert success or len(text.splitlines()) >= 2
            failed[not success] += 1
    always = key in ("colon", "call", "print", "guard", "shadow", "value")
    assert failed[True] / failed.total() > (0.95 if always else 0.6)


SYMPTOMS = {
    "colon": "line 1 : syntax error",
    "call": "raised AttributeError",
    "print": "gave None",
    "guard": "f [ ] : ",
}


@pytest.mark.parametrize("key", sorted(SYMPTOMS))
def test_feedback_shows_the_symptom_of_a_mistake(key: str) -> None:
    rng = stream(3, key)
    for _ in range(60):
        exercise = CURRICULUM.exercise(rng)
        if key in CURRICULUM.priors(exercise):
            answer = CURRICULUM.answer(exercise, {key: SHARED[key]})
            assert SYMPTOMS[key] in CURRICULUM.feedback(exercise, answer)[1]


def test_the_sandbox_gives_the_same_feedback_as_the_short_way() -> None:
    try:
        shared()
    except SandboxTooWeak as error:
        pytest.skip(f"NO SANDBOX HERE: {error}")
    rng, author = stream(4, "both"), _author()
    for _ in range(20):
        exercise = CURRICULUM.exercise(rng)
        answer = CURRICULUM.answer(exercise, author.draw(exercise, rng))
        *words, end, empty = exercise.content
        steps = tuple((word.split()[0], int(word.split()[1])) for word in words)
        verdict = verify(answer, problem(Chain(steps, end, int(empty))), dialect="compact")
        assert CURRICULUM.feedback(exercise, answer) == (verdict.success, verdict.render(3))
        # A text the curriculum did not write takes the long way.
        assert CURRICULUM.feedback(exercise, answer + "\n") == (verdict.success, verdict.render(3))


def test_there_are_shared_and_instance_specific_misconceptions() -> None:
    rng, kinds = stream(5, "kinds"), set()
    for _ in range(200):
        exercise = CURRICULUM.exercise(rng)
        keys = CURRICULUM.priors(exercise)
        mistakes = [CURRICULUM.mistake(exercise, key, rng) for key in keys]
        assert sum(mistake.shared for mistake in mistakes) == 6
        assert all(len(mistake.lessons) >= 2 for mistake in mistakes)
        kinds |= {(mistake.key, mistake.shared) for mistake in mistakes}
    assert {key for key, is_shared in kinds if is_shared} == set(SHARED)
    assert {key for key, is_shared in kinds if not is_shared} == {"omit", "slip", "value"}
    assert len(PRIORS) >= 6


def test_no_pretraining_exercise_is_a_task_of_any_panel() -> None:
    reserved = {
        CURRICULUM.of_task(task).fingerprint
        for seed in (0, 1)
        for split in SPLITS
        for task in PythonFunctionsEnv(tier="basic", seed=seed).tasks(split)
    }
    rng = stream(6, "exercises")
    drawn = {CURRICULUM.exercise(rng).fingerprint for _ in range(2_000)}
    assert len(drawn) > 1_500
    assert not drawn & reserved


@pytest.mark.slow
def test_an_untaught_answer_succeeds_about_once_in_a_hundred() -> None:
    rng, author = stream(7, "base"), _author()
    wins = []
    for task in list(ENV.tasks("train")) * 6:
        exercise = CURRICULUM.of_task(task)
        answer = CURRICULUM.answer(exercise, author.draw(exercise, rng))
        wins.append(CURRICULUM.feedback(exercise, answer)[0])
    assert 0.006 < sum(wins) / len(wins) < 0.018


def test_answers_and_prompts_are_short() -> None:
    for task in ENV.tasks("train"):
        answer = CURRICULUM.answer(CURRICULUM.of_task(task), {})
        assert len(answer) < 200
        assert len(task.prompt) < 70


def test_the_first_visible_mistake_is_the_one_that_hides_the_others() -> None:
    rng = stream(8, "visible")
    exercise = CURRICULUM.exercise(rng)
    mistakes = {key: CURRICULUM.mistake(exercise, key, rng) for key in CURRICULUM.priors(exercise)}
    for key in CURRICULUM.priors(exercise):
        seen = CURRICULUM.visible(mistakes)
        assert seen is not None
        assert seen.key == key
        del mistakes[key]
    assert CURRICULUM.visible({}) is None
    assert {CURRICULUM.distractor(rng).key for _ in range(300)} == set(ORDER)
