"""Count what is read, where that takes a while: a line in a terminal, a note elsewhere.

Written by hand and not by a thread, since some who read records start processes. Left out: progress
of a run and of a sweep, which have displays of their own.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from typing import TypeVar

from resd_bench.files.terminal import columns, note

_T = TypeVar("_T")
SLOW = 1.0
"""Seconds until anything is shown."""
REDRAW = 0.2
"""Seconds between two states of the line."""
_CLEAR = "\r\x1b[K"


def counted(things: Sequence[_T], doing: str) -> Iterator[_T]:
    """`things`, while standard error says how many have been taken: `doing` 12/345."""
    width = columns(sys.stderr)
    began = shown = time.monotonic()
    said = False
    try:
        for done, thing in enumerate(things):
            now = time.monotonic()
            if now - began >= SLOW and (now - shown >= REDRAW or not said):
                if width is not None:
                    text = f"{doing} {done}/{len(things)}"
                    print(f"{_CLEAR}{text[: width - 1]}", end="", file=sys.stderr, flush=True)
                elif not said:
                    note(f"{doing}: {len(things)}")
                shown, said = now, True
            yield thing
    finally:
        if said and width is not None:
            print(_CLEAR, end="", file=sys.stderr, flush=True)
