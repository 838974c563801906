"""Run an answer's `predict_position` at every test time, in the sandbox.

Each call sees the program newly defined, as if it were the first, at a tenth of the cost of one
process per call. If a call dies or runs out of time, the calls after it get a new process, a few
times. Sleeping is charged but not performed, so that no verdict depends on how busy the machine is.
A call's outcome is what this process observed, or a claim: of a claim, only its value, or which
of the failures in `CLAIMED` it is, is used. Left out: comparing with the correct positions, which
the program's process never sees.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from resd_bench.sandbox import Limits, ProgramCase, Sandbox

CALL_SECONDS = 1.0
"""Processor time of one call, including its definitions, plus the time it slept."""
LIMITS = Limits(call_cpu_s=CALL_SECONDS, call_wall_s=15.0, total_cpu_s=20.0, total_wall_s=90.0)
QUICK_LIMITS = Limits(call_cpu_s=0.25, call_wall_s=15.0)
"""For all calls of a program together; a program that exceeds them is called time by time."""
MAX_RESTARTS = 2
"""New processes after deadly calls; then the remaining calls share the last one's fate."""
TOTAL_SECONDS = 45.0
"""Wall time of one answer, including restarts; calls not finished by then are timeouts."""
MAX_MESSAGE = 200
MAX_CLAIM = 2 * MAX_MESSAGE
"""Maximum length of an exception's type and message."""
MAX_LINE = 1_000_000
"""More lines than any program has."""

Claim = Literal["syntax_error", "definition_error", "exception", "timeout"]
CLAIMED: tuple[Claim, ...] = get_args(Claim)
"""Failures that a program's process may report about itself."""
Death = Literal["timeout", "memory", "crash", "forbidden"]
DEADLY: tuple[Death, ...] = get_args(Death)
"""Kinds of sandbox failure after which a process no longer answers."""
OutcomeKind = Literal["value", Claim, Death, "blocked", "verifier_limit"]

BLOCKED = (
    "threading",
    "multiprocess",
    "import os",
    "from os",
    "shutil",
    "import torch",
    "from torch",
    "import sklearn",
    "from sklearn",
)
"""Texts that a program must not contain, not even in comments: the released rule."""

_SLEEP = """\
import time
slept = [0]
class Overslept(BaseException): pass
def sleep(seconds):
    slept[0] += max(seconds, 0)
    if slept[0] > {limit}: raise Overslept
time.sleep = sleep
"""
"""For programs that may sleep."""

_TELL = """\
def tell(kind, error):
    if isinstance(error, Overslept): return ["timeout", "it sleeps", 0]
    text, line, at = str(error), 0, error.__traceback__
    while at:
        if at.tb_frame.f_code.co_filename == "answer": line = at.tb_lineno
        at = at.tb_next
    if kind == "syntax_error": text, line = getattr(error, "msg", text), getattr(error, "lineno", 0)
    return [kind, type(error).__name__ + (": " + text[:{chars}] if text else ""), line or 0]
"""

# The child compiles this for every program, so it is short; error handling is loaded on demand.
_HARNESS = """\
Overslept, slept = (), [0]
{sleep}
def tell(kind, error):
    exec({tell}, globals())
    return tell(kind, error)
try: CODE, broken = compile({source}, "answer", "exec", dont_inherit=True), None
except BaseException as error: broken = tell("syntax_error", error)
def judge(t):
    if broken: return broken
    names, kind, slept[0] = {{}}, "definition_error", 0
    try:
        exec(CODE, names)
        kind = "exception"
        if "predict_position" not in names:
            raise NameError("name 'predict_position' is not defined")
        return ["value", names["predict_position"](t)]
    except BaseException as error: return tell(kind, error)
def judge_all(times): return [judge(t) for t in times]
"""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of one call."""

    kind: OutcomeKind
    value: Any = None
    """What `predict_position` returned, as plain data, if `kind` is `value`."""
    why: str = ""
    """Type and message of an exception; chosen by the program, so it may be hostile."""
    line: int = 0
    """Line of the program; 0 if unknown."""


def call(program: str, times: Sequence[float], box: Sandbox) -> list[Outcome]:
    """The outcome of `predict_position(t)` for each of `times`."""
    for text in BLOCKED:
        if text in program:
            return [Outcome("blocked", why=f"the program holds {text!r}")] * len(times)
    sleep = _SLEEP.format(limit=CALL_SECONDS) if "sleep" in program else ""
    tell = ascii(_TELL.format(chars=MAX_MESSAGE))
    code = _HARNESS.format(source=ascii(program), sleep=sleep, tell=tell)
    end = time.monotonic() + TOTAL_SECONDS
    return _all_at_once(code, times, box) or _one_by_one(code, times, box, end)


def _all_at_once(code: str, times: Sequence[float], box: Sandbox) -> list[Outcome]:
    """All outcomes in one message; none if the program is slow, dies or returns odd values."""
    case = {"args": [list(times)]}
    (result,) = box.run_program(code, [case], entry="judge_all", limits=QUICK_LIMITS).cases
    reports = result.value
    if result.kind != "ok" or type(reports) is not list or len(reports) != len(times):
        return []
    return [_outcome_of(report) for report in reports]


def _one_by_one(code: str, times: Sequence[float], box: Sandbox, end: float) -> list[Outcome]:
    """Each outcome in a message of its own, with new processes after fatal calls until `end`."""
    outcomes: list[Outcome] = []
    for restart in range(MAX_RESTARTS + 1):
        left_s = end - time.monotonic()
        if left_s <= 0:
            break
        limits = replace(LIMITS, total_wall_s=min(LIMITS.total_wall, left_s))
        cases = [{"args": [at]} for at in times[len(outcomes) :]]
        results = box.run_program(code, cases, entry="judge", limits=limits).cases
        dead = next((n for n, case in enumerate(results) if case.kind in DEADLY), None)
        last = len(results) if dead is None or restart == MAX_RESTARTS else dead + 1
        outcomes += [_outcome(case) for case in results[:last]]
        if len(outcomes) == len(times):
            break
    late = Outcome("timeout", why=f"all times together took over {TOTAL_SECONDS:g} s")
    return outcomes + [late] * (len(times) - len(outcomes))


def _outcome(case: ProgramCase) -> Outcome:
    for death in DEADLY:
        if case.kind == death:
            return Outcome(death, why=case.detail)
    if case.kind == "verifier_limit":
        return Outcome("verifier_limit", why=case.detail)
    if case.kind != "ok":
        return Outcome("exception", why=f"TypeError: {case.detail}")
    return _outcome_of(case.value)


def _outcome_of(report: Any) -> Outcome:
    """The outcome according to a call's own report: a value yet to be compared, or a failure."""
    if type(report) is list and len(report) == 2 and report[0] == "value":
        return Outcome("value", report[1])
    if type(report) is list and [type(part) for part in report] == [str, str, int]:
        claimed, why, line = report
        for kind in CLAIMED:
            if claimed == kind:
                place = line if 0 < line < MAX_LINE else 0
                return Outcome(kind, why=why[:MAX_CLAIM], line=place)
    # Only a program that tampers with the harness gets here.
    return Outcome("exception", why="TypeError: no plain data")
