"""Documents about single turns, and the curricula that say what is wrong with each."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import pytest

from resd_baselines.hero import HERO
from resd_baselines.parse_replies import parse_compact_diagnoses
from resd_baselines.prompts import PACK
from resd_bench.nano.curriculum import CheckedTurn, Exercise, Mistake
from resd_bench.nano.documents import Author, Dials
from resd_bench.nano.turn_documents import turn_document
from resd_bench.plugins import find
from resd_bench.rollout.rollout import EnvPool, roll_out
from resd_bench.seeds import stream
from resd_bench.testing import ScriptedPolicy
from resd_bench.types import Completion, Messages, Sampling, Step, Stop, Task
from resd_envs import guess_number_curriculum as guesses
from resd_envs.guess_number import GuessNumberEnv
from resd_envs.textworld import curriculum as coin

PROMPTS = find("resd_bench.prompts", "prompt pack", "resd")
ALL: Sequence[Any] = (guesses.CURRICULUM, coin.CURRICULUM)


def env() -> GuessNumberEnv:
    return GuessNumberEnv(dialect="compact")


def task_of(number: int) -> Task:
    tasks = [task for split in ("train", "validation", "test") for task in env().tasks(split)]
    return next(task for task in tasks if task.data["number"] == number)


def drawn(curriculum: Any, count: int, seed: int) -> list[tuple[Exercise, dict[str, Mistake]]]:
    rng, author = stream(seed, "turns"), Author(curriculum, PROMPTS)
    exercises = [curriculum.exercise(rng) for _ in range(count)]
    return [(exercise, author.attempt(exercise, rng)) for exercise in exercises]


def without(mistakes: Mapping[str, Mistake], key: str) -> dict[str, Mistake]:
    return {k: m for k, m in mistakes.items() if k != key}


def test_halving_finds_every_number_and_each_mistake_alone_mostly_fails() -> None:
    rng, failed = stream(1, "alone"), dict.fromkeys(guesses.ORDER, 0)
    for number in range(1, 201, 3):
        exercise = guesses.CURRICULUM.of_task(task_of(number))
        right = guesses.CURRICULUM.answer(exercise, {})
        assert guesses.CURRICULUM.feedback(exercise, right) == (True, "")
        for key in guesses.ORDER:
            wrong = {key: guesses.CURRICULUM.mistake(exercise, key, rng)}
            answer = guesses.CURRICULUM.answer(exercise, wrong)
            failed[key] += not guesses.CURRICULUM.feedback(exercise, answer)[0]
    assert min(failed.values()) > 50, failed


@pytest.mark.parametrize(("odds", "low", "high"), [(1.0, 0.008, 0.02), (0.4, 0.0004, 0.002)])
def test_an_untaught_search_succeeds_at_the_rarities_of_the_experiment(
    odds: float, low: float, high: float
) -> None:
    rng, author, wins = stream(2, "base"), Author(guesses.CURRICULUM, PROMPTS, Dials(odds=odds)), []
    for number in list(range(1, 201)) * 25:
        exercise = Exercise(guesses.PROMPT, "number", (str(number),), "")
        answer = guesses.CURRICULUM.answer(exercise, author.draw(exercise, rng))
        wins.append(guesses.CURRICULUM.feedback(exercise, answer)[0])
    assert low < np.mean(wins) < high


def test_simulated_guesses_are_answered_as_the_environment_answers_them() -> None:
    rng, author = stream(3, "same"), Author(guesses.CURRICULUM, PROMPTS)
    for task in [task_of(number) for number in (1, 57, 100, 138, 200)] * 3:
        exercise = guesses.CURRICULUM.of_task(task)
        made = author.attempt(exercise, rng)
        turns = guesses.CURRICULUM.checked(exercise, made)
        game = env()
        seen, _ = game.reset(options={"task": task.id})
        for turn in turns:
            assert seen == turn.asked
            seen, _, over, cut, info = game.step(turn.said)
            assert info["turn"].text == turn.note
        assert over or cut
        answer = guesses.CURRICULUM.answer(exercise, made)
        assert guesses.CURRICULUM.feedback(exercise, answer) == (info["success"], seen)


def test_no_pretraining_number_is_one_of_a_run() -> None:
    numbers = {float(e.content[0]) for e, _ in drawn(guesses.CURRICULUM, 300, 4)}
    assert len(numbers) > 100
    assert all(number % 1 == 0.5 for number in numbers)


@pytest.mark.parametrize("curriculum", ALL, ids=["guess-number", "textworld-coin"])
def test_a_turn_is_blamed_on_the_mistake_without_which_it_would_be_otherwise(
    curriculum: Any,
) -> None:
    for exercise, made in drawn(curriculum, 40, 5):
        turns: Sequence[CheckedTurn] = curriculum.checked(exercise, made)
        assert [t.said for t in turns] == [
            said for _, said in curriculum.chat(exercise, curriculum.answer(exercise, made))
        ]
        assert all(
            (t.fault is None) == (t.said == t.right) == (t.verdict == "right") for t in turns
        )
        assert all(t.fault in made.values() for t in turns if t.fault)
        assert all(t.fault is None for t in curriculum.checked(exercise, {}))
        for number, turn in enumerate(turns):
            said = [before.said for before in turns[:number]]
            again = partial(curriculum.instead, exercise, said)
            assert (again(made), again({})) == (turn.said, turn.right)
            if turn.fault:
                cures = [k for k in made if again(without(made, k)) == turn.right]
                assert turn.fault.key in (cures or made)


def test_nobody_is_told_that_going_back_from_a_dead_end_is_wrong() -> None:
    """Each of two mistakes hides the other, and what is said is right: none is to blame."""
    made = {key: coin.SHARED[key] for key in ("turn", "rest")}
    praised = 0
    for exercise, _ in drawn(coin.CURRICULUM, 40, 9):
        for turn in coin.CURRICULUM.checked(exercise, made):
            dead_end = " new " not in f" {turn.asked} "
            if dead_end and turn.said == turn.right:
                praised += 1
                assert (turn.fault, turn.verdict) == (None, "right")
    assert praised > 20


@pytest.mark.parametrize("curriculum", ALL, ids=["guess-number", "textworld-coin"])
def test_no_form_of_hindsight_tells_more_by_construction(curriculum: Any) -> None:
    """Of wrong turns, as many are put right after what is seen of them as after a transcript, and
    after a diagnosis as after a reflection; a right one that is found right is said again."""
    author, rng = Author(curriculum, PROMPTS, Dials(turns=1.0)), stream(8, "forms")
    right: dict[tuple[str, bool], list[bool]] = defaultdict(list)
    while len(right["observation", False]) < 150:
        chat = turn_document(author, curriculum, exercise := curriculum.exercise(rng), rng)
        prompt, reply = chat[-1]
        if prompt.endswith("<diagnose>"):
            continue
        wanted = curriculum.instead(exercise, [said for _, said in chat[:-1]], {})
        said = prompt.split("<attempt>\n")[1].split("\n<")[0]
        shown = "diagnosis" if "<reflection>" in prompt else "observation"
        right[shown, said == wanted].append(reply == wanted)
    for _ in range(120):
        exercise = curriculum.exercise(rng)
        made = author.attempt(exercise, rng)
        turns, seen = curriculum.checked(exercise, made)[:5], curriculum.visible(made)
        if seen is None:
            continue
        for shown, told in (("transcript", []), ("reflection", [(seen.lessons[0], seen)])):
            again = author.draw(
                exercise, rng, author.hindsight(author.priors(exercise), made, seen, told), made
            )
            for number, turn in enumerate(turns):
                before = [own.said for own in turns[:number]]
                right[shown, turn.said == turn.right].append(
                    curriculum.instead(exercise, before, again) == turn.right
                )
    rate = {kind: np.mean(found) for kind, found in right.items()}
    assert abs(rate["observation", False] - rate["transcript", False]) < 0.12, rate
    assert abs(rate["diagnosis", False] - rate["reflection", False]) < 0.12, rate
    assert rate["diagnosis", False] > rate["observation", False] + 0.15
    assert rate["diagnosis", True] > 0.9


@pytest.mark.parametrize("curriculum", ALL, ids=["guess-number", "textworld-coin"])
def test_reviews_are_read_whole_and_a_diagnosed_turn_is_mostly_put_right(curriculum: Any) -> None:
    author, rng = Author(curriculum, PROMPTS, Dials(turns=1.0)), stream(6, "documents")
    reviews, followed = 0, []
    for _ in range(150):
        chat = turn_document(author, curriculum, curriculum.exercise(rng), rng)
        prompt, reply = chat[-1]
        if prompt.endswith("<diagnose>"):
            reviews += 1
            count = prompt.count("\n", prompt.index("<attempt>")) and reply.count("\n") + 1
            found = parse_compact_diagnoses(reply, count)
            assert sorted(found.by_turn) == list(range(count))
        elif any(f"{verdict}: " in prompt for verdict in ("needless", "invalid", "wrong")):
            said = prompt.split("<attempt>\n")[1].split("\n<")[0]
            followed.append(reply != said)
    assert 40 < reviews < 95
    assert 0.7 < np.mean(followed) < 1.0


def test_hindsight_in_documents_is_worded_as_a_run_words_it() -> None:
    """What HERO shows the teacher of each turn, against the documents' own prompt."""
    task, said = task_of(138), ["guess 100", "100", "90", "150", "125", "137", "143", "140"]

    def act(prompts: Sequence[Messages], **_: Any) -> list[list[Completion]]:
        return [[Completion(said[len(prompts[0]) // 2], (7,), (-0.1,))]]

    policy = ScriptedPolicy(lambda *_: "1 invalid: no word before the number")
    sampling = Sampling(max_new_tokens=99)
    groups = roll_out(
        act,
        EnvPool(env),
        [task],
        n=1,
        sampling=sampling,
        purpose="rollout",
        ledger=policy.ledger,
        seed=0,
    )
    assert groups[0].trajectories[0].stop is Stop.TURNS
    HERO.build(policy, HERO.config()).learn(groups, Step(0, 0, 0, sampling, 0))
    shown = [e.teacher_messages[-1].content for e in policy.updates[-1] if e.teacher_messages]
    assert shown[0] == (
        "guess 1 200\n<attempt>\nguess 100\n<feedback>\nno number\n<reflection>\n"
        "invalid: no word before the number\nagain: guess 1 200"
    )
    assert shown[2] == ("100 low\n<attempt>\n90\n<feedback>\n90 low\nleft 101 200\nagain: 100 low")
    fields: Mapping[str, str] = {"previous_trial": "90", "feedback": "90 low\nleft 101 200"}
    none = {"playbook": "", "reflection": "", "solution": ""}
    assert shown[2] == PACK.turn_teacher("compact", prompt="100 low", **fields, **none)
    ((asked,),) = policy.calls[0].prompts
    assert asked.content.startswith("guess 1 200\n<attempt>\n1 > guess 100\nno number\n2 > 100\n")


def test_without_the_dial_documents_are_what_they_were() -> None:
    plain, turned = (Author(coin.CURRICULUM, PROMPTS, Dials(turns=t)) for t in (0.0, 0.5))
    assert not any("<diagnose>" in plain.document(stream(7, n)).prompt for n in map(str, range(60)))
    assert any("<diagnose>" in turned.document(stream(7, n)).prompt for n in map(str, range(60)))
