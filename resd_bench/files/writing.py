"""Write below a named folder without following links: the one way in which this package writes.

A run folder, a folder of results or the current folder may come from somebody else. The folder
named on the command line may be a link; nothing below it may be, or a file of the user's elsewhere
could be overwritten. So every step below the named folder (`root`) is opened from the one before by
its name alone, and a name that leads out is refused. Left out: writers of other packages, which
write into a new folder, or into one that `refuse_links` has searched.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from resd_bench.errors import UsageError, reason_of

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_LONGEST_NAME = 200
"""Bytes of a file name, with room for suffixes."""
_WRITTEN: set[Path] = set()
"""Files that this process has written or begun, for `written`."""


def check_name(name: str, what: str) -> str:
    """`name`, if it names a file in a folder and cannot lead elsewhere; UsageError otherwise."""
    plain = name.isprintable() and "/" not in name and "\\" not in name
    if not plain or name in ("", ".", "..") or len(name.encode()) > _LONGEST_NAME:
        raise UsageError(
            f"{what} {name!r} cannot name a folder: give a name without slashes and control "
            "characters"
        )
    return name


def written() -> str:
    """What this process has written that is still there, in words."""
    found = sorted(path for path in _WRITTEN if path.exists())
    if not found:
        return "nothing was written"
    if len(found) == 1:
        return f"written before: {found[0]}"
    around = os.path.commonpath([path.absolute() for path in found])
    return f"written before: {len(found)} files in {around}"


def make_folder(path: Path, root: Path) -> Path:
    """Make the folder `path` and those between `root` and it; UsageError where one is a link.

    `root` is made too if it is missing.
    """
    root.mkdir(parents=True, exist_ok=True)
    with _opened(path, root, make=True):
        return path


def write_atomically(
    path: Path, data: bytes, root: Path | None = None, *, mode: int = 0o666
) -> Path:
    """Write `data` so that `path` holds either the old content or all of the new.

    Its folder must exist; `mode` says who may read a new file. `root` is the folder that was named,
    by default the file's own.
    """
    with written_atomically(path, root, mode=mode) as file:
        file.write(data)
    return path


@contextmanager
def written_atomically(
    path: Path, root: Path | None = None, *, mode: int = 0o666
) -> Iterator[IO[bytes]]:
    """A file to write, and to seek in, that is at `path` once all of it is written.

    Like `write_atomically`, for content that should not be in memory as a whole.
    """
    temporary = f"{path.name}.tmp"
    with _opened(path.parent, root or path.parent) as folder:
        try:
            # Left behind by a killed process, or put there by somebody else.
            with suppress(FileNotFoundError):
                os.unlink(temporary, dir_fd=folder)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
            with os.fdopen(os.open(temporary, flags, mode, dir_fd=folder), "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            # Renaming replaces a link and does not follow it.
            os.replace(temporary, path.name, src_dir_fd=folder, dst_dir_fd=folder)
            _WRITTEN.add(path)
        except Exception as error:
            if isinstance(error, OSError) and error.errno is not None:
                error.filename = str(path)
            # On a full disk every byte counts.
            with suppress(OSError):
                os.unlink(temporary, dir_fd=folder)
            raise
        os.fsync(folder)


def write_named(path: Path, data: bytes) -> Path:
    """Write `data` to a file that the user named, which may be a pipe or a device.

    Its folder is made. UsageError if it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and not path.is_file():
            path.write_bytes(data)
            _WRITTEN.add(path)
            return path
        return write_atomically(path, data)
    except OSError as error:
        raise UsageError(f"cannot write {path}: {reason_of(error)}. Give another --out") from None


def check_target(path: Path, option: str = "--out") -> Path:
    """`path`, if a file can be written there; UsageError otherwise, before any work is done.

    Nothing is made: where its folder is missing, it is seen whether it can be. `option` is the flag
    that named it. Left out: whether the disk has room.
    """
    if path.is_dir():
        raise UsageError(f"cannot write {path}: it is a folder. Give a file with {option}")
    if path.exists() and not path.is_file() and os.access(path, os.W_OK):
        return path
    if why := _why_not(path.parent):
        raise UsageError(f"cannot write {path}: {why}. Give another file with {option}")
    return path


def check_folder_target(folder: Path, option: str = "--out") -> Path:
    """`folder`, if files can be written below it; UsageError otherwise. See `check_target`."""
    if why := _why_not(folder):
        raise UsageError(f"cannot write to {folder}: {why}. Give another folder with {option}")
    return folder


def _why_not(folder: Path) -> str:
    """Why no file can be made in `folder`, or in the nearest one that exists; "" if one can."""
    nearest = next(at for at in (folder, *folder.absolute().parents) if os.path.lexists(at))
    if not nearest.is_dir():
        kind = "a link to nothing" if nearest.is_symlink() else "not a folder"
        return f"{nearest} is {'a file' if nearest.is_file() else kind}"
    try:
        # Permissions do not tell: root has all of them in /proc too.
        with tempfile.TemporaryFile(dir=nearest):
            return ""
    except OSError as error:
        return f"nothing can be made in {nearest} ({reason_of(error)})"


def append_to(path: Path, root: Path | None = None) -> IO[bytes]:
    """Open a file to append to, made if it is missing; UsageError if it is a link.

    It is unbuffered: what a full disk refuses must not be tried again when the file is closed.
    """
    file = _open_own(path, os.O_WRONLY | os.O_APPEND, "ab", root)
    _WRITTEN.add(path)
    return file


def write_all(file: IO[bytes], data: bytes) -> None:
    """Write all of `data` to an unbuffered file, which may accept a part at a time."""
    left = memoryview(data)
    try:
        while left:
            left = left[file.write(left) :]
    except OSError as error:
        error.filename = error.filename or file.name
        raise


def open_lock(path: Path, root: Path | None = None) -> IO[bytes]:
    """Open a file to hold a lock on, made if it is missing; UsageError if it is a link."""
    return _open_own(path, os.O_RDWR, "r+b", root)


def _open_own(path: Path, flags: int, mode: str, root: Path | None) -> IO[bytes]:
    with _opened(path.parent, root or path.parent) as folder:
        every = flags | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        try:
            descriptor = os.open(path.name, every, 0o666, dir_fd=folder)
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENXIO):
                raise _not_followed(path) from None
            raise
    found = os.fstat(descriptor)
    # A hard link to a file elsewhere is as bad as a symbolic one.
    if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1:
        os.close(descriptor)
        raise _not_followed(path)
    return os.fdopen(descriptor, mode, buffering=0)


def rename(path: Path, name: str, root: Path | None = None) -> None:
    """Rename the file `path` to `name`, in its folder."""
    with _opened(path.parent, root or path.parent) as folder:
        os.replace(path.name, name, src_dir_fd=folder, dst_dir_fd=folder)


def remove(path: Path, root: Path | None = None) -> None:
    """Remove the file `path`."""
    with _opened(path.parent, root or path.parent) as folder:
        os.unlink(path.name, dir_fd=folder)


def remove_folder(path: Path, root: Path) -> None:
    """Remove the folder `path` with everything in it, if it exists."""
    with _opened(path.parent, root) as folder:
        shutil.rmtree(path.name, ignore_errors=True, dir_fd=folder)


def refuse_links(folder: Path) -> None:
    """UsageError if anything below `folder` is a link; nothing happens if it does not exist."""
    for place, folders, files in os.walk(folder):
        for name in (*folders, *files):
            if (path := Path(place, name)).is_symlink():
                raise _not_followed(path)


@contextmanager
def alone_in(folder: Path, root: Path) -> Iterator[None]:
    """Keep other commands from changing what lies in `folder`; UsageError if one does.

    Without locks, which some systems and file systems lack, nothing keeps them from it.
    """
    with _opened(folder, root) as handle:
        try:
            import fcntl

            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(
                f"another command changes what lies in {folder}: wait until it is done"
            ) from None
        except (ImportError, OSError):
            pass
        yield


@contextmanager
def _opened(folder: Path, root: Path, *, make: bool = False) -> Iterator[int]:
    """`folder`, opened from `root` step by step; UsageError if one is a link or leads out."""
    steps = _steps(folder, root)
    handle = os.open(root, _FOLDER)
    try:
        for number, step in enumerate(steps, start=1):
            if make:
                with suppress(FileExistsError):
                    os.mkdir(step, dir_fd=handle)
            try:
                inner = os.open(step, _FOLDER | os.O_NOFOLLOW, dir_fd=handle)
            except OSError:
                if stat.S_ISLNK(os.stat(step, dir_fd=handle, follow_symlinks=False).st_mode):
                    raise _not_followed(root.joinpath(*steps[:number])) from None
                raise
            os.close(handle)
            handle = inner
        yield handle
    finally:
        os.close(handle)


def _steps(folder: Path, root: Path) -> tuple[str, ...]:
    try:
        steps = folder.relative_to(root).parts
    except ValueError:
        steps = ("..",)
    if ".." in steps:
        raise UsageError(f"{folder} is not inside {root}: nothing is written outside it")
    return steps


def _not_followed(path: Path) -> UsageError:
    return UsageError(
        f"{path} is a link or not a regular file, so nothing is written to it: remove it, or "
        "give another folder"
    )
