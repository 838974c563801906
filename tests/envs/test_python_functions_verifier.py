"""Answers are marked in the sandbox: hostile ones fail, and feedback says the useful things."""

from __future__ import annotations

from typing import Any

import pytest

from resd_bench.sandbox import Limits, PlainDict, PlainSet, Sandbox, SandboxTooWeak, shared
from resd_bench.types import Dialect, Feedback
from resd_envs.python_functions import Case, Problem, verify
from resd_envs.python_functions.answer import TAG
from resd_envs.python_functions.compare import passes, python_equal
from resd_envs.python_functions.problem import Comparison
from resd_envs.python_functions.verifier import MAX_CODE_CHARS, Outcome, judge

DOUBLE = Problem(
    id="double",
    family="hand",
    statement="Double a number.",
    brief="def double(n): twice n",
    entry="double",
    cases=(Case((12,), 24), Case((0,), 0), Case((-3,), -6), Case((1,), 2)),
    solution="def double(n):\n    return n + n",
)
QUICK = Limits(call_cpu_s=0.3, total_cpu_s=0.6)


@pytest.fixture(scope="session")
def box() -> Sandbox:
    try:
        return shared()
    except SandboxTooWeak as error:
        pytest.skip(f"NO SANDBOX HERE: {error}")


def _fenced(code: str) -> str:
    return f"```{TAG}\n{code}\n```"


def _verify(code: str, dialect: Dialect = "compact", problem: Problem = DOUBLE) -> Feedback:
    return verify(_fenced(code), problem, dialect=dialect, limits=QUICK)


def test_a_right_answer_gets_the_reward(box: Sandbox) -> None:
    feedback = verify(_fenced("def double(n):\n    return 2 * n"), DOUBLE, box=box)
    assert (feedback.reward, feedback.success, feedback.score) == (1.0, True, 1.0)
    assert [case.kind for case in feedback.cases] == ["pass"] * 4
    assert feedback.render(5) == ""


def test_the_ladder_shows_more_with_every_level(box: Sandbox) -> None:
    feedback = _verify("def double(n):\n    return n * n")
    assert feedback.score == 0.25
    assert feedback.render(0) == ""
    assert feedback.render(1) == "wrong"
    assert feedback.render(2) == "passed 1 of 4: wrong_answer"
    assert feedback.render(3).splitlines()[1:] == ["double 1 : gave 1", "double 12 : gave 144"]
    assert feedback.render(4).splitlines()[1:] == [
        "double 1 : gave 1 expected: 2",
        "double 12 : gave 144 expected: 24",
    ]
    assert feedback.render(5).endswith(f"solution:\n{DOUBLE.solution}")


def test_two_kinds_of_failure_are_both_shown(box: Sandbox) -> None:
    feedback = _verify("def double(n):\n    return 2 * n if n > 1 else [][0]")
    assert feedback.kind == "exception"
    mixed = _verify("def double(n):\n    return [n][n] if n < 2 else 0", "full")
    assert mixed.score == 0.25
    assert mixed.render(3).splitlines()[1:] == [
        "double(1) raised IndexError: list index out of range (line 2).",
        "double(12) returned 0.",
    ]


@pytest.mark.parametrize(
    ("code", "kind", "compact", "full"),
    [
        ("def double(n)\n    return 2", "syntax_error", "line 1 : syntax error", "not compile"),
        ("def double(n):\nreturn 2", "syntax_error", "line 2 : syntax error", "IndentationError"),
        ("def single(n):\n    return n", "missing_function", "no function double", "no function"),
        ("def double(n):\n    return 1 / 0", "exception", "raised ZeroDivisionError", "division"),
        ("def double(n):\n    print(2 * n)", "wrong_answer", "gave None", "returned None"),
        ("def double(n):\n    return str(2 * n)", "wrong_answer", "gave '0'", "returned '0'"),
        ("def double(n):\n    return 2.0 * n", "wrong_answer", "gave 0.0", "returned 0.0"),
        ("def double(n):\n    return object()", "bad_output", "no plain value", "plain data"),
        ("", "missing_function", "no function double", "no function double."),
    ],
)
def test_failures_have_a_kind_and_a_symptom(
    code: str, kind: str, compact: str, full: str, box: Sandbox
) -> None:
    for dialect, words in (("compact", compact), ("full", full)):
        feedback = _verify(code, dialect)  # type: ignore[arg-type]
        assert not feedback.success
        assert feedback.kind == kind, feedback
        assert words in feedback.render(3)


HOSTILE = {
    "loops": ("def double(n):\n    while True: pass", {"timeout"}),
    "loops at import": ("while True: pass", {"timeout"}),
    "swallows": (
        "def double(n):\n    while True:\n        try:\n            while True: pass\n"
        "        except BaseException: pass",
        {"timeout"},
    ),
    "exits": ("import os\nos._exit(0)", {"exception"}),
    "exits in the call": ("import os\ndef double(n):\n    os._exit(0)", {"exception"}),
    "exits politely": ("import sys\ndef double(n):\n    sys.exit(0)", {"exception"}),
    "prints a verdict": (
        'print(\'{"v": 24}\\npassed\')\nprint("passed 4 of 4")\ndef double(n):\n    print(2 * n)',
        {"wrong_answer"},
    ),
    "equals everything": (
        "class All(int):\n    def __eq__(self, other): return True\n    __hash__ = None\n"
        "def double(n):\n    return All(7)",
        {"wrong_answer"},
    ),
    "eats memory": ("def double(n):\n    return len(b'x' * (1 << 40))", {"memory"}),
    "floods": ("def double(n):\n    return 'x' * 50_000_000", {"bad_output", "memory", "timeout"}),
    "nests": (
        "def double(n):\n    x = []\n    for _ in range(500): x = [x]\n    return x",
        {"bad_output"},
    ),
    "big number": ("def double(n):\n    return 7 ** 9999", {"bad_output"}),
    "reads files": (
        "def double(n):\n    return open('/etc/passwd').read()",
        {"forbidden", "exception"},
    ),
    "forks": ("import os\ndef double(n):\n    os.fork()\n    return 2 * n", {"forbidden"}),
    "surrogate in code": ("def double(n):\n    return '\ud800'", {"exception", "syntax_error"}),
    "surrogate returned": ("def double(n):\n    return chr(0xd800)", {"wrong_answer"}),
    "nul": ("def double(n):\n    return 2 * n\0", {"bad_output"}),
    "looks for the answer": (
        "import gc\ndef double(n):\n    for x in gc.get_objects():\n"
        "        if isinstance(x, dict) and 'expected' in x: return x['expected']\n",
        {"wrong_answer"},
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(HOSTILE))
def test_hostile_programs_fail_with_a_kind(name: str, box: Sandbox) -> None:
    code, kinds = HOSTILE[name]
    for dialect in ("compact", "full"):
        feedback = _verify(code, dialect)
        assert not feedback.success
        assert feedback.reward == 0
        assert feedback.kind in kinds, feedback.render(3)
        text = feedback.render(3)
        assert len(text) <= Feedback.MAX_CHARS
        text.encode("utf-8")


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("", "missing_answer"),
        ("x" * 1_000_000, "missing_answer"),
        ("\ud800\x00\x07", "missing_answer"),
        ("```python\ndef double(n):", "missing_answer"),
        (_fenced("#" * 1_000_000), "too_long"),
        (_fenced("#" * (MAX_CODE_CHARS + 1)), "too_long"),
    ],
)
def test_texts_without_a_program_are_not_run(text: str, kind: str) -> None:
    feedback = verify(text, DOUBLE)
    assert (feedback.kind, feedback.score, feedback.shown) == (kind, 0.0, (0,))
    assert len(feedback.cases) == len(DOUBLE.cases)
    assert len(feedback.render(3).splitlines()) == 2


def test_the_last_block_counts(box: Sandbox) -> None:
    text = _fenced("oops") + "No, better:\n" + _fenced(DOUBLE.solution)
    assert verify(text, DOUBLE).success


def test_a_program_on_standard_input_is_judged_by_what_it_prints(box: Sandbox) -> None:
    cases = (Case(stdin="3 4\n", expected="7\n"), Case(stdin="-1 1\n", expected="0\n"))
    problem = Problem("add", "hand", "", "", None, cases, "print(sum(map(int, input().split())))")
    assert verify(_fenced(problem.solution), problem).success
    wrong = verify(_fenced("print(7)"), problem, dialect="full")
    assert wrong.score == 0.5
    assert wrong.render(4).splitlines()[1] == (
        "Standard input '-1 1\\n': printed '7'. expected: '0'"
    )


# Values, without a sandbox.


def _did(value: Any, dialect: Dialect = "full") -> str:
    problem = Problem("p", "hand", "", "", "f", (Case(([1, "a"],), None),))
    feedback = judge(problem, [Outcome("returned", value)], dialect)
    return feedback.render(3).splitlines()[1]


@pytest.mark.parametrize(
    ("value", "full", "compact"),
    [
        ([1, [2]], "[1, [2]]", "[ 1 [ 2 ] ]"),
        ((1,), "(1,)", "[ 1 ]"),
        (PlainSet((1, 2)), "{1, 2}", "{ 1 2 }"),
        (PlainDict(((1, "x"),)), "{1: 'x'}", "{ 1: 'x' }"),
        ("\ud800\n", "'\\ud800\\n'", "'\\ud800\\n'"),
        (1 << 9999, "a number of 10000 bits", "a number of 10000 bits"),
    ],
)
def test_values_are_shown_on_one_line(value: Any, full: str, compact: str) -> None:
    assert _did(value) == f"f([1, 'a']) returned {full}."
    assert _did(value, "compact") == f"f [ 1 'a' ] : gave {compact}"


@pytest.mark.parametrize(
    "value", ["x" * 10**6, [[]] * 10**5, list(range(10**5)), [["y" * 999]] * 99]
)
def test_long_values_are_cut(value: Any) -> None:
    assert len(_did(value)) < 300


@pytest.mark.parametrize(
    ("check", "expected", "value", "right"),
    [
        ("equal", [1, 2], (1, 2), True),
        ("equal", 1, True, False),
        ("equal", 1, 1.0, False),
        ("python", [1, 2], (1, 2), False),
        ("python", 1, 1.0, True),
        ("python", True, 1, True),
        ("python", {1, 2}, PlainSet((2, 1)), True),
        ("python", {1, 2}, PlainSet((2, 3)), False),
        ("python", {"a": [1]}, PlainDict((("a", [1]),)), True),
        ("python", {"a": 1}, PlainDict((("a", 2),)), False),
        ("python", None, None, True),
        ("python", float("nan"), float("nan"), False),
        ("json", [[1], 2], ((1.0,), 2), True),
        ("json", [1], "[1]", False),
        ("differs", 1, 2, True),
        ("differs", 1, 1, False),
        ("truthy", None, [0], True),
        ("truthy", None, PlainSet(()), False),
        ("falsy", None, 0, True),
    ],
)
def test_checks_compare_as_they_say(
    check: Comparison, expected: Any, value: Any, right: bool
) -> None:
    assert passes(Case(expected=expected, check=check), value) is right


@pytest.mark.parametrize(
    ("wrap", "body", "expected", "right"),
    [
        ("set", "[2, 1, 1]", {1, 2}, True),
        ("set", "[[1]]", {1}, False),
        ("sorted", "(2, 1)", [1, 2], True),
        ("sorted", "[1, 'a']", [1], False),
        ("sorted", "{'a': 2}", ["a"], True),
        ("len", "'ab'", 2, True),
        ("len", "7", 2, False),
        ("tuple", "[1]", (1,), True),
        ("list", "map(abs, [-1, 2])", [1, 2], True),
        ("list", "(x for x in 'ab')", ["a", "b"], True),
        ("list", "[1, 3]", [1, 2], False),
        ("dict", "zip('ab', [1, 2])", {"a": 1, "b": 2}, True),
        ("sum", "iter([1, 2])", 3, True),
        ("", "map(abs, [-1, 2])", [1, 2], False),
    ],
)
def test_what_a_test_does_to_a_value_is_done_where_the_value_is(
    wrap: str, body: str, expected: Any, right: bool, box: Sandbox
) -> None:
    case = Case(args=(), expected=expected, check="python", wrap=wrap)
    problem = Problem("p", "hand", "", "", "f", (case,))
    answer = _fenced(f"def f():\n    return {body}")
    assert verify(answer, problem, box=box).success is right


def test_tolerances_are_those_of_the_case() -> None:
    near = Case(expected=1.0, check="close", abs=0.01)
    assert passes(near, 1.009)
    assert passes(near, 1)
    for far in (1.02, float("inf"), float("nan"), "1.0", None, [1.0]):
        assert not passes(near, far)


def test_equality_of_nested_values_is_pythons() -> None:
    values: list[Any] = [0, 1, 1.0, True, False, None, "1", b"1", [1], (1,), [], (), [[1]], ""]
    for one in values:
        for other in values:
            assert python_equal(one, other) == (one == other), (one, other)
