"""Python's garbage collector, paused while a run is loaded: what is loaded stays.

Importing torch and transformers makes a million objects; looking through them again and again for
garbage is a tenth of the time to the first rollout. From then on they are left out of the search.
"""

from __future__ import annotations

import gc
from collections.abc import Sequence
from types import TracebackType
from typing import Any


class PausedCollector:
    """A watcher of a run: the collector pauses until everything is loaded."""

    def __enter__(self) -> PausedCollector:
        # A model of an earlier run in this process goes before the next one is loaded.
        gc.collect()
        gc.disable()
        return self

    def starting(
        self, policy: Any, train: Sequence[Any], held_out: int, turns: int, done: int
    ) -> None:
        """Everything is loaded."""
        leave_loaded()

    def updated(self, row: Any) -> None:
        """Nothing to do."""

    def evaluated(self, point: Any) -> None:
        """Nothing to do."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        gc.unfreeze()
        gc.enable()


def leave_loaded() -> None:
    """Search for garbage again, but not among what is there now."""
    gc.freeze()
    gc.enable()
