"""How a reader knows that a file is what was written: SHA-256, and a checksum inside JSON.

Left out: what is hashed and where the hashes are kept, see `resd_bench.records.checkpoints` (for a
run that is resumed) and `resd_bench.records.run_files` (for a run that is read).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from resd_bench.files import reading

CHECKSUM = "checksum"
"""Key of an object that holds the SHA-256 of all its other fields."""
BLOCK = 1 << 20
"""Bytes read at a time."""


@dataclass(frozen=True, slots=True)
class Extent:
    """The beginning of a log, as recorded elsewhere."""

    rows: int
    sha256: str | None = None
    """Hash of these lines; None where only their number is known."""


def sha256(data: bytes) -> str:
    """SHA-256 of `data`, in hex."""
    return hashlib.sha256(data).hexdigest()


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    return concatenated_sha256([path])


def concatenated_sha256(paths: Iterable[Path]) -> str:
    """SHA-256 of the concatenated contents of files, in hex; their names do not count."""
    digest = hashlib.sha256()
    for path in paths:
        with reading.open_file(path) as file:
            while block := file.read(BLOCK):
                digest.update(block)
    return digest.hexdigest()


def cached_sha256(path: Path) -> str:
    """`file_sha256`, computed once per process unless the file's size or time changes."""
    found = path.stat()
    return _cached_sha256(path.resolve(), found.st_size, found.st_mtime_ns)


@lru_cache(maxsize=64)
def _cached_sha256(path: Path, size: int, changed: int) -> str:
    return file_sha256(path)


def files_sha256(paths: Iterable[Path]) -> str:
    """SHA-256 over the names and contents of files, in hex."""
    digest = hashlib.sha256()
    for path in paths:
        digest.update(f"{path.name} {file_sha256(path)}\n".encode())
    return digest.hexdigest()


def sealed(row: Mapping[str, Any]) -> dict[str, Any]:
    """`row` with its checksum."""
    return {**row, CHECKSUM: _checksum(row)}


def is_intact(row: Mapping[str, Any]) -> bool:
    """Whether a sealed object is unchanged since it was sealed."""
    return row.get(CHECKSUM) == _checksum(row)


def _checksum(row: Mapping[str, Any]) -> str:
    rest = {key: value for key, value in row.items() if key != CHECKSUM}
    return sha256(json.dumps(rest, sort_keys=True).encode())
