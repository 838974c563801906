"""What an interrupted run has left in its folder, and how it goes on.

Read from the names of its files and its status: whether a checkpoint is intact is found out when
the run is resumed, which falls back on an older one. Left out: what other commands have written.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from resd_bench.errors import UsageError
from resd_bench.records.checkpoints import by_update
from resd_bench.records.recorder import has_measured, read_status


class LeftBehind(NamedTuple):
    """What is there of a run."""

    what: str
    go_on: str = ""
    """What to do, as a sentence; "" where there is nothing to go on with."""
    checkpoint: int | None = None
    """Update of its last checkpoint."""

    def __str__(self) -> str:
        return f"{self.what}. {self.go_on}" if self.go_on else self.what


NOTHING = LeftBehind("nothing was written")


def left_behind(folder: Path) -> LeftBehind:
    """What a run that has ended has left in `folder`."""
    if not folder.is_dir() or not any(folder.iterdir()):
        return NOTHING
    if _finished(folder):
        return LeftBehind("the run is finished")
    updates = list(by_update(folder / "checkpoints", ".ckpt"))
    if updates:
        what = f"the checkpoint after update {updates[-1]} is kept"
        return LeftBehind(what, "Continue with the same command and --resume", updates[-1])
    if has_measured(folder):
        return LeftBehind("no checkpoint yet", "Begin again with the same command and --resume")
    return LeftBehind("nothing was measured yet", "Begin again with the same command")


def _finished(folder: Path) -> bool:
    try:
        return read_status(folder).get("state") == "finished"
    except UsageError:
        return False
