"""System calls that Python has no function for, or not in every build. Linux only."""

from __future__ import annotations

import ctypes
import os
import signal
from typing import Any

PIDFD_SEND_SIGNAL, PIDFD_OPEN = 424, 434
"""The same numbers on all architectures."""

libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long


def syscall(what: str, number: int, *arguments: Any) -> int:
    """Make a system call and return its result; OSError says what failed."""
    return checked(what, int(libc.syscall(number, *arguments)))


def checked(what: str, result: int) -> int:
    """Return `result` if it is not negative; OSError says what failed."""
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, f"{what}: {os.strerror(error)}")
    return result


def pidfd_open(pid: int) -> int:
    """A descriptor that refers to a process even after its number is reused; OSError."""
    return syscall("pidfd_open", PIDFD_OPEN, pid, 0)


def kill(pidfd: int) -> None:
    """Kill the process behind a pidfd; OSError if it no longer exists."""
    syscall("pidfd_send_signal", PIDFD_SEND_SIGNAL, pidfd, int(signal.SIGKILL), None, 0)
