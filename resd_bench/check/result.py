"""The result of a check of one property."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

State = Literal["pass", "FAIL", "skip"]


class PropertyFailed(AssertionError):
    """A property does not hold; the message says what was observed."""


class Skipped(Exception):
    """A property cannot be examined here; the message says why."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """One property, whether it holds, and the evidence."""

    name: str
    state: State
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


def report(verdicts: Sequence[Verdict]) -> str:
    """One line per property."""
    return "\n".join(map(str, verdicts))


def failures(verdicts: Sequence[Verdict]) -> str:
    """The lines of the properties that do not hold; "" if all hold."""
    return report([verdict for verdict in verdicts if verdict.failed])
