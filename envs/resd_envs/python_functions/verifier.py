"""Grade an answer to a programming problem in the sandbox, and say what went wrong.

The program receives only arguments and returns only values; expected values, comparison and verdict
stay here. Whatever the text or the program does, a typed verdict is returned within
`verify_seconds`; SandboxError is only for what no answer can cause.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from resd_bench.parsing import visible_answer
from resd_bench.sandbox import Limits, PlainDict, PlainSet, Sandbox, shared
from resd_bench.sandbox import ProgramCase as Ran
from resd_bench.types import CaseResult, Dialect, Feedback
from resd_envs.graded_cases import none_passed, some_failed
from resd_envs.python_functions import written
from resd_envs.python_functions.answer import TAG, program_of
from resd_envs.python_functions.compare import passes
from resd_envs.python_functions.problem import Case, Problem

SYNTAX_ERRORS = ("SyntaxError: ", "IndentationError: ", "TabError: ")
"""How the message of a program that does not compile begins."""
MAX_CODE_CHARS = 65_536
LIMITS = Limits(call_cpu_s=1.0, total_cpu_s=4.0)
"""A hundred times what the references need."""
LOADED_LIMITS = Limits(call_cpu_s=5.0, total_cpu_s=30.0, total_wall_s=75.0)
SLACK_SECONDS = 10.0
"""Time to start and end processes, compare values and write feedback."""
MAX_SHOWN = 2
"""Failing tests shown at level 3."""
MAX_VALUE_CHARS = 200
MAX_MESSAGE_CHARS = 120

KINDS = {
    "timeout": "timeout",
    "memory": "memory",
    "crash": "exception",
    "forbidden": "forbidden",
    "bad_output": "bad_output",
    "verifier_limit": "verifier_limit",
}
"""The sandbox's kinds of failure, by our names."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """An answer's outcome on one case."""

    kind: str
    """`returned`, `missing_function`, or a value of `KINDS`."""
    value: Any = None
    """What it returned or printed."""
    message: str = ""
    """Message of an exception, beginning with its type."""
    ran: bool = True
    """False if an earlier case ended the program."""


def verify(
    response_text: str,
    problem: Problem,
    *,
    dialect: Dialect = "full",
    box: Sandbox | None = None,
    limits: Limits | None = None,
) -> Feedback:
    """Run the last fenced block of the visible answer on every case of `problem`.

    `box` defaults to this process's shared sandbox. SandboxError if the sandbox itself failed,
    which says nothing about the answer.
    """
    block = program_of(visible_answer(response_text), problem.entry)
    if block is None:
        return _unmarked(problem, "missing_answer", _MISSING[dialect])
    if len(block) > MAX_CODE_CHARS:
        return _unmarked(problem, "too_long", _TOO_LONG[dialect])
    box = box or shared()
    outcomes = run(block, problem, box, limits or _limits(problem))
    right = _by_checker(problem, outcomes, box) if problem.checker else None
    return judge(problem, outcomes, dialect, right)


def verify_seconds(*, loaded: bool) -> float:
    """The longest that one verification takes, for a generated or a loaded problem."""
    if not loaded:
        return LIMITS.total_wall + SLACK_SECONDS
    return LOADED_LIMITS.total_wall + written.WRITTEN_LIMITS.total_wall + SLACK_SECONDS


def _limits(problem: Problem) -> Limits:
    return LOADED_LIMITS if problem.family == "loaded" else LIMITS


def run(code: str, problem: Problem, box: Sandbox, limits: Limits = LIMITS) -> list[Outcome]:
    """The outcomes of a program on the cases of `problem`, in their order."""
    sent = [_sent(case) for case in problem.cases]
    entry = _entry(problem, code)
    result = box.run_program(code, sent, entry=entry, preamble=problem.preamble, limits=limits)
    outcomes = [_outcome(ran) for ran in result.cases]
    if _lacks_entry(entry, outcomes):
        return [replace(outcome, kind="missing_function") for outcome in outcomes]
    return outcomes


def _sent(case: Case) -> dict[str, Any]:
    """What the program's process receives of a case: not the expected value, which stays here."""
    if case.stdin is not None:
        return {"stdin": case.stdin}
    sent: dict[str, Any] = {"args": list(case.args), "kwargs": dict(case.kwargs)}
    return {**sent, "apply": case.wrap} if case.wrap else sent


def _entry(problem: Problem, code: str) -> str | None:
    """What is called: for `Class.f`, plain `f` if the program has no such class."""
    kind, dot, name = (problem.entry or "").partition(".")
    return name if dot and f"class {kind}" not in code else problem.entry


def _outcome(ran: Ran) -> Outcome:
    if ran.kind in ("ok", "wrong"):
        return Outcome("returned", ran.value)
    return Outcome(KINDS[ran.kind], message=ran.detail, ran=ran.ran)


def _lacks_entry(entry: str | None, outcomes: Sequence[Outcome]) -> bool:
    """Whether the program ran without defining a function of the required name."""
    if entry is None:
        return False
    first, *others = outcomes
    missing = f"KeyError: {entry.partition('.')[0]!r}"
    return first.message == missing and not any(other.ran for other in others)


def _by_checker(problem: Problem, outcomes: Sequence[Outcome], box: Sandbox) -> list[bool]:
    """The verdicts of tests that are programs on the outcomes."""
    returned = [(o.value,) if o.kind == "returned" else () for o in outcomes]
    if not any(returned):
        return [False] * len(outcomes)
    return written.hold(problem.checker, problem.cases, returned, box)


_MISSING: dict[Dialect, str] = {
    "full": f"There is no program: put it between ```{TAG} and ```.",
    "compact": "program : missing",
}
_TOO_LONG: dict[Dialect, str] = {
    "full": f"The program is longer than {MAX_CODE_CHARS} characters.",
    "compact": "program : too long",
}


def _unmarked(problem: Problem, kind: str, detail: str) -> Feedback:
    """All tests failed for one reason, which the first of them gives."""
    names = [f"test {n}" for n in range(1, max(1, len(problem.cases)) + 1)]
    return none_passed(names, kind, detail, problem.solution)


def judge(
    problem: Problem,
    outcomes: Sequence[Outcome],
    dialect: Dialect,
    right: Sequence[bool] | None = None,
) -> Feedback:
    """Feedback from an answer's outcomes, one per case.

    `right` holds the result of each one's test, None if values must be compared here.
    """
    given = [None] * len(outcomes) if right is None else right
    cases = [
        _mark(number, *row)
        for number, row in enumerate(zip(problem.cases, outcomes, given, strict=True), 1)
    ]
    if all(case.passed for case in cases):
        return Feedback(1.0, True, 1.0, tuple(cases))
    shown = _select(problem, cases, outcomes)
    for index in shown:
        case, outcome = problem.cases[index], outcomes[index]
        cases[index] = replace(
            cases[index],
            detail=_detail(problem, case, outcome, dialect),
            expected=_shown(case.expected, dialect, case.stdin is not None),
        )
    return some_failed(cases, shown, problem.solution)


def _mark(number: int, case: Case, outcome: Outcome, right: bool | None) -> CaseResult:
    name = f"test {number}"
    if outcome.kind != "returned":
        return CaseResult(
            name, False, "syntax_error" if _is_syntax_error(outcome) else outcome.kind
        )
    try:
        right = passes(case, outcome.value) if right is None else right
    except Exception:
        # Whatever a value does to the comparison is the answer's fault.
        return CaseResult(name, False, "verifier_limit")
    return CaseResult(name, right, "pass" if right else "wrong_answer")


def _is_syntax_error(outcome: Outcome) -> bool:
    return outcome.message.startswith(SYNTAX_ERRORS)


def _select(
    problem: Problem, cases: Sequence[CaseResult], outcomes: Sequence[Outcome]
) -> tuple[int, ...]:
    """The shortest failing tests, of two kinds if there are two; one if nothing ran."""
    failing = [index for index, case in enumerate(cases) if not case.passed]
    failing.sort(key=lambda index: (not outcomes[index].ran, _length(problem.cases[index])))
    first = failing[0]
    if cases[first].kind in ("syntax_error", "missing_function"):
        return (first,)
    others = [i for i in failing[1:] if cases[i].kind != cases[first].kind][:1]
    rest = [i for i in failing[1:] if i not in others]
    chosen = [first, *others, *rest][:MAX_SHOWN]
    return tuple(index for index in chosen if index == first or outcomes[index].ran)


def _length(case: Case) -> int:
    if case.stdin is not None:
        return len(case.stdin)
    return sum(len(repr(argument)) for argument in (*case.args, *case.kwargs.values()))


# What is shown.


def _detail(problem: Problem, case: Case, outcome: Outcome, dialect: Dialect) -> str:
    if _is_syntax_error(outcome):
        return _syntax_detail(outcome.message, dialect)
    if outcome.kind == "missing_function":
        return _NO_FUNCTION[dialect].format(name=problem.entry)
    what = _what_happened(outcome, dialect, case.stdin is not None)
    if dialect == "compact":
        return f"{_call_compact(problem, case)} : {what}"
    return f"{_call(problem, case)} {what}."


def _syntax_detail(message: str, dialect: Dialect) -> str:
    if dialect == "full":
        return f"The program does not compile: {_message(message)}."
    # A message may name an earlier line too: "expected an indented block after ... on line 1".
    numbers = re.findall(r"line (\d+)", message)
    return f"line {numbers[-1]} : syntax error" if numbers else "program : syntax error"


_NO_FUNCTION: dict[Dialect, str] = {
    "full": "The program defines no function {name}.",
    "compact": "program : no function {name}",
}


def _call(problem: Problem, case: Case) -> str:
    if case.stdin is not None:
        return f"Standard input {_shown(case.stdin, 'full', False)}:"
    words = [_shown(argument, "full", False) for argument in case.args]
    words += [f"{name}={_shown(v, 'full', False)}" for name, v in case.kwargs.items()]
    call = f"{_name(problem)}({', '.join(words)})"
    return f"{case.wrap}({call})" if case.wrap else call


def _call_compact(problem: Problem, case: Case) -> str:
    if case.stdin is not None:
        return f"stdin {_shown(case.stdin, 'compact', False)}"
    values = (*case.args, *case.kwargs.values())
    return " ".join([_name(problem), *(_shown(value, "compact", False) for value in values)])


def _name(problem: Problem) -> str:
    return (problem.entry or "").rpartition(".")[2]


def _what_happened(outcome: Outcome, dialect: Dialect, printed: bool) -> str:
    if outcome.kind == "returned":
        verb = "printed" if printed else "returned"
        word = "gave" if dialect == "compact" else verb
        return f"{word} {_shown(outcome.value, dialect, printed)}"
    if outcome.kind == "exception" and (name := _exception_name(outcome.message)):
        return f"raised {name if dialect == 'compact' else _message(outcome.message)}"
    return _ENDINGS[dialect][outcome.kind].format(message=_message(outcome.message))


_ENDINGS: dict[Dialect, dict[str, str]] = {
    "full": {
        "timeout": "was stopped: it takes too long",
        "memory": "was stopped: it takes too much memory",
        "exception": "gave no answer: {message}",
        "forbidden": "did something that is forbidden: {message}",
        "bad_output": "gave no plain value: {message}",
        "verifier_limit": "gave a value that is too much to compare",
    },
    "compact": {
        "timeout": "never ends",
        "memory": "out of memory",
        "exception": "no answer",
        "forbidden": "forbidden",
        "bad_output": "no plain value",
        "verifier_limit": "too large a value",
    },
}


def _exception_name(message: str) -> str:
    """The type that an exception's message begins with; "" if it does not begin with one."""
    match = re.match(r"([A-Za-z_][A-Za-z_0-9]{0,60}): ", message)
    return match[1] if match else ""


def _message(message: str) -> str:
    """A message that a program may have written, as one short line."""
    line = " ".join(message.split())
    return line if len(line) <= MAX_MESSAGE_CHARS else f"{line[:MAX_MESSAGE_CHARS]}..."


def _shown(value: Any, dialect: Dialect, text: bool) -> str:
    """A value for a reader, on one line, cut short; lone surrogates escaped."""
    if text and isinstance(value, str):
        value = value.rstrip()
    words = _spelled(value, dialect, [MAX_VALUE_CHARS])
    return words if len(words) <= MAX_VALUE_CHARS else f"{words[:MAX_VALUE_CHARS]}..."


def _spelled(value: Any, dialect: Dialect, left: list[int]) -> str:
    """Like `repr`, with blanks inside brackets in the compact dialect; stops when `left` is 0."""
    left[0] -= 2
    if isinstance(value, PlainDict | dict):
        pairs = value.items() if isinstance(value, dict) else value
        parts = [
            f"{_spelled(key, dialect, left)}: {_spelled(item, dialect, left)}"
            for key, item in pairs
            if left[0] > 0
        ]
        return _bracketed("{", parts, "}", dialect)
    if isinstance(value, list | tuple | set | frozenset):
        braces = "{}" if isinstance(value, PlainSet | set | frozenset) else "[]"
        if type(value) is tuple and dialect == "full":
            braces = "()"
        parts = [_spelled(item, dialect, left) for item in value if left[0] > 0]
        comma = "," if braces == "()" and len(parts) == 1 else ""
        return _bracketed(braces[0], parts, comma + braces[1], dialect)
    if isinstance(value, int) and abs(value) >= 10**MAX_VALUE_CHARS:
        return f"a number of {value.bit_length()} bits"
    left[0] -= len(text := repr(value[:MAX_VALUE_CHARS] if isinstance(value, str) else value))
    return text


def _bracketed(opening: str, parts: Sequence[str], closing: str, dialect: Dialect) -> str:
    if dialect == "compact":
        return " ".join([opening, *parts, closing])
    return opening + ", ".join(parts) + closing
