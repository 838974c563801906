"""The process that makes games: started when it is needed, with one line per request.

Its work is in `make.py`. It is started with a fixed hash seed, since TextWorld iterates over sets
of strings and its games depend on their order. Left out: several processes at once.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import select
import subprocess
import sys
import threading
from collections.abc import Mapping
from typing import Any

MAKING_SECONDS = 1800.0
"""Longest wait for the games of one request."""

_lock = threading.Lock()
_running: subprocess.Popen[bytes] | None = None


def ask(request: Mapping[str, Any]) -> str:
    """Have games made; returns what went wrong, "" if nothing did."""
    line = json.dumps(request).encode("utf-8") + b"\n"
    with _lock:
        code = None
        # A process that has been idle for long ends by itself, perhaps just now.
        for _ in range(2):
            answer = _answer(_process(), line)
            if answer:
                return str(json.loads(answer).get("failed", ""))
            code = end()
    return f"its process ended with exit code {code}"


def _process() -> subprocess.Popen[bytes]:
    global _running
    if _running is None or _running.poll() is not None:
        end()
        _running = subprocess.Popen(
            [sys.executable, "-P", "-m", "resd_envs.textworld.make"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "1"},
        )
    return _running


def _answer(process: subprocess.Popen[bytes], line: bytes) -> bytes:
    """Its answer; b"" if it has ended."""
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(line)
        process.stdin.flush()
    except BrokenPipeError:
        return b""
    if not select.select([process.stdout], [], [], MAKING_SECONDS)[0]:
        end()
        raise TimeoutError(f"TextWorld made no game within {MAKING_SECONDS:g} s")
    return process.stdout.readline()


def end() -> int | None:
    """End it; returns its exit code."""
    global _running
    process, _running = _running, None
    if process is None:
        return None
    process.kill()
    code = process.wait()
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            with contextlib.suppress(BrokenPipeError):
                stream.close()
    return code


def _forget() -> None:
    """In a forked process: it belongs to the one we were forked from."""
    global _lock, _running
    _lock = threading.Lock()
    process, _running = _running, None
    if process is not None:
        process.returncode = 0
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                stream.close()


atexit.register(end)
os.register_at_fork(after_in_child=_forget)
