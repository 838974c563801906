"""Placebo feedback: whose it is, what is kept, how long it is, and who never sees it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import permutations
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from resd_baselines.experiments.shown_context import permuted
from resd_baselines.resd import RESDAgent, RESDConfig
from resd_bench.config import resolve
from resd_bench.errors import UsageError
from resd_bench.jobs.run import run
from resd_bench.records.log_files import LogRow, read_log
from resd_bench.rollout.placebo import Placebo, TextAbout, blank, exchange
from resd_bench.testing import ScriptedPolicy
from resd_bench.types import (
    CaseResult,
    Completion,
    Feedback,
    Group,
    Sampling,
    Step,
    Stop,
    Task,
    Trajectory,
    Turn,
    TurnFeedback,
    user,
)


def attempt(task: str, text: str, *, stop: Stop = Stop.EOS, score: float = 0.0) -> Trajectory:
    case = CaseResult("case", False, "wrong", f"detail of {task}", "expected")
    feedback = Feedback(
        float(not text), not text, score, (case,), text, "kind of " + task, (0,), "sol " + task
    )
    turn = Turn(user(task), Completion("answer", (1,), (-0.1,)))
    return Trajectory(Task(task, "train", task), (turn,), feedback, stop)


def batch(texts: dict[str, Sequence[str]]) -> list[Group]:
    return [
        Group(Task(task, "train", task), tuple(attempt(task, text) for text in own))
        for task, own in texts.items()
    ]


def texts_of(groups: Sequence[Group]) -> list[str]:
    return [own.feedback.text for group in groups for own in group.trajectories]


def test_shuffled_feedback_is_another_tasks_and_each_is_used_once() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        told = [
            TextAbout(f"t{i % 5}", " ".join(["word"] * int(rng.integers(1, 9))) + f" {i}")
            for i in range(20)
        ]
        chosen = exchange(told, rng)
        assert sorted(j for j in chosen if j is not None) == list(range(20))
        assert all(told[j].about != told[i].about for i, j in enumerate(chosen) if j is not None)


def test_no_other_exchange_of_the_batch_keeps_fewer_own_fewer_equal_or_closer_lengths() -> None:
    """Against every permutation of six texts, counted one by one."""
    rng = np.random.default_rng(1)
    for _ in range(8):
        told = [
            TextAbout(f"t{rng.integers(4)}", str("x " * int(rng.integers(1, 4))).strip())
            for _ in range(6)
        ]

        def cost(order: Sequence[int], told: Sequence[TextAbout] = told) -> tuple[int, int, float]:
            pairs = [(told[i], told[j]) for i, j in enumerate(order)]
            same = sum(a.about == b.about for a, b in pairs)
            equal = sum(a.text == b.text for a, b in pairs)
            sizes = [(len(a.text), len(b.text)) for a, b in pairs]
            return same, equal, sum(abs(a - b) / max(a, b) for a, b in sizes)

        chosen = exchange(told, rng)
        best = min(cost(order) for order in permutations(range(6)))
        assert chosen.count(None) == best[0]
        same, equal, apart = cost([i if j is None else j for i, j in enumerate(chosen)])
        if not same:
            assert equal == best[1]
            assert apart <= best[2] + 0.06


def test_what_is_exchanged_is_all_that_was_said_and_never_the_verdict() -> None:
    groups = batch({"a": ["fault of a", ""], "b": ["fault of b"]})
    groups[0] = replace(
        groups[0], trajectories=(*groups[0].trajectories, attempt("a", "broken", stop=Stop.ERROR))
    )
    seen, notes, metrics = Placebo("shuffled").exchanged(groups, 0)
    first, won, broken = seen[0].trajectories
    assert first.feedback == replace(
        groups[1].trajectories[0].feedback, reward=0.0, success=False, score=0.0
    )
    assert first.feedback.cases[0].detail == "detail of b"
    assert (won, broken) == groups[0].trajectories[1:]
    assert notes == [
        {"shown_feedback": "fault of b", "feedback_from": "b"},
        {},
        {},
        {"shown_feedback": "fault of a", "feedback_from": "a"},
    ]
    assert metrics["placebo/failures"] == 2
    assert metrics["placebo/other_task"] == 1
    assert metrics["placebo/words_kept"] == pytest.approx(2 / 3)
    for content in ("shuffled", "blank"):
        again, _, _ = Placebo(content).exchanged(groups, 0)
        for group, other in zip(groups, again, strict=True):
            for real, own in zip(group.trajectories, other.trajectories, strict=True):
                assert own.turns == real.turns
                verdict = ("reward", "success", "score", "metrics")
                assert all(getattr(own.feedback, k) == getattr(real.feedback, k) for k in verdict)


def test_remarks_on_the_turns_of_a_failure_are_left_out_with_its_feedback() -> None:
    note, silent = TurnFeedback("invalid", "there is no door"), TurnFeedback("invalid")
    groups = [
        replace(
            group,
            trajectories=tuple(
                replace(own, turns=(replace(own.turns[0], feedback=note), *own.turns))
                for own in group.trajectories
            ),
        )
        for group in batch({"a": ["fault of a", ""], "b": ["fault of b"]})
    ]
    for content in ("shuffled", "blank"):
        seen, _, _ = Placebo(content).exchanged(groups, 0)
        found = [
            [turn.feedback for turn in own.turns] for group in seen for own in group.trajectories
        ]
        assert found == [[silent, None], [note, None], [silent, None]]


def test_a_batch_of_one_task_is_told_of_an_earlier_one_and_at_first_nothing() -> None:
    placebo = Placebo("shuffled")
    _, [note], first = placebo.exchanged(batch({"a": ["fault of a"]}), 0)
    assert (note["feedback_from"], first["placebo/blank"]) == ("", 1)
    saved = placebo.state_dict()
    seen, [note], later = placebo.exchanged(batch({"b": ["fault of b"]}), 1)
    assert (texts_of(seen), note["feedback_from"]) == (["fault of a"], "a")
    assert (later["placebo/earlier"], later["placebo/blank"]) == (1, 0)
    resumed = Placebo("shuffled")
    resumed.load_state_dict(saved)
    assert resumed.exchanged(batch({"b": ["fault of b"]}), 1)[0] == seen
    assert len(resumed.state_dict()) == 2


def test_blank_feedback_is_as_long_and_says_nothing() -> None:
    def tokens(text: str) -> int:
        return len(text.split())

    for text in ("one", "one two\nthree", "passed 1 of 4: partial\n2 wrong"):
        assert tokens(blank(text, tokens)) == tokens(text)
        assert abs(len(blank(text)) - len(text)) <= 1
        assert set(blank(text)) <= {"-", " "}
    groups = batch({"a": ["one two three"], "b": ["four five six"]})
    seen, _, metrics = Placebo("blank", tokens).exchanged(groups, 0)
    assert texts_of(seen) == ["- - -", "- - -"]
    assert all(not g.trajectories[0].feedback.solution for g in seen)
    assert all(not g.trajectories[0].feedback.cases for g in seen)
    assert (metrics["placebo/blank"], metrics["placebo/words_kept"]) == (1, 0)


def test_real_feedback_stays_as_it_is_and_nothing_is_drawn() -> None:
    groups = batch({"a": ["fault"]})
    placebo = Placebo()
    seen, notes, metrics = placebo.exchanged(groups, 0)
    assert seen is groups
    assert (list(notes), metrics, placebo.state_dict()) == ([{}], {}, [])


RUN = {"env": "toy-say", "method": "toy-learner", "model": "scripted", "budget": "8upd"}
RUN |= {"batch_size": "3", "eval_samples": "2", "max_new_tokens": "20", "eval_every": "2"}


def rows(folder: Path, name: str) -> list[LogRow]:
    return list(read_log(folder / name))


def measured(folder: Path) -> Any:
    times = ("seconds", "evaluation_seconds")
    return [
        {k: v for k, v in row.items() if k not in times and not k.startswith("placebo/")}
        for name in ("metrics.jsonl", "evals.jsonl")
        for row in rows(folder, name)
    ]


def test_a_method_that_reads_no_feedback_measures_the_same_with_any(
    toy: ModuleType, tmp_path: Path
) -> None:
    """And evaluations have no shown feedback at all."""
    kinds = ("real", "shuffled", "blank")
    folders = {
        kind: run(resolve(RUN, {"feedback": kind, "out": str(tmp_path / kind)})).folder
        for kind in kinds
    }
    assert measured(folders["real"]) == measured(folders["shuffled"]) == measured(folders["blank"])
    failed = [row for row in rows(folders["shuffled"], "episodes.jsonl") if not row["success"]]
    assert failed
    assert all(row["feedback_from"] != row["task"] for row in failed)
    assert not any("shown_feedback" in row for row in rows(folders["real"], "episodes.jsonl"))
    assert not any("shown_feedback" in row for row in rows(folders["shuffled"], "evals.jsonl"))
    assert "feedback: shuffled" in (folders["shuffled"] / "config.yaml").read_text()


def test_an_interrupted_run_goes_on_with_the_feedback_it_would_have_shown(
    toy: ModuleType, tmp_path: Path
) -> None:
    flags = {"feedback": "shuffled", "batch_size": "1", "checkpoint_every": "1"}
    whole = run(resolve(RUN, {**flags, "out": str(tmp_path / "a")})).folder
    half = resolve(RUN, {**flags, "out": str(tmp_path / "b"), "budget": "4upd"})
    run(half)
    run(replace(half, budget="8upd"), resume=True)
    shown = [
        [(row.get("shown_feedback"), row.get("feedback_from")) for row in rows(f, "episodes.jsonl")]
        for f in (whole, half.folder())
    ]
    assert shown[0] == shown[1]
    assert any(source for _, source in shown[0][4:])


def test_there_must_be_feedback_to_replace() -> None:
    with pytest.raises(UsageError, match="--feedback-level 0 gives no feedback to replace"):
        resolve({"feedback": "blank", "feedback_level": 0})
    with pytest.raises(UsageError, match="reflections_shown=blank needs use_reflection=true"):
        resolve({}, sets=["method.reflections_shown=blank", "method.use_reflection=false"])


UNREAD = ("use_reflection=false", "use_playbook=false")


@pytest.mark.parametrize(
    ("sets", "why"),
    [
        (["reflections_shown=shuffled", "turn_context=both"], "no teacher is shown a reflection"),
        (["misplaced_reflections=1", "turn_context=both", "use_playbook=false"], "nothing reads"),
        (
            ["misplaced_reflections=1", "use_reflection=false", "use_playbook=false"],
            "nothing reads",
        ),
        (["lies=1", "lies_file=x", *UNREAD], "nothing reads"),
    ],
)
def test_a_dial_that_nothing_reads_is_refused(sets: list[str], why: str) -> None:
    with pytest.raises(UsageError, match=why):
        resolve({}, sets=[f"method.{one}" for one in sets])
    # A playbook is curated from them.
    read = [one for one in sets if "use_playbook" not in one and "_shown" not in one]
    resolve({}, sets=[f"method.{one}" for one in read])


def reflector(prompt: str, seed: int, j: int) -> str:
    task = prompt.split()[0]
    if prompt.endswith("<reflect>"):
        return f"cause: {task} stops early\nlesson: {task} keep on"
    return f"add: {task} lesson of mine" if prompt.endswith("<lesson>") else "helpful: 1"


def learned(**options: Any) -> tuple[RESDAgent, list[str]]:
    """An agent after two updates on two failures each, and its teacher's prompts of the second."""
    policy = ScriptedPolicy(reflector)
    agent = RESDAgent(policy, RESDConfig(**options))
    for u in range(2):
        agent.learn(batch({"left": ["wrong"], "right": ["wrong"]}), Step(u, 0, u, Sampling(), u))
    prompts = [e.teacher_messages[0].content for e in policy.updates[1] if e.teacher_messages]
    return agent, prompts


def test_only_the_teacher_is_shown_placebo_reflections_and_playbooks() -> None:
    real, _ = learned()
    for option in ("reflections_shown", "playbook_shown"):
        for content in ("shuffled", "blank"):
            agent, _ = learned(**{option: content})
            assert agent.playbook == real.playbook
            own, same = (
                [
                    {k: v for k, v in row.items() if k != "shown"}
                    for row in a.context()["reflections"]
                ]
                for a in (agent, real)
            )
            assert own == same


def test_a_shuffled_reflection_is_about_the_other_task_and_a_blank_one_about_none() -> None:
    _, [left, right] = learned(reflections_shown="shuffled")
    assert "right keep on" in left
    assert "left keep on" in right
    _, [left, right] = learned(reflections_shown="blank")
    assert "keep on" not in left + right
    assert "- - -" in left
    assert "lesson of mine" in left


def test_a_shuffled_playbook_has_the_same_words_and_lengths_and_other_lessons() -> None:
    texts = ["when red stop at once", "when green go on", "mind the gap"]
    mixed = permuted(texts, np.random.default_rng(0))
    assert [len(text.split()) for text in mixed] == [5, 4, 3]
    assert Counter(" ".join(mixed).split()) == Counter(" ".join(texts).split())
    assert not set(mixed) & set(texts)
    _, [left, _] = learned(playbook_shown="blank")
    assert "lesson of mine" not in left
    assert "keep on" in left
