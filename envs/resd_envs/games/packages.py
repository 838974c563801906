"""The packages that games come from: their versions, whether they are intact, how to install them.

Tasks, splits and scores depend on a certain version of the games, so other versions are refused. A
game file that differs from what was installed is refused too, before anything is played with it.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import importlib.util
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path

from resd_bench.errors import UsageError, install_extra
from resd_bench.files import reading
from resd_envs.games import java

GAME_FILES = (".jar", ".json", ".jsonl", ".tsv")
"""Suffixes of the files that make a package's games what they are."""


@dataclass(frozen=True, slots=True)
class _Problem:
    """Why games cannot be played here."""

    found: str
    """What was found, in one line."""
    remedy: str
    """What to do about it."""

    def __str__(self) -> str:
        return f"{self.found}: {self.remedy}"


@dataclass(frozen=True, slots=True)
class Package:
    """A game package."""

    name: str
    """The name of the distribution and of its extra; its environments' names begin with it."""
    module: str
    series: str
    """The versions whose games these are, such as 1.1 for 1.1.0, 1.1.1, ..."""
    needs_java: bool = False

    @property
    def version(self) -> str:
        """The installed version; "" if it is not installed."""
        if importlib.util.find_spec(self.module) is None:
            return ""
        try:
            return metadata.version(self.name)
        except metadata.PackageNotFoundError:
            return ""

    @property
    def folder(self) -> Path:
        """Where it is installed."""
        spec = importlib.util.find_spec(self.module)
        assert spec is not None
        assert spec.submodule_search_locations
        return Path(spec.submodule_search_locations[0])

    @property
    def install(self) -> str:
        """The command that installs it."""
        return install_extra(self.name)


TEXTWORLD_EXPRESS = Package("textworld-express", "textworld_express", "1.1", needs_java=True)
SCIENCEWORLD = Package("scienceworld", "scienceworld", "1.2", needs_java=True)
TEXTARENA = Package("textarena", "textarena", "0.7")
PACKAGES = (TEXTWORLD_EXPRESS, SCIENCEWORLD, TEXTARENA)


def require(package: Package) -> None:
    """UsageError if games of `package` cannot be played here."""
    problem = find_problem(package)
    if problem is not None:
        raise UsageError(str(problem))


def find_problem(package: Package) -> _Problem | None:
    """The problem that keeps games of `package` from being played here; None if there is none."""
    version = package.version
    if not version:
        return _Problem(f"the package {package.name} is not installed", package.install)
    if version != package.series and not version.startswith(f"{package.series}."):
        found = (
            f"{package.name} {version} is installed, and these are the games of {package.series}"
        )
        return _Problem(found, package.install)
    damaged = find_damaged(package.name)
    if damaged:
        again = f"pip install --force-reinstall --no-deps {package.name}=={version}"
        return _Problem(f"the game file {damaged} is damaged or missing", again)
    if package.needs_java:
        reason = java.java_problem()
        if reason:
            remedy = f"install Java {java.OLDEST} or newer ({java.HOW_TO_INSTALL})"
            return _Problem(f"{package.name} needs Java {java.OLDEST} or newer; {reason}", remedy)
    return None


@cache
def find_damaged(distribution: str) -> str:
    """A game file of `distribution` that has changed since it was installed; "" if none has."""
    found = metadata.distribution(distribution)
    # From Python 3.12 on, `metadata.files` leaves out files that are missing.
    for name, recorded, *_ in csv.reader((found.read_text("RECORD") or "").splitlines()):
        path = Path(str(found.locate_file(name)))
        if path.suffix not in GAME_FILES or not recorded:
            continue
        mode, _, value = recorded.partition("=")
        try:
            digest = hashlib.new(mode, reading.read_bytes(path)).digest()
        except (OSError, ValueError):
            return str(path)
        if base64.urlsafe_b64encode(digest).rstrip(b"=").decode() != value:
            return str(path)
    return ""
