"""Answers of a server by what was asked, kept in a file as they come, for whoever asks again.

A line is a hash of the request, a tab, and the answer as JSON. A kill may cut off the last line,
which then counts as not answered. Prompts and keys are not in it. Left out: removing old answers;
the folder is a cache, and everything in it can be deleted.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from threading import Lock
from typing import Any

from resd_bench.files import reading
from resd_bench.files.cache import cache_root
from resd_bench.files.fingerprints import fingerprint
from resd_bench.files.writing import append_to, make_folder
from resd_bench.policy.engines.chat_client import ChatAnswer
from resd_bench.types import Stop

FOLDER = "answers"
"""Folder of these files in the cache."""
_DIGITS = 64


class KeptAnswers:
    """The answers of one model of one server; may be used by several threads at a time."""

    def __init__(self, path: Path, root: Path) -> None:
        """Read what is kept in `path`, below the folder `root`; both are made if missing."""
        make_folder(path.parent, root)
        self.path = path
        self._lock = Lock()
        self._file = append_to(path, root)
        self._lines: dict[str, bytes] = {}
        ended = True
        for line in reading.read_lines(path):
            ended = line.endswith(b"\n")
            key, tab, value = line.partition(b"\t")
            if ended and tab and len(key) == _DIGITS:
                self._lines[key.decode("ascii", "replace")] = value
        if not ended:
            self._file.write(b"\n")

    @classmethod
    def of(cls, url: str, model: str) -> KeptAnswers:
        """The answers of `model` at `url`, in the user's cache."""
        root = cache_root()
        name = fingerprint([url, model]).hex()[:16]
        return cls(root / FOLDER / f"{name}.answers", root)

    def get(self, key: str) -> ChatAnswer | None:
        """The answer to the request whose `request_key` is `key`; None if it is not kept."""
        line = self._lines.get(key)
        return None if line is None else _read(line)

    def put(self, key: str, reply: ChatAnswer) -> None:
        """Keep an answer; it is in the file when this returns."""
        value = json.dumps(asdict(reply)).encode() + b"\n"
        line = key.encode() + b"\t" + value
        with self._lock:
            if self._file.write(line) != len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))
            self._lines[key] = value

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def request_key(body: Mapping[str, Any], seed: int) -> str:
    """64 hex digits that name one sample: what is asked, and the seed of its random stream."""
    text = json.dumps([body, seed], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _read(line: bytes) -> ChatAnswer | None:
    try:
        row = reading.parse_json(line)
        reply = ChatAnswer(**{**row, "stop": Stop(row["stop"])})
    except (ValueError, TypeError, KeyError):
        return None
    numbers = (reply.prompt_tokens, reply.new_tokens)
    whole = all(type(number) is int and number >= 0 for number in numbers)
    return reply if isinstance(reply.text, str) and whole else None
