"""Grade an answer to a factory problem, and say what went wrong.

Verdicts per test are those of the released verifier. What is shown differs where the release hides
something: wrongly accepted tapes are shown as well as wrongly rejected ones, shortest first, and a
trace keeps its end. `oracle_program` and exhaustive equivalence are for checkers and metrics.
"""

from __future__ import annotations

import json
import re
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import product
from typing import Any

from resd_bench.errors import UsageError
from resd_bench.parsing import Grade, last_code_block, visible_answer
from resd_bench.types import CaseResult, Dialect, Feedback
from resd_envs.graded_cases import none_passed
from resd_envs.manufactoria.machine import (
    ACCEPTED,
    NOWHERE,
    PULLERS,
    ROUTED_TO_NONE,
    ParseError,
    Program,
    Run,
    describe,
    encode,
    try_parse,
)
from resd_envs.manufactoria.problems import Case, Params, Problem, expected, expected_verdicts

TAG = "manufactoria"
"""Language tag of the fenced block."""
MAX_SHOWN = 2
"""Failing tests shown at level 3, the released number."""
MAX_TAPE_CHARS = 250
MAX_NAME_CHARS = 40
TRACE_NODES = 8
"""Last visited nodes shown."""


def verify(
    response_text: str,
    problem: Problem | Mapping[str, Any],
    *,
    dialect: Dialect = "full",
    truncated: bool = False,
    grade: Grade = "release",
) -> Feedback:
    """Grade the last fenced block of a response on every test of `problem`.

    `problem` may also be a record in the released schema (see `Problem.from_record`). `truncated`
    says that the response hit its token limit, which matters only if it has no block. As in the
    released verifier, a block in the reasoning counts; with `grade="answer"`, the default of
    environments, only the visible answer does. Pure, deterministic and bounded: a run ends after
    `machine.MAX_STEPS` nodes.
    """
    if not isinstance(problem, Problem):
        problem = Problem.from_record(problem)
    block = _block(response_text, grade)
    if block is None:
        kind = "truncated" if truncated else "missing_answer"
        return _unmarked(problem, kind, _MISSING[dialect][kind])
    program = try_parse(block)
    if isinstance(program, ParseError):
        return _unmarked(problem, "parse_error", _parse_detail(program, dialect))
    cases = _mark(program, problem)
    passed = sum([case.passed for case in cases])
    if passed == len(cases):
        return Feedback(1.0, True, 1.0, cases)
    shown = _select(cases, problem)
    detailed = list(cases)
    for index in shown:
        detail = _case_detail(program, problem.tests[index], dialect)
        detailed[index] = replace(cases[index], detail=detail)
    broken = any(case.kind == "runtime_error" for case in cases)
    return Feedback(
        reward=0.0,
        success=False,
        score=passed / len(cases),
        cases=tuple(detailed),
        kind="runtime_error" if broken else "wrong_answer",
        shown=shown,
    )


_MISSING: Mapping[Dialect, Mapping[str, str]] = {
    "full": {
        "missing_answer": "There is no program: put it between ```manufactoria and ```.",
        "truncated": "The answer was cut off at the length limit before a program was complete.",
    },
    "compact": {
        "missing_answer": "program : missing",
        "truncated": "program : cut off",
    },
}


def _unmarked(problem: Problem, kind: str, detail: str) -> Feedback:
    """All tests failed for one reason, which the first of them gives."""
    names = [f"test {number}" for number in range(1, max(1, len(problem.tests)) + 1)]
    return none_passed(names, kind, detail)


def _parse_detail(error: ParseError, dialect: Dialect) -> str:
    if dialect == "compact":
        where = "program" if error.line is None else f"line {error.line}"
        return f"{where} : {describe(error)}"
    return f"The program does not parse: {error}."


# Verdicts.


@lru_cache(maxsize=1024)
def _passed(number: int) -> CaseResult:
    return CaseResult(f"test {number}", True, "pass")


@lru_cache(maxsize=256)
def _all_passed(tests: int) -> tuple[CaseResult, ...]:
    return tuple(map(_passed, range(1, tests + 1)))


@lru_cache(maxsize=4096)
def _failed(number: int, kind: str, answer: str) -> CaseResult:
    return CaseResult(f"test {number}", False, kind, expected=answer)


def _mark(program: Program, problem: Problem) -> tuple[CaseResult, ...]:
    if problem.checks_output:
        pairs = enumerate(problem.tests, 1)
        return tuple([_mark_output(program, case, number) for number, case in pairs])
    outcomes = program.outcomes(problem.encoded_inputs)
    wanted = problem.expected_verdicts
    if [outcome == ACCEPTED for outcome in outcomes] == wanted:
        return _all_passed(len(wanted))
    triples = zip(range(1, len(wanted) + 1), outcomes, wanted, strict=True)
    return tuple([_mark_outcome(*triple) for triple in triples])


def _mark_outcome(number: int, outcome: int, wanted: bool) -> CaseResult:
    if (outcome == ACCEPTED) == wanted:
        return _passed(number)
    kind = "wrong_answer" if outcome <= ROUTED_TO_NONE else "runtime_error"
    return _failed(number, kind, "accept" if wanted else "reject")


def _mark_output(program: Program, case: Case, number: int) -> CaseResult:
    run = program.run(case.input)
    good = run.accepted
    if case.check_output:
        good = good and _matches(run.tape, case.expected_output)
    if good == case.expected_accepted:
        return _passed(number)
    broken = run.reason is not None and run.reason.kind != "routed_to_none"
    return _failed(number, "runtime_error" if broken else "wrong_answer", _expectation(case))


_PATTERN_SIGNS = frozenset(".+*?|()")


def _matches(tape: str, wanted: str) -> bool:
    """Whether a final tape is the expected one, or matches it as a pattern."""
    if _PATTERN_SIGNS.isdisjoint(wanted):
        return tape == wanted
    try:
        return re.fullmatch(wanted, tape) is not None
    except re.error:
        return tape == wanted


def _expectation(case: Case) -> str:
    if not case.expected_accepted:
        return "reject"
    return f"accept with tape {case.expected_output or 'empty'}" if case.check_output else "accept"


# What is shown.


def _select(cases: Sequence[CaseResult], problem: Problem) -> tuple[int, ...]:
    """The shortest failing tests, with both verdicts if both went wrong."""
    failing = [index for index, case in enumerate(cases) if not case.passed]
    failing.sort(key=lambda index: len(problem.tests[index].input))
    first = failing[0]
    wanted = problem.tests[first].expected_accepted
    others = [i for i in failing if problem.tests[i].expected_accepted != wanted]
    rest = [i for i in failing[1:] if i not in others[:1]]
    return tuple([first, *others[:1], *rest][:MAX_SHOWN])


def _case_detail(program: Program, case: Case, dialect: Dialect) -> str:
    run = program.run(case.input)
    front = _last_front(program, case.input, run)
    if dialect == "compact":
        return f"tape {_spaced(case.input)} : {_compact_result(case, run, front)}"
    result = _full_result(program, case, run, front)
    return f"Input {_quoted(case.input)}: {result} Path: {_path(run.visited)}."


def _last_front(program: Program, tape: str, run: Run) -> str:
    """The front symbol that the last executed node saw; "" for an empty tape."""
    before = max(0, len(run.visited) - (1 if _never_ends(run) else 2))
    return program.run(tape, max_steps=before).tape[:1]


def _never_ends(run: Run) -> bool:
    return run.reason is not None and run.reason.kind == "step_limit"


def _compact_result(case: Case, run: Run, front: str) -> str:
    if run.reason is None:
        return f"gave {_spaced(run.tape)}" if case.check_output else "accepted"
    if run.reason.kind == "step_limit":
        return "never ends"
    if run.reason.kind == "unknown_node":
        return f"rejected at {_name(run.visited[-1])} , not declared"
    return f"rejected at {_name(run.visited[-2])} on {front or 'empty'}"


def _full_result(program: Program, case: Case, run: Run, front: str) -> str:
    saw = f"with {front} at the front" if front else "on an empty tape"
    if run.reason is None:
        left = f", final tape {_quoted(run.tape)}" if case.check_output else ""
        return f"accepted{left}."
    if run.reason.kind == "step_limit":
        stuck = _typed(program, run.visited[-1])
        return f"never ends; stopped at {stuck} {saw}, {len(run.tape)} symbols on the tape."
    last = _typed(program, run.visited[-2])
    if run.reason.kind == "unknown_node":
        return f"rejected, {last} routes to '{_name(run.visited[-1])}', which no node is called."
    return f"rejected, {last} routes to {NOWHERE} {saw}."


def _typed(program: Program, name: str) -> str:
    node_type = next(node.type for node in program.nodes if node.id == name)
    return f"{_name(name)} ({node_type})"


def _path(visited: Sequence[str]) -> str:
    earlier = len(visited) - TRACE_NODES
    dropped = [f"... {earlier} earlier nodes ..."] if earlier > 0 else []
    return " > ".join([*dropped, *map(_name, visited[-TRACE_NODES:])])


def _name(node: str) -> str:
    return node if len(node) <= MAX_NAME_CHARS else f"{node[:MAX_NAME_CHARS]}..."


def _quoted(tape: str) -> str:
    return f"'{_cut(tape)}'" if tape else "'' (empty)"


def _spaced(tape: str) -> str:
    return " ".join(_cut(tape)) or "empty"


def _cut(tape: str) -> str:
    return tape if len(tape) <= MAX_TAPE_CHARS else f"{tape[:MAX_TAPE_CHARS]}..."


# For checkers and metrics.


_SHORT = 6
"""All tapes of up to this many symbols are tried. This distinguishes all HAS problems from near
misses; for words of 6 or more symbols, give a longer limit."""


@lru_cache(maxsize=64)
def _tapes(colours: str, length: int) -> tuple[tuple[str, ...], tuple[tuple[int, ...], ...]]:
    """All tapes of a length, as text and in the machine's encoding."""
    tapes = tuple("".join(symbols) for symbols in product(colours, repeat=length))
    return tapes, tuple(map(encode, tapes))


@lru_cache(maxsize=1 << 14)
def _wanted(family: str, params: str, colours: str, length: int) -> tuple[bytes, bool]:
    """Whether each tape of a length must be accepted, and whether its output matters too."""
    given, tapes = json.loads(params), _tapes(colours, length)[0]
    verdicts = expected_verdicts(family, given, tapes)
    if verdicts is not None:
        return verdicts, False
    found = [expected(family, given, tape) for tape in tapes]
    return bytes(verdict for verdict, _ in found), any(output is not None for _, output in found)


def exhaustively_equivalent(program: Program, problem: Problem, max_length: int = _SHORT) -> bool:
    """Whether `program` is right on every tape of up to `max_length` symbols, not only on tests.

    Stricter than the tests: 16 to 39% of programs with one wrong route pass the released tests.
    """
    return _right_on_all(
        program, problem.family, json.dumps(problem.params), problem.colours, max_length
    )


def _right_on_all(
    program: Program, family: str, params: str, colours: str, max_length: int
) -> bool:
    accepted = program.accepted(colours, max_length)
    for length in range(max_length + 1):
        tapes, encoded = _tapes(colours, length)
        verdicts, has_output = _wanted(family, params, colours, length)
        if accepted is not None:
            found = next(accepted)
        else:
            found = bytes(outcome == ACCEPTED for outcome in program.outcomes(encoded))
        if found != verdicts:
            return False
        given = json.loads(params)
        if has_output and any(
            program.run(tape).tape != expected(family, given, tape)[1] for tape in tapes
        ):
            return False
    return True


def answers_exhaustively(
    response_text: str, problem: Problem, max_length: int = _SHORT, *, grade: Grade = "release"
) -> bool:
    """Whether the answer's program is right on every tape of up to `max_length` symbols."""
    block = _block(response_text, grade)
    if block is None:
        return False
    return _block_is_right(
        block, problem.family, json.dumps(problem.params), problem.colours, max_length
    )


@lru_cache(maxsize=1 << 12)
def _block_is_right(block: str, family: str, params: str, colours: str, max_length: int) -> bool:
    """Cached: samples of a model that has learned a task are often the same program."""
    program = try_parse(block)
    if isinstance(program, ParseError):
        return False
    return _right_on_all(program, family, params, colours, max_length)


def _block(response_text: str, grade: Grade) -> str | None:
    """The block that is graded."""
    read = response_text if grade == "release" else visible_answer(response_text)
    return last_code_block(read, TAG)


_State = tuple[int, ...]
_DEAD: _State = (-1,)


def oracle_program(problem: Problem) -> str:
    """A program that solves a HAS or word problem; UsageError for other families.

    Two pullers per state of the smallest obvious automaton: how much of the word is matched, or
    how many of each colour are still missing.
    """
    start, accept_early = _first_state(problem), problem.family in _STOPS_EARLY
    numbers: dict[_State, int] = {start: 0}
    queue = deque([start])
    lines = ["START start:", "    NEXT s0"]

    def target(state: _State, colour: str) -> str:
        after = _next_state(problem, state, colour)
        if after == _DEAD:
            return NOWHERE
        if accept_early and _is_final(problem, after):
            return "end"
        if after not in numbers:
            numbers[after] = len(numbers)
            queue.append(after)
        return f"s{numbers[after]}"

    while queue:
        state = queue.popleft()
        name = f"s{numbers[state]}"
        at_empty = NOWHERE if accept_early or not _is_final(problem, state) else "end"
        for node_type, node, empty in (
            ("PULLER_RB", name, f"{name}x"),
            ("PULLER_YG", f"{name}x", at_empty),
        ):
            routes = [f"    [{c}] {target(state, c)}" for c in PULLERS[node_type]]
            lines += ["", f"{node_type} {node}:", *routes, f"    [EMPTY] {empty}"]
    return "\n".join([*lines, "", "END end"])


_STOPS_EARLY = ("contains_count", "contains_ordered", "contains_substring", "starts_with")
"""Families where nothing after the found property matters."""


def _first_state(problem: Problem) -> _State:
    if problem.family == "contains_count":
        return tuple(_missing(problem.params).values())
    if problem.family in (*_STOPS_EARLY, "ends_with", "exact_sequence"):
        return (0,)
    raise UsageError(f"there is no oracle for family {problem.family!r}")


def _missing(params: Params) -> dict[str, int]:
    return {colour: int(least) for colour, least in params["requirements"]}


def _is_final(problem: Problem, state: _State) -> bool:
    if problem.family == "contains_count":
        return not any(state)
    return state == (len(problem.params["sequence"]),)


def _next_state(problem: Problem, state: _State, colour: str) -> _State:
    family = problem.family
    if family == "contains_count":
        colours = _missing(problem.params)
        pairs = zip(colours, state, strict=True)
        return tuple(max(0, left - (c == colour)) for c, left in pairs)
    word, matched = problem.params["sequence"], state[0]
    if matched < len(word) and word[matched] == colour:
        return (matched + 1,)
    if family == "contains_ordered":
        return state
    if family in ("starts_with", "exact_sequence"):
        return _DEAD
    seen = word[:matched] + colour
    return (next(n for n in range(matched, -1, -1) if seen.endswith(word[:n])),)
