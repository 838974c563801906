"""Scenes, splits, prompts and the curriculum of BouncingSim."""

from __future__ import annotations

import math
from collections import Counter

import pytest

from resd_bench.errors import UsageError
from resd_bench.nano.documents import Author
from resd_bench.plugins import find, make_env
from resd_bench.sandbox import SandboxTooWeak, shared
from resd_bench.sandbox.box import ENVIRONMENT_VARIABLE
from resd_bench.seeds import stream
from resd_envs.bouncingsim import BouncingSimEnv
from resd_envs.bouncingsim.answers import Outcome
from resd_envs.bouncingsim.curriculum import CURRICULUM, ORDER, PRIORS, SHARED, walls_met
from resd_envs.bouncingsim.env import SIZES, rooms, scenes_of
from resd_envs.bouncingsim.marks import mark
from resd_envs.bouncingsim.oracle import room_solution
from resd_envs.bouncingsim.scenes import DIFFICULTIES, TIMES, Room, draw_room, generate
from resd_envs.bouncingsim.verifier import right_positions

PROMPTS = find("resd_bench.prompts", "prompt pack", "resd")


def test_the_papers_tiers_have_the_papers_sizes() -> None:
    for name, train in (("bouncingsim-easy", 640), ("bouncingsim-medium", 320)):
        env = make_env(name)
        assert len(env.tasks("train")) == train
        assert len(env.tasks("test")) == 100


def test_a_machine_that_is_too_weak_says_so_when_the_environment_is_made(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Without bubblewrap no machine has namespaces.
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, "namespace")
    for name in ("bouncingsim-easy", "python-functions"):
        with pytest.raises(SandboxTooWeak, match="'namespace' was required"):
            make_env(name)


@pytest.mark.parametrize("level", range(5))
def test_scenes_keep_the_bounds_of_their_tier(level: int) -> None:
    balls = ((2, 2), (3, 3), (4, 5), (5, 6), (7, 9))[level]
    speeds = 200 * (level + 1), 200 * (level + 2)
    for number in range(12):
        scene = generate("G", DIFFICULTIES[level], stream(1, level, number))
        (box,) = scene["boxes"]
        assert (box["center"], box["diameter"]) == ([750, 750], 750)
        assert 3 <= box["sides"] <= 6
        assert balls[0] <= len(scene["balls"]) <= balls[1]
        apothem = 375 * math.cos(math.pi / box["sides"])
        for n, ball in enumerate(scene["balls"]):
            assert ball["radius"] == 20
            assert 3 <= ball["sides"] <= 6
            assert speeds[0] - 0.1 <= math.hypot(*ball["velocity"]) <= speeds[1] + 0.1
            assert math.dist(ball["position"], (750, 750)) <= apothem - 25
            others = [other["position"] for other in scene["balls"][:n]]
            assert all(math.dist(ball["position"], place) >= 45 for place in others)


@pytest.mark.parametrize("letters", ["A", "B", "C", "D", "F", "DG", "BC"])
@pytest.mark.parametrize("difficulty", ["easy", "hard"])
def test_other_letters_make_scenes_that_can_be_simulated(letters: str, difficulty: str) -> None:
    scene = generate(letters, difficulty, stream(2, letters, difficulty))  # type: ignore[arg-type]
    assert len(right_positions(scene)) == len(TIMES)


@pytest.mark.parametrize("letters", ["", "E", "GG", "g"])
def test_unknown_letters_are_refused(letters: str) -> None:
    with pytest.raises(UsageError, match="scene letters"):
        generate(letters, "easy", stream(0))


def test_unknown_tiers_and_prompts_are_refused() -> None:
    with pytest.raises(UsageError, match="not a tier"):
        BouncingSimEnv(difficulty="simple")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="give 'released' or 'complete'"):
        BouncingSimEnv(prompt="long")  # type: ignore[arg-type]


def test_splits_are_disjoint() -> None:
    for tier in ("easy", "medium"):
        train = {repr(scene) for scene in scenes_of("G", tier, "train")}
        for split in ("validation", "test"):
            scenes = scenes_of("G", tier, split)
            assert train.isdisjoint(map(repr, scenes))
            assert len(scenes) == SIZES[tier][1 + (split == "test")]
    train_rooms = set(rooms("train"))
    assert train_rooms.isdisjoint(rooms("validation"))
    assert (train_rooms | set(rooms("validation"))).isdisjoint(rooms("test"))


def test_only_the_complete_prompt_tells_of_collisions_between_balls() -> None:
    released, complete = BouncingSimEnv(), BouncingSimEnv(prompt="complete")
    short, long = (env.tasks("test")[0].prompt for env in (released, complete))
    for phrase in ("hit each other", "mass of a ball", "never turn", "at most 50"):
        assert phrase in long
        assert phrase not in short


def test_prompts_hold_every_number_of_the_scene() -> None:
    for dialect in ("full", "compact"):
        task = BouncingSimEnv(dialect=dialect).tasks("test")[0]
        for ball in task.data["scene"]["balls"]:
            for value in (*ball["position"], *ball["velocity"], ball["sides"]):
                assert f"{value:g}" in task.prompt


def test_a_room_is_posed_in_tens_of_tokens() -> None:
    env = make_env("bouncingsim-basic", dialect="compact")
    for split in ("train", "validation", "test"):
        assert all(len(task.prompt) < 80 for task in env.tasks(split))


# Rooms and their curriculum. Its programs are our own, so that tests may run them here.


def _passed(room: Room, response: str) -> list[bool]:
    names: dict[str, object] = {}
    exec(response.removeprefix("```python\n").removesuffix("\n```"), names)
    predict = names.get("predict_position")
    if not callable(predict):
        return [False] * len(TIMES)
    pairs = zip(TIMES, right_positions(room.scene()), strict=True)
    return [mark(Outcome("value", predict(t)), right).kind == "pass" for t, right in pairs]


@pytest.mark.slow
def test_an_answer_without_mistakes_solves_every_room_of_the_environment() -> None:
    for split in ("train", "validation", "test"):
        for task in make_env("bouncingsim-basic", dialect="compact").tasks(split):
            exercise, room = CURRICULUM.of_task(task), task.data["room"]
            answer = CURRICULUM.answer(exercise, {})
            assert exercise.prompt == task.prompt
            assert answer == f"```python\n{room_solution(room)}\n```"
            assert all(_passed(room, answer)), task.id


@pytest.mark.slow
@pytest.mark.parametrize("key", ORDER)
def test_a_single_mistake_nearly_always_fails(key: str) -> None:
    rng, failed = stream(2, key), Counter[bool]()
    for _ in range(60):
        exercise = CURRICULUM.exercise(rng)
        room = Room(*map(int, exercise.content))
        mistake = CURRICULUM.mistake(exercise, key, rng)
        failed[not all(_passed(room, CURRICULUM.answer(exercise, {key: mistake})))] += 1
    assert failed[True] / failed.total() > (0.9 if key in ("omit", "slip") else 0.98)


def test_feedback_reveals_every_mistake() -> None:
    try:
        shared()
    except SandboxTooWeak as error:
        pytest.skip(f"NO SANDBOX ON THIS MACHINE: {error}")
    rng = stream(3, "feedback")
    exercise = CURRICULUM.exercise(rng)
    assert CURRICULUM.feedback(exercise, CURRICULUM.answer(exercise, {})) == (True, "")
    for key in SHARED:
        mistakes = {key: CURRICULUM.mistake(exercise, key, rng)}
        success, text = CURRICULUM.feedback(exercise, CURRICULUM.answer(exercise, mistakes))
        assert not success
        assert text.startswith("passed ")
        assert CURRICULUM.visible(mistakes) == mistakes[key]


def test_there_are_shared_and_instance_specific_misconceptions() -> None:
    rng = stream(4, "kinds")
    exercise = CURRICULUM.exercise(rng)
    kinds = {key: CURRICULUM.mistake(exercise, key, rng).shared for key in PRIORS}
    assert {key for key, shared in kinds.items() if shared} == set(SHARED)
    assert {key for key, shared in kinds.items() if not shared} == {"omit", "slip"}
    assert all(len(mistake.lessons) > 1 for mistake in SHARED.values())


def test_rooms_are_met_at_a_side_and_at_floor_or_ceiling() -> None:
    rng = stream(5, "walls")
    for _ in range(100):
        met = walls_met(draw_room(rng))
        assert {"left", "right"} & set(met)
        assert {"bottom", "top"} & set(met)


def test_no_pretraining_exercise_is_a_room_of_any_split() -> None:
    rng = stream(6, "exercises")
    drawn = {CURRICULUM.exercise(rng).fingerprint for _ in range(1_000)}
    assert len(drawn) > 990
    assert len(CURRICULUM.reserved) == sum(SIZES["basic"])
    assert not drawn & CURRICULUM.reserved


@pytest.mark.slow
def test_an_untaught_answer_succeeds_rarely() -> None:
    rng, author = stream(7, "base"), Author(CURRICULUM, PROMPTS)
    wins = []
    for task in make_env("bouncingsim-basic", dialect="compact").tasks("train"):
        exercise = CURRICULUM.of_task(task)
        for _ in range(3):
            answer = CURRICULUM.answer(exercise, author.draw(exercise, rng))
            wins.append(all(_passed(task.data["room"], answer)))
    assert 0.003 < sum(wins) / len(wins) < 0.03
