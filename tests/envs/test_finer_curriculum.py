"""The FiNER curriculum: right answers, wrong answers, and what is held out."""

from __future__ import annotations

import pytest

from resd_bench.nano.documents import Author
from resd_bench.plugins import find
from resd_bench.seeds import stream
from resd_envs.finer import FinerEnv
from resd_envs.finer.curriculum import CURRICULUM, ORDER, PRIORS, SHARED

PROMPTS = find("resd_bench.prompts", "prompt pack", "resd")


def test_an_answer_without_mistakes_solves_every_task_of_the_environment() -> None:
    env = FinerEnv(dialect="compact")
    for split in ("train", "validation", "test"):
        for task in env.tasks(split):
            exercise = CURRICULUM.of_task(task)
            assert exercise.prompt == task.prompt
            assert env.verify(task, CURRICULUM.answer(exercise, {})).success, task.id


@pytest.mark.slow
@pytest.mark.parametrize("key", ORDER)
def test_a_single_mistake_always_fails_and_its_feedback_is_the_environments(key: str) -> None:
    env, rng, seen = FinerEnv(dialect="compact"), stream(1, key), 0
    for task in env.tasks("train"):
        exercise = CURRICULUM.of_task(task)
        if key in CURRICULUM.priors(exercise):
            mistakes = {key: CURRICULUM.mistake(exercise, key, rng)}
            answer = CURRICULUM.answer(exercise, mistakes)
            success, text = CURRICULUM.feedback(exercise, answer)
            assert not success
            assert text == env.verify(task, answer).at_level(3).text
            assert CURRICULUM.visible(mistakes) == mistakes[key]
            seen += 1
    assert seen > 100


def test_no_combination_of_mistakes_makes_a_right_answer() -> None:
    rng, author = stream(2, "mistakes"), Author(CURRICULUM, PROMPTS)
    for _ in range(1_000):
        exercise = CURRICULUM.exercise(rng)
        mistakes = author.draw(exercise, rng)
        success, text = CURRICULUM.feedback(exercise, CURRICULUM.answer(exercise, mistakes))
        assert success == (not mistakes) == (not text)


def test_feedback_shows_an_aspect_mistake_at_the_question_it_concerns() -> None:
    rng = stream(3, "symptoms")
    for _ in range(200):
        exercise = CURRICULUM.exercise(rng)
        if "rate" in CURRICULUM.priors(exercise):
            answer = CURRICULUM.answer(exercise, {"rate": SHARED["rate"]})
            lines = CURRICULUM.feedback(exercise, answer)[1].splitlines()[1:]
            assert lines
            assert all("Amount wrong" in line and "%" in line for line in lines)


def test_there_are_shared_and_instance_specific_misconceptions_with_several_wordings() -> None:
    rng = stream(4, "kinds")
    for _ in range(100):
        exercise = CURRICULUM.exercise(rng)
        for key in CURRICULUM.priors(exercise):
            mistake = CURRICULUM.mistake(exercise, key, rng)
            assert mistake.shared == (key in SHARED)
            assert len(set(mistake.lessons)) == len(mistake.lessons) >= 2
            assert mistake.shared or mistake.where[0] >= 0
    assert len(SHARED) >= 6
    assert set(PRIORS) - set(SHARED) == {"omit", "swap", "slip"}


def test_no_pretraining_exercise_has_the_tags_of_a_task() -> None:
    rng = stream(5, "exercises")
    drawn = {CURRICULUM.exercise(rng).fingerprint for _ in range(5_000)}
    assert len(drawn) > 4_000
    assert not drawn & CURRICULUM.reserved
    env = FinerEnv(dialect="compact")
    for split in ("train", "validation", "test"):
        for task in env.tasks(split):
            assert CURRICULUM.of_task(task).fingerprint in CURRICULUM.reserved


def test_an_untaught_answer_succeeds_about_once_in_a_hundred() -> None:
    rates = []
    for task in FinerEnv(dialect="compact").tasks("test"):
        rate = 1.0
        for prior in CURRICULUM.priors(CURRICULUM.of_task(task)).values():
            rate *= prior
        rates.append(rate)
    assert 0.005 < sum(rates) / len(rates) < 0.02


def test_documents_can_be_written_from_it() -> None:
    rng, author = stream(6, "documents"), Author(CURRICULUM, PROMPTS)
    lengths = [len(document.prompt) for document in (author.document(rng) for _ in range(300))]
    assert max(lengths) < 4_000
