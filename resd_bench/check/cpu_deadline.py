"""Wait for a process under a deadline that a busy machine stretches.

What its processes spend ready to run and without a processor is not counted: that is the machine's
doing. What sleeps, waits for something that never comes, or computes without end is counted in
full. Linux tells (`/proc/PID/task/TID/schedstat`); elsewhere nothing is taken off.
"""

from __future__ import annotations

import contextlib
import time
from multiprocessing.connection import Connection
from pathlib import Path

MOST_STRETCH = 10.0
"""A deadline is never stretched to more than so many times itself."""
LOOKS = 20
"""How often to look within a deadline: processes that have ended can tell no more."""
SESSION = 3
"""Place of the session in /proc/PID/stat, counted after the name."""


def answers_in_time(connection: Connection, session: int, seconds: float) -> bool:
    """Whether something arrives within `seconds`, less what the session waits for processors."""
    # Most answers come at once, and to look at every process costs more than most of them.
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
