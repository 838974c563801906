"""The forms that a log has: as it is written, compressed, or in columns."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from resd_bench.files import columns, reading

LOG_SUFFIXES = ("", ".gz", columns.COLUMNS_SUFFIX)
"""What follows the name of a log in each form."""


def log_file(path: Path) -> Path | None:
    """The file that holds the log `path` in whatever form; None without one."""
    places = (path.with_name(f"{path.name}{suffix}") for suffix in LOG_SUFFIXES)
    return next((place for place in places if place.is_file()), None)


def lines_of(path: Path) -> Iterator[bytes]:
    """The lines of a file that `log_file` found; OSError or Unreadable."""
    if path.name.endswith(columns.COLUMNS_SUFFIX):
        return map(columns.line_of, columns.read_columns(path))
    return reading.read_lines(path)
