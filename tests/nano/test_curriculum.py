"""The Manufactoria curriculum: right answers, wrong answers, and what is held out."""

import ast
from collections import Counter

import pytest

from resd_bench import make_env
from resd_bench.nano.documents import Author
from resd_bench.plugins import find
from resd_bench.seeds import stream
from resd_envs.manufactoria.curriculum import CURRICULUM, ORDER, PRIORS, SHARED, holds
from resd_envs.manufactoria.problems import content_hash, has_split, make_problem
from tests.places import ROOT

pytestmark = pytest.mark.slow


PROMPTS = find("resd_bench.prompts", "prompt pack", "resd")


def test_an_answer_without_mistakes_solves_the_tasks_of_the_environment() -> None:
    env = make_env("manufactoria-has", dialect="compact")
    for split in ("train", "test"):
        for task in env.tasks(split)[::5]:
            exercise = CURRICULUM.of_task(task)
            assert exercise.prompt == task.prompt
            assert env.verify(task, CURRICULUM.answer(exercise, {})).success, task.id


def test_an_answer_without_mistakes_solves_pretraining_exercises() -> None:
    rng = stream(1, "exercises")
    for _ in range(300):
        exercise = CURRICULUM.exercise(rng)
        assert CURRICULUM.feedback(exercise, CURRICULUM.answer(exercise, {})) == (True, "")


def test_properties_of_words_without_stars_are_the_environments() -> None:
    for spec in has_split()[1]:
        kind = spec.family.removeprefix("contains_")
        word = spec.params.get("sequence") or "".join(
            colour * least for colour, least in spec.params["requirements"]
        )
        for case in make_problem(spec.family, spec.params).tests:
            assert holds(kind, word, case.input) == case.expected_accepted


def test_a_star_stands_for_any_symbol() -> None:
    assert holds("substring", "*RB", "GRB")
    assert not holds("substring", "*RB", "RB")
    assert holds("substring", "RB*", "YRBG")
    assert not holds("substring", "RB*", "YRB")
    assert holds("ordered", "R*B", "RGYB")
    assert not holds("ordered", "R*B", "RB")
    assert holds("count", "*RB", "GBR")
    assert not holds("count", "*RB", "BR")


def test_pretraining_shows_short_words_of_every_family() -> None:
    rng, short = stream(6, "short"), Counter[str]()
    for _ in range(600):
        exercise = CURRICULUM.exercise(rng)
        short[exercise.family] += len(exercise.content) <= 4
    assert min(short[family] for family in ("substring", "ordered", "count")) > 20


@pytest.mark.parametrize("key", ORDER)
def test_a_single_mistake_mostly_fails_and_a_parsing_one_always_does(key: str) -> None:
    rng, failed = stream(2, key), Counter[bool]()
    while failed.total() < 60:
        exercise = CURRICULUM.exercise(rng)
        if key in CURRICULUM.priors(exercise):
            mistakes = {key: CURRICULUM.mistake(exercise, key, rng)}
            success, text = CURRICULUM.feedback(exercise, CURRICULUM.answer(exercise, mistakes))
            assert success == (text == "")
            failed[not success] += 1
    share = failed[True] / failed.total()
    assert share == 1.0 if key in ("colon", "end") else share > 0.5


def test_there_are_shared_and_instance_specific_misconceptions() -> None:
    rng = stream(3, "kinds")
    kinds = set()
    for _ in range(200):
        exercise = CURRICULUM.exercise(rng)
        kinds |= {
            (k, CURRICULUM.mistake(exercise, k, rng).shared) for k in CURRICULUM.priors(exercise)
        }
    assert {k for k, shared in kinds if shared} == set(SHARED)
    assert {k for k, shared in kinds if not shared} == {"omit", "slip"}
    assert len(PRIORS) >= 6


def test_no_pretraining_exercise_is_a_task_of_any_tier() -> None:
    reserved = CURRICULUM.reserved
    train, test = has_split()
    assert {content_hash(s.family, s.params) for s in (*train, *test)} <= reserved
    rng = stream(4, "exercises")
    drawn = {CURRICULUM.exercise(rng).fingerprint for _ in range(5_000)}
    assert len(drawn) > 1_000
    assert not drawn & reserved


def test_an_untaught_answer_succeeds_rarely() -> None:
    rng, author = stream(5, "base"), Author(CURRICULUM, PROMPTS)
    env = make_env("manufactoria-has", dialect="compact")
    wins = []
    for task in list(env.tasks("train")) * 4:
        exercise = CURRICULUM.of_task(task)
        answer = CURRICULUM.answer(exercise, author.draw(exercise, rng))
        wins.append(env.verify(task, answer).success)
    assert 0.003 < sum(wins) / len(wins) < 0.03


def test_only_the_embedded_model_and_the_environment_know_the_curriculum() -> None:
    allowed = ("resd_bench/nano/", "resd_bench/commands/nano.py", "envs/resd_envs/")
    for folder in ("resd_bench", "envs", "baselines"):
        for path in (ROOT / folder).rglob("*.py"):
            where = path.relative_to(ROOT).as_posix()
            tree = ast.parse(path.read_text())
            names = {n.module or "" for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
            names |= {a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
            if any("curriculum" in name or "nano.documents" in name for name in names):
                assert where.startswith(allowed), f"{path} imports the curriculum"
