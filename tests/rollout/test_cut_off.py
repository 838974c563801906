"""An answer that hit its token limit is told so; a turn that was not sampled is not taken."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

import pytest

from resd_baselines.grpo import GRPO
from resd_baselines.resd import RESD
from resd_baselines.sft import SFT
from resd_bench.budget import Purpose
from resd_bench.env import TextEnv
from resd_bench.evaluation.grade_answers import grade, read_answers
from resd_bench.evaluation.held_out import EvalSet, eval_rows, evaluate
from resd_bench.jobs.summary import train_metrics
from resd_bench.plugins import make_env
from resd_bench.rollout.rollout import Act, EnvPool, roll_out
from resd_bench.sandbox import SandboxTooWeak
from resd_bench.testing import ScriptedPolicy
from resd_bench.types import (
    Completion,
    Dialect,
    Group,
    Messages,
    Sampling,
    Step,
    Stop,
    Task,
    Trajectory,
)

DIALECTS: tuple[Dialect, ...] = ("full", "compact")
MALFORMED = (
    ("manufactoria-has", "```manufactoria\nSTART start:\n    NEXT a"),
    ("manufactoria-has", "```manufactoria\nSTART start:\n    NEXT a\n``` and now"),
    ("manufactoria-has", "let me think"),
    ("bouncingsim-basic", "```python\ndef predict_position("),
    ("bouncingsim-basic", "```python\ndef predict_position(\n``` or rather"),
    ("python-functions-basic", "```python\ndef f(a"),
    ("python-functions-basic", "```python\ndef f(a\n``` or rather"),
    ("python-functions-basic", "so"),
    ("finer", "<answer>A,B"),
    ("finer", "<think>the first"),
    ("ifeval", "<think>a title"),
    ("reasoning-gym", "<answer>1"),
    ("guess-number", "is it 1 or"),
    ("textworld-coin", "go nor"),
    ("textworld-coin", "I am in"),
    ("textworld-coin", "<think>I am"),
)
"""Answers that would be malformed, had they ended by themselves."""
SAYS_MALFORMED = (
    *("does not parse", "There is no program", "program : missing", "syntax", "never closed"),
    *("no answer between", "no answer element", "no number", "That was no guess", "a1 undefined"),
    *("not understood", "not a command", "no command", "undefined target", "an empty response"),
)


def env_of(name: str, dialect: Dialect, level: int = 3) -> TextEnv:
    needs = {"reasoning-gym": "reasoning_gym", "textworld-coin": "textworld"}
    if name in needs:
        pytest.importorskip(
            needs[name], reason=f"ABSENT: pip install '.[{needs[name].replace('_', '-')}]'"
        )
    try:
        return make_env(name, dialect=dialect, feedback_level=level)
    except SandboxTooWeak as error:
        pytest.skip(f"NO SANDBOX ON THIS MACHINE: {error}")


def cut_short(said: str) -> Act:
    """A policy whose every answer is `said`, cut off there."""
    return ScriptedPolicy(lambda *_: f"{said}~").sample


def attempt_at(env: TextEnv, act: Act, tokens: int, task: Task | None = None) -> Trajectory:
    (group,) = roll_out(
        act,
        EnvPool(lambda: env, isolated=False),
        [task or env.tasks("train")[0]],
        n=1,
        sampling=Sampling(max_new_tokens=tokens),
        purpose="evaluation",
        ledger=ScriptedPolicy(lambda *_: "").ledger,
        seed=0,
    )
    return group.trajectories[0]


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize(("name", "said"), MALFORMED)
def test_a_cut_off_answer_is_told_so_and_not_that_it_was_malformed(
    name: str, said: str, dialect: Dialect
) -> None:
    tried = attempt_at(env_of(name, dialect), cut_short(said), len(said))
    told = [m.content for turn in tried.turns[1:] for m in turn.messages[1:] if m.role == "user"]
    assert tried.feedback.kind == "truncated"
    assert not tried.feedback.success
    for text in [*told, tried.feedback.text]:
        assert "cut off" in text
        assert not any(words in text for words in SAYS_MALFORMED), text


def test_every_level_of_feedback_tells_more_of_a_cut_off_answer() -> None:
    said = "```manufactoria\nSTART start:\n    NEXT NONE\nEND end\n``` or"
    texts = []
    for level in range(6):
        env = env_of("manufactoria-has", "full", level)
        texts.append(attempt_at(env, cut_short(said), len(said)).feedback.text)
    assert texts[:2] == ["", "wrong"]
    assert texts[2].endswith("truncated")
    assert texts[2] in texts[3]
    assert "cut off" in texts[3]
    assert "Input" in texts[3], "the program could be read, and what it did is shown"


def test_a_cut_off_answer_that_is_complete_succeeds() -> None:
    env = env_of("finer", "full")
    task = env.tasks("train")[0]
    right = env.oracle(task)
    tried = attempt_at(env, cut_short(right), len(right), task)
    assert (tried.feedback.success, tried.feedback.kind, tried.stop) == (True, "", Stop.LENGTH)


@pytest.fixture
def quiet(toy: ModuleType) -> ModuleType:
    return importlib.import_module("quiet")


@pytest.mark.parametrize("isolated", [False, True])
def test_an_environment_that_does_not_know_of_it_tells_it_too(
    quiet: ModuleType, isolated: bool
) -> None:
    pool = EnvPool(quiet.StrictEnv, isolated=isolated, workers=1)
    tasks = quiet.StrictEnv().tasks("train")[:1]
    known: dict[str, Any] = {"n": 1, "purpose": "evaluation", "seed": 0}
    found = {}
    for tokens in (2, 9):
        policy = ScriptedPolicy(lambda *_: "yeah")
        sampling = Sampling(max_new_tokens=tokens)
        (group,) = roll_out(
            policy.sample, pool, tasks, sampling=sampling, ledger=policy.ledger, **known
        )
        found[tokens] = group.trajectories[0].feedback
    pool.close()
    assert (found[2].kind, found[9].kind) == ("truncated", "malformed")
    assert "gibberish" not in found[2].text
    assert "gibberish" in found[9].text


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize(("tokens", "tells"), [(3, True), (99, False)])
def test_a_reflection_is_told_that_the_attempt_was_cut_off(
    dialect: Dialect, tokens: int, tells: bool
) -> None:
    env = env_of("finer", dialect, 0)
    tried = attempt_at(env, ScriptedPolicy(lambda *_: "no idea").sample, tokens)
    policy = ScriptedPolicy(lambda *_: "cause: x\nlesson: y", dialect)
    agent = RESD.build(policy, RESD.config())
    agent.learn([Group(tried.task, (tried,))], Step(0, 0, 0, Sampling(), 0))
    asked = policy.calls[0].prompts[0][-1].content
    assert ("cut off" in asked) == tells


def test_saved_answers_that_say_why_they_ended_are_told_so(toy: ModuleType) -> None:
    def graded(name: str, row: dict[str, Any]) -> dict[str, Any]:
        lines = [json.dumps({"task": "test-0", **row}).encode()]
        (found,) = grade(make_env(name), read_answers(lines, "test"))
        return found

    for row in (
        {"answer": "x", "stop": "length"},
        {"answers": ["x"], "stop": "length"},
        {"turns": [{"response": "x", "stop": "length"}], "stop": "length"},
    ):
        found = graded("toy-say", row)
        assert (found["success"], found["kind"], found["stop"]) == (False, "truncated", "length")
    assert graded("toy-say", {"answer": "x", "stop": "eos"})["kind"] != "truncated"
    assert graded("toy-say", {"answer": "test0", "stop": "length"})["success"]
    for turns in ([], [{"response": "1", "stop": "eos"}]):
        found = graded("toy-count", {"turns": turns, "stop": "length"})
        assert (found["success"], found["kind"], found["error"]) == (False, "truncated", "")


# Turns that were not sampled.


class FullAfter:
    """A policy whose context has room for some turns only."""

    def __init__(self, turns: Callable[[str], int]) -> None:
        self.turns = turns

    def __call__(
        self, prompts: Sequence[Messages], *, n: int, sampling: Sampling, purpose: Purpose
    ) -> list[list[Completion]]:
        return [[self._next(chat)] * n for chat in prompts]

    def _next(self, chat: Messages) -> Completion:
        if (len(chat) - 1) // 2 < self.turns(chat[0].content):
            return Completion("x", (7,), (-0.1,))
        return Completion("", stop=Stop.LENGTH)


def rolled_out(quiet: ModuleType, isolated: bool = False) -> list[Group]:
    """Task n has room for n turns."""
    pool = EnvPool(quiet.SilenceEnv, isolated=isolated, workers=1)
    groups = roll_out(
        FullAfter(lambda prompt: int(prompt.split()[1])),
        pool,
        quiet.SilenceEnv().tasks("train"),
        n=2,
        sampling=Sampling(),
        purpose="rollout",
        ledger=(ledger := ScriptedPolicy(lambda *_: "").ledger),
        seed=0,
    )
    pool.close()
    assert ledger.env_steps == 2 * (0 + 1 + 2 + 3)
    return groups


@pytest.mark.parametrize("isolated", [False, True])
def test_an_action_that_was_not_sampled_is_not_stepped(quiet: ModuleType, isolated: bool) -> None:
    for number, group in enumerate(rolled_out(quiet, isolated)):
        for attempt in group.trajectories:
            assert [turn.completion.text for turn in attempt.turns] == ["x"] * number
            assert attempt.stop is Stop.LENGTH
            assert attempt.feedback.kind == "truncated"
            assert (attempt.feedback.success, attempt.feedback.reward) == (False, 0.0)


def test_such_episodes_count_as_truncated_failures_everywhere(quiet: ModuleType) -> None:
    metrics = train_metrics(rolled_out(quiet))
    assert metrics["train/truncated"] == metrics["train/unanswered"] == 1.0
    assert (metrics["train/success"], metrics["train/errors"]) == (0.0, 0.0)
    eval_set = EvalSet(quiet.SilenceEnv().tasks("test"), 1, Sampling(), seed=0)
    policy = ScriptedPolicy(lambda *_: "")
    groups = evaluate(FullAfter(lambda _: 1), EnvPool(quiet.SilenceEnv), eval_set, policy.ledger)
    rows = eval_rows(groups, 0, policy.ledger)
    assert [(row["success"], row["kind"], row["stop"]) for row in rows] == [
        (0.0, "truncated", "length")
    ] * 4


def test_an_empty_answer_that_was_sampled_is_stepped(quiet: ModuleType) -> None:
    empty = Completion("", (2,), (-0.1,))
    assert empty.stop is Stop.EOS

    def act(prompts: Sequence[Messages], *, n: int, **_: Any) -> list[list[Completion]]:
        return [[empty] * n for _ in prompts]

    tried = attempt_at(quiet.SilenceEnv(), act, 9)
    assert tried.feedback.success


@pytest.mark.parametrize("spec", [RESD, GRPO, SFT], ids=lambda spec: spec.name)
def test_no_loss_is_taken_on_turns_that_were_not_sampled(quiet: ModuleType, spec: Any) -> None:
    policy = ScriptedPolicy(lambda *_: "cause: x\nlesson: y")
    agent = spec.build(policy, spec.config())
    agent.learn(rolled_out(quiet), Step(0, 0, 0, Sampling(), 0))
    assert all(example.completion.token_ids for example in policy.updates[-1])


def test_environments_of_episodes_that_were_left_are_used_again(quiet: ModuleType) -> None:
    made: list[TextEnv] = []

    def make() -> TextEnv:
        made.append(quiet.SilenceEnv())
        return made[-1]

    pool = EnvPool(make, isolated=False)
    for seed in range(3):
        roll_out(
            FullAfter(lambda _: 1),
            pool,
            quiet.SilenceEnv().tasks("train"),
            n=1,
            sampling=Sampling(),
            purpose="evaluation",
            ledger=ScriptedPolicy(lambda *_: "").ledger,
            seed=seed,
        )
    assert len(made) == 4
    pool.close()
