"""One Java virtual machine per process and game file, for games that are written for it.

The packages of these games start a machine for each environment, which takes a second and 200 MB
each; here all environments of a process share one. It is started when it is first needed, ends with
the process, and is restarted if it dies; then an `Engine` replays its episode. `py4j`, which
communicates with it, comes with the games.

In Java, objects without a hash of their own get a random one, and the order of sets depends on it:
ScienceWorld then answers the same commands differently from one time to the next. So the machine is
told to give all of them the same hash (`SAME_HASH`), and is refused if it does not.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import re
import select
import shutil
import signal
import subprocess
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from resd_bench.errors import UsageError

OLDEST = 8
"""The games are compiled for Java 8 (class file version 52)."""
HOW_TO_INSTALL = "apt install default-jre-headless, or conda install openjdk"
SAME_HASH = ("-XX:+UnlockExperimentalVMOptions", "-XX:hashCode=2")
OPTIONS = ("-XX:+IgnoreUnrecognizedVMOptions", *SAME_HASH, "-XX:+UseSerialGC", "-Xmx2g")
"""A serial collector: others start a thread per core. Episodes of ScienceWorld take 10 MB each."""
SERVER = ("py4j.GatewayServer", "--die-on-broken-pipe", "--enable-auth", "0")
"""Ends when its standard input does, so that it cannot outlive this process."""
START_SECONDS = 120.0
"""Longest wait for a machine to start."""
END_SECONDS = 5.0
VERSION = re.compile(r'version "([^"]+)"')

T = TypeVar("T")


class GameEngineError(RuntimeError):
    """A game's engine failed; the episode has no result then."""


@dataclass(frozen=True, slots=True)
class Java:
    """An installed Java."""

    path: str
    version: str
    """The version it reports, such as 17.0.15 or 1.8.0_292; "" if it reports none."""
    failure: str = ""
    """Why it could not be asked."""

    @property
    def major(self) -> int:
        """8 for 1.8.0_292, 17 for 17.0.15; 0 if the version cannot be read."""
        found = re.match(r"(?:1\.)?(\d+)", self.version)
        return int(found[1]) if found else 0


@cache
def find_java() -> Java | None:
    """The Java of JAVA_HOME, else of PATH; None if there is none."""
    home = os.environ.get("JAVA_HOME")
    path = (home and shutil.which("java", path=str(Path(home) / "bin"))) or shutil.which("java")
    if not path:
        return None
    try:
        done = subprocess.run(
            [path, "-version"], capture_output=True, text=True, errors="replace", timeout=60
        )
    except (OSError, subprocess.SubprocessError) as error:
        return Java(path, "", str(error))
    found = VERSION.search(done.stderr + done.stdout)
    return Java(path, found[1] if found else "", _first_line(done.stderr))


def java_problem() -> str:
    """Why games cannot be run with the installed Java; "" if they can."""
    java = find_java()
    if java is None:
        return "no Java was found on PATH or in JAVA_HOME"
    if java.major == 0:
        return f"{java.path} does not tell its version ({java.failure})"
    if java.major < OLDEST:
        return f"{java.path} is Java {java.major} ({java.version})"
    return ""


class Machine:
    """A running Java virtual machine that has loaded a game's file."""

    def __init__(self, jar: Path) -> None:
        from py4j import java_gateway

        # It reports a lost connection to the root logger, with tracebacks; here it is raised.
        java_gateway.logging = logging.getLogger("py4j")
        java_gateway.logging.propagate = False
        java = find_java()
        assert java is not None
        classes = os.pathsep.join([java_gateway.find_jar_path(), str(jar)])
        self.jar = jar
        self._java = java.path
        self._process = subprocess.Popen(
            [java.path, *OPTIONS, "-classpath", classes, *SERVER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=jar.parent,
        )
        try:
            port, token = self._read_address()
            parameters = java_gateway.GatewayParameters(port=port, auth_token=token)
            self._gateway: Any = java_gateway.JavaGateway(gateway_parameters=parameters)
            self._prepare()
        except BaseException:
            self._kill()
            raise
        self.user: JavaEngine | None = None
        """The engine that used it last, for games whose episodes share some of their state."""

    def _read_address(self) -> tuple[int, str]:
        """The port and the password that it chose; UsageError if it does not start."""
        assert self._process.stdout is not None
        said = b""
        end = time.monotonic() + START_SECONDS
        # It may warn about its options first. The port is a line of digits, the password follows.
        while not (found := re.search(rb"(?:^|\n)(\d+)\r?\n([^\n]+)\n", said)):
            left = max(0.0, end - time.monotonic())
            ready, _, _ = select.select([self._process.stdout], [], [], left)
            part = os.read(self._process.stdout.fileno(), 65536) if ready else b""
            said += part
            if not part:
                state = "ended" if ready else f"said nothing for {START_SECONDS:g} s"
                told = _first_line(said.decode(errors="replace"))
                raise UsageError(
                    f"the game engine {self.jar.name} did not start, {self._java} {state}: "
                    f"{told or 'without a message'}. See `resd-bench doctor`"
                )
        return int(found[1]), found[2].strip().decode()

    def _prepare(self) -> None:
        """Silence it, and make sure that its sets have the same order each time."""
        lang = self._gateway.jvm.java.lang
        nowhere = self._gateway.jvm.java.io.PrintStream(os.devnull)
        lang.System.setOut(nowhere)
        lang.System.setErr(nowhere)
        hashes = {int(lang.System.identityHashCode(lang.Object())) for _ in range(2)}
        if len(hashes) > 1:
            raise UsageError(
                f"{self._java} does not support {' '.join(SAME_HASH)}, without which games differ "
                "from one time to the next: use a HotSpot Java, such as OpenJDK's"
            )

    def new(self, name: str, *arguments: Any) -> Any:
        """An object of the class `name`."""
        found = self._gateway.jvm
        for part in name.split("."):
            found = getattr(found, part)
        return found(*arguments)

    def singleton(self, name: str) -> Any:
        """The Scala object `name`."""
        kind = self._gateway.jvm.java.lang.Class.forName(f"{name}$")
        return kind.getField("MODULE$").get(None)

    def call(self, doing: str, function: Callable[[], T]) -> T:
        """Do something with its objects; GameEngineError if the game fails or the machine dies."""
        from py4j.protocol import Py4JError, Py4JJavaError

        try:
            return function()
        except Py4JJavaError as error:
            reason = _first_line(str(error.java_exception))
            raise GameEngineError(f"{self.jar.stem} failed {doing}: {reason}") from None
        except (Py4JError, OSError) as error:
            # A machine that closed its connection gets a moment to end.
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout=1.0)
            reason = _first_line(str(error).rpartition("Trace:")[2])
            reason = reason if self.alive else self._how_it_ended()
            raise GameEngineError(f"{self.jar.stem} failed {doing}: {reason}") from None

    @property
    def alive(self) -> bool:
        """Whether it is still running."""
        return self._process.poll() is None

    def _how_it_ended(self) -> str:
        code = self._process.returncode
        how = f"exit code {code}" if code >= 0 else signal.Signals(-code).name
        return f"its Java ended with {how}"

    def end(self) -> None:
        """End it."""
        # Objects of it that are discarded later no longer notify it.
        self._gateway._gateway_client.is_connected = False
        with contextlib.suppress(Exception):
            self._gateway.close()
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=END_SECONDS)
        self._kill()

    def _kill(self) -> None:
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()

    def forget(self) -> None:
        """In a forked process: it belongs to the one we were forked from."""
        client = self._gateway._gateway_client
        client.is_connected = False
        for connection in list(client.deque):
            # Close only our copy: a proper shutdown would end the other process's connection.
            with contextlib.suppress(OSError, AttributeError):
                connection.socket.close()
        client.deque.clear()
        self._process.returncode = 0
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()


class JavaEngine(ABC):
    """Plays one episode at a time on this process's machine.

    If the machine was replaced since the episode began, the episode is replayed from the start.
    """

    jar: ClassVar[str]
    """The game's file in its package's folder."""
    interface: ClassVar[str]
    """The Java class that plays."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / self.jar
        self._machine: Machine | None = None
        self._server: Any = None
        """An object of `interface` on the machine."""
        self._said: list[str] = []
        """The commands of this episode so far."""

    @abstractmethod
    def _load(self) -> None:
        """Set the server to the beginning of the episode."""

    @abstractmethod
    def _tell(self, command: str) -> Any:
        """Send the server a command; returns its answer."""

    def begin(self) -> None:
        """Start the episode again."""
        self._take_machine()
        self._call("at the beginning of a game", self._load)
        self._said = []

    def tell(self, command: str) -> Any:
        """Send the game a command; returns its answer. GameEngineError if it fails or dies."""
        if self._take_machine():
            self._call("playing a game again", self._replay)
        self._said.append(command)
        return self._call(f"at {command[:60]!r}", lambda: self._tell(command))

    def _take_machine(self) -> bool:
        """Use the machine of this process; returns whether it differs from the previous one."""
        found = machine(self._file)
        if found is self._machine:
            return False
        server = found.call("to start", lambda: found.new(self.interface))
        self._machine, self._server = found, server
        return True

    def _replay(self) -> None:
        self._load()
        for command in self._said:
            self._tell(command)

    def _call(self, doing: str, function: Callable[[], T]) -> T:
        assert self._machine is not None
        return self._machine.call(doing, function)


_lock = threading.Lock()
_machines: dict[Path, Machine] = {}


def machine(jar: Path) -> Machine:
    """This process's machine for a game file, started if none is running."""
    with _lock:
        found = _machines.get(jar)
        if found is not None and not found.alive:
            _machines.pop(jar).end()
            found = None
        if found is None:
            found = _machines[jar] = Machine(jar)
        return found


def end_all() -> None:
    """End every machine of this process."""
    with _lock:
        while _machines:
            _machines.popitem()[1].end()


def _forget() -> None:
    global _lock
    _lock = threading.Lock()
    while _machines:
        _machines.popitem()[1].forget()


def _first_line(text: str) -> str:
    return next((line.strip() for line in text.splitlines() if line.strip()), "")[:300]


atexit.register(end_all)
os.register_at_fork(after_in_child=_forget)
