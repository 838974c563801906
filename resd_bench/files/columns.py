"""Rows of JSON Lines as columns: what `results compact` makes of logs, nothing lost.

A log repeats its keys in every row, and most values of a column resemble those before: written
column by column and compressed, it takes a third of the space and is read faster. A file holds one
JSON object: `kinds`, the keys of each kind of row in their order; `rows`, the kind of each row;
`columns`, the values of each key. The lines of the log follow from it byte by byte, so that their
hash is checked as before. Left out: adding rows.
"""

from __future__ import annotations

import json
import lzma
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from resd_bench.files import reading

PLAIN_SUFFIX = ".columns"
"""Of the name of a log in columns that is not compressed: a pack of runs is compressed whole."""
COLUMNS_SUFFIX = f"{PLAIN_SUFFIX}.xz"
"""Of the name of a log in columns."""


def pack_columns(lines: Iterable[bytes]) -> bytes | None:
    """Lines of JSON objects in columns; None if they would not come back byte by byte."""
    given = list(lines)
    kinds: dict[tuple[str, ...], int] = {}
    order: list[int] = []
    columns: dict[str, list[Any]] = {}
    for line in given:
        try:
            row = reading.parse_json(line)
        except ValueError:
            return None
        if not isinstance(row, dict) or line_of(row) != line:
            return None
        order.append(kinds.setdefault(tuple(row), len(kinds)))
        for key, value in row.items():
            columns.setdefault(key, []).append(value)
    told = {"kinds": list(kinds), "rows": order, "columns": columns}
    return lzma.compress(json.dumps(told, separators=(",", ":")).encode())


def in_columns(path: Path) -> bool:
    """Whether a file is named as a log in columns."""
    return path.name.endswith((PLAIN_SUFFIX, COLUMNS_SUFFIX))


def line_of(row: dict[str, Any]) -> bytes:
    """The line of a log that holds `row`."""
    return json.dumps(row).encode() + b"\n"


def read_columns(path: Path) -> list[dict[str, Any]]:
    """The rows of a file in columns; OSError or Unreadable."""
    data = reading.read_bytes(path)
    if path.name.endswith(COLUMNS_SUFFIX):
        data = reading.unpack_xz(data)
    try:
        told = reading.parse_json(data)
        return _rows(told["kinds"], told["rows"], told["columns"])
    except (LookupError, TypeError, AttributeError, ValueError, StopIteration) as error:
        raise reading.Unreadable(f"it does not hold rows in columns ({error})") from None


def _rows(
    kinds: Sequence[Sequence[str]], order: Sequence[int], columns: dict[str, list[Any]]
) -> list[dict[str, Any]]:
    values = {key: iter(column) for key, column in columns.items()}
    # Every key takes a value from the file, so the rows are not larger than it.
    rows = [{key: next(values[key]) for key in kinds[kind]} for kind in order]
    if any(True for left in values.values() for _ in left):
        raise ValueError("a column is too long")
    return rows
