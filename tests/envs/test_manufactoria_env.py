"""Manufactoria-HAS as an environment: tiers, splits, prompts."""

from __future__ import annotations

import time

import pytest

from resd_bench.errors import UsageError
from resd_bench.evaluation.held_out import EvalSet, eval_rows, evaluate
from resd_bench.jobs.summary import train_metrics
from resd_bench.parsing import last_code_block
from resd_bench.plugins import make_env
from resd_bench.rollout.rollout import EnvPool
from resd_bench.stats import eval_points
from resd_bench.testing import ScriptedPolicy
from resd_bench.types import Dialect, Sampling, Split
from resd_envs.manufactoria import ManufactoriaHasEnv
from resd_envs.manufactoria.env import LENGTHS
from resd_envs.manufactoria.machine import parse
from resd_envs.manufactoria.problems import content_hash, has_split
from resd_envs.manufactoria.verifier import TAG, answers_exhaustively

SPLITS: tuple[Split, ...] = ("train", "validation", "test")
TIERS = (None, *LENGTHS)


def _hashes(env: ManufactoriaHasEnv, split: Split) -> list[str]:
    problems = [task.data["problem"] for task in env.tasks(split)]
    return [content_hash(problem.family, problem.params) for problem in problems]


def test_the_whole_set_is_the_papers_in_the_papers_order() -> None:
    env = ManufactoriaHasEnv()
    train, test = has_split()
    assert _hashes(env, "train") == [spec.hash for spec in train]
    assert _hashes(env, "test") == [spec.hash for spec in test]


def test_task_ids_say_what_the_task_is() -> None:
    task = ManufactoriaHasEnv().tasks("train")[378]
    assert task.id == "manufactoria-has/train/0378-substring-BRBR"


@pytest.mark.parametrize("length", TIERS)
def test_splits_are_disjoint_by_content(length: int | None) -> None:
    env = ManufactoriaHasEnv(length=length)
    seen = [content for split in SPLITS for content in _hashes(env, split)]
    assert len(seen) == len(set(seen))
    assert all(env.tasks(split) for split in SPLITS)


def test_no_tier_trains_on_what_another_tests_or_validates() -> None:
    envs = [ManufactoriaHasEnv(length=length, dialect="compact") for length in TIERS]
    train = {content for env in envs for content in _hashes(env, "train")}
    held_out = {c for env in envs for s in ("validation", "test") for c in _hashes(env, s)}
    assert not train & held_out


@pytest.mark.parametrize(
    ("length", "train", "test"), [(2, 36, 6), (3, 128, 20), (4, 462, 84), (5, 640, 128)]
)
def test_tiers_have_their_sizes(length: int, train: int, test: int) -> None:
    env = ManufactoriaHasEnv(length=length)
    assert [len(env.tasks(split)) for split in SPLITS] == [train, 64, test]
    for task in [*env.tasks("train"), *env.tasks("test")]:
        params = task.data["problem"].params
        size = sum(n for _, n in params["requirements"]) if "requirements" in params else None
        assert (size or len(params["sequence"])) == length


@pytest.mark.slow
@pytest.mark.parametrize("length", TIERS)
def test_the_oracle_solves_every_task(length: int | None) -> None:
    env = ManufactoriaHasEnv(length=length, dialect="compact")
    for split in SPLITS:
        for task in env.tasks(split):
            assert env.verify(task, env.oracle(task)).success, task.id


def test_the_full_prompt_states_the_criterion_and_no_test() -> None:
    env = ManufactoriaHasEnv()
    for task in env.tasks("test"):
        problem = task.data["problem"]
        assert task.prompt.count(problem.criteria) == 1
        assert "{" not in task.prompt


def test_the_worked_example_of_the_manual_accepts_exactly_one_red() -> None:
    prompt = ManufactoriaHasEnv().tasks("train")[0].prompt
    example = last_code_block(prompt.partition("# Your task")[0], TAG)
    assert example is not None
    program = parse(example)
    assert program.accepts("R")
    for tape in ("", "B", "Y", "G", "RR", "RB", "RY", "YR", "BR", "RG"):
        assert not program.accepts(tape)


def test_the_compact_prompt_is_one_line() -> None:
    for task in ManufactoriaHasEnv(dialect="compact").tasks("train"):
        assert "\n" not in task.prompt
        assert len(task.prompt.split()) <= 8


@pytest.mark.parametrize("dialect", ["full", "compact"])
@pytest.mark.parametrize("level", range(6))
def test_no_level_shows_verdicts_it_should_not(dialect: Dialect, level: int) -> None:
    env = ManufactoriaHasEnv(dialect=dialect, feedback_level=level)
    answer = f"```{TAG}\nSTART start:\n    NEXT end\nEND end\n```"
    for task in env.tasks("train")[::100]:
        first, info = env.reset(options={"task": task.id})
        text, *_, last = env.step(answer)
        shown = f"{info} {text} {last}"
        assert ("expected: reject" in shown) == (level >= 4)
        assert "expected_accepted" not in first + shown
        assert "encoded" not in shown
        assert "Problem(" not in shown
        assert "PULLER" not in shown
        cases = last["feedback"].cases
        assert all(not case.expected for case in cases) == (level < 4)
        assert all(not case.detail for case in cases) == (level < 3)
        visible = [case.input for case in task.data["problem"].tests if len(case.input) > 5]
        assert not any(tape in first for tape in visible if dialect == "full")


def test_copying_feedback_or_prompt_solves_nothing() -> None:
    env = ManufactoriaHasEnv(feedback_level=5)
    wrong = f"```{TAG}\nSTART start:\n    NEXT NONE\nEND end\n```"
    for task in env.tasks("test"):
        feedback = env.verify(task, wrong)
        for copied in (task.prompt, feedback.render(5), f"```{TAG}\n{feedback.render(5)}\n```"):
            assert not env.verify(task, copied).success
            assert not answers_exhaustively(copied, task.data["problem"])


@pytest.mark.parametrize("name", ["manufactoria-has", "manufactoria-has-l5"])
def test_an_environment_is_made_quickly(name: str) -> None:
    make_env(name)
    begin = time.process_time()
    assert make_env(name).tasks("train")
    assert time.process_time() - begin < 0.3


def test_an_unknown_tier_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="length 7"):
        ManufactoriaHasEnv(length=7)


@pytest.mark.slow
def test_a_program_that_passes_weak_tests_is_a_success_that_is_seen_not_to_be_right() -> None:
    env = make_env("manufactoria-has", dialect="compact")
    tasks = env.tasks("test")
    policy = ScriptedPolicy(lambda *_: env.oracle(tasks[37]))
    eval_set = EvalSet(tasks, 1, Sampling(max_new_tokens=10**6), seed=0)
    pool = EnvPool(lambda: make_env("manufactoria-has", dialect="compact"))
    groups = evaluate(policy.sample, pool, eval_set, policy.ledger)
    rows = eval_rows(groups, 0, policy.ledger)
    lucky = [row for row in rows if row["success"] and not row["metrics"]["exhaustive_success"]]
    assert len(lucky) >= 3
    assert [row["task"] for row in rows if row["metrics"]["exhaustive_success"]] == [tasks[37].id]
    (point,) = eval_points(rows)
    assert point.measured["exhaustive_success"] == pytest.approx(1 / len(tasks))
    assert train_metrics(groups)["env/exhaustive_success"] == pytest.approx(1 / len(tasks))


def test_exhaustive_success_is_success_on_every_short_tape() -> None:
    env = make_env("manufactoria-has")
    for task in env.tasks("test")[::20]:
        assert env.verify(task, env.oracle(task)).metrics == {"exhaustive_success": 1.0}
        wrong = f"```{TAG}\nSTART start:\n    NEXT NONE\nEND end\n```"
        assert env.verify(task, wrong).metrics == {"exhaustive_success": 0.0}
