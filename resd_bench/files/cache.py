"""A cache for what is slow to make and depends only on its source.

It holds TextWorld games and models converted from GGUF files. Everything in it can be deleted: it
is made again when it is needed.
"""

from __future__ import annotations

import os
from pathlib import Path

CACHE_VARIABLE = "RESD_BENCH_CACHE"
"""The environment variable that names another folder."""


def cache_root() -> Path:
    """The folder that `RESD_BENCH_CACHE` names, else `resd-bench` in the user's cache folder."""
    chosen = os.environ.get(CACHE_VARIABLE)
    if chosen:
        return Path(chosen).expanduser()
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "resd-bench"
