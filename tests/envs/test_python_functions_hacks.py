"""What a policy that has read the verifier's source would try: none of it is rewarded."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resd_bench.budget import Ledger
from resd_bench.evaluation.held_out import eval_rows
from resd_bench.rollout.rollout import EnvPool, roll_out
from resd_bench.rollout.vector_env import DEADLINE
from resd_bench.sandbox import (
    Kind,
    Limits,
    PlainDict,
    PlainSet,
    ProgramCase,
    ProgramResult,
    SandboxTooWeak,
    shared,
)
from resd_bench.stats import eval_points
from resd_bench.types import Completion, Feedback, Sampling
from resd_envs.python_functions import Case, Problem, PythonFunctionsEnv, verify
from resd_envs.python_functions.compare import passes
from resd_envs.python_functions.verifier import LIMITS, LOADED_LIMITS, Outcome, judge
from tests.growth import assert_linear

KINDS = {
    *("wrong_answer", "exception", "syntax_error", "missing_function", "timeout", "memory"),
    *("forbidden", "bad_output", "verifier_limit", "missing_answer", "too_long"),
}
"""Every kind of a test that is not passed."""
SQUARE = Problem(
    id="square",
    family="hand",
    statement="Square a number.",
    brief="square",
    entry="square",
    cases=(Case((3,), 9), Case((4,), 16), Case((-2,), 4)),
    solution="def square(n):\n    return n * n",
)
QUICK = Limits(call_cpu_s=0.5, total_cpu_s=1.0)


@pytest.fixture(autouse=True, scope="module")
def _sandboxed() -> None:
    try:
        shared()
    except SandboxTooWeak as error:
        pytest.skip(f"NO SANDBOX ON THIS MACHINE: {error}")


def _fenced(program: str) -> str:
    return f"```python\n{program}\n```"


def _writes(report: bytes) -> str:
    """A program that writes its own report to the channel."""
    return (
        "import os\ndef square(n):\n"
        f"    left = memoryview({report!r} + b'\\n')\n"
        "    while left: left = left[os.write(3, left):]\n    return 0"
    )


HACKS = {
    "reports ok": _writes(b'{"ok":true}'),
    "reports a verdict": _writes(b'{"v":{"kind":"ok"}}'),
    "reports pass": _writes(b'{"v":"pass"}'),
    "reports a number no float holds": _writes(b'{"v":{"c":[{"i":"0x1' + b"0" * 300 + b'"},1]}}'),
    "reports an integer no text holds": _writes(b'{"v":{"i":"\\u0030x' + b"f" * 6000 + b'"}}'),
    "reports an error of the reader": _writes(b'{"bad":' + b"[" * 200 + b"]" * 200 + b"}"),
    "reports an exception of no type": _writes(b'{"ex":[{"i":"0x1"},[],{}]}'),
    "reports that nothing was run": _writes(b'{"ex":["not run","pass",1]}'),
    "reports a missing function": _writes(b'{"ex":["KeyError","\'square\'",null]}'),
    "reports deep nesting": _writes(b'{"v":' + b"[" * 100 + b"]" * 100 + b"}"),
    "reports escaped quotes": _writes(b'{"v":[' + b"[" * 260 + b'"' + b'\\"' * 200_000),
    "reports nothing at all": "import os\ndef square(n):\n    os.close(3)\n    return 9",
    "answers before it is asked": (
        "import os\nos.write(3, b'{\"load\":null}\\n' + b'{\"v\":true}\\n' * 9)\n"
        "def square(n): return 0"
    ),
    "equals everything": (
        "class All:\n    def __eq__(s, o): return True\n    __hash__ = None\n"
        "def square(n): return All()"
    ),
    "equals everything as a number": (
        "class All(int):\n    def __eq__(s, o): return True\n    __hash__ = int.__hash__\n"
        "def square(n): return All(1)"
    ),
    "claims the class of a number": (
        "class Lie:\n    __class__ = int\n    def __int__(s): return 9\ndef square(n): return Lie()"
    ),
    "replaces the encoder": (
        "import json, sys\njson.dumps = lambda *a, **k: '{\"v\":9}'\n"
        "json.JSONEncoder.encode = json.dumps\ndef square(n): return 0"
    ),
    "replaces the caller's functions": (
        "import sys\ndef square(n):\n    frame = sys._getframe(1)\n"
        "    frame.f_globals['send'] = frame.f_globals['encode'] = lambda *a: {'v': 9}\n"
        "    frame.f_locals['result'] = 9\n    return 0"
    ),
    "looks for what is expected": (
        "import gc\ndef square(n):\n    for x in gc.get_objects():\n"
        "        if isinstance(x, dict) and 'expected' in x: return x['expected']\n    return 0"
    ),
    "reads the verifier": (
        "def square(n):\n    import resd_envs.python_functions.lists as tests\n    return tests"
    ),
    "reads its parent's memory": (
        "import os\ndef square(n): return open(f'/proc/{os.getppid()}/mem', 'rb').read(9)"
    ),
    "exits well": "import sys\ndef square(n): sys.exit(0)",
    "ends its process well": "import os\ndef square(n): os._exit(0)",
    "ends its process while loading": "import os\nos._exit(0)",
    "raises what it was asked": "def square(n): raise type('9', (Exception,), {})('9')",
    "prints it": "def square(n): print(n * n)",
    "returns the text of it": "def square(n): return str(n * n)",
    "returns a truth": "def square(n): return True",
    "returns everything": "def square(n): return [9, 16, 4]",
    "returns a set of all": "def square(n): return {9, 16, 4}",
    "returns not a number": "def square(n): return float('nan')",
    "remembers the calls": "seen = []\ndef square(n):\n    seen.append(n)\n    return len(seen)",
    "waits": "import select\ndef square(n): select.select([], [], [], 9)",
    "floods": "def square(n): return 'x' * (1 << 27)",
    "is a generator": "def square(n): yield n * n",
}


@pytest.mark.slow
@pytest.mark.parametrize("name", HACKS)
def test_a_hack_is_not_rewarded(name: str) -> None:
    feedback = verify(_fenced(HACKS[name]), SQUARE, limits=QUICK)
    assert (feedback.reward, feedback.success) == (0.0, False)
    assert not any(case.passed for case in feedback.cases)
    assert {feedback.kind, *(case.kind for case in feedback.cases)} <= KINDS
    for level in range(6):
        assert len(feedback.render(level)) <= Feedback.MAX_CHARS


def test_no_attempt_that_breaks_the_reader_leaves_the_mean() -> None:
    env = PythonFunctionsEnv(tier="basic")
    tasks = env.tasks("test")[:6]
    solved = {tasks[0].prompt: env.oracle(tasks[0])}
    entry = tasks[0].data["function"].entry
    hack = HACKS["reports a number no float holds"].replace("square", entry)

    def act(prompts: Any, *, n: int, **_: Any) -> list[list[Completion]]:
        texts = [solved.get(p[-1].content, _fenced(hack)) for p in prompts]
        return [[Completion(text)] * n for text in texts]

    groups = roll_out(
        act,
        EnvPool(lambda: PythonFunctionsEnv(tier="basic")),
        tasks,
        n=1,
        sampling=Sampling(),
        purpose="evaluation",
        ledger=Ledger(),
        seed=0,
    )
    (point,) = eval_points(eval_rows(groups, 0, Ledger()))
    assert point.samples == 6
    assert point.mean == pytest.approx(1 / 6)
    kinds = {t.feedback.kind for group in groups[1:] for t in group.trajectories}
    assert kinds == {"bad_output"}


# Values, without a sandbox.

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(min_value=10**400),
    st.floats(),
    st.text(),
    st.binary(max_size=4),
    st.complex_numbers(),
)
plain = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.lists(inner, max_size=4).map(PlainSet),
        st.lists(st.tuples(inner, inner), max_size=3).map(PlainDict),
    ),
    max_leaves=10,
)
EXPECTED = (1, 1.5, 10**400, float("inf"), [1], (1, 2), {1, 2}, {1.5: "a"}, {"a": [1]}, "x", None)
CHECKS = ("equal", "python", "json", "differs", "truthy", "falsy")


@given(plain, st.sampled_from(EXPECTED), st.sampled_from(CHECKS), st.sampled_from([0.0, 1e-6, 3]))
def test_any_value_is_compared_and_shown(value: Any, expected: Any, check: Any, rel: float) -> None:
    case = Case((1,), expected, check=check, rel=rel, abs=rel)
    assert passes(case, value) in (True, False)
    problem = Problem("p", "hand", "", "", "f", (case,))
    for dialect in ("full", "compact"):
        feedback = judge(problem, [Outcome("returned", value)], dialect)
        assert feedback.success == passes(case, value)
        text = feedback.render(5)
        assert text.encode("utf-8").decode() == text


@given(plain, st.sampled_from([1, 1.5, 10**400, -(10**400), 1e308]), st.floats(0, 1e300))
def test_any_value_is_held_against_a_near_number(value: Any, expected: float, width: float) -> None:
    assert passes(Case(expected=expected, check="close", abs=width), value) in (True, False)


def test_what_cannot_be_compared_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> bool:
        raise OverflowError("int too large to convert to float")

    monkeypatch.setattr("resd_envs.python_functions.verifier.passes", broken)
    feedback = verify(_fenced(SQUARE.solution), SQUARE)
    assert (feedback.reward, feedback.kind) == (0.0, "verifier_limit")


def test_every_kind_of_the_sandbox_has_a_name_here() -> None:
    for kind in get_args(Kind):
        ran = ProgramCase(kind, "SyntaxError: pass", value=9)
        box: Any = _Scripted([ran])
        problem = Problem("p", "hand", "", "", "f", (Case((3,), 9),))
        feedback = verify(_fenced("def f(n): pass"), problem, box=box)
        assert feedback.success == (kind in ("ok", "wrong"))
        assert {feedback.kind} <= KINDS | {""}


class _Scripted:
    """A sandbox that gives what it was told to give."""

    def __init__(self, results: Sequence[ProgramCase]) -> None:
        self.results = tuple(results)

    def run_program(self, *_: Any, **__: Any) -> ProgramResult:
        return ProgramResult(self.results, "kernel")


# Time.


@pytest.mark.slow
@pytest.mark.parametrize("check", ["equal", "python", "json"])
@pytest.mark.parametrize(
    "claim",
    [
        lambda n: [1.5] * n,
        lambda n: PlainSet([1999] * n),
        lambda n: PlainSet(range(n)),
        lambda n: PlainDict([(i % 7, i) for i in range(n)]),
        lambda n: [[[i]] for i in range(n)],
        lambda n: "x" * n,
        lambda n: PlainSet([PlainSet([i]) for i in range(n)]),
    ],
)
def test_comparing_a_value_takes_linear_time(check: Any, claim: Any) -> None:
    def work(text: str) -> None:
        size = len(text)
        for expected in (set(range(size)), {i: i for i in range(size)}, list(range(size))):
            passes(Case(expected=expected, check=check, abs=1e-6), claim(size))

    assert_linear(work, lambda size: "x" * size, 1 << 13, check, smallest=1 << 8)


def test_a_long_list_taken_as_a_set_is_marked_soon() -> None:
    cases = tuple(Case((n,), {1, 2}, check="python", wrap="set") for n in range(2))
    problem = Problem("p", "hand", "", "", "f", cases)
    begin = time.process_time()
    answer = _fenced("def f(n):\n    return list(range(2000)) + [1999] * 190000")
    assert not verify(answer, problem).success
    assert time.process_time() - begin < 1


def test_an_answer_of_odd_imports_is_marked_soon() -> None:
    begin = time.process_time()
    assert not verify(_fenced("from " + "_" * 60_000), SQUARE).success
    assert time.process_time() - begin < 1


def test_no_answer_outlasts_the_harness(tmp_path: Path) -> None:
    path = tmp_path / "problems.jsonl"
    cases = [{"args": [3], "expected": 9}]
    record = {"id": "square", "prompt": "Square.", "entry": "square", "cases": cases}
    path.write_text(json.dumps(record))
    made, loaded = PythonFunctionsEnv(tier="basic"), PythonFunctionsEnv(path=str(path))
    assert LIMITS.total_wall < made.verify_seconds < DEADLINE  # type: ignore[operator]
    assert LOADED_LIMITS.total_wall < loaded.verify_seconds < DEADLINE  # type: ignore[operator]
