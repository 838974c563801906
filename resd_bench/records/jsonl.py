"""JSON Lines given by users: one object per line; errors name file and line.

Left out: logs of runs, whose last line a kill may have truncated (see
`resd_bench.records.log_files`).
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import NoneType
from typing import Any

from resd_bench.errors import UsageError, reason_of
from resd_bench.files import reading


@dataclass(frozen=True, slots=True)
class Line:
    """One object, and its line."""

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
        raise UsageError(f"{path} cannot be read: {reason_of(error)}. Give a JSONL file") from None


def parse_objects(
    lines: Iterable[bytes], source: str, expected: str, *, strict: bool = False
) -> Iterator[Line]:
    """The objects of UTF-8 lines, blank ones left out.

    UsageError names a line that is not a JSON object and says what is `expected`; `strict` also
    refuses NaN and infinities, which JSON does not have, and repeated keys.
    """
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        where = f"{source} line {number}"
        try:
            row = reading.parse_json(line, strict=strict)
        except ValueError as error:
            raise UsageError(f"{where} is not valid JSON ({error}): {expected}") from None
        if not isinstance(row, dict):
            raise UsageError(f"{where} is not a JSON object: {expected}")
        yield Line(number, where, row)


@dataclass(frozen=True, slots=True)
class FieldKind:
    """The allowed values of a field of a row."""

    told: str
    """In words, for messages."""
    holds: Callable[[Any], bool]


def of_types(told: str, *types: type) -> FieldKind:
    """Values of some types; true and false are not numbers."""
    return FieldKind(
        told,
        lambda value: isinstance(value, types) and (bool in types or not isinstance(value, bool)),
    )


TEXT = of_types("a text", str)
TEXT_OR_NULL = of_types("a text or null", str, NoneType)


def _all(value: Any, kind: type) -> bool:
    return isinstance(value, list) and all(isinstance(item, kind) for item in value)


TEXTS = FieldKind("a list of texts", lambda value: _all(value, str))
TEXTS_OR_NULL = FieldKind("a list of texts, or null", lambda v: v is None or _all(v, str))
OBJECTS = FieldKind("a list of objects", lambda value: _all(value, dict))
LABEL = FieldKind(
    "a text that is not empty, or a whole number",
    lambda value: value != "" and of_types("", str, int).holds(value),
)
LIST = of_types("a list", list)
OBJECT = of_types("an object", dict)
TRUE_OR_FALSE = of_types("true or false", bool)
COUNT = FieldKind("a whole number, 0 or more", lambda v: of_types("", int).holds(v) and v >= 0)
SHARE_OR_NULL = FieldKind(
    "a number from 0 to 1, or null where there is no verdict",
    lambda value: (
        value is None or (of_types("", int, float, bool).holds(value) and 0 <= value <= 1)
    ),
)
TOLERANCE = FieldKind(
    "a finite number, 0 or more",
    lambda value: of_types("", int, float).holds(value) and 0 <= value < math.inf,
)


def check_fields(row: Mapping[str, Any], kinds: Mapping[str, FieldKind], where: str) -> None:
    """UsageError, naming `where`, for a field of `row` whose value is not allowed."""
    for name, kind in kinds.items():
        if name in row and not kind.holds(row[name]):
            raise wrong(where, name, row[name], kind.told)


def wrong(where: str, name: str, value: Any, expected: str) -> UsageError:
    """The error for a field whose value is not what is `expected`."""
    given = json.dumps(value)
    return UsageError(f"{where}: {name!r} is {given[:60]}: give {expected}")
