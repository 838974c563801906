"""The forked process that runs one program: lock down, read the program, answer with values.

Everything after the program is loaded happens in the same process as hostile code and is only a
claim: the parent takes a plain value from here and nothing else. Descriptors: 0 to 2 standard, 3
the channel. Imports only the standard library and `resd_bench.sandbox` modules that do the same,
and little of it, since most of a short program's cost is the pages that its process copies.
"""

from __future__ import annotations

import atexit
import builtins
import contextlib
import fcntl
import io
import json
import os
import resource
import signal
import sys
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from resd_bench.sandbox import landlock, seccomp
from resd_bench.sandbox.plain import APPLICABLE, NotPlain, decode, encode

CHANNEL = 3
PROGRAM, PREAMBLE = "<program>", "<preamble>"
MESSAGE_CHARS = 300
LOADER_MB = 64
"""Address space that the libraries loaded by a program take up."""
_READ_BYTES = 1 << 16
MAX_OPEN = 1024
"""Every descriptor that the zygote holds or receives is lower than this."""


# Bound before any program runs, for speed: nothing that a child sends is trusted anyway.
_write = os.write
_encode = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode
_READY = b'{"ready":null}\n'


class Cage(NamedTuple):
    """How children are locked down; created once in the zygote."""

    ruleset_fd: int
    """Descriptor of the Landlock ruleset, -1 if there is none."""
    filter: bytes
    """seccomp program, empty if there is none."""
    base_bytes: int
    """Address space of the bare interpreter."""


def main(cage: Cage, request: Mapping[str, Any], fds: Sequence[int]) -> None:
    """Run one program; never returns."""
    try:
        _arrange_descriptors(fds)
        _fix_randomness()
        lines = io.BufferedReader(io.FileIO(CHANNEL, closefd=False), _READ_BYTES)
        _lock_down(cage, request["limits"])
    except BaseException as error:
        send({"setup": _describe(error)})
        os._exit(1)
    _write(CHANNEL, _READY)
    head = json.loads(lines.readline())
    if request["mode"] == "stdin":
        os._exit(_run_script(head))
    os._exit(_serve_calls(lines, head))


def _arrange_descriptors(fds: Sequence[int]) -> None:
    os.setsid()
    # Moved out of the way before anything is put onto 0 to 3.
    held = [fcntl.fcntl(fd, fcntl.F_DUPFD, CHANNEL + 1) for fd in fds]
    # Opened by each child: flags set on a shared one could be read by the next child.
    null_fd = fcntl.fcntl(os.open(os.devnull, os.O_RDWR), fcntl.F_DUPFD, CHANNEL + 1)
    os.dup2(held[0], CHANNEL, inheritable=False)
    stdin, stdout = held[1:3] if len(held) == 3 else (null_fd, null_fd)
    os.dup2(stdin, 0)
    os.dup2(stdout, 1)
    os.dup2(null_fd, 2)


def _fix_randomness() -> None:
    # For the same verdict on every machine: the module has just reseeded itself, at the fork.
    if "random" in sys.modules:
        sys.modules["random"].seed(0)


def _lock_down(cage: Cage, limits: Mapping[str, int]) -> None:
    seccomp.prctl(seccomp.PR_SET_PDEATHSIG, signal.SIGKILL)
    _cap(resource.RLIMIT_CORE, 0)
    _cap(resource.RLIMIT_FSIZE, 0)
    _cap(resource.RLIMIT_NOFILE, limits["descriptors"])
    _cap(resource.RLIMIT_CPU, limits["cpu_s"] + 1)
    _cap(resource.RLIMIT_STACK, limits["stack_mb"] << 20)
    _cap(resource.RLIMIT_AS, cage.base_bytes + ((limits["memory_mb"] + LOADER_MB) << 20))
    if cage.ruleset_fd >= 0:
        # One domain per child, so that signals and abstract sockets do not reach siblings either.
        landlock.enter(cage.ruleset_fd)
    elif cage.filter:
        _give_back_the_null_device()
    os.closerange(CHANNEL + 1, MAX_OPEN)
    if cage.filter:
        seccomp.load_filter(cage.filter)


def _cap(which: int, value: int) -> None:
    hard = resource.getrlimit(which)[1]
    if hard != resource.RLIM_INFINITY:
        value = min(value, hard)
    resource.setrlimit(which, (value, value))


def _give_back_the_null_device() -> None:
    """Make `open("/dev/null")` work even where nothing can be opened."""
    really_open: Any = io.open

    def open(file: Any, *args: Any, **kwargs: Any) -> Any:
        return really_open(os.dup(2) if file == os.devnull else file, *args, **kwargs)

    builtins.open = io.open = open


def send(report: Mapping[str, Any]) -> None:
    """Send one report; OSError if the parent has hung up."""
    left = memoryview(_encode(report).encode("ascii") + b"\n")
    while left:
        left = left[_write(CHANNEL, left) :]


def _describe(error: BaseException) -> list[Any]:
    """Type, message and line in the program of an exception, whatever its `__str__` does."""
    name = type(error).__name__
    for known in (MemoryError, PermissionError, RecursionError):
        if isinstance(error, known):
            name = known.__name__
    try:
        message = str(error)[:MESSAGE_CHARS]
    except BaseException:
        message = "(a message that cannot be shown)"
    line, frame = None, error.__traceback__
    while frame is not None:
        if frame.tb_frame.f_code.co_filename == PROGRAM:
            line = frame.tb_lineno
        frame = frame.tb_next
    return [str(name)[:MESSAGE_CHARS], message, line]


def _load(name: str, head: Mapping[str, Any]) -> dict[str, Any]:
    module = types.ModuleType(name)
    module.__dict__["__builtins__"] = builtins
    sys.modules[name] = module
    sys.argv = ["program"]
    # Run separately, so that the program keeps its line numbers and may start with __future__.
    for source, file in ((head["preamble"], PREAMBLE), (head["code"], PROGRAM)):
        if source:
            exec(compile(source, file, "exec", dont_inherit=True), module.__dict__)
    return module.__dict__


def _run_script(head: Mapping[str, Any]) -> int:
    """Run the program as a script; its exit status."""
    status = 0
    try:
        _load("__main__", head)
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException as error:
        status = 1
        with contextlib.suppress(BaseException):
            send({"ex": _describe(error)})
    try:
        # As the interpreter does when it exits: programs with fast output print in an exit hook.
        if "threading" in sys.modules:
            getattr(sys.modules["threading"], "_shutdown")()  # noqa: B009
        getattr(atexit, "_run_exitfuncs")()  # noqa: B009
        sys.stdout.flush()
    except BaseException:
        status = status or 1
    return status & 0xFF


def _serve_calls(lines: io.BufferedIOBase, head: Mapping[str, Any]) -> int:
    """Load the program, then answer one call after another until the parent hangs up."""
    try:
        function = _entry(_load("solution", head), head["entry"])
    except BaseException as error:
        send({"load": _describe(error)})
        return 1
    send({"load": None})
    while line := lines.readline():
        try:
            send(_answer(function, json.loads(line), head["max_values"]))
        except OSError:
            return 0
        except BaseException as error:
            send({"bad": type(error).__name__})
    return 0


def _entry(namespace: Mapping[str, Any], path: str) -> Callable[..., Any]:
    """The function `f`, or the method `Class.f` of an instance created without arguments."""
    first, *rest = path.split(".")
    target = namespace[first]
    for name in rest:
        target = getattr(target() if isinstance(target, type) else target, name)
    if not callable(target):
        raise TypeError(f"the entry point {path!r} cannot be called")
    function: Callable[..., Any] = target
    return function


def _answer(function: Callable[..., Any], call: Mapping[str, Any], max_values: int) -> Any:
    try:
        args = [decode(argument) for argument in call["args"]]
        kwargs = {name: decode(argument) for name, argument in call["kwargs"].items()}
        result = function(*args, **kwargs)
        if "apply" in call:
            result = APPLICABLE[call["apply"]](result)
        return {"v": encode(result, max_values)}
    except NotPlain as error:
        return {"bad": str(error)[:MESSAGE_CHARS]}
    except BaseException as error:
        return {"ex": _describe(error)}
