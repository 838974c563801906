"""The adapter of reasoning-gym: tasks, scores, splits; safe reading of answers."""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from resd_bench.errors import UsageError
from resd_bench.rollout.vector_env import DEADLINE
from resd_bench.types import Split, Task
from resd_envs import reasoning_gym as adapter
from resd_envs import reasoning_scorer
from resd_envs.reasoning_generators import generators
from resd_envs.reasoning_gym import ReasoningGymEnv, is_harmless
from resd_envs.reasoning_scorer import Scorer

SPLITS: tuple[Split, ...] = ("train", "validation", "test")
ABSENT = "REASONING-GYM ABSENT: pip install '.[reasoning-gym]'"


def test_without_the_package_the_error_names_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "reasoning_gym.factory", None)
    monkeypatch.setitem(sys.modules, "reasoning_gym", None)
    with pytest.raises(UsageError, match=r"pip install .*\[reasoning-gym\]"):
        ReasoningGymEnv()


@pytest.fixture(autouse=True)
def _package(request: pytest.FixtureRequest) -> None:
    """The package may be absent only for the test above."""
    if "without_the_package" not in request.node.name:
        pytest.importorskip("reasoning_gym", reason=ABSENT)


def _env(dataset: str = adapter.DEFAULT, **options: Any) -> ReasoningGymEnv:
    return ReasoningGymEnv(dataset=dataset, size=12, **options)


@pytest.mark.parametrize("dataset", ["basic_arithmetic", "propositional_logic", "spiral_matrix"])
def test_the_oracle_solves_and_a_wrong_answer_fails(dataset: str) -> None:
    env = _env(dataset=dataset)
    for split in SPLITS:
        assert env.tasks(split)
        for task in env.tasks(split):
            assert env.verify(task, env.oracle(task)).success
            assert not env.verify(task, "<answer>nonsense</answer>").success
            assert env.verify(task, "no element").kind == "incorrect_format"


def test_splits_share_no_question_and_are_the_same_again() -> None:
    first, again = _env(), _env()
    prompts = [task.prompt for split in SPLITS for task in first.tasks(split)]
    assert len(prompts) == len(set(prompts)) == 16
    adapter._entries.cache_clear()
    assert prompts == [task.prompt for split in SPLITS for task in again.tasks(split)]


def test_names_say_which_generator_it_is() -> None:
    env = _env(dataset="gcd")
    assert env.name == "reasoning-gym:gcd"
    assert env.tasks("train")[0].id == "reasoning-gym:gcd/train/0000"


def test_partial_scores_of_the_package_are_the_score_but_not_the_reward() -> None:
    env = _env(dataset="spiral_matrix")
    task = env.tasks("train")[0]
    listed = str([int(n) for n in task.data["entry"]["answer"].split()])
    feedback = env.verify(task, f"<answer>{listed}</answer>")
    assert (feedback.reward, feedback.success, feedback.score) == (0, False, 0.1)


def test_the_right_answer_is_told_from_level_4_on() -> None:
    env = _env()
    task = env.tasks("train")[0]
    feedback = env.verify(task, "<answer>x</answer>")
    right = task.data["entry"]["answer"]
    assert feedback.render(2) == "passed 0 of 1: wrong_answer"
    assert right not in feedback.render(3)
    assert right in feedback.render(4)
    assert f"<answer>{right}</answer>" in feedback.render(5)


def test_unknown_generators_and_options_are_errors_that_help() -> None:
    with pytest.raises(UsageError, match="Did you mean 'basic_arithmetic'"):
        _env(dataset="basic_arithmetics")
    with pytest.raises(UsageError, match="refuses config"):
        _env(config={"no_such_option": 1})


@pytest.mark.parametrize(
    "answer",
    [
        "__import__('os')._exit(3)",
        "[x for x in ().__class__.__base__.__subclasses__()]",
        "exec('1')",
        "9**9**9**9",
        "((2**99)**99)**99 + ((2**99)**99)**99",
        "x**(10**10)",
        "preview(x)",
        "1e999999999",
        "x" * 10**6,
    ],
)
def test_an_answer_that_looks_like_a_program_is_never_evaluated(answer: str) -> None:
    for dataset in adapter.EVALUATES_PYTHON | adapter.EVALUATES_ALGEBRA:
        harmless = is_harmless(answer, dataset)
        assert not harmless or (dataset in adapter.EVALUATES_PYTHON and answer.isalnum()), dataset


@pytest.mark.parametrize(
    ("answer", "dataset"),
    [
        ("x**3/3 + 2*x + C", "simple_integration"),
        ("-9*exp(6*x)*sin(x)/2 + sqrt(x) + C", "intermediate_integration"),
        ("(3 + 5) * 2 - 1", "countdown"),
        ("6*x**4 + 5*x**2 - x", "polynomial_multiplication"),
        ("[[0, 1], [1, 0]]", "binary_matrix"),
        ("_ Q _ _\n_ _ _ Q", "n_queens"),
        ("anything, at: all (really)", "knights_knaves"),
    ],
)
def test_honest_answers_are_scored(answer: str, dataset: str) -> None:
    assert is_harmless(answer, dataset)


def test_lone_surrogates_and_giants_get_a_verdict() -> None:
    for dataset in ("prime_factorization", "countdown", "n_queens"):
        env = _env(dataset=dataset)
        task = env.tasks("train")[0]
        for said in ("\ud800", "9" * 100_000, "[" * 15_000, "1,\x00", "()"):
            assert not env.verify(task, f"<answer>{said}</answer>").success


NOT_FINITE = (
    "nan",
    "-nan",
    "NaN",
    "n a n",
    "nan + nani",
    "nanj",
    "sNaN",
    "inf",
    "-Infinity",
    "1e999",
)
NONSENSE = (
    *NOT_FINITE,
    *("[NaN, NaN]", "[NaN" + ", NaN" * 7 + "]", "[1e400, 1e400]", "nan, nan", "1.0, nan", "\ud800"),
    *("", "x", "None", "()", "[]", "{}", "[[]]", "\x00", "0x18", "24", "6*4*1*1", "4*6*1*1"),
    *("0x0*(1+1+1+1) + 0x18", "24e0", "2_4", "0*(1+1+1+1)", "(3+5)//2", "(P → P)", "9" * 5000),
)
HANGS = (
    *("exp(exp(exp(99)))", "pi.n(9999999)", "9**9**9", "1e1_0_0_0_0_0_0_0", "1E+9999999"),
    *("F99999999999", "F+99999999999", "[" * 15_000, '{"a":' * 3000, "(" * 300),
)
"""Answers that kept some scorer busy for ever, or took all memory."""
NUMERIC = (
    *("complex_arithmetic", "decimal_arithmetic", "number_sorting", "coin_flip", "pool_matrix"),
    *("polynomial_equations", "power_function", "number_format", "advanced_geometry"),
)


def _all_tasks(env: ReasoningGymEnv) -> list[Task]:
    return [task for split in SPLITS for task in env.tasks(split)]


def _wins(env: ReasoningGymEnv, answer: str) -> float:
    tasks = _all_tasks(env)
    hits = [env.verify(task, f"<answer>{answer}</answer>").success for task in tasks]
    return sum(hits) / len(hits)


@pytest.mark.parametrize("dataset", NUMERIC)
def test_what_is_no_number_is_no_right_number(dataset: str) -> None:
    env = _env(dataset)
    for task in env.tasks("train")[:4]:
        right = len(str(task.data["entry"]["answer"]).split(","))
        for said in (*NOT_FINITE, *(f"[{', '.join(['NaN'] * n)}]" for n in (right, 3))):
            assert not env.verify(task, f"<answer>{said}</answer>").success, said


def test_an_expression_must_use_the_numbers_of_its_puzzle_and_no_others() -> None:
    for dataset in ("countdown", "puzzle24"):
        env = _env(dataset)
        for task in env.tasks("train")[:6]:
            data = task.data["entry"]["metadata"]
            numbers, target = data["numbers"], data.get("target", 24)
            summed = "+".join(map(str, numbers))
            for cheat in (
                f"{hex(target)} + 0x0*({summed})",
                f"{target}e0 + 0x0*({summed})",
                f"({summed})**0x0*{hex(target)}",
                "6*4*1*1",
                f"{summed} + {target}",
            ):
                assert not env.verify(task, f"<answer>{cheat}</answer>").success, cheat
            assert env.verify(task, env.oracle(task)).success


def test_a_yes_is_not_what_any_text_says() -> None:
    env = _env("game_of_life_halting")
    for task in _all_tasks(env):
        right = task.data["entry"]["answer"]
        said = {
            word: env.verify(task, f"<answer>{word}</answer>").success for word in ("True", "x")
        }
        assert said == {"True": right == "True", "x": False}


def test_a_small_probability_is_not_zero() -> None:
    env = _env("coin_flip")
    for task in _all_tasks(env):
        right = float(task.data["entry"]["answer"])
        assert not env.verify(task, "<answer>0</answer>").success
        assert not env.verify(task, f"<answer>{str(right)[:1]}</answer>").success or right == 1
        assert env.verify(task, f"<answer>{right * 1.00001:.9g}</answer>").success


def test_an_event_that_never_comes_is_not_answered_by_any_number() -> None:
    env = _env("calendar_arithmetic")
    task = next(t for t in env.tasks("train") if t.data["entry"]["answer"].isdigit())
    entry = {**task.data["entry"], "answer": "-1"}
    entry["metadata"] = {**entry["metadata"], "task": "recurring_event_day"}
    posed = replace(task, data={"entry": entry})
    assert env.verify(posed, "<answer>-1</answer>").success
    for said in ("0", "5", "31", "-2"):
        assert not env.verify(posed, f"<answer>{said}</answer>").success


def test_an_equation_without_a_solution_is_answered_by_nothing_and_not_by_nonsense() -> None:
    env = _env("polynomial_equations")
    task = env.tasks("train")[0]
    posed = replace(task, data={"entry": {**task.data["entry"], "answer": ""}})
    for said, right in (("", True), ('""', True), ("x", False), ("nan", False), ("1", False)):
        assert env.verify(posed, f"<answer>{said}</answer>").success == right, said


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> Iterator[Scorer]:
    """A scorer that waits half a second of processor time."""
    scorer = Scorer(cpu_s=0.5)
    monkeypatch.setattr(adapter, "shared", lambda: scorer)
    yield scorer
    scorer.close()


@pytest.mark.parametrize(
    "dataset", ["complex_arithmetic", "simple_integration", "countdown", "puzzle24", "rubiks_cube"]
)
def test_no_answer_keeps_the_verifier_busy(dataset: str, impatient: Scorer) -> None:
    env = _env(dataset)
    task = env.tasks("train")[0]
    for said in HANGS:
        own, begin = time.process_time(), time.monotonic()
        feedback = env.verify(task, f"<answer>{said}</answer>")
        assert not feedback.success
        assert feedback.kind in ("wrong_answer", "verifier_limit")
        assert time.process_time() - own < 1
        assert time.monotonic() - begin < 60


def test_an_answer_that_takes_too_long_is_a_failure_and_the_next_one_is_scored(
    impatient: Scorer,
) -> None:
    env = _env("rush_hour")
    task = env.tasks("train")[0]
    for _ in range(2):
        feedback = env.verify(task, f"<answer>A+{10**12}</answer>")
        assert (feedback.success, feedback.reward, feedback.kind) == (False, 0.0, "verifier_limit")
        assert "too long" in feedback.render(3)
        assert env.verify(task, "<answer>A+0</answer>").kind == "wrong_answer"


def test_scoring_takes_no_longer_than_a_step_may() -> None:
    assert reasoning_scorer.START_S + reasoning_scorer.WALL_S < DEADLINE
    assert reasoning_scorer.CPU_S < reasoning_scorer.WALL_S


def test_a_scorer_that_is_asked_from_a_forked_process_starts_its_own() -> None:
    env = _env("gcd")
    task = env.tasks("train")[0]
    right = env.oracle(task)
    assert env.verify(task, right).success
    child = os.fork()
    if not child:
        os._exit(0 if env.verify(task, right).success else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert env.verify(task, right).success


FEW_ANSWERS = ("syllogism", "coin_flip", "complex_arithmetic", "puzzle24", "game_of_life_halting")


@pytest.mark.parametrize("dataset", FEW_ANSWERS)
def test_an_answer_for_all_tasks_wins_no_more_than_the_environment_says(dataset: str) -> None:
    env = _env(dataset)
    for said in (*NONSENSE, "0", "1", "Yes", "No", "True", "False"):
        assert _wins(env, said) <= env.chance, said


def _every() -> list[str]:
    try:
        return list(generators())
    except UsageError:
        return ["absent"]


@pytest.mark.slow
@pytest.mark.parametrize("dataset", _every())
def test_no_answer_is_right_for_more_tasks_of_a_generator_than_it_says(
    dataset: str, impatient: Scorer
) -> None:
    env = ReasoningGymEnv(dataset=dataset, size=8)
    tasks = _all_tasks(env)
    commonest = {task.data["entry"]["answer"] or "" for task in tasks[:4]}
    constants = (*NONSENSE, *commonest, "0", "1", "2", "-1", "Yes", "No", "True", "False", "red")
    # Of so few tasks, three standard errors more.
    most = env.chance + 3 * math.sqrt(env.chance * (1 - env.chance) / len(tasks))
    for said in constants:
        assert _wins(env, said) <= most + 1e-9, said
    for said in HANGS:
        assert not env.verify(tasks[0], f"<answer>{said}</answer>").success, said
    for task in tasks[:4]:
        question = task.data["entry"]["question"]
        both = f"<answer>{question}</answer>"
        assert not env.verify(task, both).success or env.chance >= 0.4
