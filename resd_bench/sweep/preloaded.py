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
from resd_bench.sweep.processes import LOST, end_with_parent, start_process

FRESH = (sys.executable, "-P", "-m", "resd_bench")
"""How a command begins that a fork can stand for."""
_IMPORTED = (
    *("resd_bench.jobs.run", "resd_bench.policy.lm_policy", "resd_bench.report.figures"),
    *("scipy.stats", "transformers.models.auto.modeling_auto", "transformers.generation"),
    "transformers.models.qwen3.modeling_qwen3",
)
"""Nothing of a plug-in: what that does when it is imported is not known."""
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
        command = [sys.executable, "-P", "-m", "resd_bench.sweep.preloaded"]
        pipe = subprocess.PIPE
        self._process = start_process(command, pipe, stdin=pipe, stderr=None)
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
        """Fork for the command with `words` after those of `FRESH`; its output goes to `log`.

        UsageError where that cannot be written.
        """
        with append_to(log):
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

    ready: selectors.BaseSelector
    """Waits for requests, and for the ends of trials, which it knows by number."""
    code: _Versions
    """Of the files that this process has read."""
    running: dict[int, int] = field(default_factory=dict)
    """Process id by number of the trial."""
    rest: bytes = b""
    """The beginning of a request whose end has not arrived."""

    def serve(self) -> list[str] | None:
        """Do what is asked until the requests end; in a fork, returns the words to go on with."""
        self.ready.register(0, selectors.EVENT_READ)
        while True:
            for key, _ in self.ready.select():
                if key.data is not None:
                    self._ended(key)
                    continue
                if not (asked := os.read(0, 1 << 16)):
                    return None
                *lines, self.rest = (self.rest + asked).split(b"\n")
                for request in map(json.loads, lines):
                    if "signal" in request:
                        self._signal(request["to"], request["signal"])
                    elif self._forked(request):
                        words: list[str] = request["words"]
                        return words

    def _forked(self, request: dict[str, Any]) -> bool:
        """Fork for a trial; True in the fork, which is a process of its own then."""
        # Decided before, since a fork has no threads but this one.
        same, server = versions(self.code) == self.code and threads() == 1, os.getpid()
        if pid := os.fork():
            self.running[request["start"]] = pid
            self.ready.register(os.pidfd_open(pid), selectors.EVENT_READ, request["start"])
            return False
        os.setsid()
        end_with_parent()
        if os.getppid() != server:
            os._exit(128 + signal.SIGTERM)
        with append_to(Path(request["log"])) as log, Path(os.devnull).open("rb") as nothing:
            for target, source in enumerate((nothing, log, log)):
                os.dup2(source.fileno(), target)
        if not same:
            os.execv(FRESH[0], [*FRESH, *request["words"]])
        for key in self.ready.get_map().values():
            if key.data is not None:
                os.close(key.fd)
        self.ready.close()
        return True

    def _ended(self, key: selectors.SelectorKey) -> None:
        self.ready.unregister(key.fileobj)
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


def preload() -> None:
    """Import what runs need, as far as it is there."""
    for name in _IMPORTED:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    # What is there now need not be looked at again in every fork.
    gc.collect()
    gc.freeze()


def code_files() -> Iterator[str]:
    """The files of all imported modules, and the other files of this package."""
    yield from (str(m.__file__) for m in list(sys.modules.values()) if getattr(m, "__file__", None))
    inside = Path(__file__).parents[1].rglob("*")
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
    preload()
    words = _Server(selectors.DefaultSelector(), versions(code_files())).serve()
    if words is not None:
        sys.argv = ["resd_bench", *words]
        runpy.run_module("resd_bench", run_name="__main__", alter_sys=True)
