"""What environments say of single turns, and what is counted of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resd_baselines.hero import HERO
from resd_bench.budget import Budget, Ledger
from resd_bench.evaluation.held_out import eval_rows
from resd_bench.jobs.summary import train_metrics
from resd_bench.records.recorder import episode_rows
from resd_bench.rollout.rollout import EnvPool, roll_out
from resd_bench.stats import eval_points
from resd_bench.testing import ScriptedPolicy
from resd_bench.types import Completion, Group, Messages, Sampling, Step, Stop, Task
from resd_envs.games.record import CommandOutcome, Record
from resd_envs.guess_number import HIGHEST, LOWEST, GuessNumberEnv
from resd_envs.textworld.journal import Journal, Outcome, Scene

SAMPLING = Sampling(seed=1, max_new_tokens=9)
ANSWERS = st.one_of(st.integers(-5, 210).map(str), st.sampled_from(["", "hm", "1.5", "12 or 13"]))


def env(level: int = 3) -> GuessNumberEnv:
    return GuessNumberEnv(dialect="compact", feedback_level=level)


def play(task: Task, said: Sequence[str], room: int = 99, level: int = 3) -> tuple[Group, Ledger]:
    """An episode in which the answers are `said`, with room for so many of them."""

    def act(prompts: Sequence[Messages], **_: Any) -> list[list[Completion]]:
        turn = len(prompts[0]) // 2
        if turn >= room:
            return [[Completion("", (), (), Stop.LENGTH)]]
        return [[Completion(said[turn], (7,), (-0.1,))]]

    ledger = Ledger()
    groups = roll_out(
        act,
        EnvPool(lambda: env(level)),
        [task],
        n=1,
        sampling=SAMPLING,
        purpose="rollout",
        ledger=ledger,
        seed=0,
    )
    return groups[0], ledger


@settings(max_examples=40, deadline=None)
@given(
    said=st.lists(ANSWERS, min_size=8, max_size=8),
    room=st.integers(1, 9),
    place=st.integers(0, 119),
)
def test_a_guess_is_in_vain_where_the_hints_before_it_leave_no_number_less(
    said: list[str], room: int, place: int
) -> None:
    task = env().tasks("train")[place]
    secret = int(task.data["number"])
    group, ledger = play(task, said, room)
    (attempt,) = group.trajectories
    left, expected = set(range(LOWEST, HIGHEST + 1)), []
    for text in said[: len(attempt.turns)]:
        if not text.removeprefix("-").isdigit():
            expected.append("invalid")
            continue
        guess = int(text)
        kept = {
            n
            for n in left
            if ((n > guess) == (secret > guess) and n != guess) or n == secret == guess
        }
        expected.append("changed" if guess == secret or kept != left else "wasted")
        left = kept
    assert [t.feedback.kind for t in attempt.turns if t.feedback] == expected
    count = len(expected)
    metrics = attempt.feedback.metrics
    assert ledger.env_steps == count == metrics["turns"]
    assert metrics["wasted_turns"] == expected.count("wasted") / count
    assert metrics["invalid_turns"] == expected.count("invalid") / count
    assert ("turns_to_success" in metrics) == attempt.feedback.success
    row = episode_rows([group], 1, 0)[0]
    assert [turn["feedback"]["kind"] for turn in row["turns"]] == expected


def test_measured_shares_reach_the_rows_of_training_and_evaluation() -> None:
    task = next(t for t in env().tasks("train") if t.data["number"] > 100)
    groups = [play(task, ["50", "50", "hm", str(task.data["number"])])[0], play(task, ["1"] * 8)[0]]
    found = train_metrics(groups)
    assert found["train/turns_per_success"] == 12
    assert found["env/turns"] == 6
    assert found["env/turns_to_success"] == 4
    assert found["env/wasted_turns"] == pytest.approx((1 / 4 + 7 / 8) / 2)
    assert found["env/invalid_turns"] == pytest.approx(1 / 8)
    rows = eval_rows(groups, 3, Ledger(episodes=2, env_steps=12))
    point = eval_points(rows, [{"update": 3, "env_steps": 12}])[0]
    assert point.measured["turns"] == 6
    assert point.at("turns") == 12
    lost = train_metrics(groups[1:])["train/turns_per_success"]
    assert lost != lost, "without a success there is no such number"


def test_a_budget_of_turns_counts_the_turns_of_training_rollouts() -> None:
    budget = Budget.parse("12turn")
    assert budget.updates(32) is None
    assert [budget.exhausted(Ledger(env_steps=n, episodes=99)) for n in (11, 12)] == [False, True]


@pytest.mark.parametrize(("level", "text"), [(2, ""), (3, "left 51 200")])
def test_the_words_on_a_turn_come_from_level_3_and_its_kind_always(level: int, text: str) -> None:
    task = next(t for t in env().tasks("train") if t.data["number"] > 100)
    group, _ = play(task, ["50", "40", *["1"] * 6], level=level)
    _, second, *_ = group.trajectories[0].turns
    assert second.feedback is not None
    assert (second.feedback.kind, second.feedback.text) == ("wasted", text)
    policy = ScriptedPolicy(lambda *_: "nothing")
    step = Step(0, 0, 0, SAMPLING, 0)
    HERO.build(policy, HERO.config(turn_context="observation")).learn([group], step)
    shown = [e.teacher_messages[-1].content for e in policy.updates[-1] if e.teacher_messages]
    assert [("left 51 200" in one) for one in shown[:3]] == [False, bool(text), bool(text)]


def test_a_game_says_what_was_invalid_what_only_looked_and_what_turned_back() -> None:
    hall, shed = Scene("hall", ("north", "east")), Scene("shed", ("south",))
    journal, said = Journal(hall), []
    for command, outcome, after in (
        ("look", Outcome.DONE, hall),
        ("inventory", Outcome.DONE, hall),
        ("inventory", Outcome.DONE, hall),
        ("walk", Outcome.NOT_UNDERSTOOD, hall),
        ("go north", Outcome.DONE, shed),
        ("inventory", Outcome.DONE, shed),
        ("look", Outcome.DONE, shed),
        ("take coin", Outcome.DONE, shed),
        ("look", Outcome.DONE, shed),
        ("go north", Outcome.NO_EXIT, shed),
        ("go south", Outcome.DONE, hall),
    ):
        journal.note(command, outcome, after)
        said.append(journal.last_turn("compact"))
    assert [one.kind for one in said] == [
        *("wasted", "changed", "wasted", "invalid", "changed", "changed"),
        *("wasted", "changed", "changed", "invalid", "changed"),
    ]
    assert said[3].text == "not understood : walk"
    assert said[9].text == "no exit : go north in shed"


def test_a_package_s_game_says_what_was_refused_and_what_was_repeated_in_vain() -> None:
    record, kinds = Record(), []
    for said, outcome, told in (
        ("go", CommandOutcome.NO_COMMAND, ""),
        ("open box", CommandOutcome.DONE, "it is open"),
        ("open box", CommandOutcome.DONE, "it is open"),
        ("open box", CommandOutcome.DONE, "it breaks"),
    ):
        record.note(said, outcome, told)
        kinds.append(record.last_turn("full").kind)
    assert kinds == ["invalid", "changed", "wasted", "changed"]


def test_what_a_turn_did_stays_with_it_when_messages_are_replaced() -> None:
    task = env().tasks("train")[0]
    group, _ = play(task, ["hm"] * 8)
    turn = group.trajectories[0].turns[0]
    assert replace(turn, messages=()).in_vain
