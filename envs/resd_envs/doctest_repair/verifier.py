"""Run the examples of a function with an answer's program, and say what went wrong.

The program's process gets the statements of the examples and returns the text that they show. What
they should show, the comparison and the verdict stay here, so that printing, exiting, replacing
builtins or `doctest` itself gain nothing. The original is not there either: the package is outside
the sandbox, and what the function needs of it is sent without docstrings.
"""

from __future__ import annotations

import doctest
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from resd_bench.sandbox import Limits, ProgramCase, Sandbox, shared
from resd_bench.types import CaseResult, Dialect, Feedback
from resd_envs.doctest_repair.library import Doctest, Function
from resd_envs.graded_cases import none_passed, some_failed
from resd_envs.python_functions.answer import TAG, program_of
from resd_envs.python_functions.verifier import KINDS, LIMITS, MAX_CODE_CHARS, SYNTAX_ERRORS

MAX_SHOWN = 2
"""Failing examples that level 3 shows."""
MAX_CHARS = 400
"""Of what is shown of an example, and of its outcome."""

_RUN = """
def _example_(statements):
    import contextlib, io, traceback
    shown, ended = io.StringIO(), ""
    try:
        with contextlib.redirect_stdout(shown):
            for statement in statements:
                shown.seek(0)
                shown.truncate()
                exec(compile(statement, "<example>", "single"), globals())
    except Exception as error:
        ended = traceback.format_exception_only(error)[-1]
    return [shown.getvalue(), ended]
"""
_MISSING: dict[Dialect, str] = {
    "full": f"There is no function {{name}} between ```{TAG} and ```.",
    "compact": "no function {name}",
}
_TOO_LONG = f"The program is longer than {MAX_CODE_CHARS} characters."


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one example did with an answer."""

    kind: str
    """`pass`, `wrong_output`, `exception`, `syntax_error`, or another value of `KINDS`."""
    shown: str = ""
    """What it showed, the exception that it ended in, or why it did not run to its end."""


def verify(
    action: str,
    function: Function,
    *,
    dialect: Dialect = "full",
    box: Sandbox | None = None,
    limits: Limits = LIMITS,
) -> Feedback:
    """Run the last fenced block of `action` that defines the function on every example.

    SandboxError if the sandbox itself failed, which says nothing about the answer.
    """
    code = program_of(action, function.name)
    if code is None:
        missing = _MISSING[dialect].format(name=function.name)
        return none_passed(_names(function), "missing_answer", missing, function.source)
    if len(code) > MAX_CODE_CHARS:
        return none_passed(_names(function), "too_long", _TOO_LONG, function.source)
    return _judge(function, run(code, function, box or shared(), limits))


def run(code: str, function: Function, box: Sandbox, limits: Limits = LIMITS) -> list[Outcome]:
    """The outcomes of a program on the function's examples, in their order."""
    sent = [{"args": [list(example.statements)]} for example in function.examples]
    preamble = f"{function.needs}\n{_RUN}"
    ran = box.run_program(code, sent, entry="_example_", preamble=preamble, limits=limits)
    return [_outcome(*pair) for pair in zip(function.examples, ran.cases, strict=True)]


def _outcome(example: Doctest, ran: ProgramCase) -> Outcome:
    if ran.kind not in ("ok", "wrong"):
        return Outcome(
            "syntax_error" if ran.detail.startswith(SYNTAX_ERRORS) else KINDS[ran.kind], ran.detail
        )
    value: Any = ran.value
    if type(value) is not list or [type(part) for part in value] != [str, str]:
        return Outcome("bad_output", "something that is not the text of an example")
    shown, ended = value
    right = bool(ended) == example.raises and doctest.OutputChecker().check_output(
        example.wanted, ended if example.raises else shown, example.flags
    )
    kind = "pass" if right else "exception" if ended else "wrong_output"
    return Outcome(kind, ended or shown)


def _judge(function: Function, outcomes: Sequence[Outcome]) -> Feedback:
    cases = [
        CaseResult(name, outcome.kind == "pass", outcome.kind)
        for name, outcome in zip(_names(function), outcomes, strict=True)
    ]
    if all(case.passed for case in cases):
        return Feedback(1.0, True, 1.0, tuple(cases))
    failing = [n for n, case in enumerate(cases) if not case.passed]
    # Where nothing ran, all fail for one reason.
    shown = tuple(failing[:1] if cases[failing[0]].kind == "syntax_error" else failing[:MAX_SHOWN])
    for number in shown:
        example = function.examples[number]
        cases[number] = replace(
            cases[number],
            detail=_detail(example, outcomes[number]),
            expected=_line(example.wanted),
        )
    return some_failed(cases, shown, function.source)


def _names(function: Function) -> list[str]:
    return [f"example {number}" for number in range(1, len(function.examples) + 1)]


def _detail(example: Doctest, outcome: Outcome) -> str:
    if outcome.kind == "syntax_error":
        return f"The program does not compile: {_line(outcome.shown)}"
    asked = "\n".join(f">>> {_line(statement)}" for statement in example.statements)
    return f"{asked[-MAX_CHARS:]}\n{_VERBS.get(outcome.kind, outcome.kind)} {_line(outcome.shown)}"


_VERBS = {"wrong_output": "showed", "exception": "ended in"}


def _line(text: str) -> str:
    """Text that a program may have written, as one short printable line."""
    joined = " ".join(text.split())
    cut = joined if len(joined) <= MAX_CHARS else f"{joined[:MAX_CHARS]}..."
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in cut)
