"""The dialect for small models: short prompts, replies of a line or two, a temperature for them."""

from __future__ import annotations

import re

import pytest

from resd_baselines.ace import ACEAgent, ACEConfig
from resd_baselines.base import Attempt, scored_attempts
from resd_baselines.context_update import PromptWriter
from resd_baselines.parse_replies import parse_compact_diagnoses
from resd_baselines.playbook import Playbook
from resd_baselines.prompts import PACK
from resd_baselines.resd import RESDAgent, RESDConfig
from resd_bench.agent import Agent
from resd_bench.config import resolve
from resd_bench.jobs.setup import make_envs
from resd_bench.testing import ScriptedPolicy
from resd_bench.types import (
    Completion,
    Feedback,
    Group,
    Sampling,
    Step,
    Task,
    Trajectory,
    Turn,
    user,
)

TASK = Task("t", "train", "TASK")
WRITER = PromptWriter("plain")
BOOK = Playbook().add("others", "Count the letters.").add("others", "Read the task twice.")
SECTIONS = ("playbook", "previous_trial", "feedback", "reflection", "solution")


def failure() -> Trajectory:
    turn = Turn(user("TASK"), Completion("ANSWER", (1, 2)))
    return Trajectory(TASK, (turn,), Feedback(0.0, False, 0.0, text="WRONG"))


def attempt() -> Attempt:
    return scored_attempts([Group(TASK, (failure(),))])[0]


def example_in(prompt: str, *keys: str) -> str:
    """The lines of the worked example in a prompt that begin with one of `keys`."""
    lines = re.findall(rf"^(?:{'|'.join(keys)}): .+$", prompt, re.MULTILINE)
    return "\n".join(lines)


def test_the_worked_examples_have_the_format_that_is_read() -> None:
    asked = WRITER.reflect(attempt(), Playbook())
    shown = WRITER.read_reflection(example_in(asked, "cause", "lesson"), Playbook())
    assert shown.parsed
    assert shown.text.startswith("cause: ")
    curate = WRITER.curate(attempt(), shown, BOOK)
    added = WRITER.read_curation(example_in(curate, "add"))
    assert added is not None
    assert len(added) == 1
    assert WRITER.read_curation("nothing") == ()
    assert WRITER.read_tags("helpful: 2", BOOK).by_id == {BOOK.entries[1].id: "helpful"}


def test_the_example_of_a_review_has_the_format_that_is_read() -> None:
    asked = PACK.diagnose(
        "plain", prompt="TASK", actions=["a", "b"], observations=["x", "y"], outcome="LOST"
    )
    found = parse_compact_diagnoses(asked.split("TASK")[0], 2)
    assert [own.verdict for own in found.by_turn.values()] == ["right", "invalid"]


def test_a_reply_of_another_form_counts_as_unparsed_and_is_kept() -> None:
    found = WRITER.read_reflection("The answer is wrong because it is.", Playbook())
    assert not found.parsed
    assert found.text == "The answer is wrong because it is."
    assert WRITER.read_curation("Here is a rule: count.") is None


def test_prompts_ask_for_no_json_and_are_shorter_than_the_full_ones() -> None:
    full = PromptWriter("full")
    one = attempt()
    shown = WRITER.read_reflection("cause: a\nlesson: b", Playbook())
    for plain, long in (
        (WRITER.reflect(one, BOOK), full.reflect(one, BOOK)),
        (WRITER.tag(one, BOOK), full.tag(one, BOOK)),
        (WRITER.curate(one, shown, BOOK), full.curate(one, shown, BOOK)),
    ):
        assert "JSON" not in plain
        assert "{" not in plain
        assert len(plain) < 0.7 * len(long)


def test_a_teacher_reads_what_there_is_and_then_the_task() -> None:
    filled = {name: f"<<{name}>>" for name in SECTIONS}
    text = PACK.teacher("plain", prompt="TASK", **filled)
    places = [text.index(value) for value in [*filled.values(), "TASK"]]
    assert places == sorted(places)
    none = dict.fromkeys(SECTIONS, "")
    assert PACK.teacher("plain", prompt="TASK", **none) == "Now answer this task: TASK"
    for name in SECTIONS:
        only = PACK.teacher("plain", prompt="TASK", **none | {name: "X"})
        assert only.count("\n\n") == 1


def written_at(agent: Agent, policy: ScriptedPolicy) -> set[float]:
    """The temperatures at which a method writes in one update."""
    step = Step(0, 0, 0, Sampling(1.0, 0.95, 64, seed=1), seed=2)
    agent.learn([Group(TASK, (failure(),))], step)
    return {call.sampling.temperature for call in policy.calls if call.purpose == "reflection"}


@pytest.mark.parametrize(
    ("agent", "config"), [(RESDAgent, RESDConfig), (ACEAgent, ACEConfig)], ids=["resd", "ace"]
)
def test_what_a_method_writes_has_its_own_temperature(agent: type, config: type) -> None:
    def reply(text: str, seed: int, number: int) -> str:
        return "cause: a\nlesson: b\nadd: c"

    for options, expected in (({}, 1.0), ({"writer_temperature": 0.25}, 0.25)):
        policy = ScriptedPolicy(reply, dialect="plain")
        assert written_at(agent(policy, config(**options)), policy) == {expected}


def test_environments_speak_to_small_models_as_to_large_ones() -> None:
    flags = {"env": "guess-number", "dialect": "plain"}
    env, pool = make_envs(resolve({}, flags))
    pool.close()
    assert env.dialect == "full"
