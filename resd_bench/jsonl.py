"""JSON Lines that people give: an object a line, mistakes named by file and line.

Left out: logs of runs, whose last line a kill may have cut off (see `resd_bench.record.read_log`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from resd_bench import reading
from resd_bench.plugins import UsageError


@dataclass(frozen=True, slots=True)
class Line:
    """One object, and where it stands."""

    number: int
    """From 1; blank lines count."""
    where: str
    """File and line, for messages."""
    row: dict[str, Any]


def read_objects(path: Path, expected: str, *, strict: bool = False) -> Iterator[Line]:
    """The objects of a file, which may be compressed by gzip (`.gz`); see `parse_objects`."""
    try:
        yield from parse_objects(reading.read_lines(path), str(path), expected, strict=strict)
    except (OSError, reading.Unreadable) as error:
        raise UsageError(f"{path} cannot be read: {error}. Give a JSONL file") from None


def parse_objects(
    lines: Iterable[bytes], source: str, expected: str, *, strict: bool = False
) -> Iterator[Line]:
    """The objects of UTF-8 lines, blank ones left out.

    UsageError names a line that is no JSON object and says what is `expected`; `strict` refuses
    NaN and infinities, which JSON does not have, too.
    """
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        where = f"{source} line {number}"
        try:
            row = reading.parse_json(line, strict=strict)
        except ValueError as error:
            raise UsageError(f"{where} is no JSON ({error}): {expected}") from None
        if not isinstance(row, dict):
            raise UsageError(f"{where} is no object: {expected}")
        yield Line(number, where, row)
