"""How many cores this process may use, and how many of them have nothing to do."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

CONTROL_GROUPS = Path("/sys/fs/cgroup")
_LEAST = 1.0
"""Seconds to look at least at what is idle."""


def granted(groups: Path = CONTROL_GROUPS) -> float:
    """The number of cores whose time the control group grants, as `docker --cpus` sets it.

    Infinite without a limit, and where there are no control groups. Version 1 and 2.
    """
    limits = (quota / period for quota, period in _limits(groups) if quota > 0 and period > 0)
    return min(limits, default=math.inf)


def _limits(groups: Path) -> Iterator[tuple[int, int]]:
    """Microseconds of processor time, and of the period that has them."""
    with suppress(OSError, ValueError):
        quota, period = (groups / "cpu.max").read_text().split()
        yield int(quota), int(period)  # a quota of "max" is no number
    with suppress(OSError, ValueError):
        names = ("cpu.cfs_quota_us", "cpu.cfs_period_us")
        quota, period = ((groups / "cpu" / name).read_text() for name in names)
        yield int(quota), int(period)


def usable_cores(groups: Path = CONTROL_GROUPS) -> int:
    """The number of cores this process may use: those it is bound to, as far as granted."""
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, math.ceil(min(bound or 1, granted(groups))))


def sleep_while_waiting() -> None:
    """Have the threads of a product sleep soon when they wait for each other; before torch loads.

    By default they spin, so that with other work on the cores two threads take several times as
    long as one. What the user says of waiting stays.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "1000")


class IdleCores:
    """The cores that nobody has used since this was made, from /proc: Linux only."""

    def __init__(self, stat: Path = Path("/proc/stat"), groups: Path = CONTROL_GROUPS) -> None:
        self._stat, self._groups = stat, groups
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
        return max(0.0, min(idle, granted(self._groups) - 1))

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
