"""Deadlines that are extended while the machine is busy, for another process and for this thread.

Time that processes spend runnable but without a processor is not counted: that is not their
fault. Sleeping, waiting for something that never comes and computing without end count in full.
Linux reports this time (`/proc/PID/task/TID/schedstat`); elsewhere nothing is subtracted.
"""

from __future__ import annotations

import contextlib
import time
from multiprocessing.connection import Connection
from pathlib import Path

MOST_STRETCH = 10.0
"""A deadline is never extended beyond this multiple of itself."""
LOOKS = 20
"""Polls per deadline: a process that has ended no longer shows its waiting time."""
SESSION = 3
"""Index of the session in /proc/PID/stat, counted after the name."""


def answers_in_time(connection: Connection, session: int, seconds: float) -> bool:
    """Whether something arrives within `seconds`, not counting waits for a processor."""
    # Most answers come at once, and looking at every process costs more than most of them.
    if connection.poll(seconds / LOOKS):
        return True
    begin, begun, lost = time.monotonic(), _queued(session), dict[str, float]()
    while True:
        taken = min(sum(lost.values()), seconds * (MOST_STRETCH - 1))
        left = seconds + taken - (time.monotonic() - begin)
        if connection.poll(min(max(left, 0.0), seconds / LOOKS)):
            return True
        if left <= 0:
            return False
        for thread, queued in _queued(session).items():
            lost[thread] = queued - begun.get(thread, 0.0)


def own_clock() -> float:
    """Seconds of a clock that stands still while this thread waits for a processor."""
    # Read first: a wait between the two lines would otherwise turn the clock back.
    waited = _waited()
    return time.monotonic() - waited


def _waited() -> float:
    """Seconds that this thread has waited for a processor."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        return int(Path("/proc/thread-self/schedstat").read_text().split()[1]) / 1e9
    return 0.0


def _queued(session: int) -> dict[str, float]:
    """Seconds that each thread of the session has waited for a processor."""
    found: dict[str, float] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        # Processes end while we look.
        with contextlib.suppress(OSError, ValueError, IndexError):
            if int(stat.read_text().rpartition(")")[2].split()[SESSION]) == session:
                for path in (stat.parent / "task").glob("*/schedstat"):
                    found[path.parent.name] = int(path.read_text().split()[1]) / 1e9
    return found
