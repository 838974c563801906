"""Start trials as forks of a process that has imported what every run needs, on Linux.

Importing torch and transformers takes 4 to 5 CPU seconds, a tenth of a run of a small model. The
process `python -P -m resd_bench.sweep.preloaded` imports them once, runs nothing itself and forks
at every request; a fork goes on as `python -P -m resd_bench`, with a session, arguments and an end
of its own. Where it might differ from that (a file of the code has changed, a thread is running),
it executes Python anew. Left out: frameworks with threads or devices of their own before a run.

Requests and answers are lines of JSON: `{"start": 3, "words": ["run", ...], "log": FILE}`,
`{"signal": 2, "to": 3}` and `{"ended": 3, "code": 0}`.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import runpy
import selectors
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, cast

from resd_bench.files.writing import append_to
from resd_bench.sweep.processes import LOST, end_with_parent, single_threaded

FRESH = (sys.executable, "-P", "-m", "resd_bench")
"""How a command begins that a fork can stand for."""
_IMPORTED = (
    *("resd_bench.jobs.run", "resd_bench.policy.lm_policy", "resd_bench.report.figures"),
    *("scipy.stats", "transformers.models.auto.modeling_auto", "transformers.generation"),
    "transformers.models.qwen3.modeling_qwen3",
)
"""Nothing of a plug-in: what that does when it is imported is not known."""
_OWN = ("resd_bench", "resd_baselines", "resd_envs")
"""Packages whose other files, such as prompts, count as code too."""

_Versions = dict[str, tuple[int, int]]
"""Time of the last change and size of files."""


def can_fork() -> bool:
    """Whether this system has what that needs."""
    try:
        os.close(os.pidfd_open(os.getpid()))
    except (AttributeError, OSError):
        return False
    return True


class Preloaded:
    """The process that forks, seen from the sweep."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "resd_bench.sweep.preloaded"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=single_threaded(os.environ),
            start_new_session=True,
            preexec_fn=end_with_parent,
        )
        self._pipes = (
            cast("IO[bytes]", self._process.stdin),
            cast("IO[bytes]", self._process.stdout),
        )
        self._to, self._from = (pipe.fileno() for pipe in self._pipes)
        self._begun, self._rest = 0, b""
        self.lost = False
        """Whether it has ended, and its trials with it."""
        self.codes: dict[int, int] = {}
        """Exit codes of the trials that have ended, by number."""

    def start(self, words: Sequence[str], log: Path) -> Fork:
        """Fork for the command with `words` after those of `FRESH`; its output goes to `log`."""
        self._begun += 1
        self.send(start=self._begun, words=list(words), log=str(log.absolute()))
        return Fork(self, self._begun)

    def send(self, **request: Any) -> None:
        """Send a request; one that finds the process gone has no effect."""
        with contextlib.suppress(OSError):
            os.write(self._to, json.dumps(request).encode() + b"\n")

    def look(self, *, wait: bool = False) -> None:
        """Read what has ended; with `wait` at least one answer, or the end of the process."""
        with selectors.DefaultSelector() as ready:
            ready.register(self._from, selectors.EVENT_READ)
            while not self.lost and ready.select(None if wait else 0):
                told = os.read(self._from, 1 << 16)
                self.lost, wait = not told, False
                *lines, self._rest = (self._rest + told).split(b"\n")
                self.codes |= {answer["ended"]: answer["code"] for answer in map(json.loads, lines)}

    def close(self) -> None:
        """End it; trials under way get SIGTERM."""
        for pipe in self._pipes:
            pipe.close()
        self._process.kill()
        self._process.wait()


@dataclass
class Fork:
    """A trial in a fork of `source`."""

    source: Preloaded
    number: int

    def poll(self) -> int | None:
        self.source.look()
        return self.source.codes.get(self.number, LOST if self.source.lost else None)

    def interrupt(self) -> None:
        self.source.send(signal=int(signal.SIGINT), to=self.number)

    def kill(self) -> None:
        self.source.send(signal=int(signal.SIGKILL), to=self.number)
        while self.poll() is None:
            self.source.look(wait=True)


@dataclass
class _Server:
    """What the process itself does."""

    parent: int = field(default_factory=os.getpid)
    running: dict[int, int] = field(default_factory=dict)
    """Process id by number of the trial."""

    def serve(self) -> list[str] | None:
        """Fork at every request until there are no more; in a fork, returns its words."""
        with selectors.DefaultSelector() as ready:
            ready.register(0, selectors.EVENT_READ)
            preload()
            code, rest = versions(code_files()), b""
            while True:
                for key, _ in ready.select():
                    if key.data is not None:
                        self._ended(ready, key)
                        continue
                    if not (asked := os.read(0, 1 << 16)):
                        return None
                    *lines, rest = (rest + asked).split(b"\n")
                    for request in map(json.loads, lines):
                        if "signal" in request:
                            self._signal(request["to"], request["signal"])
                            continue
                        # Decided before the fork, which has no threads but this one.
                        same = versions(code) == code and threads() == 1
                        if pid := os.fork():
                            self.running[request["start"]] = pid
                            end = os.pidfd_open(pid)
                            ready.register(end, selectors.EVENT_READ, request["start"])
                        else:
                            self._become(ready, request["log"])
                            words: list[str] = request["words"]
                            if not same:
                                os.execv(FRESH[0], [*FRESH, *words])
                            return words

    def _ended(self, ready: selectors.BaseSelector, key: selectors.SelectorKey) -> None:
        ready.unregister(key.fileobj)
        os.close(key.fd)
        _, status = os.waitpid(self.running.pop(key.data), 0)
        told = {"ended": key.data, "code": os.waitstatus_to_exitcode(status)}
        os.write(1, json.dumps(told).encode() + b"\n")

    def _signal(self, number: int, sent: int) -> None:
        """Send a signal to a trial, SIGKILL to its whole session; one that has ended is left."""
        if pid := self.running.get(number):
            # It has not been waited for, so that nobody else has its number.
            if sent == signal.SIGKILL:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(pid, sent)
            os.kill(pid, sent)

    def _become(self, ready: selectors.BaseSelector, log: str) -> None:
        """Make this fork a process of its own, whose output goes to `log`."""
        os.setsid()
        end_with_parent()
        if os.getppid() != self.parent:
            os._exit(128 + signal.SIGTERM)
        for key in list(ready.get_map().values()):
            if key.data is not None:
                os.close(key.fd)
        nothing = os.open(os.devnull, os.O_RDONLY)
        with append_to(Path(log)) as file:
            for target, source in enumerate((nothing, file.fileno(), file.fileno())):
                os.dup2(source, target)
        os.close(nothing)


def preload() -> None:
    """Import what runs need, as far as it is there."""
    for name in _IMPORTED:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    # What is there now need not be looked at again in every fork.
    gc.collect()
    gc.freeze()


def code_files() -> Iterator[str]:
    """The files of all imported modules, and the other files of our own packages."""
    for name, module in list(sys.modules.items()):
        if file := getattr(module, "__file__", None):
            yield str(file)
            if name in _OWN:
                inside = Path(file).parent.rglob("*")
                yield from (str(p) for p in inside if p.is_file() and "__pycache__" not in p.parts)


def versions(files: Iterable[str]) -> _Versions:
    """Present versions of `files`, (0, 0) for one that is gone."""
    found = {}
    for file in files:
        try:
            told = os.stat(file)
            found[file] = (told.st_mtime_ns, told.st_size)
        except OSError:
            found[file] = (0, 0)
    return found


def threads() -> int:
    """Number of threads of this process."""
    return len(os.listdir("/proc/self/task"))


if __name__ == "__main__":
    words = _Server().serve()
    if words is not None:
        sys.argv = ["resd_bench", *words]
        runpy.run_module("resd_bench", run_name="__main__", alter_sys=True)
