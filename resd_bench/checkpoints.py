"""Checkpoint files: atomic, self-describing, and checked before they are trusted.

A file is one line of JSON (update, rows of each log, SHA-256 of the rest) and what `torch.save`
wrote. It appears under its name only when it is complete on disk. Left out: sharded models.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from resd_bench import reading
from resd_bench.agent import State
from resd_bench.writing import make_folder, remove, write_atomically

KEEP = 2
"""Checkpoints kept: the last, and the one to fall back on."""
MAX_HEADER = 1 << 20
"""Bytes of a checkpoint's first line."""


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


def checkpoint_files(folder: Path) -> list[Path]:
    """The checkpoints of a folder, newest first."""
    return list(by_update(folder, ".ckpt").values())[::-1]


def by_update(folder: Path, suffix: str = ".json") -> dict[int, Path]:
    """The files `update-NUMBER` of a folder by their number, in order; others are passed over."""
    found = {path.stem.removeprefix("update-"): path for path in folder.glob(f"update-*{suffix}")}
    numbered = {int(n): path for n, path in found.items() if n.isascii() and n.isdigit()}
    return dict(sorted(numbered.items()))


def checkpoint_path(folder: Path, update: int) -> Path:
    """Where in `folder` the checkpoint after `update` updates is."""
    return folder / f"update-{update:08d}.ckpt"


def save_checkpoint(folder: Path, checkpoint: Checkpoint, root: Path | None = None) -> Path:
    """Write a checkpoint and drop all but the last `KEEP`; no link below `root` is followed."""
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
    make_folder(folder, root or folder)
    path = checkpoint_path(folder, checkpoint.update)
    write_atomically(path, json.dumps(header).encode() + b"\n" + payload, root)
    for old in checkpoint_files(folder)[KEEP:]:
        remove(old, root)
    return path


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint; CorruptCheckpoint where it is not what was written.

    Only tensors and plain containers are read, so that a foreign run folder cannot run code.
    """
    header, payload = _split(path)
    if hashlib.sha256(payload).hexdigest() != header.get("sha256"):
        raise CorruptCheckpoint(f"{path}: its checksum does not match (damaged or cut off)")
    try:
        state = reading.load_tensors(payload)
    except reading.Unreadable as error:
        raise CorruptCheckpoint(f"{path}: {error}") from error
    return Checkpoint(int(header["update"]), dict(header["rows"]), state)


def _split(path: Path) -> tuple[dict[str, Any], bytes]:
    try:
        with reading.open_file(path) as file:
            header = reading.parse_json(file.readline(MAX_HEADER))
            payload = file.read()
        if not isinstance(header, dict) or "update" not in header or "rows" not in header:
            raise ValueError("its first line is not a checkpoint header")
    except (OSError, ValueError, MemoryError) as error:
        raise CorruptCheckpoint(f"{path}: {error}") from None
    return header, payload
