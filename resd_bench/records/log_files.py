"""The logs of a run: one JSON object per line, read one at a time, since a long run's are large.

A log is as it was written, compressed, or in columns. A kill may have truncated its last line.
"""

from __future__ import annotations

import hashlib
import os
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from resd_bench.errors import UsageError
from resd_bench.files import columns, reading
from resd_bench.files.writing import append_to, remove, write_all, written_atomically

LogRow = dict[str, Any]

LOG_SUFFIXES = ("", ".gz", columns.COLUMNS_SUFFIX, columns.PLAIN_SUFFIX)
"""What follows the name of a log in each form."""


def log_file(path: Path) -> Path | None:
    """The file that holds the log `path` in whatever form; None without one."""
    places = (path.with_name(f"{path.name}{suffix}") for suffix in LOG_SUFFIXES)
    return next((place for place in places if reading.is_file(place)), None)


def lines_of(path: Path) -> Iterator[bytes]:
    """The lines of a file that `log_file` found; OSError or Unreadable."""
    if columns.in_columns(path):
        return map(columns.line_of, columns.read_columns(path))
    return reading.read_lines(path)


def row_of(line: bytes) -> LogRow:
    """The row in a line of a log; ValueError if it is damaged."""
    if not line.endswith(b"\n"):
        raise ValueError("cut off")
    row = reading.parse_json(line.decode())
    if not isinstance(row, dict) or type(row.get("update")) is not int:
        raise ValueError("not an object with an update number")
    return row


def read_log(path: Path) -> Iterator[LogRow]:
    """The intact rows of a log. A damaged last line is left out.

    UsageError if an earlier one is damaged, or the file.
    """
    return (row for row in _rows(path) if row is not None)


def _rows(path: Path) -> Iterator[LogRow | None]:
    """The rows of a log, None for a damaged last one."""
    damage = ""
    for number, line in enumerate(_lines(path), start=1):
        if damage:
            raise UsageError(
                f"{path} line {number - 1} is damaged ({damage}) though later lines are intact. "
                "Restore the file from a copy, or keep only the lines before it (head -n "
                f"{number - 2}) and use --resume: the run repeats what is missing from an earlier "
                "checkpoint"
            )
        try:
            row = row_of(line)
        except ValueError as error:
            damage = str(error)
        else:
            yield row
    if damage:
        yield None


def _lines(path: Path) -> Iterator[bytes]:
    here = log_file(path)
    try:
        if here is not None:
            yield from lines_of(here)
    except (OSError, ValueError) as error:
        raise UsageError(f"{here} is damaged ({error}): restore it from a copy") from None


class Logged:
    """Length and hash of a log so far, without its content."""

    def __init__(self) -> None:
        self.rows, self._digest = 0, hashlib.sha256()

    def add(self, lines: Iterable[bytes]) -> None:
        """Count whole lines that were written."""
        for line in lines:
            self.rows += 1
            self._digest.update(line)

    @property
    def sha256(self) -> str:
        """Of all lines."""
        return self._digest.hexdigest()


@dataclass(frozen=True, slots=True)
class LogScan:
    """A log that was read once, without its content."""

    path: Path
    updates: Sequence[int]
    """Of every intact row."""
    has_tail: bool
    """Whether a last line follows that a kill truncated."""

    @property
    def rows(self) -> int:
        """The number of intact rows."""
        return len(self.updates)

    def rows_until(self, update: int) -> int:
        """The number of rows that were true after `update` updates or fewer."""
        return sum(value <= update for value in self.updates)

    def first(self, rows: int) -> Logged:
        """Length and hash of the first rows."""
        logged = Logged()
        logged.add(islice(_lines(self.path), rows))
        return logged


def scan_log(path: Path) -> LogScan:
    """Read a log in the memory that its longest row needs; UsageError as for `read_log`."""
    updates, has_tail = array("q"), False
    for row in _rows(path):
        if row is None:
            has_tail = True
        else:
            updates.append(row["update"])
    return LogScan(path, updates, has_tail)


def truncate_log(log: LogScan, rows: int, root: Path | None = None) -> int:
    """Move all but the first `rows` rows to `<name>.orphaned`; the number of lines moved.

    The log is then as it was first written, so that a run can append to it.
    """
    path, gone = log.path, log.rows + log.has_tail - rows
    here = log_file(path)
    if here is None or (not gone and here == path):
        return gone
    lines = _lines(path)
    with written_atomically(path, root) as kept:
        kept.writelines(islice(lines, rows))
        if gone:
            with append_to(path.with_name(path.name + ".orphaned"), root) as sidecar:
                for line in lines:
                    write_all(sidecar, line.rstrip(b"\n") + b"\n")
                os.fsync(sidecar.fileno())
    if here != path:
        remove(here, root)
    return gone
