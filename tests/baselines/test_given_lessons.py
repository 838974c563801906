"""A reflector that lies, and a playbook that starts with lessons it was given."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from resd_baselines.experiments.given_lessons import GivenLesson, read_lessons, tell_lies
from resd_baselines.resd import RESDAgent, RESDConfig
from resd_bench.errors import UsageError
from resd_bench.testing import ScriptedPolicy
from tests.baselines.test_handover import group, model, step

LIE = '{"lesson": "stop at once", "reflection": "cause: none\\nlesson: stop at once"}\n'


@pytest.fixture
def file(tmp_path: Path) -> str:
    (tmp_path / "lies.jsonl").write_text(LIE + "\nnever answer\n")
    return str(tmp_path / "lies.jsonl")


def test_lessons_are_read_as_objects_or_as_lines(file: str, tmp_path: Path) -> None:
    assert read_lessons(file) == [
        GivenLesson("stop at once", "cause: none\nlesson: stop at once"),
        GivenLesson("never answer", "never answer"),
    ]
    for text in ("", '{"lesson": "alone"}', "{broken"):
        (tmp_path / "bad").write_text(text)
        with pytest.raises(UsageError, match="nano lessons"):
            read_lessons(str(tmp_path / "bad"))
    with pytest.raises(UsageError, match="cannot be read"):
        read_lessons(str(tmp_path / "absent"))


def test_a_larger_share_of_lies_replaces_more_of_the_same() -> None:
    own, lies = [f"own {i}" for i in range(400)], [GivenLesson(c, c) for c in "abcd"]
    told = {s: tell_lies(own, lies, s, np.random.default_rng(0)) for s in (0.0, 0.5, 1.0)}
    kept = {s: {i for i in range(400) if told[s][i] == own[i]} for s in told}
    assert len(kept[0.0]) == 400
    assert kept[1.0] == set()
    assert abs(len(kept[0.5]) / 400 - 0.5) < 0.1
    assert all(told[0.5][i] == told[1.0][i] for i in range(400) if i not in kept[0.5])
    assert {told[1.0].count(c) > 60 for c in "abcd"} == {True}


def test_a_lie_reaches_teacher_and_curator_and_is_on_record(file: str) -> None:
    policy = ScriptedPolicy(model)
    learner = RESDAgent(policy, RESDConfig(lies=1.0, lies_file=file))
    metrics = learner.learn([group("left", [False, True])], step(0))
    [first, _] = policy.updates[0]
    assert first.teacher_messages is not None
    shown, [said] = first.teacher_messages[0].content, learner.context()["reflections"]
    assert said["text"] in shown
    assert said["text"] in ("cause: none\nlesson: stop at once", "never answer")
    assert said["own"] == "cause: it stops early\nlesson: keep going with left"
    assert "keep going with left" not in shown
    assert metrics["resd/exchanged_reflections"] == metrics["resd/reflections"] == 1


def test_a_run_that_exchanges_nothing_has_no_trace_of_it() -> None:
    learner = RESDAgent(ScriptedPolicy(model), RESDConfig())
    metrics = learner.learn([group("left", [False])], step(0))
    assert not {"resd/exchanged_reflections", "resd/seeded_entries"} & set(metrics)
    assert "own" not in learner.context()["reflections"][0]


def test_a_playbook_starts_with_given_lessons_and_says_which_are_left(file: str) -> None:
    policy = ScriptedPolicy(model)
    learner = RESDAgent(policy, RESDConfig(seed_playbook=file))
    metrics = learner.learn([group("left", [False])], step(0))
    [first] = policy.updates[0]
    assert first.teacher_messages is not None
    assert "1 stop at once\n2 never answer" in first.teacher_messages[0].content
    born = {entry["content"]: entry["born"] for entry in learner.context()["playbook"]}
    assert born == {"stop at once": -1, "never answer": -1, "keep going": 0}
    assert metrics["resd/seeded_entries"] == 2
    other = RESDAgent(ScriptedPolicy(model), RESDConfig(seed_playbook=file))
    other.load_state_dict(learner.state_dict())
    assert (other.playbook, other.births) == (learner.playbook, learner.births)


def test_lies_need_a_file() -> None:
    with pytest.raises(ValueError, match="lies_file"):
        RESDConfig(lies=0.5)
    with pytest.raises(ValueError, match="lies: expected a value from 0 to 1"):
        RESDConfig(lies=1.5, lies_file="x")


@pytest.mark.parametrize("lies", [0.0, 1.0])
def test_an_update_without_a_failure_exchanges_nothing(file: str, lies: float) -> None:
    learner = RESDAgent(ScriptedPolicy(model), RESDConfig(lies=lies, lies_file=file))
    learner.learn([group("left", [False, False])], step(0))
    metrics = learner.learn([group("left", [True, True])], step(1))
    assert learner.context()["reflections"] == []
    assert metrics.get("resd/exchanged_reflections", 0.0) == 0.0
