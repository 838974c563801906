"""A run killed at a chosen change of its files, or on a disk that is full from there on.

`python injector.py` reads a job as JSON from its standard input and answers with a line of JSON per
point. It is a program of its own because it forks: each attempt is a child that shares what was
imported. A change is an opening for writing, a write (which stops half-way), an fsync, a rename, a
removal or a new folder, below the folder that runs write to. Left out: what a power cut does to
pages that the system has not written yet; every checkpoint is behind an fsync.
"""

from __future__ import annotations

import builtins
import errno
import io
import json
import os
import random
import shutil
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch  # noqa: F401  Once here, and not in every child.
import toy_plugin  # type: ignore[import-not-found]

from resd_bench.config import RunConfig, resolve
from resd_bench.errors import UsageError
from resd_bench.jobs.run import run
from resd_bench.records.log_files import read_log
from resd_bench.records.manifest import code_version
from resd_bench.records.recorder import LOGS
from resd_bench.records.run_files import RunFiles
from resd_bench.records.runs import load_run

KILLED = 9
CLOCK = {"seconds", "evaluation_seconds"}
"""What differs between any two runs."""


class Disk:
    """Counts changes; at number `at` the process dies, or from there on the disk is full."""

    def __init__(self, root: Path, at: int | None, full: bool) -> None:
        self.root, self.at, self.full, self.changes = str(root), at, full, 0

    def holds(self, path: Any) -> bool:
        return isinstance(path, str | os.PathLike) and os.fspath(path).startswith(self.root)

    def change(self, half: Callable[[], object] = lambda: None) -> None:
        self.changes += 1
        if self.at is None or self.changes < self.at:
            return
        if not self.full:
            half()
            os._exit(KILLED)
        if self.changes == self.at:
            half()
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def install(self) -> None:
        """From now on, in this process, every change below the root goes through here."""
        real_open = io.open

        def opened(file: Any, mode: str = "r", *args: Any, **keywords: Any) -> Any:
            if not self.holds(file) or not set(mode) & set("wax+"):
                return real_open(file, mode, *args, **keywords)
            self.change()
            return Written(real_open(file, mode, *args, **keywords), self)

        builtins.open = io.open = opened
        for name in ("fsync", "replace", "rename", "unlink", "mkdir"):
            setattr(os, name, self._counted(getattr(os, name)))

    def _counted(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def counted(target: Any, *args: Any, **keywords: Any) -> Any:
            if isinstance(target, int) or self.holds(target):
                self.change()
            return real(target, *args, **keywords)

        return counted


class Written:
    """A file whose writes are changes."""

    def __init__(self, file: Any, disk: Disk) -> None:
        self._file, self._disk = file, disk

    def write(self, data: Any) -> Any:
        def half() -> None:
            self._file.write(data[: len(data) // 2])
            self._file.flush()

        self._disk.change(half)
        return self._file.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def __enter__(self) -> Written:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()


def attempt(config: RunConfig, at: int | None, full: bool, told: Path) -> tuple[int, str, int]:
    """The exit code of a child that takes the run up, its last words, and the changes it made."""
    child = os.fork()
    if not child:
        disk = Disk(Path(config.out), at, full)
        code, words = 1, ""
        try:
            disk.install()
            words = run(config, resume=True, policy=toy_plugin.policy).state
            code = 0
        except UsageError as error:
            code, words = 2, str(error)
        except BaseException:
            words = traceback.format_exc()
        told.write_text(json.dumps([disk.changes, words]))
        os._exit(code)
    told.unlink(missing_ok=True)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    changes, words = (at or 0, "") if code == KILLED else json.loads(told.read_text())
    return code, words, changes


def record(folder: Path) -> dict[str, Any]:
    """Everything a run has measured, without clocks."""
    found: dict[str, Any] = {
        name: [_timeless(row) for row in read_log(folder / name)] for name in LOGS
    }
    for kind in ("context", "traces"):
        for path in sorted((folder / kind).glob("update-*.json")):
            found[f"{kind}/{path.name}"] = json.loads(path.read_text())
    found["answers"] = RunFiles.at(folder).answers()
    summary = json.loads((folder / "summary.json").read_text())
    found["summary"] = summary | {"ledger": _timeless(summary["ledger"])}
    found["state"] = json.loads((folder / "status.json").read_text())["state"]
    return found


def _timeless(row: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key not in CLOCK}


def curve(folder: Path) -> list[Any] | None:
    """What a reader takes the run to have measured so far; None where it refuses."""
    try:
        data = load_run(folder)
    except UsageError:
        return None
    points = [*data.points, *data.validation]
    for other in data.extra.values():
        points += other
    return [(p.update, p.episodes, p.success, p.score, p.errors) for p in points]


@dataclass(frozen=True)
class Undisturbed:
    """What a run measures, and what a reader takes it to have measured."""

    record: Mapping[str, Any]
    curve: Sequence[Any] | None


def disturb(
    config: RunConfig, whole: Undisturbed, at: int, full: bool, told: Path, again: int
) -> str:
    """What goes wrong with a run that is disturbed at change `at`, and resumed; "" if nothing.

    With `again`, what goes on is killed at that change first.
    """
    shutil.rmtree(config.folder(), ignore_errors=True)
    code, words, changes = attempt(config, at, full, told)
    if changes < at:
        return "" if code == 0 else f"before it was disturbed it ended with code {code}: {words}"
    if full and (code != 2 or len(words.splitlines()) != 1 or "space" not in words.lower()):
        return f"on a full disk it ends with code {code}: {words}"
    if not full and code != KILLED:
        return f"it was not killed but ended with code {code}: {words}"
    there = curve(config.folder())
    if there is not None and not all(point in (whole.curve or []) for point in there):
        return "left as it is, a reader takes it to have measured something else"
    if again:
        attempt(config, again, False, told)
    code, words, _ = attempt(config, None, False, told)
    if code:
        return f"gone on with, it ends with code {code}: {words}"
    found, expected = record(config.folder()), whole.record
    differing = [name for name in {**expected, **found} if expected.get(name) != found.get(name)]
    if differing:
        sizes = [(n, len(expected.get(n, ())), len(found.get(n, ()))) for n in differing]
        return f"it differs from an undisturbed run in {sizes}"
    return "" if curve(config.folder()) == whole.curve else "a reader takes it for another run"


def choose(count: int, points: int, rng: random.Random) -> list[int]:
    """Changes to disturb: the first and last ones, and some between."""
    every = list(range(1, count + 1))
    if not points or points >= count:
        return every
    ends = {*every[: points // 4], *every[-points // 2 :]}
    rest = [at for at in every if at not in ends]
    return sorted(ends | set(rng.sample(rest, points - len(ends))))


def main() -> None:
    job = json.load(sys.stdin)
    rng, deadline = random.Random(job["seed"]), time.monotonic() + job["seconds"]
    out = Path(job["out"])
    config = resolve(job["settings"], {"out": str(out / "run")})
    whole = resolve(job["settings"], {"out": str(out / "whole")})
    code_version()  # Once here, and not in every child.
    told = out / "told.json"
    out.mkdir(parents=True, exist_ok=True)
    code, words, count = attempt(whole, None, False, told)
    assert code == 0, words
    undisturbed = Undisturbed(record(whole.folder()), curve(whole.folder()))
    points = choose(count, job["points"], rng)
    # What does not fit in the time is left out evenly.
    rng.shuffle(points)
    tried, problems = 0, []
    for at in points:
        if time.monotonic() > deadline:
            break
        again = rng.randint(1, count) if job["twice"] else 0
        if problem := disturb(config, undisturbed, at, job["full"], told, again):
            problems.append(f"change {at} of {count}, then {again}: {problem}")
        tried += 1
    print(json.dumps({"changes": count, "tried": tried, "problems": problems}))


if __name__ == "__main__":
    main()
