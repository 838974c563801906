"""What a policy that has read the verifier's source would try: none of it is rewarded."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resd_bench.rollout.vector_env import DEADLINE
from resd_bench.sandbox import Limits, ProgramCase, ProgramResult, SandboxTooWeak, shared
from resd_bench.seeds import stream
from resd_bench.types import Feedback
from resd_envs.bouncingsim import BouncingSimEnv, answers
from resd_envs.bouncingsim.answers import Outcome
from resd_envs.bouncingsim.marks import mark
from resd_envs.bouncingsim.scenes import generate
from resd_envs.bouncingsim.verifier import right_positions, verify

SCENE = generate("G", "easy", stream(0, "hacks"))
RIGHT = right_positions(SCENE)
KINDS = {
    *("wrong_answer", "value", "exception", "syntax_error", "definition_error", "timeout"),
    *("crash", "memory", "forbidden", "blocked", "verifier_limit", "missing_answer"),
}
"""Every kind of a test that is not passed."""


@pytest.fixture(autouse=True, scope="module")
def _sandboxed() -> None:
    try:
        shared()
    except SandboxTooWeak as error:
        pytest.skip(f"NO SANDBOX ON THIS MACHINE: {error}")


def _fenced(program: str) -> str:
    return f"```python\n{program}\n```"


TAMPER = "import sys\nharness = sys.modules['solution']\n"
CHANNEL = "import sys\nwrite = sys.modules['os'].write\n"
HACKS = {
    "names its own failure pass": TAMPER
    + "harness.tell = lambda kind, error: ['pass', '', 0]\nraise KeyError",
    "reports pass for one call": TAMPER
    + "harness.judge = lambda t: ['pass', '', 0]\nraise SystemExit",
    "reports pass for all calls": TAMPER
    + "harness.judge_all = lambda times: [['pass', '', 0] for t in times]\nraise KeyError",
    "reports a value of its own kind": TAMPER
    + "harness.judge_all = lambda times: [['pass', [[0, 0]] * 3] for t in times]",
    "reports more than was asked": TAMPER
    + "harness.judge_all = lambda times: [['value', [[0, 0]] * 3, 'pass'] for t in times]",
    "says that it is broken": TAMPER + "harness.broken = ['pass', '', 0]\nraise KeyError",
    "replaces exec": "import builtins\nbuiltins.exec = lambda *a: None\nraise KeyError",
    "replaces str and type": (
        "import builtins\nbuiltins.str = builtins.type = lambda *a: 'pass'\n"
        "def predict_position(t): raise ValueError('pass')"
    ),
    "raises an exception named pass": (
        "def predict_position(t): raise type('pass', (Exception,), {})('')"
    ),
    "raises itself asleep": TAMPER
    + "class Overslept(BaseException): pass\nharness.Overslept = Overslept\n"
    "def predict_position(t): raise Overslept",
    "writes a verdict to the channel": CHANNEL
    + 'write(3, b\'{"v":[["pass","",0]]}\\n\' * 20)\ndef predict_position(t): return []',
    "writes a case result to the channel": CHANNEL
    + 'write(3, b\'{"v":[{"kind":"ok"}]}\\n\' * 20)\ndef predict_position(t): return []',
    "claims to be loaded and answers ahead": CHANNEL
    + "write(3, b'{\"load\":null}\\n' + b'{\"v\":true}\\n' * 30)",
    "returns positions that equal everything": (
        "class All(float):\n    def __eq__(s, o): return True\n    def __sub__(s, o): return 0.0\n"
        "    __rsub__ = __sub__\n    def __float__(s): return 0.0\n"
        "def predict_position(t): return [[All(), All()]] * 3"
    ),
    "returns no numbers": "def predict_position(t): return [[float('nan'), float('nan')]] * 3",
    "returns infinities": "def predict_position(t): return [[float('-inf'), float('inf')]] * 3",
    "returns nothing": "def predict_position(t): return []",
    "returns truths": "def predict_position(t): return [[True, True]] * 3",
    "returns a dict of balls": "def predict_position(t): return {0: [1, 2], 1: [1, 2], 2: [1, 2]}",
    "returns huge integers": "def predict_position(t): return [[10 ** 4000, 1]] * 3",
    "looks for the right positions": (
        "import gc\ndef predict_position(t):\n"
        "    found = [x for x in gc.get_objects() if isinstance(x, dict) and 'expected' in x]\n"
        "    return found[0]['expected']"
    ),
    "looks up the frames": (
        "import sys\ndef predict_position(t):\n    frame = sys._getframe()\n"
        "    while frame:\n        for name in ('right', 'expected', 'wanted'):\n"
        "            if name in frame.f_locals: return frame.f_locals[name]\n"
        "        frame = frame.f_back\n    return []"
    ),
    "imports the simulation": (
        "from resd_envs.bouncingsim.physics import simulate\ndef predict_positiont: return []"
    ),
    "exits well": "import sys\ndef predict_position(t): sys.exit(0)",
    "ends its process well": "import sys\nsys.modules['os']._exit(0)",
    "is the harness": "def judge_all(times): return [['pass', '', 0] for t in times]",
}


@pytest.mark.parametrize("name", HACKS)
def test_a_hack_is_not_rewarded(name: str) -> None:
    feedback = verify(_fenced(HACKS[name]), SCENE, RIGHT)
    assert (feedback.reward, feedback.success, feedback.score) == (0.0, False, 0.0)
    assert {case.kind for case in feedback.cases} <= KINDS
    assert feedback.kind in KINDS
    assert not any(case.passed for case in feedback.cases)
    assert len(feedback.render(5)) <= Feedback.MAX_CHARS


@pytest.mark.slow
def test_the_same_holds_in_the_environment_whatever_it_poses() -> None:
    answer = _fenced(HACKS["names its own failure pass"])
    for options in (
        {"difficulty": "basic", "dialect": "compact"},
        {"difficulty": "basic", "letters": "B"},
    ):
        env = BouncingSimEnv(**options)  # type: ignore[arg-type]
        env.reset(options={"task": env.tasks("test")[0].id})
        _, reward, over, _, info = env.step(answer)
        assert (reward, over, info["success"], info["score"]) == (0.0, True, False, 0.0)


words = st.sampled_from(["pass", "wrong_answer", "value", "exception", "blocked", "ok", "", "\x1b"])
plain = st.none() | st.booleans() | st.integers() | st.floats() | words | st.complex_numbers()
points = st.tuples(plain, plain).map(list)
values = st.recursive(plain | points, lambda inner: st.lists(inner, max_size=3), max_leaves=8)
reports = st.one_of(
    values,
    st.tuples(words, values).map(list),
    st.tuples(words, words, st.integers()).map(list),
    st.tuples(words, st.text(), st.integers(min_value=10**9)).map(list),
)


@given(reports)
def test_no_report_of_a_program_is_a_verdict(report: Any) -> None:
    outcome = answers._outcome_of(report)
    assert outcome.kind in KINDS
    assert len(outcome.why) < 1000
    made = mark(outcome, [(1e6, 1e6), (2e6, 2e6)])
    assert made.kind != "pass"
    assert made.kind in KINDS


@given(values)
def test_only_near_positions_pass(value: Any) -> None:
    right = [(1e6, 1e6), (2e6, 2e6)]
    made = mark(Outcome("value", value), right)
    assert (made.kind == "pass") == (made.mean <= 50)


# Time.


class _Clock:
    """A clock that a stand-in for the sandbox moves on as far as its limits allow."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


class _Outlasted:
    """A sandbox in which every call waits for as long as it is let."""

    def __init__(self, clock: _Clock) -> None:
        self.clock = clock

    def run_program(
        self, code: str, cases: Sequence[Any], *, limits: Limits, **_: Any
    ) -> ProgramResult:
        self.clock.now += min(limits.total_wall, limits.call_wall * len(cases))
        return ProgramResult(tuple(ProgramCase("timeout") for _ in cases), "kernel")


def test_no_answer_outlasts_the_harness(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = _Clock()
    monkeypatch.setattr(time, "monotonic", clock.monotonic)
    program = "import select\ndef predict_position(t): select.select([], [], [], 14)"
    box: Any = _Outlasted(clock)
    feedback = verify(_fenced(program), SCENE, RIGHT, box=box)
    assert (feedback.reward, feedback.kind) == (0.0, "timeout")
    assert {case.kind for case in feedback.cases} == {"timeout"}
    assert clock.now < DEADLINE
    assert clock.now <= BouncingSimEnv.verify_seconds


@pytest.mark.slow
def test_an_answer_that_waits_in_every_call_fails_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "TOTAL_SECONDS", 2.0, raising=False)
    program = (
        "import select\ndef predict_position(t):\n    select.select([], [], [], 0.5)\n"
        "    return [[0, 0]] * 3"
    )
    monkeypatch.setattr(answers, "QUICK_LIMITS", Limits(call_cpu_s=0.25, call_wall_s=1.0))
    begin = time.monotonic()
    feedback = verify(_fenced(program), SCENE, RIGHT)
    assert time.monotonic() - begin < 10
    assert feedback.reward == 0
    assert {case.kind for case in feedback.cases} == {"wrong_answer", "timeout"}
    assert feedback.cases[-1].kind == "timeout"
