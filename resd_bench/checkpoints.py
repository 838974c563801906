"""Checkpoint files: atomic, self-describing, and checked before they are trusted.

A file is one line of JSON (update, rows of each log, SHA-256 of the rest) and what `torch.save`
wrote. It appears under its name only when it is complete on disk. Left out: sharded models.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from resd_bench.agent import State

KEEP = 2
"""Checkpoints kept: the last, and the one to fall back on."""


class CorruptCheckpoint(Exception):
    """A checkpoint file that is not what was written; the message says in which way."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Everything a run needs to go on as if nothing had happened."""

    update: int
    """Updates done."""
    rows: Mapping[str, int]
    """Rows of each log that were on disk before this was written."""
    state: State


def write_atomically(path: Path, data: bytes) -> None:
    """Write `data` so that `path` holds either the old content or all of the new."""
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """Make a rename durable, where the system can open folders."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def checkpoint_files(folder: Path) -> list[Path]:
    """The checkpoints of a folder, newest first."""
    return sorted(folder.glob("update-*.ckpt"), reverse=True)


def checkpoint_path(folder: Path, update: int) -> Path:
    """Where in `folder` the checkpoint after `update` updates is."""
    return folder / f"update-{update:08d}.ckpt"


def save_checkpoint(folder: Path, checkpoint: Checkpoint) -> Path:
    """Write a checkpoint and drop all but the last `KEEP`."""
    import torch

    buffer = io.BytesIO()
    torch.save(checkpoint.state, buffer)
    payload = buffer.getvalue()
    header = {
        "format": 1,
        "update": checkpoint.update,
        "rows": dict(checkpoint.rows),
        "sha256": hashlib.sha256(payload).hexdigest(),
    }
    folder.mkdir(parents=True, exist_ok=True)
    path = checkpoint_path(folder, checkpoint.update)
    write_atomically(path, json.dumps(header).encode() + b"\n" + payload)
    for old in checkpoint_files(folder)[KEEP:]:
        old.unlink()
    return path


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint; CorruptCheckpoint where it is not what was written.

    Only tensors and plain containers are read, so that a foreign run folder cannot run code.
    """
    import torch

    header, payload = _split(path)
    if hashlib.sha256(payload).hexdigest() != header.get("sha256"):
        raise CorruptCheckpoint(f"{path}: its checksum does not match (damaged or cut off)")
    try:
        state = torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True)
    except Exception as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
        raise CorruptCheckpoint(f"{path}: torch cannot read it: {first}") from error
    return Checkpoint(int(header["update"]), dict(header["rows"]), state)


def _split(path: Path) -> tuple[dict[str, Any], bytes]:
    try:
        line, _, payload = path.read_bytes().partition(b"\n")
        header = json.loads(line)
        if not isinstance(header, dict) or "update" not in header or "rows" not in header:
            raise ValueError("its first line is not a checkpoint header")
    except (OSError, ValueError) as error:
        raise CorruptCheckpoint(f"{path}: {error}") from None
    return header, payload
