"""The sandbox and public entry point: starts zygotes, tests their isolation, lends them to callers.

Below the level `kernel` it refuses to start unless `require` allows it. It claims only what it has
demonstrated: at the start it runs programs that fork, exec, open sockets, signal, read and write,
and all of these attempts must be refused.
"""

from __future__ import annotations

import os
import sys
import tempfile
import threading
import time
import warnings
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal, Self, get_args

from resd_bench.errors import UsageError
from resd_bench.machine import cores
from resd_bench.sandbox import judge
from resd_bench.sandbox.compare import Tolerance
from resd_bench.sandbox.limits import Limits
from resd_bench.sandbox.place import bwrap_prefix, find_place
from resd_bench.sandbox.preload import is_light
from resd_bench.sandbox.processes import Hello, Zygote, forget_all, start_zygote
from resd_bench.sandbox.results import ProgramResult, SandboxError, SandboxTooWeak, ZygoteLost

Level = Literal["process", "kernel", "namespace"]
LEVELS: tuple[Level, ...] = get_args(Level)
"""From weak to strong."""
DEFAULT_PACKAGES = ("numpy",)
ENVIRONMENT_VARIABLE = "RESD_BENCH_SANDBOX"
MAX_SHARED_WORKERS = 8
NO_GROUP = "no control group can be made here: threads are counted, and not bounded otherwise"
LEAST_SECOND_TRY_S = 1.0
"""Least wall time of the second try, if the sandbox died late in the first one."""
SELF_TEST_LIMITS = Limits(call_cpu_s=2, total_cpu_s=4)

_ALL: weakref.WeakSet[Sandbox] = weakref.WeakSet()


Slot = dict[bool, Zygote]
"""The zygotes of one that runs programs one at a time, by whether they are light."""


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer of isolation around programs."""

    name: str
    active: bool
    detail: str
    """Which version is active, or why none is."""


class Sandbox:
    """Runs untrusted programs and judges them; a context manager, safe to use from threads.

    Arguments:
        require: the weakest isolation to accept. `kernel`: seccomp, and Landlock or no file access
            at all. `namespace`: also bubblewrap. `process`: limits on time and memory only;
            programs may have your rights.
        want: the strongest isolation to try; `auto` tries everything there is.
        packages: what programs may import beyond the standard library.
        workers: how many programs run at once. Each has a zygote for programs that import little
            and one for all others; the first has both from the beginning, the others when needed.
        wrapper: a command to put in front of the interpreter instead of bubblewrap's.

    SandboxTooWeak if this machine offers less than `require`; UsageError for unknown packages.
    """

    def __init__(
        self,
        require: Level = "kernel",
        want: Level | Literal["auto"] = "auto",
        packages: Sequence[str] = DEFAULT_PACKAGES,
        *,
        workers: int = 1,
        wrapper: Sequence[str] | None = None,
    ) -> None:
        _check_level("require", require, LEVELS)
        _check_level("want", want, ("auto", *LEVELS))
        if workers < 1:
            raise UsageError(f"workers = {workers}: give at least 1")
        self.notes: list[str] = []
        """Why the level is not higher; empty at the highest."""
        self.level = "process"
        """The isolation programs really run under."""
        self._place = find_place(packages)
        self._slots: list[Slot] = [{} for _ in range(workers)]
        self._workers = workers
        self._free = threading.Condition()
        self._closed = self._light_is_proven = False
        self._prefix: list[str] = []
        self._grouped = False
        self._lock = want != "process"
        self._hello = self._open(want, wrapper)
        self._finalizer = weakref.finalize(self, _close_all, self._slots)
        _ALL.add(self)
        self._accept(require)
        if self._keeps_light:
            with self._lend(light=True):
                pass

    def _open(self, want: str, wrapper: Sequence[str] | None) -> Hello:
        """Start the first zygote at the highest level that works."""
        if not sys.platform.startswith("linux"):
            raise SandboxTooWeak(
                f"the sandbox needs Linux 5.3 or newer, this is {sys.platform}: "
                f"run in a Linux container or virtual machine"
            )
        if wrapper is not None:
            return self._try(list(wrapper), "")
        if want in ("auto", "namespace"):
            try:
                return self._try(bwrap_prefix(self._place), "namespace")
            except (UsageError, SandboxError) as error:
                self.notes.append(f"no namespaces: {error}")
        return self._try([], "")

    def _try(self, prefix: list[str], outer: str) -> Hello:
        zygote = start_zygote(self._place, prefix, lock=self._lock)
        try:
            hello = zygote.hello
            if hello.failed:
                raise SandboxError("; ".join(hello.failed))
            self.level = (outer or "kernel") if hello.seccomp else "process"
            if hello.seccomp and not hello.landlock:
                self.level += "+sealed"
            self._prove(zygote, self._place.packages)
        except BaseException:
            zygote.close()
            raise
        if hello.reason:
            self.notes.append(hello.reason)
        self._prefix, self._grouped = prefix, zygote.grouped
        self._slots[-1][False] = zygote
        return hello

    def _prove(self, zygote: Zygote, packages: Sequence[str]) -> None:
        """Test with real programs that the level's claims hold; SandboxTooWeak otherwise."""
        handle, canary = tempfile.mkstemp(prefix="resd-bench-")
        os.close(handle)
        os.unlink(canary)
        probes = _probes(packages, canary, confined=self.level != "process")
        for name, body, wanted in probes:
            code = f"def f():\n    {body}"
            job = judge.make_job(code, "", [{"args": []}], "f", SELF_TEST_LIMITS, Tolerance())
            case = judge.judge_program(zygote, job, self.level).cases[0]
            if case.kind not in wanted.split():
                raise SandboxTooWeak(
                    f"self-test {name!r} at level {self.level}: expected {wanted}, "
                    f"got {case.kind} ({case.detail})"
                )
        if os.path.exists(canary):
            os.unlink(canary)
            raise SandboxTooWeak(f"self-test at level {self.level}: a program wrote a file")

    def _accept(self, require: Level) -> None:
        got = LEVELS.index(_plain_level(self.level))
        reasons = "; ".join(self.notes) or "nothing is missing"
        if got < LEVELS.index(require):
            self.close()
            raise SandboxTooWeak(
                f"isolation {require!r} was required, but this machine offers {self.level!r}: "
                f"{reasons}. See `resd-bench doctor` and docs/sandbox.md"
            )
        if require == "process":
            warnings.warn(
                f"require='process' lets programs from a language model run without isolation; "
                f"here they run at level {self.level!r} ({reasons})",
                RuntimeWarning,
                stacklevel=3,
            )

    def run_program(
        self,
        code: str,
        cases: Sequence[Mapping[str, Any]],
        *,
        entry: str | None = None,
        preamble: str = "",
        limits: Limits = Limits(),  # noqa: B008 (frozen)
        rel: float = 0.0,
        abs: float = 0.0,
    ) -> ProgramResult:
        """Judge a program on its cases, no matter what the program does.

        With `entry` (`f` or `Class.f`) a case is `{"args": [...], "kwargs": {...}, "expected":
        v}`; without it, `{"stdin": text, "expected": text}`, and the program is run once per case.
        A case without `expected` is `ok` if a plain value came back. `"apply"` in a case (`list`,
        `len` and the like) is applied to what the function returns. `preamble` is a program that is
        run first, in the same namespace. `rel` and `abs` are tolerances for numbers (see
        `resd_bench.sandbox.compare`).

        Once a worker is free, this takes at most a little over `limits.total_wall` seconds.
        SandboxError if the sandbox itself failed, UsageError for cases that cannot be sent.
        """
        job = judge.make_job(code, preamble, cases, entry, limits, Tolerance(rel, abs))
        size = len(code.encode("utf-8", "surrogatepass"))
        if size > limits.code_bytes or "\0" in code:
            why = judge.Judgement("bad_output", "the program is too long or holds a NUL")
            return judge.refuse(job, self.level, why)
        light = self._may_be_light(f"{preamble}\n{code}" if preamble else code)
        for _ in range(2):
            try:
                with self._lend(light) as zygote:
                    begin = time.monotonic()
                    return judge.judge_program(zygote, job, self.level)
            except ZygoteLost as error:
                # Once may be the machine's fault; twice in a row is the program's.
                lost = str(error)
                taken_s = time.monotonic() - begin
                job = job.within(max(limits.total_wall - taken_s, LEAST_SECOND_TRY_S))
        why = judge.Judgement("crash", f"the sandbox died under this program: {lost}")
        return judge.refuse(job, self.level, why)

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The layers of isolation, and which of them are active here."""
        hello, why = self._hello, self._hello.reason
        outer = next((note for note in self.notes if note != why), "")
        landlock = f"ABI {hello.landlock}" if hello.landlock else why
        return (
            Layer("always", True, "limits, clocks, expected values outside"),
            Layer("seccomp", hello.seccomp, "" if hello.seccomp else why),
            Layer("Landlock", bool(hello.landlock), landlock),
            Layer("bwrap", self.level.startswith("namespace"), outer),
            Layer("pids group", self._grouped, "" if self._grouped else NO_GROUP),
        )

    @property
    def _keeps_light(self) -> bool:
        """Whether programs can read the standard library from disk."""
        return bool(self._hello.landlock) or not self._hello.seccomp

    def _may_be_light(self, code: str) -> bool:
        return self._keeps_light and is_light(code, self._place.packages)

    @contextmanager
    def _lend(self, light: bool) -> Iterator[Zygote]:
        """Lend a zygote for one program; it is ended if the program was left unfinished."""
        with self._free:
            while not self._slots and not self._closed:
                self._free.wait()
            if self._closed:
                raise SandboxError("this sandbox is closed")
            # Running zygotes come last.
            slot = self._slots.pop()
        try:
            if light not in slot:
                slot[light] = self._start(light)
            yield slot[light]
        except BaseException:
            if light in slot:
                slot.pop(light).close()
            raise
        finally:
            self._take_back(slot)

    def _start(self, light: bool) -> Zygote:
        try:
            zygote = start_zygote(self._place, self._prefix, lock=self._lock, light=light)
        except ZygoteLost as error:
            # No program ran, so no program is to blame.
            raise SandboxError(f"a new zygote does not start: {error}") from None
        if zygote.hello != self._hello:
            zygote.close()
            raise SandboxTooWeak(f"a new zygote has {zygote.hello}, the first had {self._hello}")
        if light and not self._light_is_proven:
            try:
                self._prove(zygote, ())
            except BaseException:
                zygote.close()
                raise
            self._light_is_proven = True
        return zygote

    def _take_back(self, slot: Slot) -> None:
        with self._free:
            if self._closed:
                _close_all([slot])
            else:
                self._slots.insert(len(self._slots) if slot else 0, slot)
            self._free.notify()

    def close(self) -> None:
        """End every process of the sandbox; programs still running end with their callers."""
        with self._free:
            self._closed = True
            _close_all(self._slots)
            self._free.notify_all()

    def _after_fork(self) -> None:
        """In a forked process: the zygotes and the lock belong to the one we were forked from."""
        self._slots[:] = [{} for _ in range(self._workers)]
        self._free = threading.Condition()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _close_all(slots: list[Slot]) -> None:
    while slots:
        for zygote in slots.pop().values():
            zygote.close()


def _probes(
    packages: Sequence[str], canary: str, *, confined: bool
) -> Iterator[tuple[str, str, str]]:
    """Name, function body and accepted kinds of every self-test."""
    yield "honest", f"import {', '.join(('random', *packages))}; return sum(range(9))", "ok"
    if not confined:
        return
    yield "fork", "import os; os.fork()", "forbidden"
    yield "exec", "import os; os.execv('/bin/true', ['true'])", "forbidden"
    yield "socket", "import socket; socket.socket()", "forbidden"
    yield "signal", "import os; os.kill(os.getppid(), 0)", "forbidden"
    yield "read", "open('/proc/self/status').read()", "forbidden"
    # Behind bubblewrap the folder does not exist.
    yield "write", f"open({canary!r}, 'w').write('x')", "forbidden crash"


def _check_level(name: str, given: str, known: Sequence[str]) -> None:
    if given not in known:
        raise UsageError(f"{name} = {given!r}: give one of {', '.join(known)}")


def _plain_level(level: str) -> Level:
    return next(known for known in LEVELS if level.partition("+")[0] == known)


_SHARED: dict[tuple[str, ...], Sandbox] = {}
_shared_lock = threading.Lock()


def shared(packages: Sequence[str] = ()) -> Sandbox:
    """The sandbox of this process, started at the first call; other `packages` get another one.

    The environment variable RESD_BENCH_SANDBOX is the level to require, `kernel` if it is not set.
    After a fork the new process gets zygotes of its own.
    """
    require = os.environ.get(ENVIRONMENT_VARIABLE, "kernel")
    _check_level(ENVIRONMENT_VARIABLE, require, LEVELS)
    wanted = tuple(dict.fromkeys((*DEFAULT_PACKAGES, *packages)))
    with _shared_lock:
        key = (require, *wanted)
        if key not in _SHARED or _SHARED[key].closed:
            workers = min(MAX_SHARED_WORKERS, cores.usable_cores())
            _SHARED[key] = Sandbox(_plain_level(require), packages=wanted, workers=workers)
        return _SHARED[key]


def _in_forked_process() -> None:
    global _shared_lock
    _shared_lock = threading.Lock()
    forget_all()
    for sandbox in list(_ALL):
        sandbox._after_fork()


os.register_at_fork(after_in_child=_in_forked_process)
