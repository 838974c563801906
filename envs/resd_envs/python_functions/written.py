"""Tests that are programs: run with the reference, and again on the values that an answer returned.

A test that draws its inputs in a loop, or compares a result with another call, is not data. Such
tests are run in the sandbox, and never in the same process as an answer: once with the reference,
to record the calls and their arguments; then for every answer, which is called with exactly those
arguments in a process of its own, with a stand-in that returns its results. So a program sees
neither the tests nor the expected values, and only plain data of what it returns reaches the test.
Left out: tests whose later calls depend on the results of earlier ones, and arguments that are not
plain data.
"""

from __future__ import annotations

import ast
from collections.abc import Sequence
from typing import Any

from resd_bench.sandbox import Limits, PlainDict, PlainSet, Sandbox
from resd_envs.python_functions.assertions import Unconvertible
from resd_envs.python_functions.problem import Case

WRITTEN_LIMITS = Limits(call_cpu_s=5.0, total_cpu_s=6.0, total_wall_s=20.0)
"""For all tests of a problem together."""
HOLDS = "_holds_"

_HARNESS = """
import copy as _copy_, random as _random_
def _run_(answer):
    calls, verdicts, begin = [], [], 0
    def call(*args, **kwargs):
        calls.append(_copy_.deepcopy([list(args), kwargs]))
        return answer(len(calls) - 1, args, kwargs)
    def settle(right):
        nonlocal begin
        if len(calls) > len(verdicts):
            begin = len(verdicts)
            verdicts.extend([True] * (len(calls) - begin))
        if not right: verdicts[begin:] = [False] * (len(calls) - begin)
        return right
    def holds(test):
        try: right = bool(test())
        except Exception: right = False
        if not settle(right) and not calls: raise AssertionError
    _random_.seed(0)
    try: _check_(call, holds)
    except Exception: settle(False)
    settle(True)
    return calls, verdicts
def _record_():
    returned = []
    def answer(number, args, kwargs):
        value = {reference}(*args, **kwargs)
        returned.append(_copy_.deepcopy(value))
        return value
    return [*_run_(answer), returned]
def _judge_(calls, given):
    def answer(number, args, kwargs):
        if number < len(calls) and [list(args), kwargs] == calls[number]:
            for value in given[number]: return value
        raise LookupError("there is no such answer")
    return _run_(answer)[1]
"""


def checker(reference: str, entry: str, body: Sequence[ast.stmt], parameter: str) -> str:
    """The program that runs tests: `body` tests the function that it calls `parameter`.

    `reference` is a program that defines `entry`, and whatever else the tests need.
    """
    arguments = [ast.arg(name) for name in (parameter, HOLDS)]
    function = ast.FunctionDef(
        name="_check_",
        args=ast.arguments([], arguments, None, [], [], None, []),
        body=[_Asserted().visit(statement) for statement in body],
        decorator_list=[],
    )
    tests = ast.unparse(ast.fix_missing_locations(function))
    return f"{reference}\n{tests}\n{_HARNESS.replace('{reference}', entry)}"


class _Asserted(ast.NodeTransformer):
    """Turns every assertion into a call, so that those after a failing one are evaluated too.

    An assertion is about the calls since the previous one, or else about the same calls as that.
    """

    def visit_Assert(self, node: ast.Assert) -> ast.Expr:
        test = ast.Lambda(ast.arguments([], [], None, [], [], None, []), node.test)
        return ast.Expr(ast.Call(ast.Name(HOLDS), [test], []))


def record(program: str, box: Sandbox) -> tuple[Case, ...]:
    """A case for each call that the tests of a checker make, with what the reference returns.

    Unconvertible if they cannot be run, or if the reference does not pass them.
    """
    (ran,) = box.run_program(program, [{"args": []}], entry="_record_", limits=WRITTEN_LIMITS).cases
    if ran.kind != "ok":
        raise Unconvertible(f"its tests cannot be run: {ran.detail or ran.kind}")
    calls, verdicts, returned = _native(ran.value)
    cases = tuple(
        Case(tuple(args), value, kwargs, check="program")
        for (args, kwargs), value in zip(calls, returned, strict=False)
    )
    if len(cases) < len(calls) or not all(verdicts):
        raise Unconvertible("its own solution does not pass its tests")
    if not cases or not all(hold(program, cases, [(value,) for value in returned], box)):
        raise Unconvertible("its tests do not give the same result twice")
    return cases


def hold(
    program: str, cases: Sequence[Case], returned: Sequence[tuple[Any, ...]], box: Sandbox
) -> list[bool]:
    """Which calls of a checker's tests returned the right value.

    `returned` has for each of `cases` a tuple with the returned value, () if there was none.
    """
    calls = [[list(case.args), dict(case.kwargs)] for case in cases]
    asked = {"args": [calls, [list(values) for values in returned]]}
    (ran,) = box.run_program(program, [asked], entry="_judge_", limits=WRITTEN_LIMITS).cases
    verdicts = ran.value if ran.kind == "ok" and type(ran.value) is list else []
    missing = [False] * (len(cases) - len(verdicts))
    return [verdict is True for verdict in verdicts[: len(cases)]] + missing


def _native(value: Any) -> Any:
    """A trusted program's plain data as Python values; Unconvertible for odd sets and dicts."""
    try:
        if isinstance(value, PlainDict):
            return {_native(key): _native(item) for key, item in value}
        if isinstance(value, PlainSet):
            return set(map(_native, value))
    except TypeError as error:
        raise Unconvertible(f"its tests cannot be run: {error}") from None
    if type(value) in (list, tuple):
        return type(value)(map(_native, value))
    return value
