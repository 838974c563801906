"""The result of a check of one property."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

_State = Literal["pass", "FAIL", "skip"]
_Subject = TypeVar("_Subject")


class PropertyFailed(AssertionError):
    """A property does not hold; the message says what was observed."""


class Skipped(Exception):
    """A property cannot be examined here; the message says why."""


@dataclass(frozen=True, slots=True)
class PropertyVerdict:
    """One property, whether it holds, and the evidence."""

    name: str
    state: _State
    evidence: str

    @property
    def failed(self) -> bool:
        """Whether the property was found not to hold."""
        return self.state == "FAIL"

    def __str__(self) -> str:
        return f"{self.state}  {self.name:<11} {self.evidence}"


def require(holds: bool, reason: str) -> None:
    """Raise `PropertyFailed` unless `holds`."""
    if not holds:
        raise PropertyFailed(reason)


def prove_all(properties: Mapping[str, Callable[[_Subject], str]], subject: _Subject) -> None:
    """Prove each property that can be examined here; AssertionError at the first that fails."""
    for prove in properties.values():
        with contextlib.suppress(Skipped):
            prove(subject)


def as_lines(verdicts: Sequence[PropertyVerdict]) -> str:
    """One line per property."""
    return "\n".join(map(str, verdicts))


def failures(verdicts: Sequence[PropertyVerdict]) -> str:
    """The lines of the properties that do not hold; "" if all hold."""
    return as_lines([verdict for verdict in verdicts if verdict.failed])
