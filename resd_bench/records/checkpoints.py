"""Checkpoint files: atomic, self-describing, and checked before they are trusted.

A file is one line of JSON followed by the output of `torch.save`. The line gives the update, the
length of each log and the SHA-256 of that part of it, the SHA-256 of the rest of the file, and its
own. The file appears under its name only when it is complete on disk. Left out: sharded models.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any, cast

from resd_bench.agent import State
from resd_bench.files import reading
from resd_bench.files.integrity import Extent, is_intact, sealed, sha256
from resd_bench.files.writing import make_folder, remove, written_atomically

KEEP = 2
"""Number of checkpoints kept: the last, and one to fall back on."""
FORMAT = 2
"""Version of the files that are written; those of version 1 are read too."""
MAX_HEADER = 1 << 20
"""Maximum length of a first line, in bytes."""


class CorruptCheckpoint(Exception):
    """A checkpoint file that is not as it was written; the message says in which way."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Everything that a run needs to continue as if it had not been interrupted."""

    update: int
    """Updates done."""
    rows: Mapping[str, int]
    """Rows of each log that were on disk before this was written."""
    state: State
    digests: Mapping[str, str] = field(default_factory=dict)
    """SHA-256 of these rows; files of version 1 do not have it."""

    def extent(self, log: str) -> Extent:
        """The part of a log that it relies on."""
        return Extent(self.rows.get(log, 0), self.digests.get(log))


def by_update(folder: Path, suffix: str) -> dict[int, Path]:
    """The files `update-N` + `suffix` of a folder by N, in order; other files are ignored."""
    pattern = re.compile(rf"update-(\d+){re.escape(suffix)}")
    matches = ((pattern.fullmatch(path.name), path) for path in folder.glob("update-*"))
    return dict(sorted((int(match[1]), path) for match, path in matches if match))


def checkpoint_files(folder: Path) -> list[Path]:
    """The checkpoints of a folder, newest first."""
    return list(by_update(folder, ".ckpt").values())[::-1]


def checkpoint_path(folder: Path, update: int) -> Path:
    """Path in `folder` of the checkpoint after `update` updates."""
    return folder / f"update-{update:08d}.ckpt"


def save_checkpoint(folder: Path, checkpoint: Checkpoint, root: Path | None = None) -> Path:
    """Write a checkpoint and drop all but the last `KEEP`; no link below `root` is followed."""
    header = {
        "format": FORMAT,
        "update": checkpoint.update,
        "rows": dict(checkpoint.rows),
        "digests": dict(checkpoint.digests),
    }
    make_folder(folder, root or folder)
    path = checkpoint_path(folder, checkpoint.update)
    with written_atomically(path, root) as file:
        # As long as the line that takes its place when the hash is known.
        file.write(_first_line(header, sha256(b"")))
        found = _write_state(checkpoint.state, file)
        file.seek(0)
        file.write(_first_line(header, found))
    for old in checkpoint_files(folder)[KEEP:]:
        remove(old, root)
    return path


def _first_line(header: Mapping[str, Any], payload: str) -> bytes:
    return json.dumps(sealed({**header, "sha256": payload})).encode() + b"\n"


def _write_state(state: State, file: IO[bytes]) -> str:
    """Append a state to `file` tensor by tensor, so that memory holds it once; its SHA-256."""
    import torch

    hashed = _Hashed(file)
    torch.save(state, cast("IO[bytes]", hashed))
    if hashed.error is not None:
        raise hashed.error
    return hashed.digest.hexdigest()


class _Hashed(io.RawIOBase):
    """Writes to a file, and hashes what is written.

    An error is kept, because one that is raised within torch's writer would end the process.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self.file, self.digest = file, hashlib.sha256()
        self.error: OSError | None = None

    def write(self, data: Any) -> int:
        """Write all of `data`, unless an earlier write failed."""
        if self.error is None:
            try:
                self.file.write(data)
            except OSError as error:
                self.error = error
            self.digest.update(data)
        return len(data)


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint; CorruptCheckpoint if it is not as it was written.

    Only tensors and plain containers are read, so that someone else's run folder cannot run code.
    """
    try:
        with reading.open_file(path) as file:
            header = _header(file.readline(MAX_HEADER).rstrip(b"\n"), path)
            payload = file.read()
    except (OSError, MemoryError) as error:
        raise CorruptCheckpoint(f"{path}: {error}") from None
    if sha256(payload) != header.get("sha256"):
        raise CorruptCheckpoint(f"{path}: its checksum does not match (damaged or cut off)")
    try:
        state = reading.load_tensors(payload)
    except reading.Unreadable as error:
        raise CorruptCheckpoint(f"{path}: {error}") from error
    return replace(_described(header), state=state)


def describe_checkpoint(path: Path) -> Checkpoint:
    """The first line of a checkpoint without its state, which is much faster to read.

    CorruptCheckpoint if the line is not as it was written; the rest is not checked.
    """
    try:
        with reading.open_file(path) as file:
            return _described(_header(file.readline(MAX_HEADER).rstrip(b"\n"), path))
    except OSError as error:
        raise CorruptCheckpoint(f"{path}: {error}") from None


def _described(header: Mapping[str, Any]) -> Checkpoint:
    return Checkpoint(header["update"], header["rows"], {}, header.get("digests", {}))


def _header(line: bytes, path: Path) -> dict[str, Any]:
    try:
        header = reading.parse_json(line)
    except ValueError as error:
        raise CorruptCheckpoint(f"{path}: its first line is not JSON ({error})") from None
    if not isinstance(header, dict) or not _fits(header):
        raise CorruptCheckpoint(f"{path}: its first line is not a checkpoint header")
    # Version 1 has no hash of its first line, but the file is named by it.
    intact = is_intact(header) if header["format"] == FORMAT else header["format"] == 1
    if not intact or path.name != checkpoint_path(path.parent, header["update"]).name:
        raise CorruptCheckpoint(f"{path}: its first line does not match its checksum or its name")
    return header


def _fits(header: Mapping[str, Any]) -> bool:
    whole = [header.get("format"), header.get("update")]
    rows, digests = header.get("rows"), header.get("digests", {})
    if not isinstance(rows, dict) or not isinstance(digests, dict):
        return False
    whole += rows.values()
    texts = [header.get("sha256"), *digests.values()]
    return all(type(n) is int for n in whole) and all(isinstance(t, str) for t in texts)
