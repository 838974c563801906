"""Untrusted programs, and verdicts on them that the programs cannot choose.

    with Sandbox() as box:
        result = box.run_program(code, [{"args": [3], "expected": 7}], entry="solve")

A sandbox protects the machine; it does not protect the verdict. That is protected by what is not
in the process of the program: the expected values, the comparison, the clocks. See
`docs/sandbox.md` for the threats, the layers, and what is not stopped. Linux only.
"""

from resd_bench.sandbox.box import LEVELS, Level, Sandbox, shared
from resd_bench.sandbox.limits import Limits
from resd_bench.sandbox.plain import PlainDict, PlainSet
from resd_bench.sandbox.results import (
    Kind,
    ProgramCase,
    ProgramResult,
    SandboxError,
    SandboxTooWeak,
)

__all__ = [
    "LEVELS",
    "Kind",
    "Level",
    "Limits",
    "PlainDict",
    "PlainSet",
    "ProgramCase",
    "ProgramResult",
    "Sandbox",
    "SandboxError",
    "SandboxTooWeak",
    "shared",
]
