"""Rows as CSV that a spreadsheet opens as data. Left out: reading it, and other dialects."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence

_FORMULA = tuple("=+-@\t\r\n＝＋－＠")
"""Beginnings of texts that a spreadsheet interprets as a formula."""
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?%?", re.ASCII)


def as_csv(rows: Iterable[Sequence[object]]) -> bytes:
    """The rows in UTF-8. A text that would be a formula gets an apostrophe before it."""
    file = io.StringIO(newline="")
    csv.writer(file).writerows([[_cell(value) for value in row] for row in rows])
    return file.getvalue().encode("utf-8", "backslashreplace")


def _cell(value: object) -> object:
    is_formula = isinstance(value, str) and value.startswith(_FORMULA)
    return f"'{value}" if is_formula and not _NUMBER.fullmatch(str(value)) else value
