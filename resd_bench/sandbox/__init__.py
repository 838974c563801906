"""Run untrusted programs, and reach verdicts on them that the programs cannot influence.

    with Sandbox() as box:
        result = box.run_program(code, [{"args": [3], "expected": 7}], entry="solve")

A sandbox protects the machine; it does not protect the verdict. The verdict is protected by keeping
the expected values, the comparison and the clocks out of the program's process. See
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
