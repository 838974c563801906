"""One text of a response is graded, shown and remembered: what is left without its reasoning."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resd_baselines.base import scored_attempts
from resd_baselines.context_update import PromptWriter
from resd_baselines.playbook import Playbook
from resd_baselines.prompts import PromptPack
from resd_baselines.resd import RESD
from resd_baselines.teacher_prompt import (
    TeacherOptions,
    find_solutions,
    remember_solutions,
    teacher_prompts,
)
from resd_bench.cli import main
from resd_bench.config import resolve
from resd_bench.env import TextEnv
from resd_bench.jobs.setup import make_envs
from resd_bench.plugins import make_env
from resd_bench.sandbox import SandboxTooWeak
from resd_bench.testing import ScriptedPolicy
from resd_bench.types import (
    Completion,
    Feedback,
    Group,
    Message,
    PromptDialect,
    Sampling,
    Step,
    Task,
    Trajectory,
    Turn,
    user,
)
from resd_envs.finer.scoring import score
from resd_envs.manufactoria import verify

WRONG = {
    "manufactoria-has": "```manufactoria\nSTART start:\n    NEXT NONE\nEND end\n```",
    "bouncingsim-basic": "```python\ndef predict_position(t):\n    return [[0.0, 0.0]]\n```",
    "python-functions-basic": "```python\ndef f(a):\n    return 'wrong'\n```",
    "finer": "<answer>A,B,C,D</answer>",
    "ifeval": "wrong, it is: a, b",
    "reasoning-gym": "<answer>wrong</answer>",
    "guess-number": "0",
}
"""An answer that is wrong and of the right form, by environment."""
SANDBOXED = ("bouncingsim-basic", "python-functions-basic")
RELEASED = ("manufactoria-has", "finer", "ifeval")
"""Environments, the sandboxed aside, that have a released verifier."""


@cache
def env_of(name: str) -> TextEnv:
    if name == "reasoning-gym":
        pytest.importorskip(
            "reasoning_gym", reason="REASONING-GYM ABSENT: pip install '.[reasoning-gym]'"
        )
    try:
        return make_env(name)
    except SandboxTooWeak as error:
        pytest.skip(f"NO SANDBOX ON THIS MACHINE: {error}")


def play(env: TextEnv, task: Task, said: str) -> Feedback:
    """The verdict on an episode in which every answer is `said`."""
    env.reset(seed=0, options={"task": task.id})
    while True:
        *_, over, cut, info = env.step(said)
        if over or cut:
            feedback: Feedback = info["feedback"]
            return feedback


@dataclass(frozen=True)
class Placed:
    """A response, and what of it is outside the reasoning."""

    text: str
    visible: str


Part = tuple[str, list[str]]
"""Where something is said, and what: `lead` ends with a closing tag alone, `cut` lacks one."""
MARKS = {"lead": ("", "</think>\n"), "in": ("<think>", "</think>\n"), "out": ("", "")}
MARKS["cut"] = ("<think>", "")


@st.composite
def placed(draw: Any) -> list[Part]:
    drafts = st.lists(st.sampled_from(["right", "wrong", "note"]), min_size=1, max_size=3)
    middle = draw(st.lists(st.tuples(st.sampled_from(["in", "out"]), drafts), max_size=3))
    lead = [("lead", draw(drafts))] if draw(st.booleans()) else []
    cut = [("cut", draw(drafts))] if draw(st.booleans()) else []
    return [*lead, *middle, *cut]


def written(parts: Sequence[Part], right: str, wrong: str) -> Placed:
    says = {"right": f"{right}\n", "wrong": f"{wrong}\n", "note": "let me see\n"}
    text = visible = ""
    for where, drafts in parts:
        said = "".join(says[draft] for draft in drafts)
        before, after = MARKS[where]
        text += before + said + after
        visible += said if where == "out" else ""
    return Placed(text, visible)


def attempt(task: Task, said: str, verdict: Feedback) -> Trajectory:
    completion = Completion(said, (1, 2), (-0.5, -0.5))
    return Trajectory(task, (Turn(user(task.prompt), completion),), verdict)


class Bare(PromptPack):
    """Shows the solution alone."""

    def teacher(self, dialect: PromptDialect, *, solution: str, **rest: str) -> str:
        return solution


def solutions_shown(task: Task, said: str, verdict: Feedback) -> list[str]:
    """What a teacher is shown as the solution: to the attempt itself, and to a later failure."""
    attempts = scored_attempts([Group(task, (attempt(task, said, verdict),))])
    later = scored_attempts([Group(task, (attempt(task, "?", Feedback(0.0, False, 0.0)),))])
    buffer = remember_solutions({}, attempts)
    found = [
        *find_solutions(attempts, {}, distil_successes=True),
        *find_solutions(later, buffer, distil_successes=True),
    ]
    known: dict[str, Any] = {"options": TeacherOptions(), "dialect": "full", "pack": Bare()}
    return [
        teacher_prompts(attempts[0], playbook="", reflection="", solution=each, **known)[0]
        for each in found
        if each is not None
    ]


def check_placed(name: str, parts: Sequence[Part]) -> None:
    env = env_of(name)
    task = env.tasks("test")[0]
    answer = written(parts, env.oracle(task), WRONG[name])
    verdict, alone = play(env, task, answer.text), play(env, task, answer.visible)
    assert (verdict.success, verdict.score) == (alone.success, alone.score)
    assert verdict.kind == alone.kind
    if env.max_turns == 1:
        assert env.verify(task, answer.text).success == verdict.success
    for text in solutions_shown(task, answer.text, verdict) if verdict.success else ():
        assert play(env, task, text).success, text


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in WRONG if name not in SANDBOXED])
@settings(max_examples=50)
@given(parts=placed())
def test_what_is_graded_and_shown_is_what_stands_outside_the_reasoning(
    name: str, parts: list[Part]
) -> None:
    check_placed(name, parts)


@pytest.mark.parametrize("name", SANDBOXED)
@pytest.mark.parametrize(
    "parts",
    [
        [("in", ["right"]), ("out", ["wrong"])],
        [("in", ["right"]), ("out", ["note"])],
        [("lead", ["right"]), ("out", ["note"])],
        [("cut", ["right"])],
        [("out", ["right"]), ("cut", ["wrong"])],
        [("in", ["wrong"]), ("out", ["right"])],
        [("lead", ["wrong", "right"]), ("in", ["right"]), ("out", ["wrong", "right"])],
    ],
)
def test_programs_in_the_reasoning_are_not_run(name: str, parts: list[Part]) -> None:
    check_placed(name, parts)


def test_a_right_draft_in_the_reasoning_does_not_save_a_wrong_answer() -> None:
    for name in RELEASED:
        env = env_of(name)
        task = next(t for t in env.tasks("test") if not play(env, t, WRONG[name]).success)
        right = env.oracle(task)
        for said in (
            f"<think>{right}</think>\nI give up.",
            f"{right}\n</think>\nI give up.",
            f"<think>{right}",
            f"<think>a</think>\nwell <think>\n{right}\nand so",
        ):
            assert not play(env, task, said).success, (name, said)
            assert not env.verify(task, said).success, (name, said)


def test_the_verifiers_by_themselves_read_what_the_released_ones_do_or_the_visible_answer() -> None:
    env = env_of("manufactoria-has")
    task = env.tasks("test")[0]
    problem, right = task.data["problem"], env.oracle(task)
    for said in (f"<think>{right}", f"<think>{right}</think> no"):
        assert verify(said, problem).success
        assert not verify(said, problem, grade="answer").success
        assert not env.verify(task, said).success
    unfinished = "<think><answer>A,B</answer>"
    assert score(unfinished, "A,B").success
    assert not score(unfinished, "A,B", grade="answer").success
    assert verify(f"<think>x</think> {right}", problem, grade="answer").success


def test_saved_answers_are_graded_without_their_reasoning(tmp_path: Path) -> None:
    env = env_of("finer")
    task = env.tasks("test")[0]
    answers = [f"<think>{env.oracle(task)}", f"{env.oracle(task)}</think> ?", env.oracle(task)]
    file, out = tmp_path / "answers.jsonl", tmp_path / "out.jsonl"
    file.write_text("".join(json.dumps({"task": task.id, "answer": a}) + "\n" for a in answers))
    graded = {}
    for grade in ("answer", "release"):
        assert main(["envs", "score", "finer", str(file), "--out", str(out), "--grade", grade]) == 0
        graded[grade] = [json.loads(line)["success"] for line in out.read_text().splitlines()]
    assert graded == {"answer": [False, False, True], "release": [True, False, True]}


@pytest.mark.parametrize("name", RELEASED)
def test_the_release_preset_grades_what_the_released_verifier_reads_and_counts_it(
    name: str,
) -> None:
    config = resolve({"env": name, "preset": "release"})
    assert config.grade == "release"
    assert resolve({"env": name}).grade == "answer"
    env, pool = make_envs(config)
    pool.close()
    # An answer of IFEval that is wrong in every form is an empty one.
    task, nothing = env.tasks("test")[0], ""
    hidden = play(env, task, f"{nothing}<think>{env.oracle(task)}")
    assert (hidden.success, hidden.metrics["reasoning_success"]) == (True, 1.0)
    shown = play(env, task, f"<think>?</think>{env.oracle(task)}")
    assert (shown.success, shown.metrics["reasoning_success"]) == (True, 0.0)
    assert "reasoning_success" not in play(env_of(name), task, env.oracle(task)).metrics


def test_an_environment_without_a_released_verifier_grades_the_answer_in_every_preset() -> None:
    env, pool = make_envs(resolve({"env": "guess-number", "preset": "release"}))
    pool.close()
    task = env.tasks("test")[0]
    assert not play(env, task, f"<think>{env.oracle(task)}").success


def learn(said: str, preset: str, verdict: Feedback) -> ScriptedPolicy:
    policy = ScriptedPolicy(lambda *_: "cause: x\nlesson: y", "full")
    agent = RESD.build(policy, RESD.config(**RESD.presets[preset]))
    task = Task("t", "train", "question t")
    agent.learn([Group(task, (attempt(task, said, verdict),))], Step(0, 0, 0, Sampling(), 0))
    return policy


def test_thinking_that_was_cut_off_is_shown_in_the_release_preset_alone() -> None:
    failure = Feedback(0.0, False, 0.0, text="no program")
    for preset, seen in (("paper", False), ("release", True)):
        policy = learn("<think>secret plan", preset, failure)
        (example,) = policy.updates[-1]
        assert example.teacher_messages is not None
        asked = [m.content for call in policy.calls for chat in call.prompts for m in chat]
        assert any("secret plan" in text for text in asked) == seen
        assert ("secret plan" in example.teacher_messages[-1].content) == seen


def test_a_transcript_is_shown_whole_whatever_the_environment_says() -> None:
    task = Task("t", "train", "question t")
    first = user("question t")
    then = (*first, Message("assistant", "look"), Message("user", "</think> a door <think> shut"))
    turns = (Turn(first, Completion("look", (1,))), Turn(then, Completion("<think>hm", (1,))))
    won = Trajectory(task, (*turns, Turn(then, Completion("open", (1,)))), Feedback(1.0, True, 1.0))
    (told,) = scored_attempts([Group(task, (won,))])
    for text in (told.shown, *solutions_shown_of(told)):
        assert [line for line in text.splitlines() if line.startswith(">")] == [
            "> look",
            "> ",
            "> open",
        ]
        assert "a door" in text
        assert "hm" not in text
    assert "> open" in PromptWriter("full").tag(told, Playbook())


def solutions_shown_of(told: Any) -> list[str]:
    known: dict[str, Any] = {"options": TeacherOptions(), "dialect": "full", "pack": Bare()}
    (solution,) = find_solutions([told], {}, distil_successes=True)
    return teacher_prompts(told, playbook="", reflection="", solution=solution, **known)[:1]
