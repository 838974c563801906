"""The curriculum of the basic tier for the embedded model: short programs, known misconceptions.

Every answer is a function with one line per step. Eight shared misconceptions, of which six apply
to any problem, are cured by a lesson wherever they occur; three instance-specific ones can be named
only by a reflection on the attempt. Pre-training problems are the nine tenths of all short chains
that no panel of any seed contains.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np

from resd_bench.nano.curriculum import Exercise, Mistake, OrderedCurriculum
from resd_bench.types import Task
from resd_envs.python_functions import steps
from resd_envs.python_functions.answer import TAG, program_of
from resd_envs.python_functions.problem import Problem
from resd_envs.python_functions.steps import Chain
from resd_envs.python_functions.verifier import Outcome, judge, verify

ORDER = (
    "colon",
    "call",
    "index",
    "print",
    "guard",
    "shadow",
    "strict",
    "loose",
    "omit",
    "value",
    "slip",
)
"""Misconceptions in the order in which feedback and program reveal them."""

PRIORS = {
    "colon": 0.5,
    "call": 0.45,
    "index": 0.45,
    "print": 0.5,
    "guard": 0.45,
    "shadow": 0.5,
    "strict": 0.5,
    "loose": 0.5,
    "omit": 0.88,
    "value": 0.88,
    "slip": 0.86,
}
"""How often an untaught answer gets each point right."""


def _shared(key: str, symptom: str, *lessons: str, wrong: str) -> Mistake:
    return Mistake(key, symptom, lessons, True, wrong=(wrong,))


SHARED: Mapping[str, Mistake] = {
    mistake.key: mistake
    for mistake in (
        _shared(
            "colon",
            "the def line has no colon",
            "write a colon after def f(a)",
            "end the def line with a colon",
            wrong="write no colon after def f(a)",
        ),
        _shared(
            "call",
            "a list has no such method",
            "write max(a) not a.max()",
            "sum max min and len are functions of a",
            wrong="write a.max() not max(a)",
        ),
        _shared(
            "index",
            "the index is wrong",
            "first is a[0] and last is a[-1]",
            "take a[0] for first and a[-1] for last",
            wrong="first is a[1] and last is a[len(a)]",
        ),
        _shared(
            "print",
            "the result is printed",
            "return the result , do not print it",
            "end with return not with print",
            wrong="print the result , do not return it",
        ),
        _shared(
            "guard",
            "an empty list is not handled",
            "return the empty value if not a",
            "check if not a before the end",
            wrong="do not check if not a",
        ),
        _shared(
            "shadow",
            "the steps are lost in b",
            "assign each step to a itself",
            "keep the list in a not in b",
            wrong="keep the list in b not in a itself",
        ),
        _shared(
            "strict",
            "the limit itself is kept",
            "over and under exclude the number",
            "over is > and under is <",
            wrong="over is >= and under is <=",
        ),
        _shared(
            "loose",
            "the limit itself is lost",
            "least and most include the number",
            "least is >= and most is <=",
            wrong="least is > and most is <",
        ),
    )
}

_WRONG_SIGN = {"over": "strict", "under": "strict", "least": "loose", "most": "loose"}
_SIGNS = {"over": (">", ">="), "under": ("<", "<="), "least": (">=", ">"), "most": ("<=", "<")}
_WRONG_END = {
    "sum": "a.sum()",
    "max": "a.max()",
    "min": "a.min()",
    "count": "a.len()",
    "first": "a[1]",
    "last": "a[len(a)]",
}
MAX_REMEMBERED = 100_000


def _other(number: int) -> int:
    """The number that a slip writes for `number`."""
    return number ^ 1


def end_point(end: str) -> str:
    """The misconception that belongs to the last word of a problem."""
    return "index" if end in ("first", "last") else "call"


class PythonFunctionsCurriculum(OrderedCurriculum):
    """See `resd_bench.nano.curriculum.Curriculum`."""

    order = ORDER

    def __init__(self) -> None:
        self._written: set[str] = set()

    def exercise(self, rng: np.random.Generator) -> Exercise:
        while True:
            chain = steps.short_chain(rng)
            if not steps.for_runs(chain):
                return _exercise(chain)

    def of_task(self, task: Task) -> Exercise:
        return _exercise(Chain.from_params(task.data["function"].params))

    def priors(self, exercise: Exercise) -> Mapping[str, float]:
        chain = _chain(exercise)
        keys = {"colon", "print", "guard", "shadow", "omit", "value", "slip", end_point(chain.end)}
        keys |= {_WRONG_SIGN[word] for word, _ in chain.steps if word in _WRONG_SIGN}
        return {key: PRIORS[key] for key in ORDER if key in keys}

    def mistake(self, exercise: Exercise, key: str, rng: np.random.Generator) -> Mistake:
        if key in SHARED:
            return SHARED[key]
        chain = _chain(exercise)
        if key == "value":
            right, wrong = chain.empty, _other(chain.empty)
            lessons = (f"return {right} if not a", f"the empty value is {right}")
            return Mistake(key, f"empty gives {wrong}", lessons, False, (-1, str(right)))
        at = int(rng.integers(len(chain.steps)))
        word, n = chain.steps[at]
        assert n is not None
        if key == "omit":
            symptom = f"step {at + 1} {word} {n} is missing"
            lessons = (f"add step {at + 1} {word} {n}", f"do {word} {n} as step {at + 1}")
        else:
            symptom = f"step {at + 1} uses {_other(n)}"
            lessons = (f"step {at + 1} must use {n}", f"use {n} in step {at + 1}")
        return Mistake(key, symptom, lessons, False, (at, str(n)))

    def answer(self, exercise: Exercise, mistakes: Mapping[str, Mistake]) -> str:
        response = f"```{TAG}\n{_program(_chain(exercise), mistakes)}\n```"
        if len(self._written) >= MAX_REMEMBERED:
            self._written.clear()
        self._written.add(response)
        return response

    def feedback(self, exercise: Exercise, response: str) -> tuple[bool, str]:
        problem = _problem(exercise.content)
        if response in self._written:
            # Only programs of `answer` run here: pre-training calls this a hundred thousand times.
            outcomes = _behaviour(program_of(response, problem.entry) or "", problem)
            verdict = judge(problem, outcomes, "compact")
        else:
            verdict = verify(response, problem, dialect="compact")
        return verdict.success, verdict.render(3)


def _program(chain: Chain, mistakes: Mapping[str, Mistake]) -> str:
    """The program that makes exactly these mistakes."""
    name = "b" if "shadow" in mistakes else "a"
    lines = [f"def {steps.ENTRY}(a)" + ("" if "colon" in mistakes else ":")]
    lines += [f" {name} = {code}" for code in _step_codes(chain, mistakes)]
    if "guard" not in mistakes:
        empty = _other(chain.empty) if "value" in mistakes else chain.empty
        lines += [" if not a:", f"  return {empty}"]
    end = steps.ENDS[chain.end][1]
    if end_point(chain.end) in mistakes:
        end = _WRONG_END[chain.end]
    return "\n".join([*lines, f" print({end})" if "print" in mistakes else f" return {end}"])


def _step_codes(chain: Chain, mistakes: Mapping[str, Mistake]) -> list[str]:
    pairs = list(chain.steps)
    if "slip" in mistakes:
        at = mistakes["slip"].where[0]
        word, n = pairs[at]
        pairs[at] = word, _other(n or 0)
    if "omit" in mistakes:
        del pairs[mistakes["omit"].where[0]]
    codes = []
    for word, n in pairs:
        code = steps.code_of(word, n)
        if _WRONG_SIGN.get(word) in mistakes:
            right, wrong = _SIGNS[word]
            code = code.replace(f" {right} ", f" {wrong} ")
        codes.append(code)
    return codes


def _behaviour(code: str, problem: Problem) -> list[Outcome]:
    """The outcomes of a program written by this module on the cases of `problem`."""
    scope: dict[str, Any] = {"print": lambda *_: None}
    try:
        exec(compile(code, "<program>", "exec"), scope)
    except SyntaxError as error:
        return [Outcome("exception", message=f"SyntaxError: {error}")] * len(problem.cases)
    outcomes = []
    for case in problem.cases:
        try:
            outcomes.append(Outcome("returned", scope[steps.ENTRY](list(case.args[0]))))
        except (AttributeError, IndexError, ValueError) as error:
            outcomes.append(Outcome("exception", message=f"{type(error).__name__}: {error}"))
    return outcomes


def _exercise(chain: Chain) -> Exercise:
    words = tuple(f"{word} {n}" for word, n in chain.steps)
    content = (*words, chain.end, str(chain.empty))
    return Exercise(chain.brief, chain.end, content, chain.hash)


def _chain(exercise: Exercise) -> Chain:
    return _parsed(exercise.content)


@lru_cache(maxsize=50_000)
def _parsed(content: tuple[str, ...]) -> Chain:
    *words, end, empty = content
    pairs = (word.split() for word in words)
    return Chain(tuple((word, int(n)) for word, n in pairs), end, int(empty))


@lru_cache(maxsize=10_000)
def _problem(content: tuple[str, ...]) -> Problem:
    return steps.problem(_parsed(content))


CURRICULUM = PythonFunctionsCurriculum()
"""The object of the entry point in the group `resd_bench.curricula`."""
