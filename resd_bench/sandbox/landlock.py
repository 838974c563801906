"""Landlock: what a child may open. Three system calls, with the same numbers on all architectures.

Only reading below named paths is granted. Landlock does not cover chmod, utime, stat and UDP: those
are left to `resd_bench.sandbox.seccomp`. Linux only. See landlock(7).
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Sequence

from resd_bench.sandbox.syscalls import libc, syscall

CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446
ASK_VERSION = 1
PATH_BENEATH = 1
WRITE_FILE, READ_FILE, READ_DIR = 1 << 1, 1 << 2, 1 << 3
ALL_FILE_RIGHTS = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 4: (1 << 15) - 1}
"""Every right of an ABI; a right that is handled but not granted is refused."""
ALL_FILE_RIGHTS_FROM_5 = (1 << 16) - 1
TCP_BIND_AND_CONNECT = 3
"""From ABI 4."""
SIGNALS_AND_ABSTRACT_SOCKETS = 3
"""Scopes, from ABI 6."""


class RulesetAttr(ctypes.Structure):
    """The rights that a ruleset handles; older kernels know only the first fields."""

    _fields_ = (("files", ctypes.c_uint64), ("net", ctypes.c_uint64), ("scoped", ctypes.c_uint64))


class PathBeneathAttr(ctypes.Structure):
    """Rights on everything below a directory."""

    _pack_ = 1
    _fields_ = (("allowed", ctypes.c_uint64), ("parent_fd", ctypes.c_int32))


def abi() -> int:
    """The kernel's Landlock ABI version; 0 if it has none."""
    return max(0, int(libc.syscall(CREATE_RULESET, None, 0, ASK_VERSION)))


def ruleset(version: int, readable: Sequence[str], writable: Sequence[str] = ()) -> int:
    """A descriptor of a ruleset that grants access to those paths that exist; OSError."""
    attr = RulesetAttr(
        ALL_FILE_RIGHTS.get(version, ALL_FILE_RIGHTS_FROM_5),
        TCP_BIND_AND_CONNECT if version >= 4 else 0,
        SIGNALS_AND_ABSTRACT_SOCKETS if version >= 6 else 0,
    )
    size = 24 if version >= 6 else 16 if version >= 4 else 8
    fd = syscall("landlock_create_ruleset", CREATE_RULESET, ctypes.byref(attr), size, 0)
    for path in readable:
        _grant(fd, path, READ_FILE | READ_DIR)
    for path in writable:
        _grant(fd, path, READ_FILE | WRITE_FILE)
    return fd


def _grant(ruleset_fd: int, path: str, rights: int) -> None:
    try:
        path_fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        if not os.path.isdir(path):
            rights &= ~READ_DIR
        rule = PathBeneathAttr(rights, path_fd)
        what = f"landlock_add_rule {path}"
        syscall(what, ADD_RULE, ruleset_fd, PATH_BENEATH, ctypes.byref(rule), 0)
    finally:
        os.close(path_fd)


def enter(ruleset_fd: int) -> None:
    """Put the calling thread into a new domain, irrevocably; needs no_new_privs; OSError."""
    syscall("landlock_restrict_self", RESTRICT_SELF, ruleset_fd, 0)
