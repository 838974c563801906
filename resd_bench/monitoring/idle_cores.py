"""How many of the cores that this process may use have nothing to do, from /proc. Linux only."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path

_LEAST = 1.0
"""Seconds to look at least."""


class IdleCores:
    """The cores that nobody has used since this was made."""

    def __init__(self, stat: Path = Path("/proc/stat"), quota: Path | None = None) -> None:
        self._stat = stat
        self._quota = quota or Path("/sys/fs/cgroup/cpu.max")
        self._begin = time.monotonic()
        self._before = self._idle()

    def count(self) -> float:
        """How many cores' worth of time has been idle; 0.0 where that cannot be told.

        Looks for a second at least. At most what a limit of the control group leaves.
        """
        time.sleep(max(0.0, _LEAST - (time.monotonic() - self._begin)))
        now, before = self._idle(), self._before
        passed = (time.monotonic() - self._begin) * os.sysconf("SC_CLK_TCK")
        idle = sum(min(passed, now[core] - before.get(core, now[core])) for core in now) / passed
        return max(0.0, min(idle, self._limit() - 1))

    def _idle(self) -> dict[int, int]:
        """Clock ticks without work of each core that may be used."""
        found: dict[int, int] = {}
        usable = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()
        with suppress(OSError, ValueError, IndexError):
            for line in self._stat.read_text().splitlines():
                name, *ticks = line.split()
                if name.startswith("cpu") and name[3:].isdigit() and int(name[3:]) in usable:
                    found[int(name[3:])] = int(ticks[3]) + int(ticks[4])
        return found

    def _limit(self) -> float:
        """The number of cores that the control group grants."""
        with suppress(OSError, ValueError):
            granted, period = self._quota.read_text().split()
            if granted != "max":
                return int(granted) / int(period)
        return float("inf")
