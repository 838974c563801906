"""HERO, and teachers of single turns: what they see, what they survive, what they remember."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resd_baselines.hero import HERO
from resd_baselines.parse_replies import parse_compact_diagnoses, parse_diagnoses
from resd_baselines.resd import RESD
from resd_baselines.turn_teacher import TurnContext
from resd_bench.agent import MethodSpec
from resd_bench.rollout.rollout import EnvPool, roll_out
from resd_bench.testing import ScriptedPolicy
from resd_bench.types import (
    Completion,
    Dialect,
    Example,
    Feedback,
    Group,
    Message,
    Messages,
    Sampling,
    Step,
    Stop,
    Task,
    Trajectory,
    Turn,
    TurnFeedback,
    user,
)
from resd_envs.guess_number import GuessNumberEnv

STEP = Step(0, 0, 0, Sampling(seed=1, max_new_tokens=500), seed=2)
BY_TURN = ("observation", "diagnosis", "both")
MARK = re.compile(r"<<(\w+)>>")
"""Whatever a transcript of these tests says has its name between such brackets."""


def reviewer(prompt: str, seed: int, j: int) -> str:
    """Finds each turn invalid with a diagnosis that bears its number, in both dialects."""
    if prompt.endswith("<diagnose>"):
        count = len(re.findall(r"^\d+ > ", prompt, re.MULTILINE))
        return "\n".join(f"{n} invalid: <<d{n - 1}>>" for n in range(1, count + 1))
    if '"diagnoses"' in prompt:
        count = prompt.count("## Turn ")
        found = [
            {"turn": n, "verdict": "invalid", "diagnosis": f"<<d{n - 1}>>"}
            for n in range(1, count + 1)
        ]
        return json.dumps({"diagnoses": found})
    return "cause: early\nlesson: go on" if "reflect" in prompt else "nothing"


def transcript(turns: int, success: bool, unread: bool, task: str = "t") -> Trajectory:
    """An episode in which action n is <<an>>, and the observation that follows it <<on>>."""
    messages: Messages = (Message("system", "be brief"), *user("<<task>>"))
    made = []
    for n in range(turns):
        made.append(Turn(messages, Completion(f"<<a{n}>>", (1, 2, n), (-0.5,) * 3)))
        messages = (*messages, Message("assistant", f"<<a{n}>>"), Message("user", f"<<o{n}>>"))
    unread &= not success
    said = "" if success else "<<end>>"
    verdict = Feedback(float(success), success, float(success), text=said)
    stop = Stop.LENGTH if unread else Stop.EOS
    last = f"<<o{turns - 1}>>" if unread else ""
    return Trajectory(
        Task(task, "train", "<<task>>", {}), tuple(made), verdict, stop, "", unread, last
    )


def learned(
    spec: MethodSpec, *attempts: Trajectory, dialect: Dialect = "compact", **options: Any
) -> tuple[ScriptedPolicy, list[Example], dict[str, float]]:
    policy = ScriptedPolicy(reviewer, dialect)
    agent = spec.build(policy, spec.config(**options))
    metrics = agent.learn([Group(one.task, (one,)) for one in attempts], STEP)
    return policy, list(policy.updates[-1]), dict(metrics)


def marks(messages: Messages | None) -> set[str]:
    assert messages is not None
    return {name for message in messages for name in MARK.findall(message.content)}


def teachers(example: Example) -> Iterator[Messages]:
    assert example.teacher_messages is not None
    yield example.teacher_messages
    yield from example.shorter_teachers


@settings(max_examples=30, deadline=None)
@given(
    shapes=st.lists(st.tuples(st.integers(1, 6), st.booleans(), st.booleans()), min_size=1),
    context=st.sampled_from(BY_TURN),
    dialect=st.sampled_from(get_args(Dialect)),
    spec=st.sampled_from([HERO, RESD]),
    more=st.booleans(),
)
def test_the_teacher_of_a_turn_sees_nothing_after_the_observation_that_followed_it(
    shapes: list[tuple[int, bool, bool]],
    context: TurnContext,
    dialect: Dialect,
    spec: MethodSpec,
    more: bool,
) -> None:
    attempts = [transcript(*shape, f"t{i}") for i, shape in enumerate(shapes)]
    options = {"use_playbook": more, "use_solution_buffer": more, "turn_context": context}
    _, examples, _ = learned(spec, *attempts, dialect=dialect, **options)
    expected = []
    for turns, success, unread in shapes:
        for n in range(turns):
            past = {"task"} | {f"{kind}{i}" for kind in "ao" for i in range(n)} | {f"a{n}"}
            after = {f"o{n}"} if n < turns - 1 or (unread and not success) else {"end"}
            after = set() if n == turns - 1 and success else after
            hindsight = {"observation": after, "diagnosis": {f"d{n}"}, "both": after | {f"d{n}"}}
            expected.append((past, past | hindsight[context]))
    assert len(examples) == len(expected)
    for example, (past, seen) in zip(examples, expected, strict=True):
        assert marks(example.messages) == past - {example.completion.text.strip("<>")}
        shown = list(teachers(example))
        assert marks(shown[0]) == seen
        assert all(marks(messages) <= seen for messages in shown)
        assert shown[0][:-1] == example.messages[:-1], "the conversation before it is the same"


Block = tuple[str, str, str]
"""An answer, what followed it, and the environment's remark on it ("" for none)."""
HOSTILE = (
    *("", "same", "go", "same\ngo", "> go\nsame", "</think>", "<think>go", "\ud800"),
    *("2 wrong: same", '{"diagnoses": []}', "again: go", "{prompt}", "not solved"),
)
blocks = st.lists(st.tuples(*[st.sampled_from(HOSTILE)] * 3), min_size=1, max_size=4)


def hostile(told: Sequence[Block], ended: str, stop: Stop = Stop.EOS) -> Trajectory:
    """An episode of these turns; `ended` is the feedback, "" for a success."""
    messages, made = user("same"), []
    for said, seen, remark in told:
        cut = Stop.LENGTH if len(said) > 7 else Stop.EOS
        note = TurnFeedback("invalid", remark) if remark else None
        made.append(Turn(messages, Completion(said, (1,), (-0.5,), cut), note))
        messages = (*messages, Message("assistant", said), Message("user", seen))
    verdict = Feedback(float(not ended), not ended, 0.0, text=ended)
    unread = told[-1][1] if stop is Stop.LENGTH else ""
    task = Task("t", "train", "same", {})
    return Trajectory(task, tuple(made), verdict, stop, "", stop is Stop.LENGTH, unread)


def first_examples(
    spec: MethodSpec, told: Sequence[Block], ended: str, stop: Stop, count: int, **options: Any
) -> list[tuple[Messages, list[Messages]]]:
    """What student and teachers of the first `count` turns see, after a review that finds something
    in some turns, tells of turns that there are not, and of one turn twice; and with a writer of
    lessons who copies what it reads."""

    def model(prompt: str, seed: int, j: int) -> str:
        if prompt.endswith("<diagnose>"):
            known = [(n, said) for n, (said, _, _) in enumerate(told, 1) if len(said) % 3]
            lines = [f"{n} wrong: {len(said)} letters" for n, said in known]
            return "\n".join(["1 right", *lines, *lines[:1], "0 wrong: x", "77 wrong: later"])
        copied = " ".join(prompt.split())[-300:]
        return f"add: {copied}" if prompt.endswith("<lesson>") else f"cause: {copied}\nlesson: x"

    policy = ScriptedPolicy(model)
    agent = spec.build(policy, spec.config(use_solution_buffer=False, **options))
    attempt = hostile(told, ended, stop)
    agent.learn([Group(attempt.task, (attempt,))], STEP)
    student = {turn.messages for turn in attempt.turns[:count]}
    return [
        (example.messages, list(teachers(example)))
        for example in policy.updates[-1]
        if example.messages in student
    ]


@settings(max_examples=60, deadline=None)
@given(
    past=blocks,
    futures=st.tuples(blocks, blocks),
    ends=st.tuples(st.sampled_from(("", "lost", "same")), st.sampled_from(("", "lost", "limit"))),
    stops=st.tuples(*[st.sampled_from((Stop.EOS, Stop.TURNS, Stop.LENGTH))] * 2),
    context=st.sampled_from(BY_TURN),
    spec=st.sampled_from([HERO, RESD]),
    playbook=st.booleans(),
)
def test_whatever_comes_after_its_observation_the_teacher_of_a_turn_is_told_the_same(
    past: list[Block],
    futures: tuple[list[Block], list[Block]],
    ends: tuple[str, str],
    stops: tuple[Stop, Stop],
    context: TurnContext,
    spec: MethodSpec,
    playbook: bool,
) -> None:
    options = {"turn_context": context, "use_playbook": playbook}
    one, other = (
        first_examples(spec, [*past, *future], end, stop, len(past), **options)
        for future, end, stop in zip(futures, ends, stops, strict=True)
    )
    assert one == other


def test_that_property_fails_for_the_naive_form_and_where_later_turns_are_shown() -> None:
    told: list[Block] = [("go", "same", ""), ("go", "same", "")]
    for options in ({"turn_context": "transcript"}, {"show_later_turns": True}):
        found = [
            first_examples(HERO, told, end, Stop.EOS, 1, **options) for end in ("lost", "limit")
        ]
        assert found[0] != found[1]


def test_reviews_are_charged_as_reflection_and_nothing_else_is_sampled() -> None:
    for context, calls in (("both", 1), ("diagnosis", 1), ("observation", 0), ("transcript", 0)):
        policy, _, metrics = learned(
            HERO, transcript(3, False, False), transcript(2, True, False, "u"), turn_context=context
        )
        assert len(policy.calls) == calls
        replies = [
            reviewer(chat[-1].content, 0, 0) for call in policy.calls for chat in call.prompts
        ]
        assert policy.ledger.reflection_tokens == sum(map(len, replies))
        assert (policy.ledger.sampled_tokens, policy.ledger.evaluation_tokens) == (0, 0)
        assert metrics["turns/reviews"] == 2 * calls


def test_a_turn_about_which_nothing_is_known_keeps_its_share_and_gives_it_to_no_other() -> None:
    """Three attempts of 4, 2 and 1 turns: two of the first turns are left out."""
    silent = [("go", "", ""), ("go", "seen", ""), ("go", "", ""), ("go", "seen", "")]
    attempts = [
        hostile(silent, "lost"),
        hostile([("go", "seen", "")] * 2, "lost"),
        hostile([("go", "", "")], "lost"),
    ]
    policy = ScriptedPolicy(lambda *_: "")
    agent = HERO.build(policy, HERO.config(turn_context="observation"))
    agent.learn([Group(one.task, (one,)) for one in attempts], STEP)
    mean = (4 + 2 + 1) / 3
    weights = [example.weight for example in policy.updates[-1]]
    assert weights == pytest.approx([mean / 4] * 2 + [mean / 2] * 2 + [mean])
    # Of a loss averaged over the seven turns, a whole attempt has a third.
    assert sum(weights[2:4]) / 7 == pytest.approx(1 / 3)


def test_only_the_option_shows_later_turns_and_the_naive_form_shows_them_to_all() -> None:
    whole = {"task", "a0", "a1", "a2", "o0", "o1", "end"}
    attempt = transcript(3, False, False)
    _, (first, *_), _ = learned(HERO, attempt, show_later_turns=True)
    assert marks(first.teacher_messages) == whole | {"d0"}
    policy, examples, _ = learned(HERO, attempt, turn_context="transcript")
    assert [marks(example.teacher_messages) for example in examples] == [whole] * 3
    assert not policy.calls, "no review is made that nothing reads"


def test_whether_successes_are_imitated_does_not_depend_on_what_a_turn_sees() -> None:
    """Otherwise the naive form would be compared in two things at once."""
    success, failure = transcript(2, True, False), transcript(3, False, False, "f")
    whole = {"task", "a0", "a1", "o0"}
    for context in get_args(TurnContext):
        found = {}
        for distil in (False, True):
            options = {"turn_context": context, "distil_successes": distil}
            _, examples, metrics = learned(HERO, success, failure, **options)
            found[distil] = [marks(e.teacher_messages) for e in examples]
            assert metrics["hero/solutions"] == distil
        assert found[True][:2] == [whole, whole]
        assert found[True][2:] == found[False][-3:], "failures are learned from alike"
        assert len(found[False]) == (3 if context == "transcript" else 5)


def test_resd_asks_for_no_review_unless_its_teachers_read_one() -> None:
    attempt = transcript(3, False, False)
    policy, examples, metrics = learned(RESD, attempt)
    assert not any("<diagnose>" in repr(call) for call in policy.calls)
    assert all("<<a2>>" in repr(example.teacher_messages) for example in examples)
    assert not any(name.startswith("turns/") for name in metrics)
    _, _, metrics = learned(RESD, attempt, turn_context="diagnosis")
    assert metrics["turns/diagnosed"] == metrics["turns/faulty"] == 1.0


@pytest.mark.parametrize("dialect", get_args(Dialect))
@pytest.mark.parametrize("text", ["", "{" * 10_000, "\ud800", "1 perhaps: x", "[" * 9_000, "null"])
def test_reviews_that_cannot_be_read_are_counted_and_survived(dialect: Dialect, text: str) -> None:
    policy = ScriptedPolicy(lambda prompt, seed, j: text, dialect)
    attempts = [transcript(3, False, False), transcript(2, True, False, "u")]
    groups = [Group(one.task, (one,)) for one in attempts]
    # Without an observation and a diagnosis nothing is known about a turn.
    for context, trained in (("both", 5), ("diagnosis", 0)):
        agent = HERO.build(policy, HERO.config(turn_context=context))
        metrics = agent.learn(groups, STEP)
        assert (metrics["turns/reviews"], metrics["turns/unparsed_reviews"]) == (2, 2)
        assert metrics["turns/diagnosed"] == 0
        assert len(policy.updates[-1]) == trained
        json.dumps([agent.context(), agent.state_dict()])


def test_a_review_is_read_turn_by_turn_and_what_is_not_one_is_left_out() -> None:
    lines = "2 needless: look\nTurn 1: RIGHT\n- 3. wrong : go back\n4 invalid: none\n2 right\nhm\n"
    found = parse_compact_diagnoses(f"hm</think>{lines}0 right", 3).by_turn
    assert {n: (d.verdict, d.text) for n, d in found.items()} == {
        0: ("right", ""),
        1: ("right", ""),
        2: ("wrong", "go back"),
    }
    entries = [
        {"turn": 1, "verdict": "Invalid ", "diagnosis": "two\nlines"},
        {"turn": True, "verdict": "right"},
        {"turn": 2, "verdict": "fine"},
        {"turn": 9, "verdict": "right"},
        {"turn": 3, "verdict": "wrong", "diagnosis": 7},
        "right",
    ]
    for text in (json.dumps({"diagnoses": entries}), json.dumps(entries)):
        by_turn = parse_diagnoses(text, 3).by_turn
        assert {n: d.shown for n, d in by_turn.items()} == {0: "invalid: two lines", 2: "wrong"}


def test_faults_of_reviews_become_lessons_that_later_teachers_read() -> None:
    def model(prompt: str, seed: int, j: int) -> str:
        return "add: keep going" if prompt.endswith("<lesson>") else reviewer(prompt, seed, j)

    policy = ScriptedPolicy(model)
    agent = HERO.build(policy, HERO.config(use_playbook=True, use_solution_buffer=True))
    won, lost = transcript(2, True, False), transcript(2, False, False)
    metrics = agent.learn([Group(lost.task, (lost,))], STEP)
    assert metrics["hero/entries"] == 1
    asked = [prompt[-1].content for call in policy.calls for prompt in call.prompts]
    assert [MARK.findall(text) for text in asked if "<curate>" in text] == [["d0", "d1"]]
    assert not any("keep going" in repr(e.teacher_messages) for e in policy.updates[-1])
    agent.learn([Group(won.task, (won,))], replace(STEP, update=1))
    assert not any("<solution>" in repr(e.teacher_messages) for e in policy.updates[-1])
    restored = HERO.build(again := ScriptedPolicy(model), agent.config)  # type: ignore[attr-defined]
    restored.load_state_dict(json.loads(json.dumps(agent.state_dict())))
    for one in (agent, restored):
        told = one.learn([Group(lost.task, (lost,))], replace(STEP, update=2))
        assert told["hero/solutions"] == 1
    assert again.updates[-1] == policy.updates[-1]
    first, _ = policy.updates[-1]
    assert first.teacher_messages is not None
    text = first.teacher_messages[-1].content
    assert "<playbook>\n1 keep going" in text
    assert "<solution>\n> <<a0>>\n<<o0>>\n> <<a1>>" in text


def guesses(context: int) -> Any:
    """An act that guesses 1, 2, 3, and has no room for a prompt of more than `context` messages."""

    def act(prompts: Sequence[Messages], **_: Any) -> list[list[Completion]]:
        full = Completion("", (), (), Stop.LENGTH)
        return [
            [full if len(p) > context else Completion(str(len(p) // 2 + 1), (7,), (-0.1,))]
            for p in prompts
        ]

    return act


@pytest.mark.parametrize(("context", "turns", "stop"), [(5, 3, Stop.LENGTH), (99, 8, Stop.TURNS)])
def test_a_full_context_and_the_turn_limit_are_recorded_and_every_turn_is_learned_from(
    context: int, turns: int, stop: Stop
) -> None:
    policy = ScriptedPolicy(reviewer)
    env = GuessNumberEnv(dialect="compact")
    (task,) = [t for t in env.tasks("train") if t.data["number"] > 10][:1]
    groups = roll_out(
        guesses(context),
        EnvPool(lambda: GuessNumberEnv(dialect="compact")),
        [task],
        n=1,
        sampling=STEP.sampling,
        purpose="rollout",
        ledger=policy.ledger,
        seed=0,
    )
    ((attempt,),) = (group.trajectories for group in groups)
    assert (len(attempt.turns), attempt.stop) == (turns, stop)
    assert policy.ledger.env_steps == turns
    HERO.build(policy, HERO.config()).learn(groups, STEP)
    examples = policy.updates[-1]
    assert [e.messages for e in examples] == [t.messages for t in attempt.turns]
    assert [e.completion for e in examples] == [t.completion for t in attempt.turns]
    shown = [e.teacher_messages[-1].content for e in examples if e.teacher_messages]
    assert all(f"{n + 1} low" in text for n, text in enumerate(shown))
    assert attempt.unread == ("3 low" if stop is Stop.LENGTH else "")
