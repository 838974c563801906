"""What the groups of commands share."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any

import typer

from resd_bench import reading
from resd_bench.check.verdict import Verdict
from resd_bench.plugins import UsageError
from resd_bench.terminal import out

Name = Annotated[str, typer.Argument(metavar="NAME", help="Short name, as in the list.")]


def options(sets: Iterable[str] | None, prefix: str) -> dict[str, Any]:
    """The options that `--set PREFIX.NAME=VALUE` give; UsageError for anything else."""
    found: dict[str, Any] = {}
    for text in sets or ():
        key, equals, value = text.partition("=")
        name = key.strip().removeprefix(f"{prefix}.").replace("-", "_")
        if not equals or not key.startswith(f"{prefix}.") or not name.isidentifier():
            raise UsageError(f"--set {text!r} is not understood: give {prefix}.NAME=VALUE")
        try:
            found[name] = reading.parse_yaml(value)
        except ValueError as error:
            raise UsageError(f"--set {text!r}: the value is no YAML: {error}") from None
    return found


def show_verdicts(name: str, verdicts: Iterable[Verdict]) -> int:
    """Print each verdict as it comes; the number of properties that do not hold."""
    console, failed, seen = out(), 0, 0
    console.print(name)
    for verdict in verdicts:
        console.print(f"  {verdict}", soft_wrap=True)
        failed, seen = failed + verdict.failed, seen + 1
    word = "passes" if not failed else f"FAILS {failed} of {seen} properties"
    console.print(f"{name} {word}")
    return failed
