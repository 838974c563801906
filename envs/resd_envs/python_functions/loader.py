"""Problem files, one JSON object per line: HumanEval, MBPP, LiveCodeBench, and our own schema.

The schema is recognised by its keys:

- HumanEval: `prompt`, `test`, `entry_point` (and `canonical_solution`);
- MBPP: `test_list` and `text` or `prompt` (and `code`, `challenge_test_list`);
- LiveCodeBench: `question_content`, `public_test_cases` (and `private_test_cases`,
  `starter_code`, `metadata`);
- ours: `prompt`, `cases` (each `args`, `kwargs`, `expected` or `stdin`, `expected`), `entry` for
  calls (and `solution`, `preamble`).

`task_id`, `question_id` or `id` names a problem; `split` may assign it to a split. Tests given as
code become data (see `assertions.py`), so that expected values stay away from answers. Where that
is impossible, tests are run in the sandbox if a record has a solution (see `written.py`); a problem
whose tests cannot be obtained either way is left out and reported. Nothing in a file is executed
outside the sandbox.

What counts as right is what the published runner of each benchmark accepts, with one difference:
for LiveCodeBench, tuples count as lists at any depth, in its runner only at the outermost level.
"""

from __future__ import annotations

import ast
import base64
import binascii
import hashlib
import json
import pickletools
import re
import warnings
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import NoneType
from typing import Any

from resd_bench.errors import UsageError
from resd_bench.files import reading
from resd_bench.files.printable import printable
from resd_bench.records.jsonl import (
    LABEL,
    LIST,
    OBJECTS,
    TEXT,
    TEXT_OR_NULL,
    TEXTS,
    TEXTS_OR_NULL,
    TOLERANCE,
    FieldKind,
    Line,
    check_fields,
    of_types,
    read_objects,
)
from resd_bench.sandbox import shared
from resd_bench.types import SPLITS, Split
from resd_envs.python_functions import written
from resd_envs.python_functions.assertions import Unconvertible, called, cases_of, parse
from resd_envs.python_functions.problem import Case, Problem, bucket

_Record = Mapping[str, Any]
MAX_UNPACKED = 1 << 28
"""Maximum bytes of one problem's packed tests."""
_ENTRY = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Loaded:
    """The problems of a file."""

    problems: tuple[Problem, ...]
    splits: Mapping[str, Split]
    """Problems by id."""
    skipped: Mapping[str, str]
    """Why records did not give a problem, by their id."""


def load(path: str | Path) -> Loaded:
    """Read a file of problems.

    UsageError for a file that cannot be read, a line that is not a JSON object, a record in an
    unknown schema, or a file without any usable problem. The caller must report `skipped` (see
    `warn_of_skipped`).
    """
    problems: dict[str, Problem] = {}
    splits: dict[str, Split] = {}
    skipped: dict[str, str] = {}
    for line in read_objects(Path(path), "give a problem per line", strict=True):
        record, name = line.row, _name(line)
        try:
            problem = _problem(record, name, line.where)
        except Unconvertible as error:
            skipped[name] = str(error)
            continue
        if problem.id in problems:
            skipped[f"{name} (line {line.number})"] = "the same problem once more"
            continue
        problems[problem.id] = problem
        splits[problem.id] = _split(record, problem, line.where)
    found = Loaded(tuple(problems.values()), splits, skipped)
    if not problems:
        warn_of_skipped(found, str(path))
        raise UsageError(f"{path} has no usable problem ({len(skipped)} left out)")
    return found


def warn_of_skipped(loaded: Loaded, where: str) -> None:
    """Warn of every problem that was left out, with the reason."""
    if loaded.skipped:
        total = len(loaded.skipped) + len(loaded.problems)
        told = [printable(f"  {name}: {reason}") for name, reason in loaded.skipped.items()]
        reasons = "\n".join(told)
        warnings.warn(
            f"{where}: {len(loaded.skipped)} of {total} problems are left out:\n{reasons}",
            stacklevel=3,
        )


def _name(line: Line) -> str:
    for key in ("task_id", "question_id", "id"):
        if key in line.row:
            return str(line.row[key])
    return f"line {line.number}"


@dataclass(frozen=True, slots=True)
class _Draft:
    """A record in our terms."""

    statement: str
    entry: str | None
    cases: tuple[Case, ...]
    solution: str = ""
    preamble: str = ""
    checker: str = ""


def _problem(record: _Record, name: str, where: str) -> Problem:
    reader = _reader(record, where)
    _check(record, reader, where)
    draft = reader(record)
    if not draft.cases:
        raise Unconvertible("it has no tests")
    if draft.entry is not None and not _ENTRY.fullmatch(draft.entry):
        raise Unconvertible(f"{draft.entry[:40]!r} is not the name of a function")
    # For tests that are run, the program: what it draws depends on Python's version.
    tests = draft.checker or repr(draft.cases)
    text = json.dumps([draft.statement, draft.entry, tests])
    content = hashlib.sha256(text.encode()).hexdigest()
    slug = re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-")[:40]
    return Problem(
        id=f"{slug}-{content[:12]}",
        family="loaded",
        statement=draft.statement,
        brief=draft.statement,
        entry=draft.entry,
        cases=draft.cases,
        solution=draft.solution,
        preamble=draft.preamble,
        params={
            "source": name,
            "hash": content,
            **({"checker": draft.checker} if draft.checker else {}),
        },
    )


def _split(record: _Record, problem: Problem, where: str) -> Split:
    given = record.get("split")
    if given is not None:
        if given not in SPLITS:
            raise UsageError(f"{where}: unknown split {given!r}: give {', '.join(SPLITS)}")
        return SPLITS[SPLITS.index(given)]
    share = bucket(problem.params["hash"])
    return "train" if share < 80 else "validation" if share < 90 else "test"


def _reader(record: _Record, where: str) -> Callable[[_Record], _Draft]:
    keys = set(record)
    if {"prompt", "test", "entry_point"} <= keys:
        return _human_eval
    if "test_list" in keys and keys & {"text", "prompt"}:
        return _mbpp
    if {"question_content", "public_test_cases"} <= keys:
        return _live_code_bench
    if {"prompt", "cases"} <= keys:
        return _ours
    raise UsageError(
        f"{where}: a record with the keys {', '.join(sorted(keys))} has an unknown schema. Known: "
        "HumanEval (prompt, test, entry_point), MBPP (text or prompt, test_list), LiveCodeBench "
        "(question_content, public_test_cases), ours (prompt, cases)"
    )


# HumanEval.


def _human_eval(record: _Record) -> _Draft:
    prompt, entry = str(record["prompt"]), str(record["entry_point"])
    tree = parse(str(record["test"]))
    check = next(
        (n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == "check"), None
    )
    if check is None or len(check.args.args) != 1:
        raise Unconvertible("there is no check(candidate)")
    solution = str(record.get("canonical_solution") or "")
    reference = prompt + solution if solution else ""
    cases, program = _tests_of(check.body, check.args.args[0].arg, entry, reference)
    return _Draft(
        statement=f"Complete this program:\n\n```python\n{prompt.strip()}\n```",
        entry=entry,
        cases=cases,
        solution=reference,
        preamble=_before(prompt, entry),
        checker=program,
    )


def _tests_of(
    body: Sequence[ast.stmt], function: str, entry: str, reference: str
) -> tuple[tuple[Case, ...], str]:
    """Cases of tests of what they call `function`; with their program if they are not data."""
    try:
        return cases_of(body, function), ""
    except Unconvertible:
        if not reference:
            raise
        program = written.checker(reference, entry, body, function)
        return written.record(program, shared()), program


def _before(prompt: str, entry: str) -> str:
    """Imports and functions that a prompt gives besides the one to complete."""
    try:
        tree = parse(prompt)
        given = [node for node in tree.body if getattr(node, "name", "") != entry]
        return "\n\n".join(ast.unparse(node) for node in given)
    except (Unconvertible, RecursionError):
        return ""


# MBPP.


def _mbpp(record: _Record) -> _Draft:
    tests = [str(test) for test in record["test_list"]]
    tests += [str(test) for test in record.get("challenge_test_list") or ()]
    if not tests:
        raise Unconvertible("it has no tests")
    bodies = [parse(test).body for test in tests]
    solution = str(record.get("code") or "")
    entry = called(bodies[0], solution)
    # What is shown as an example is not a hidden test.
    hidden = bodies[1:] or bodies
    before = [*(record.get("test_imports") or ()), record.get("test_setup_code") or ""]
    reference = "\n".join([solution, *map(str, before)]) if solution else ""
    body = [statement for part in hidden for statement in part]
    cases, program = _tests_of(body, entry, entry, reference)
    example = f"\n\nExample: `{tests[0].strip()}`" if len(bodies) > 1 else ""
    text = str(record.get("text") or record.get("prompt"))
    return _Draft(text.strip() + example, entry, cases, solution, checker=program)


# LiveCodeBench.

_STARRED = (
    "string re datetime collections heapq bisect copy math random statistics itertools functools "
    "operator io sys json builtins typing"
)
_IMPORTS = "\n".join(
    [
        *(f"from {module} import *" for module in _STARRED.split()),
        *(f"import {module}" for module in _STARRED.split()[:-2]),
        "sys.set_int_max_str_digits(50000)",
        "sys.setrecursionlimit(50000)",
    ]
)
"""What the runner of that benchmark puts in front of every answer."""


def _live_code_bench(record: _Record) -> _Draft:
    public, private = (_tests(record.get(f"{kind}_test_cases")) for kind in ("public", "private"))
    tests = [*public, *private]
    starter = str(record.get("starter_code") or "")
    statement = str(record["question_content"]).strip()
    kinds = {str(test.get("testtype", "stdin")) for test in tests}
    if kinds == {"functional"}:
        entry = _function_name(record, starter)
        cases = tuple(_functional(test) for test in tests)
        statement += f"\n\nComplete this program:\n\n```python\n{starter.strip()}\n```"
        return _Draft(statement, entry, cases, preamble=_IMPORTS)
    if kinds - {"stdin"}:
        raise Unconvertible(f"tests of the kinds {', '.join(sorted(kinds))}")
    cases = tuple(
        Case(stdin=str(t["input"]), expected=str(t["output"]), check="stripped") for t in tests
    )
    return _Draft(statement, None, cases, preamble=_IMPORTS)


def _function_name(record: _Record, starter: str) -> str:
    metadata = record.get("metadata") or {}
    if isinstance(metadata, str):
        metadata = _json(metadata)
    name = metadata.get("func_name") if isinstance(metadata, dict) else None
    if not name:
        found = re.search(r"def (\w+)\(", starter)
        if found is None:
            raise Unconvertible("the function has no name")
        name = found[1]
    return f"Solution.{name}" if re.search(r"^class Solution\b", starter, re.M) else str(name)


def _functional(test: _Record) -> Case:
    args = tuple(_json(line) for line in str(test["input"]).splitlines() if line.strip())
    return Case(args=args, expected=_json(str(test["output"])), check="json")


def _json(text: str) -> Any:
    try:
        return reading.parse_json(text)
    except ValueError:
        raise Unconvertible(f"a test that is not JSON: {text[:40]!r}") from None


def _tests(given: Any) -> Sequence[_Record]:
    """A list of tests, given directly, as JSON, or packed."""
    if not given:
        return ()
    if isinstance(given, str):
        given = _json(given) if given.lstrip().startswith("[") else _json(_unpacked(given))
    if not isinstance(given, list) or not all(
        isinstance(test, dict) and {"input", "output"} <= set(test) for test in given
    ):
        raise Unconvertible("tests that are not a list of input and output")
    return given


def _unpacked(text: str) -> str:
    """JSON from base64 of zlib of a pickled string; the pickle may hold only the string."""
    try:
        packed = base64.b64decode(text, validate=True)
        unpacked = zlib.decompressobj().decompress(packed, MAX_UNPACKED)
        return _text_of(unpacked)
    except (binascii.Error, zlib.error, ValueError) as error:
        raise Unconvertible(f"packed tests that cannot be read: {error}") from None


def _text_of(pickled: bytes) -> str:
    """The text that was pickled; ValueError if it is anything but one text.

    The pickle is parsed, not executed: even one without classes can ask for all memory.
    """
    texts: list[str] = []
    for step, argument, _ in pickletools.genops(pickled):
        if step.name in _TEXTS:
            texts.append(str(argument))
        elif step.name in ("GLOBAL", "STACK_GLOBAL"):
            named = ".".join(str(argument).split()) if argument else ".".join(texts[-2:])
            raise ValueError(f"it refers to {named}")
        elif step.name not in _AROUND_TEXTS:
            break
    if len(texts) != 1:
        raise ValueError("they are not a text")
    return texts[0]


_TEXTS = frozenset({"UNICODE", "BINUNICODE", "BINUNICODE8", "SHORT_BINUNICODE"})
_AROUND_TEXTS = frozenset({"PROTO", "FRAME", "MEMOIZE", "PUT", "BINPUT", "LONG_BINPUT", "STOP"})
"""The opcodes around a text in every version of pickle."""


# Our own schema.


_CASE = {
    "args": LIST,
    "kwargs": FieldKind(
        "an object whose keys are names of parameters",
        lambda value: isinstance(value, dict) and all(map(str.isidentifier, value)),
    ),
    **{"stdin": TEXT, "rel": TOLERANCE, "abs": TOLERANCE},
}


def _ours(record: _Record) -> _Draft:
    entry = record.get("entry")
    needed = "stdin" if entry is None else "args"
    cases: list[Case] = []
    for number, raw in enumerate(record["cases"]):
        if needed not in raw or "expected" not in raw:
            raise Unconvertible(f"case {number} lacks {needed!r} or 'expected'")
        case = Case(expected=raw["expected"], rel=raw.get("rel", 0.0), abs=raw.get("abs", 0.0))
        if entry is None:
            case = replace(case, stdin=str(raw["stdin"]))
        else:
            kwargs = dict(raw.get("kwargs", {}))
            case = replace(case, args=tuple(raw["args"]), kwargs=kwargs, check="json")
        cases.append(case)
    return _Draft(
        statement=str(record["prompt"]).strip(),
        entry=None if entry is None else str(entry),
        cases=tuple(cases),
        solution=record.get("solution") or "",
        preamble=record.get("preamble") or "",
    )


# The types of the fields of a record.

_TESTS = of_types("a list of tests, its JSON, or packed JSON", list, str, NoneType)
_KINDS: Mapping[Callable[[_Record], _Draft], Mapping[str, FieldKind]] = {
    _human_eval: {
        **dict.fromkeys(("prompt", "test", "entry_point"), TEXT),
        "canonical_solution": TEXT_OR_NULL,
    },
    _mbpp: {
        **dict.fromkeys(("text", "prompt", "code", "test_setup_code"), TEXT_OR_NULL),
        "test_list": TEXTS,
        **dict.fromkeys(("challenge_test_list", "test_imports"), TEXTS_OR_NULL),
    },
    _live_code_bench: {
        "question_content": TEXT,
        "starter_code": TEXT_OR_NULL,
        **dict.fromkeys(("public_test_cases", "private_test_cases"), _TESTS),
        "metadata": of_types("an object, its JSON, or null", dict, str, NoneType),
    },
    _ours: {
        "prompt": TEXT,
        **dict.fromkeys(("entry", "solution", "preamble"), TEXT_OR_NULL),
        "cases": OBJECTS,
    },
}


def _check(record: _Record, reader: Callable[[_Record], _Draft], where: str) -> None:
    """UsageError for a field whose value does not fit the schema."""
    names = dict.fromkeys(("task_id", "question_id", "id"), LABEL)
    check_fields(record, {**names, "split": TEXT_OR_NULL, **_KINDS[reader]}, where)
    if reader is _mbpp and not (record.get("text") or record.get("prompt")):
        raise UsageError(f"{where}: neither 'text' nor 'prompt' says what to write: give one")
    for number, case in enumerate(record["cases"] if reader is _ours else ()):
        check_fields(case, _CASE, f"{where}: case {number}")
        if record.get("entry") is None:
            check_fields(case, {"expected": TEXT}, f"{where}: case {number}")
