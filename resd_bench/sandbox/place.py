"""Where programs run: the interpreter, what it may read, and bubblewrap around it.

Access to the standard library is granted entry by entry, never to the site-packages below it, where
the suite, its tests and its generators are. Requested packages are granted one by one.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import site
import sys
import sysconfig
from collections.abc import Sequence
from dataclasses import dataclass

from resd_bench.errors import UsageError
from resd_bench.sandbox.preload import SUBMODULES

HERE = os.path.dirname(os.path.abspath(__file__))
ZYGOTE = os.path.join(HERE, "zygote.py")
ZYGOTE_FILES = (
    "zygote.py",
    "child.py",
    "plain.py",
    "landlock.py",
    "seccomp.py",
    "syscalls.py",
    "seccomp_filters.json",
)
FLAGS = ("-P", "-s", "-S", "-B", "-X", "utf8")
ENVIRONMENT = {
    "PATH": "/usr/bin:/bin",
    "HOME": "/nonexistent",
    "LANG": "C.UTF-8",
    "TZ": "UTC",
    "PYTHONHASHSEED": "0",
    "MALLOC_ARENA_MAX": "1",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
}
"""All environment variables of a program; one malloc arena, or threads eat the address space."""
NOT_LIBRARY = frozenset(
    ("site-packages", "dist-packages", "test", "idlelib", "ensurepip", "lib2to3", "turtledemo")
)
ALSO_READABLE = ("/dev/urandom", "/usr/share/zoneinfo", "/etc/localtime")
SYSTEM_FOLDERS = ("/usr", "/bin", "/lib", "/lib64")


@dataclass(frozen=True, slots=True)
class Place:
    """What a zygote needs to know about the disk."""

    python: str
    readable: tuple[str, ...]
    """Paths that children may read below."""
    packages: tuple[str, ...]
    """Modules beyond the standard library that the full zygote imports in advance."""
    site_folders: tuple[str, ...]
    """Folders of those modules."""


def find_place(packages: Sequence[str]) -> Place:
    """This process's interpreter and what is readable in it; UsageError for unknown packages."""
    readable = _standard_library() + list(ALSO_READABLE)
    modules: list[str] = []
    folders: list[str] = []
    for name in packages:
        folder, paths = _package(name)
        readable += paths
        modules += (name, *SUBMODULES.get(name, ()))
        folders.append(folder)
    # In a virtual environment, the interpreter it was made from: that needs no pyvenv.cfg.
    python = os.path.realpath(getattr(sys, "_base_executable", sys.executable))
    return Place(python, tuple(readable), tuple(modules), tuple(dict.fromkeys(folders)))


def _standard_library() -> list[str]:
    folders = {os.path.realpath(sysconfig.get_path(key)) for key in ("stdlib", "platstdlib")}
    return [
        os.path.join(folder, entry)
        for folder in sorted(folders)
        if os.path.isdir(folder)
        for entry in sorted(os.listdir(folder))
        if entry not in NOT_LIBRARY
    ]


def _package(name: str) -> tuple[str, list[str]]:
    """The folder that a package is in, and its files."""
    spec = importlib.util.find_spec(name) if name.isidentifier() else None
    if spec is None or (spec.origin is None and not spec.submodule_search_locations):
        raise UsageError(
            f"the sandbox was asked for the package {name!r}, which is not installed: "
            f"pip install it, or leave it out of packages"
        )
    inside = list(spec.submodule_search_locations or ())
    path = inside[0] if inside else str(spec.origin)
    folder = os.path.dirname(path)
    libraries = os.path.join(folder, f"{name}.libs")
    return folder, [path, *([libraries] if os.path.isdir(libraries) else [])]


def bwrap_prefix(place: Place) -> list[str]:
    """The bubblewrap command in front of the zygote; UsageError if bubblewrap is not installed.

    It gives new user, process, network, IPC, host name and mount namespaces; a read-only system,
    the interpreter without its site-packages, the packages and the zygote's files.
    """
    bwrap = shutil.which("bwrap")
    if bwrap is None:
        raise UsageError("bwrap is not installed")
    command = [bwrap, "--unshare-user", "--unshare-all", "--cap-drop", "ALL"]
    command += ["--hostname", "sandbox"]
    for folder in SYSTEM_FOLDERS:
        if os.path.islink(folder):
            command += ["--symlink", os.readlink(folder), folder]
        elif os.path.isdir(folder):
            command += _bind(folder)
    prefix = os.path.dirname(os.path.dirname(place.python))
    if not _below(prefix, "/usr"):
        command += _bind(prefix)
    for folder in _site_packages(prefix):
        command += ["--tmpfs", folder]
    files = [os.path.join(HERE, name) for name in ZYGOTE_FILES]
    for path in [p for p in place.readable if any(_below(p, f) for f in place.site_folders)]:
        command += _bind(path)
    for path in files:
        command += _bind(path)
    return [*command, "--proc", "/proc", "--dev", "/dev", "--chdir", "/", "--"]


def _bind(path: str) -> list[str]:
    return ["--ro-bind", path, path]


def _below(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def _site_packages(prefix: str) -> list[str]:
    """Folders of installed packages that binding the system and `prefix` would expose."""
    stdlib = os.path.realpath(sysconfig.get_path("stdlib"))
    candidates = [
        *(os.path.join(stdlib, name) for name in ("site-packages", "dist-packages")),
        *(folder for folder in site.getsitepackages() if _below(folder, prefix)),
        "/usr/local/lib",
        "/usr/lib/python3/dist-packages",
    ]
    return [folder for folder in dict.fromkeys(candidates) if os.path.isdir(folder)]
