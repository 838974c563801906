"""The parent's handles on the zygote and its children: descriptors, clocks and exits.

The clocks are the kernel's, read from here: processor time from the child's clock, wall time from
ours. A kill goes through a pidfd, so it never hits an unrelated process.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import time
import weakref
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import ceil
from types import TracebackType
from typing import Any, Literal, Self

from resd_bench.sandbox import syscalls
from resd_bench.sandbox.cgroup import make_group
from resd_bench.sandbox.limits import Limits
from resd_bench.sandbox.place import ENVIRONMENT, FLAGS, ZYGOTE, Place
from resd_bench.sandbox.preload import FULL, LIGHT
from resd_bench.sandbox.results import SandboxError, ZygoteLost, ascii_detail

Over = Literal["wall", "cpu", "size", "dead"]
"""Why nothing more can be read from a child: a clock, too many bytes, or its exit."""

ANSWER_S = 60.0
"""How long the zygote may take for any request; programs do not run in it."""
START_S = 300.0
"""How long it may take to start: imports can take a hundred times longer on a busy machine."""
START_ATTEMPTS = 2
_READ_BYTES = 1 << 16
SETUP_LINE_BYTES = 4096
CLOCK_SLACK_S = 0.002
FDINFO_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Exit:
    """What the kernel reports about a child that has ended."""

    status: int
    """As `os.wait4` returns it."""
    cpu_s: float
    maxrss_kb: int
    threads: int = 0
    """The number of threads it was killed for; 0 if that was not the reason."""


@dataclass(frozen=True, slots=True)
class Hello:
    """What a zygote reports when it has started."""

    python: str
    seccomp: bool
    landlock: int
    """ABI version, 0 for none."""
    reason: str
    """Why isolation is not stronger."""
    failed: tuple[str, ...]
    """Packages that could not be imported."""


class Zygote:
    """A running zygote; `hello` says what it can do. ZygoteLost if it does not start.

    A `light` one preloads no packages and little of the standard library.
    """

    def __init__(
        self, place: Place, prefix: Sequence[str], *, lock: bool, light: bool = False
    ) -> None:
        self.control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.control.settimeout(START_S)
        self.group = make_group()
        with theirs:
            command = [*prefix, place.python, *FLAGS, ZYGOTE, str(theirs.fileno())]
            if self.group is not None:
                command = self.group.around(command)
            self.process = subprocess.Popen(
                command,
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                env=ENVIRONMENT,
                cwd="/",
                start_new_session=True,
            )
        _RUNNING.add(self)
        try:
            self.hello = self._greet(place, lock, light)
        except BaseException:
            self.close()
            raise
        self.control.settimeout(ANSWER_S)

    def _greet(self, place: Place, lock: bool, light: bool) -> Hello:
        config = {
            "lock": lock,
            "preload": LIGHT if light else FULL,
            "packages": () if light else place.packages,
            "readable": place.readable,
            "site_folders": place.site_folders,
        }
        try:
            self.send(config)
            answer, _ = self.receive()
        except ZygoteLost as error:
            raise ZygoteLost(f"{error}: {self._last_words()}") from None
        return Hello(**{**answer, "failed": tuple(answer["failed"])})

    @property
    def grouped(self) -> bool:
        """Whether a control group limits its processes and threads."""
        return self.group is not None and self.group.holds

    def _last_words(self) -> str:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        _, words = self.process.communicate()
        return ascii_detail(words.decode("utf-8", "replace").strip()[-300:]) or "it printed nothing"

    def send(self, message: Any, fds: Sequence[int] = ()) -> None:
        """Send one message; ZygoteLost."""
        try:
            socket.send_fds(self.control, [json.dumps(message).encode()], list(fds))
        except OSError as error:
            raise ZygoteLost(f"the sandbox's zygote is gone ({error})") from None

    def receive(self) -> tuple[Any, list[int]]:
        """Receive one message and its descriptors; ZygoteLost."""
        try:
            message, fds, _, _ = socket.recv_fds(self.control, _READ_BYTES, 1)
        except TimeoutError:
            seconds = self.control.gettimeout()
            raise ZygoteLost(
                f"the sandbox's zygote did not answer within {seconds:g} s: is this machine "
                "overloaded?"
            ) from None
        except OSError as error:
            raise ZygoteLost(f"the sandbox's zygote does not answer ({error})") from None
        if not message:
            raise ZygoteLost("the sandbox's zygote is gone")
        return json.loads(message), fds

    def close(self) -> None:
        """End it and everything it has forked."""
        self.control.close()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        if self.process.stderr is not None:
            self.process.stderr.close()
        if self.group is not None:
            self.group.close()

    def forget(self) -> None:
        """Release a zygote that belongs to another process: the one we were forked from."""
        self.control.close()
        self.process.returncode = 0
        if self.process.stderr is not None:
            self.process.stderr.close()


def start_zygote(place: Place, prefix: Sequence[str], *, lock: bool, light: bool = False) -> Zygote:
    """A running zygote; ZygoteLost if `START_ATTEMPTS` starts in a row fail."""
    for _ in range(START_ATTEMPTS - 1):
        with contextlib.suppress(ZygoteLost):
            return Zygote(place, prefix, lock=lock, light=light)
    return Zygote(place, prefix, lock=lock, light=light)


_RUNNING: weakref.WeakSet[Zygote] = weakref.WeakSet()


def forget_all() -> None:
    """In a forked process: release every zygote, lent ones too.

    Otherwise a zygote would not notice the exit of its own process before this one exits too.
    """
    for zygote in list(_RUNNING):
        zygote.forget()
    _RUNNING.clear()


@dataclass(slots=True)
class Source:
    """A descriptor from which the parent reads what a child writes."""

    fd: int
    data: bytearray = field(default_factory=bytearray)
    closed: bool = False

    def read(self) -> bool:
        """Read what is available, without waiting; returns whether there was anything."""
        try:
            chunk = os.read(self.fd, _READ_BYTES)
        except BlockingIOError:
            return False
        except OSError:
            chunk = b""
        self.closed = not chunk
        self.data += chunk
        return bool(chunk)


@dataclass(frozen=True, slots=True)
class Deadline:
    """Until when a child may run: on our monotonic clock and on its processor clock."""

    wall: float
    cpu: float


class Child:
    """One forked child, from its fork to its end; used as a context manager.

    Entering forks and waits until the child has locked itself down: SandboxError if it could not.
    Leaving kills it; `exit` then holds what the kernel reports about it.
    """

    def __init__(
        self, zygote: Zygote, mode: Literal["calls", "stdin"], limits: Limits, fds: Sequence[int]
    ) -> None:
        self.exit = Exit(0, 0.0, 0)
        self._zygote = zygote
        self._pidfd = -1
        self._socket, theirs = socket.socketpair()
        self._socket.setblocking(False)
        self.channel = Source(self._socket.fileno())
        request = {
            "mode": mode,
            "limits": {
                "cpu_s": ceil(limits.total_cpu_s),
                "memory_mb": limits.memory_mb,
                "stack_mb": limits.stack_mb,
                "descriptors": limits.descriptors,
                "threads": limits.threads,
            },
        }
        try:
            with theirs:
                zygote.send(request, [theirs.fileno(), *fds])
            answer, received = zygote.receive()
            if not received:
                raise SandboxError(f"the sandbox could not fork: {answer}")
        except BaseException:
            self._socket.close()
            raise
        self._pidfd = received[0]
        self._clock = _cpu_clock(self._pidfd)

    def __enter__(self) -> Self:
        try:
            self._await_ready()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end()

    def _await_ready(self) -> None:
        # The first line is sent before the program is, so no program can have written it.
        line = self.line(SETUP_LINE_BYTES, Deadline(time.monotonic() + ANSWER_S, ANSWER_S))
        if line != b'{"ready":null}':
            raise SandboxError(f"a child could not lock itself down: {ascii_detail(line)}")

    def _end(self) -> None:
        if self._pidfd < 0:
            return
        try:
            with contextlib.suppress(ProcessLookupError):
                syscalls.kill(self._pidfd)
            answer, _ = self._zygote.receive()
            self.exit = Exit(**answer)
        finally:
            os.close(self._pidfd)
            self._pidfd = -1
            self._socket.close()

    def cpu_s(self) -> float:
        """Processor time so far, seconds."""
        try:
            return time.clock_gettime(self._clock)
        except OSError:
            return self.exit.cpu_s

    def send(self, message: Any, deadline: Deadline) -> Over | None:
        """Send one line; returns what stopped it, if anything did."""
        left = memoryview(json.dumps(message, allow_nan=False).encode("ascii") + b"\n")
        while left:
            try:
                left = left[self._socket.send(left) :]
                continue
            except BlockingIOError:
                pass
            except OSError:
                # The child hung up; what it sent earlier can still be read.
                return None
            if over := self._passed(deadline):
                return over
            if self._wait(self._socket.fileno(), select.POLLOUT, deadline) == {self._pidfd}:
                return None
        return None

    def line(self, max_bytes: int, deadline: Deadline) -> bytes | Over:
        """The next line of the channel without its end, or what stopped it."""
        data = self.channel.data
        searched = 0
        while (end := data.find(b"\n", searched)) < 0:
            searched = len(data)
            if over := self.more(self.channel, max_bytes, deadline):
                return over
        line = bytes(data[:end])
        del data[: end + 1]
        return line if len(line) <= max_bytes else "size"

    def more(self, source: Source, max_bytes: int, deadline: Deadline) -> Over | None:
        """Wait until more bytes have come from `source`; returns what stopped it, if anything did.

        A closed source alone does not: then the child's end is awaited, under the same deadline.
        """
        while True:
            if len(source.data) > max_bytes:
                return "size"
            if over := self._passed(deadline):
                return over
            watched = None if source.closed else source.fd
            dead = self._pidfd in self._wait(watched, select.POLLIN, deadline)
            if not source.closed and source.read():
                return None
            if dead:
                return "dead"

    def _passed(self, deadline: Deadline) -> Over | None:
        if time.monotonic() >= deadline.wall:
            return "wall"
        return "cpu" if self.cpu_s() >= deadline.cpu else None

    def _wait(self, fd: int | None, events: int, deadline: Deadline) -> set[int]:
        """Wait until something happens or a deadline may have passed; the ready descriptors."""
        poll = select.poll()
        poll.register(self._pidfd, select.POLLIN)
        if fd is not None:
            poll.register(fd, events)
        left = min(deadline.wall - time.monotonic(), deadline.cpu - self.cpu_s() + CLOCK_SLACK_S)
        return {ready for ready, _ in poll.poll(max(1.0, left * 1000))}


def _cpu_clock(pidfd: int) -> int:
    """The processor clock of the process behind a pidfd (see clock_getcpuclockid(3))."""
    fd = os.open(f"/proc/self/fdinfo/{pidfd}", os.O_RDONLY)
    try:
        pid = int(os.read(fd, FDINFO_BYTES).partition(b"\nPid:")[2].split()[0])
    finally:
        os.close(fd)
    return (~pid << 3) | 2
