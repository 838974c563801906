"""Programming problems: a statement, an entry point, hidden test cases and a reference.

Cases are plain data. Expected values are computed here from trusted references, which are run in
this process; a model's answers never are (see `verifier.py`).
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
"""How a value is compared with the expected one; all but `equal` occur only in loaded tests."""
Wrap = str
"""Name of a Python function that the program's process first applies to the value, "" for none; one
of `resd_bench.sandbox.plain.APPLICABLE`."""


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
    """A correct program; "" if none is known."""
    preamble: str = ""
    """Code that runs before the answer's, for loaded problems that give some."""
    params: Mapping[str, Any] = field(default_factory=dict)
    """What the problem was made from; for tests that are programs (see `written.py`), `checker` is
    the program that judges the returned values."""

    @property
    def checker(self) -> str:
        """Program that judges the returned values; "" if the cases do."""
        return str(self.params.get("checker", ""))


def content_hash(family: str, params: Mapping[str, Any]) -> str:
    """SHA-256 of a generated problem's content, without its name and tests."""
    text = json.dumps([family, params], sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def bucket(content: str) -> int:
    """0 to 99, from the end of a hash, so that it is independent of an order by the hash."""
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
    """A case for each input, without repetitions, with the reference's answer."""
    reference = trusted(source, entry)
    distinct = {repr(args): args for args in inputs}.values()
    return tuple(
        Case(args, reference(*copy.deepcopy(args)), rel=tolerance, abs=tolerance)
        for args in distinct
    )
