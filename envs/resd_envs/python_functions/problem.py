"""What a programming problem is: a statement, an entry point, hidden test cases and a reference.

Cases are plain data. Expected values are worked out here from trusted references, which are run in
this process; answers of a model never are (see `verifier.py`).
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

Comparison = Literal[
    "equal", "python", "json", "differs", "close", "truthy", "falsy", "stripped", "program"
]
"""How a value is held against the expected one; all but `equal` occur in loaded tests only."""
Wrap = str
"""Name of a function of Python's that the program's process applies to the value first, "" for
none; one of `resd_bench.sandbox.plain.APPLICABLE`."""


@dataclass(frozen=True, slots=True)
class Case:
    """One hidden test: a call with plain arguments, or a whole run with standard input."""

    args: tuple[Any, ...] = ()
    expected: Any = None
    """Value, or text of standard output."""
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    stdin: str | None = None
    check: Comparison = "equal"
    wrap: Wrap = ""
    rel: float = 0.0
    """Tolerance relative to the expected value."""
    abs: float = 0.0
    """Absolute tolerance."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One problem with its hidden tests."""

    id: str
    family: str
    statement: str
    """What a real language model reads."""
    brief: str
    """The same in few words."""
    entry: str | None
    """Name of the function (or `Class.method`) to write; None for a program on standard input."""
    cases: tuple[Case, ...]
    solution: str = ""
    """A correct program, "" where none is known."""
    preamble: str = ""
    """Code that runs before the answer's, for loaded problems that give some."""
    params: Mapping[str, Any] = field(default_factory=dict)
    """What the problem was made from; of tests that are programs (see `written.py`) `checker`, the
    one that judges what came back."""

    @property
    def checker(self) -> str:
        """Program that judges what came back, "" where the cases do."""
        return str(self.params.get("checker", ""))


def content_hash(family: str, params: Mapping[str, Any]) -> str:
    """SHA-256 of what a generated problem asks, whatever it is called and whatever its tests."""
    text = json.dumps([family, params], sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def bucket(content: str) -> int:
    """0 to 99, from the end of a hash, so that it says nothing about an order by the hash."""
    return int(content[-8:], 16) % 100


def trusted(source: str, entry: str) -> Callable[..., Any]:
    """The function `entry` of a program that this package wrote. Never of a model's answer."""
    scope: dict[str, Any] = {"__name__": "reference"}
    exec(compile(source, "<reference>", "exec"), scope)
    function: Callable[..., Any] = scope[entry]
    return function


def solved(
    source: str, entry: str, inputs: Sequence[tuple[Any, ...]], tolerance: float = 0.0
) -> tuple[Case, ...]:
    """A case for each input, without repetitions, with what the reference answers."""
    reference = trusted(source, entry)
    distinct = {repr(args): args for args in inputs}.values()
    return tuple(
        Case(args, reference(*copy.deepcopy(args)), rel=tolerance, abs=tolerance)
        for args in distinct
    )
