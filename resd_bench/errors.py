"""Errors for the user's mistakes, with the nearest valid name."""

from __future__ import annotations

import difflib
import errno
from collections.abc import Iterable, Iterator
from contextlib import contextmanager


class UsageError(Exception):
    """A mistake of the user's: says what was given, what was expected and what to do."""


NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
NO_ACCESS = frozenset({errno.EROFS, errno.EACCES, errno.EPERM})


@contextmanager
def explaining_disk() -> Iterator[None]:
    """Within the context, a full disk or missing permission for a file becomes a UsageError."""
    try:
        yield
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        if error.errno in NO_SPACE:
            raise UsageError(
                f"{where}{error.strerror}: make room, then use the same command again, for a run "
                "with --resume; what was recorded before is kept"
            ) from None
        if error.errno in NO_ACCESS:
            raise UsageError(
                f"{where}{error.strerror}: give a path that you may read and write"
            ) from None
        raise


def near_miss(kind: str, given: str, known: Iterable[str]) -> UsageError:
    """An error for an unknown name, with the nearest valid one."""
    names = sorted(known)
    close = difflib.get_close_matches(given, names, n=1, cutoff=0.5)
    hint = f"Did you mean {close[0]!r}? " if close else ""
    return UsageError(f"unknown {kind} {given!r}. {hint}Known: {', '.join(names) or 'none'}")
