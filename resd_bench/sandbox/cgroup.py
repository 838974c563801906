"""A control group that limits how many processes and threads a zygote and its children have.

It is a second layer behind the count that the zygote keeps (see `zygote.py`): it works from the
first moment, but only root, or a user to whom part of the hierarchy is delegated, can create one.
Both versions of control groups are supported. Linux only.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

MAX_PIDS = 512
"""Processes and threads of one zygote, including bubblewrap around it and the program."""
PREFIX = "resd-bench-"
REMOVE_S = 1.0
"""How long ended processes may take to leave a group."""
ENTER = '{ echo 0 > "$0"; } 2> /dev/null; exec "$@"'
"""A shell that enters a group, if it may, and becomes a command, so that everything the command
starts is in the group too."""

_numbers = itertools.count()


class PidsGroup:
    """One such group; `close` removes it once its processes have ended."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def around(self, command: Sequence[str]) -> list[str]:
        """A command that runs `command` inside."""
        return ["/bin/sh", "-c", ENTER, str(self._folder / "cgroup.procs"), *command]

    @property
    def holds(self) -> bool:
        """Whether a process has entered it."""
        return _lines(str(self._folder / "pids.current")) not in ([], ["0"])

    def close(self) -> None:
        """Remove it; if that fails, a later run will."""
        end = time.monotonic() + REMOVE_S
        while not _removed(self._folder) and time.monotonic() < end:
            time.sleep(0.01)


def make_group() -> PidsGroup | None:
    """A new group; None if none can be made."""
    for parent in _parents():
        _remove_left_over(parent)
        folder = parent / f"{PREFIX}{os.getpid()}-{next(_numbers)}"
        try:
            folder.mkdir()
        except OSError:
            continue
        try:
            (folder / "pids.max").write_text(str(MAX_PIDS), encoding="ascii")
        except OSError:
            # The controller does not exist, or we may not use it.
            _removed(folder)
            continue
        return PidsGroup(folder)
    return None


def _parents() -> Iterator[Path]:
    """Folders in which a group may be made: that of our own group, then the one above it."""
    for line in _lines("/proc/self/cgroup"):
        # Version 2 has one unnamed hierarchy, version 1 one for each controller.
        number, controllers, path = line.split(":", 2)
        kind = "cgroup2" if number == "0" else "cgroup"
        if kind == "cgroup2" or "pids" in controllers.split(","):
            for mount in _mounts(kind):
                own = mount / path.strip("/")
                yield from (own, own.parent) if own != mount else (own,)


def _mounts(kind: str) -> list[Path]:
    """Mount points of hierarchies of this kind that can hold the controller."""
    found = []
    for line in _lines("/proc/self/mountinfo"):
        left, _, right = line.partition(" - ")
        kind_of_mount, _, options = right.split(" ", 2)
        if kind_of_mount == kind and (kind == "cgroup2" or "pids" in options.split(",")):
            found.append(Path(left.split(" ")[4]))
    return found


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []


def _remove_left_over(parent: Path) -> None:
    """Remove groups of killed runs; groups that still have processes cannot be removed."""
    with contextlib.suppress(OSError):
        for folder in parent.glob(f"{PREFIX}*"):
            owner = folder.name.removeprefix(PREFIX).partition("-")[0]
            if not Path(f"/proc/{owner}").exists():
                _removed(folder)


def _removed(folder: Path) -> bool:
    try:
        folder.rmdir()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True
