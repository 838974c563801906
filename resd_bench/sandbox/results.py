"""The result of a run, and the errors of the sandbox itself."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from resd_bench.errors import UsageError

Kind = Literal[
    "ok", "wrong", "timeout", "memory", "crash", "forbidden", "bad_output", "verifier_limit"
]
"""`ok`: the value equals the expected one. `wrong`: it does not. `timeout`: over a clock.
`memory`: a MemoryError, or the system's memory was out. `crash`: an exception, a signal, an exit
before the answer. `forbidden`: something the sandbox refuses. `bad_output`: not plain data, too
long, malformed or not UTF-8. `verifier_limit`: plain data that is more than the parent can compare.
All except `ok` score 0, so a program gains nothing by choosing among them."""

DETAIL_CHARS = 300


class SandboxError(RuntimeError):
    """The sandbox failed, for a reason that no program can cause: nothing was judged."""


class SandboxTooWeak(SandboxError, UsageError):
    """This machine cannot offer the required isolation; the message gives the reasons."""


class ZygoteLost(SandboxError):
    """The process that programs are forked from is gone."""


@dataclass(frozen=True, slots=True)
class ProgramCase:
    """The verdict on one case."""

    kind: Kind
    detail: str = ""
    """For people, in ASCII; may quote what the program claims, never the expected value."""
    value: Any = field(default=None, repr=False, hash=False)
    """What the program returned, as plain data: None, bool, int, float, complex, str, bytes, list,
    tuple, `PlainSet`, `PlainDict`. Standard output if there is no entry. None if there is nothing,
    or for an integer with more digits than Python prints."""
    cpu_s: float = 0.0
    wall_s: float = 0.0
    ran: bool = True
    """False if an earlier case ended the program for good."""


@dataclass(frozen=True, slots=True)
class ProgramResult:
    """The verdicts on one program, in the order of its cases."""

    cases: tuple[ProgramCase, ...]
    level: str
    """The isolation it ran under: `process`, `kernel`, `namespace`, with `+sealed` if programs
    could not open any file."""
    cpu_s: float = 0.0
    maxrss_mb: float = 0.0
    wall_s: float = 0.0

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """The kind of every case."""
        return tuple(case.kind for case in self.cases)

    @property
    def score(self) -> float:
        """Fraction of cases that are `ok`; 0 if there are no cases."""
        return sum(kind == "ok" for kind in self.kinds) / max(1, len(self.cases))


def ascii_detail(text: object) -> str:
    """Text from a program, cut short and escaped to ASCII without control characters."""
    words = str(text)[:DETAIL_CHARS].encode("ascii", "backslashreplace").decode("ascii")
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in words)
