"""How much memory this process may use, and how much of it is left."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from resd_bench.machine.cores import CONTROL_GROUPS

_MEMINFO = Path("/proc/meminfo")


def usable_memory(groups: Path = CONTROL_GROUPS) -> int | None:
    """Bytes of memory of this machine, as far as the control group grants them.

    None if the system does not say.
    """
    found = []
    with suppress(AttributeError, OSError, ValueError):
        found.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    with suppress(OSError, ValueError):
        found.append(int((groups / "memory.max").read_text()))
    return min(found, default=None)


def memory_left(groups: Path = CONTROL_GROUPS, meminfo: Path = _MEMINFO) -> int | None:
    """Bytes of memory that this process can still get; None if the system does not say."""
    found = []
    with suppress(OSError, ValueError, KeyError):
        sizes = _sizes(meminfo)
        found.append((sizes["MemAvailable"] + sizes["SwapFree"]) * 1024)
    with suppress(OSError, ValueError, KeyError):
        most, used = (int((groups / f"memory.{name}").read_text()) for name in ("max", "current"))
        # Cached files count as used memory, and are dropped when memory is needed.
        found.append(most - used + _sizes(groups / "memory.stat")["inactive_file"])
    return max(0, min(found)) if found else None


def _sizes(file: Path) -> dict[str, int]:
    """Numbers by name, one per line."""
    lines = (line.split() for line in file.read_text(encoding="ascii").splitlines())
    return {words[0].rstrip(":"): int(words[1]) for words in lines if len(words) > 1}
