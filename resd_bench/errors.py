"""Errors for the user's mistakes, with the nearest valid name."""

from __future__ import annotations

import difflib
import errno
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path


class UsageError(Exception):
    """A mistake of the user's: says what was given, what was expected and what to do."""


MOST_NAMES = 40
"""Names that an error lists; of more it lists the `NEAREST`."""
NEAREST = 8
NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
NO_ACCESS = frozenset({errno.EROFS, errno.EACCES, errno.EPERM})
WRONG_PATH = frozenset({errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.ELOOP})


@contextmanager
def explaining_disk() -> Iterator[None]:
    """Within the context, a path or disk that cannot be written to becomes a UsageError."""
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
        if error.errno in WRONG_PATH and error.filename:
            raise UsageError(f"{where}{error.strerror}: give another path") from None
        raise


def reason_of(error: Exception) -> str:
    """Why something failed, without the number and path that the system adds to its words."""
    return (isinstance(error, OSError) and error.strerror) or str(error)


def near_miss(kind: str, given: str, known: Iterable[str], all_by: str = "") -> UsageError:
    """An error for an unknown name, with the nearest valid one and the names that there are.

    Of more than `MOST_NAMES` it names those that are nearest, and the command `all_by` that lists
    all of them.
    """
    names = sorted(known)
    close = difflib.get_close_matches(given, names, n=1, cutoff=0.5)
    hint = f"Did you mean {close[0]!r}? " if close else ""
    if len(names) <= MOST_NAMES:
        return UsageError(f"unknown {kind} {given!r}. {hint}Known: {', '.join(names) or 'none'}")
    near = sorted(difflib.get_close_matches(given, names, n=NEAREST, cutoff=0.0))
    listed = f": `{all_by}` lists all" if all_by else ""
    return UsageError(
        f"unknown {kind} {given!r}. {hint}Known: {', '.join(near)} and {len(names) - len(near)} "
        f"more{listed}"
    )


def install_extra(name: str) -> str:
    """The command that installs an extra of resd-bench, which is on no package index.

    In a clone it names the extra; where a wheel is installed, the packages of the extra.
    """
    import shlex

    clone = Path(__file__).resolve().parents[1]
    if (clone / "pyproject.toml").is_file() and (clone / "constraints.txt").is_file():
        at = Path() if Path.cwd() == clone else clone
        extra = shlex.quote(f"{at}[{name}]") if at.is_absolute() else f"'.[{name}]'"
        return f"pip install -c {shlex.quote(str(at / 'constraints.txt'))} -e {extra}"
    return f"pip install {' '.join(map(shlex.quote, _packages_of(name)))}"


def require_package(module: str, what: str, extra: str) -> None:
    """UsageError where `module` is not installed, which `what` needs and `extra` installs."""
    from importlib.util import find_spec

    if find_spec(module) is None:
        raise UsageError(f"{what} needs {module}, which is not installed: {install_extra(extra)}")


def _packages_of(extra: str) -> list[str]:
    """The requirements of an extra, as in the metadata of the installed distribution."""
    import re
    from importlib import metadata

    found = []
    for line in metadata.requires("resd-bench") or ():
        requirement, _, condition = line.partition(";")
        if re.search(rf"""extra\s*==\s*['"]{re.escape(extra)}['"]""", condition):
            found.append(requirement.strip())
    return found
