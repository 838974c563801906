"""Processes on this machine: how a trial is started, asked about and ended."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import IO

LOST = -int(signal.SIGKILL)
"""Exit code of a trial whose machine or worker is gone."""


def single_threaded(environment: Mapping[str, str]) -> dict[str, str]:
    """`environment` with one thread per process, unless it says otherwise."""
    return {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", **environment}


def end_with_parent() -> None:
    """In a new process: get SIGTERM when the parent dies, so that no orphan keeps running."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(1, int(signal.SIGTERM), 0, 0, 0)  # PR_SET_PDEATHSIG


def start_process(
    command: Sequence[str],
    output: IO[bytes] | int,
    *,
    stdin: int = subprocess.DEVNULL,
    stderr: int | None = subprocess.STDOUT,
) -> subprocess.Popen[bytes]:
    """Start a process in its own session: Ctrl-C in a terminal reaches it only through us."""
    return subprocess.Popen(
        command,
        stdin=stdin,
        stdout=output,
        stderr=stderr,
        env=single_threaded(os.environ),
        start_new_session=True,
        preexec_fn=end_with_parent if sys.platform == "linux" else None,
    )


@dataclass
class Process:
    """A trial in a process on this machine."""

    process: subprocess.Popen[bytes]

    def poll(self) -> int | None:
        return self.process.poll()

    def interrupt(self) -> None:
        self.process.send_signal(signal.SIGINT)

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
