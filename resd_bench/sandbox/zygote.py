"""The process that programs are forked from; started by path, never imported by the parent.

    python -P -s -S -B -X utf8 zygote.py <number of the control descriptor>

It is a fresh interpreter with a rebuilt environment, so its memory holds nothing of the parent's.
It never sees a program, an input or an expected output: for each run it gets a little JSON and some
descriptors, forks, and reports what the kernel says about the child (exit status, resource use).
Python's own isolation flag would drop PYTHONHASHSEED with everything else, and verdicts would
differ between machines; `-P -s` and the rebuilt environment take its place. This module and its
imports load only what is indispensable: `random` and `threading` alone, which run hooks at every
fork, would cost half a millisecond per program.
"""

from __future__ import annotations

import _thread
import atexit
import contextlib
import fcntl
import gc
import json
import os
import resource
import select
import signal
import site
import socket
import sys
import time
import types
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

STACK_BYTES = 256 << 20
THREAD_STACK_BYTES = 16 << 20
"""Default stack of a program's threads; it counts in full against the address space."""
LOWEST_FD = 10
"""The zygote's own descriptors stay above those that children arrange."""
MESSAGE_BYTES = 1 << 18
MAX_FDS = 3
SWEEPS = 2000
WATCH_MS = 5
"""Interval at which a running child's threads are counted; it can start a dozen per ms."""
FORK_S = 20.0
"""How long a fork is retried if the machine has no process to give: another program may have taken
them all, which is over within moments."""
FORK_PAUSE_S = 0.01


class Nursery(NamedTuple):
    """How children are forked."""

    run_child: Callable[[Mapping[str, Any], Sequence[int]], None]
    """Called with the request and the descriptors; never returns."""
    pidfd_open: Callable[[int], int]
    may_fork: bool
    """Whether children can leave processes behind, which must then be killed."""


def main() -> None:
    """Set up, send the hello message, then serve runs until the parent is gone."""
    _raise_stack()
    control = socket.socket(fileno=fcntl.fcntl(int(sys.argv[1]), fcntl.F_DUPFD_CLOEXEC, LOWEST_FD))
    os.closerange(3, LOWEST_FD)
    config = json.loads(control.recv(MESSAGE_BYTES))
    _make_importable()
    hello, nursery = _prepare(config)
    _forget_ourselves(config["site_folders"])
    control.sendall(json.dumps(hello).encode())
    while True:
        message, fds, _, _ = socket.recv_fds(control, MESSAGE_BYTES, MAX_FDS)
        if not message:
            return
        _run(control, nursery, json.loads(message), fds)


def _raise_stack() -> None:
    """Start again with a larger stack, which is laid out at exec."""
    soft, hard = resource.getrlimit(resource.RLIMIT_STACK)
    unlimited = resource.RLIM_INFINITY
    if soft != unlimited and soft < STACK_BYTES and (hard == unlimited or hard >= STACK_BYTES):
        resource.setrlimit(resource.RLIMIT_STACK, (STACK_BYTES, hard))
        os.execv(sys.executable, sys.orig_argv)


def _make_importable() -> None:
    """Make the modules next to this file importable without loading `resd_bench`."""
    here = os.path.dirname(os.path.abspath(__file__))
    for name, path in (("resd_bench", os.path.dirname(here)), ("resd_bench.sandbox", here)):
        module = types.ModuleType(name)
        module.__path__ = [path]
        sys.modules[name] = module


def _prepare(config: Mapping[str, Any]) -> tuple[dict[str, Any], Nursery]:
    """Preload, then build the cage from what this kernel offers; returns the hello message."""
    from resd_bench.sandbox import child, landlock, seccomp, syscalls

    seccomp.prctl(seccomp.PR_SET_CHILD_SUBREAPER, 1)
    failed = _preload(config["preload"], config["packages"], config["site_folders"])
    lock, ruleset_fd, filter_ = config["lock"], -1, b""
    reason = seccomp.missing() if lock else "isolation was not wanted"
    version = 0 if reason else landlock.abi()
    if os.geteuid() == 0:
        # The user id stays: another user might not be able to read an interpreter in a home folder.
        seccomp.drop_capabilities()
    seccomp.prctl(seccomp.PR_SET_NO_NEW_PRIVS, 1)
    if version:
        ruleset_fd = landlock.ruleset(version, config["readable"], [os.devnull])
        ruleset_fd = fcntl.fcntl(ruleset_fd, fcntl.F_DUPFD_CLOEXEC, LOWEST_FD)
    elif not reason:
        reason = "the kernel offers no Landlock: programs can open no file at all"
    if lock and not seccomp.missing():
        filter_ = seccomp.compiled("landlock" if version else "sealed")
    try:
        os.close(syscalls.pidfd_open(os.getpid()))
    except OSError as error:
        failed.append(f"Linux 5.3 or newer is needed ({error})")
    cage = child.Cage(ruleset_fd, filter_, _address_space())
    hello = {
        "python": sys.version.split()[0],
        "seccomp": bool(filter_),
        "landlock": version,
        "reason": reason,
        "failed": failed,
    }
    return hello, Nursery(partial(child.main, cage), syscalls.pidfd_open, may_fork=not filter_)


def _preload(
    modules: Sequence[str], packages: Sequence[str], site_folders: Sequence[str]
) -> list[str]:
    """Import in advance; returns the packages that could not be imported, with the reason."""
    for name in modules:
        # Some builds of Python lack parts of the standard library.
        with contextlib.suppress(ImportError):
            __import__(name)
    failed = []
    path = list(sys.path)
    sys.path += site_folders
    for name in packages:
        try:
            __import__(name)
        except Exception as error:
            failed.append(f"package {name!r} cannot be imported: {error}")
    sys.path[:] = path
    if "numpy" in sys.modules:
        # For the same verdict on every machine, all children start in this state.
        sys.modules["numpy"].random.seed(0)
    return failed


def _forget_ourselves(site_folders: Sequence[str]) -> None:
    """Give children a plain interpreter: no trace of the suite, no hooks, no garbage to collect."""
    for folder in (os.path.dirname(os.path.abspath(__file__)), *site_folders):
        sys.path_importer_cache.pop(folder, None)
    for name in [name for name in sys.modules if name.split(".")[0] == "resd_bench"]:
        del sys.modules[name]
    sys.argv[:] = ["program"]
    sys.orig_argv[:] = ["python"]
    _thread.stack_size(THREAD_STACK_BYTES)
    # What -S omits but programs use: exit() and quit().
    site.setquit()
    getattr(atexit, "_clear")()  # noqa: B009
    gc.collect()
    # Otherwise, garbage collection in children would copy the pages of everything preloaded.
    gc.freeze()


def _address_space() -> int:
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")


def _run(
    control: socket.socket, nursery: Nursery, request: Mapping[str, Any], fds: Sequence[int]
) -> None:
    """Fork one child, hand the parent a pidfd, wait, report."""
    try:
        pid = _fork()
    except OSError as error:
        control.sendall(json.dumps({"failed": f"fork: {error}"}).encode())
        for fd in fds:
            os.close(fd)
        return
    if pid == 0:
        try:
            control.detach()
            nursery.run_child(request, fds)
        finally:
            os._exit(1)
    for fd in fds:
        os.close(fd)
    pidfd = nursery.pidfd_open(pid)
    socket.send_fds(control, [b'"forked"'], [pidfd])
    parent_is_gone, threads = _wait(control, pidfd, pid, request["limits"]["threads"])
    if parent_is_gone or threads:
        os.kill(pid, signal.SIGKILL)
    _, status, usage = os.wait4(pid, 0)
    os.close(pidfd)
    if nursery.may_fork:
        _sweep()
    if parent_is_gone:
        os._exit(0)
    cpu_s = usage.ru_utime + usage.ru_stime
    report = {
        "status": status,
        "cpu_s": cpu_s,
        "maxrss_kb": usage.ru_maxrss,
        "threads": threads,
    }
    control.sendall(json.dumps(report).encode())


def _fork() -> int:
    """Fork as soon as the machine has a process to give; OSError."""
    end = time.monotonic() + FORK_S
    while True:
        try:
            return os.fork()
        except BlockingIOError:
            if time.monotonic() > end:
                raise
            time.sleep(FORK_PAUSE_S)


def _wait(control: socket.socket, pidfd: int, pid: int, most_threads: int) -> tuple[bool, int]:
    """Wait until the child or the parent has ended, or the child has too many threads.

    Returns whether it was the parent, and the number of threads that the child was ended for.
    Without this watch a child could take every process number of the machine in a moment: threads
    that it starts by a bare system call need no memory, and no other limit counts them.
    """
    poll = select.poll()
    poll.register(control, select.POLLIN)
    poll.register(pidfd, select.POLLIN)
    tasks = f"/proc/{pid}/task"
    while not (ready := {fd for fd, _ in poll.poll(WATCH_MS)}):
        threads = _threads(tasks)
        if threads > most_threads:
            return False, threads
    return control.fileno() in ready, 0


def _threads(tasks: str) -> int:
    """Number of threads in a process's task folder; 0 if that is unknown."""
    try:
        # The folder itself and its parent count as links too.
        return os.stat(tasks).st_nlink - 2
    except OSError:
        return 0


def _sweep() -> None:
    """Kill what a child left behind; as the subreaper, we inherited it."""
    for _ in range(SWEEPS):
        left = _children()
        if not left:
            return
        for pid in left:
            os.kill(pid, signal.SIGKILL)
        for pid in left:
            os.waitpid(pid, 0)


def _children() -> list[int]:
    me = os.getpid()
    try:
        with open(f"/proc/self/task/{me}/children", encoding="ascii") as file:
            return [int(pid) for pid in file.read().split()]
    except OSError:
        return []


if __name__ == "__main__":
    main()
