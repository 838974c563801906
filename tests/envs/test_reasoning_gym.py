"""The adapter of reasoning-gym: tasks, scores, splits; safe reading of answers."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from resd_bench.plugins import UsageError
from resd_bench.types import Split
from resd_envs import reasoning_gym as adapter
from resd_envs.reasoning_gym import ReasoningGymEnv, is_harmless

SPLITS: tuple[Split, ...] = ("train", "validation", "test")
ABSENT = "REASONING-GYM ABSENT: pip install 'resd-bench[reasoning-gym]'"


def test_without_the_package_the_error_names_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "reasoning_gym.factory", None)
    monkeypatch.setitem(sys.modules, "reasoning_gym", None)
    with pytest.raises(UsageError, match=r"pip install resd-bench\[reasoning-gym\]"):
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
