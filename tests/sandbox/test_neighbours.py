"""What one program does to the machine changes nothing for those that run with or after it."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from resd_bench.sandbox import Level, Limits, Sandbox, SandboxTooWeak, zygote

LEVELS: tuple[Level, ...] = ("kernel", "namespace")


@pytest.fixture(scope="module", params=LEVELS)
def box(request: pytest.FixtureRequest) -> Iterator[Sandbox]:
    try:
        sandbox = Sandbox(request.param, want=request.param)
    except SandboxTooWeak as error:
        pytest.skip(f"LEVEL {request.param} NOT TESTED: {error}")
    with sandbox:
        yield sandbox


def call(box: Sandbox, code: str, *args: Any) -> Any:
    """What `solve(*args)` of a program returns."""
    (case,) = box.run_program(code, [{"args": list(args)}], entry="solve").cases
    assert case.kind == "ok", case
    return case.value


# State.

LEAVE = """
import fcntl, os
def solve():
    fcntl.fcntl(2, fcntl.F_SETFL, os.O_NONBLOCK | os.O_APPEND)
    return bool(fcntl.fcntl(2, fcntl.F_GETFL) & os.O_APPEND)
"""
FIND = """
import fcntl, os
def solve():
    return [fcntl.fcntl(fd, fcntl.F_GETFL) & (os.O_NONBLOCK | os.O_APPEND) for fd in range(3)]
"""


@pytest.mark.slow
def test_flags_set_on_the_null_device_are_not_there_for_the_next_program(box: Sandbox) -> None:
    assert call(box, LEAVE) is True
    assert call(box, FIND) == [0, 0, 0]


LOCK = """
import fcntl, os, struct
def solve(command):
    lock = struct.pack('hhqqi4x', fcntl.F_WRLCK, 0, 0, 1, 0)
    for fd in (0, 1, 2, 3, os.open('/dev/null', os.O_RDWR), os.open(os.__file__, os.O_RDONLY)):
        try: fcntl.fcntl(fd, command, lock)
        except PermissionError: continue
        return fd
    return None
"""


@pytest.mark.parametrize("command", [5, 6, 7, 36, 37, 38])
def test_no_program_can_take_or_see_a_lock(command: int, box: Sandbox) -> None:
    assert call(box, LOCK, command) is None


PROBE = """
import os, socket
def refused(act):
    try: act()
    except PermissionError: return True
    return False
def solve():
    fd = os.open(os.__file__, os.O_RDONLY)
    one, other = socket.socketpair()
    assert os.preadv(fd, [bytearray(8)], 0) == 8
    assert one.send(b'x') == 1 and other.recv(1) == b'x'
    return [
        refused(lambda: os.preadv(fd, [bytearray(8)], 0, os.RWF_NOWAIT)),
        refused(lambda: os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)),
        refused(lambda: one.send(b'x', socket.MSG_OOB)),
        refused(lambda: one.sendmsg([b'x'], [], socket.MSG_OOB)),
        refused(lambda: other.recv(1, socket.MSG_OOB)),
    ]
"""


def test_the_page_cache_and_out_of_band_data_are_closed_and_their_honest_kin_open(
    box: Sandbox,
) -> None:
    assert call(box, PROBE) == [True] * 5


# Process numbers.

BOMB = """
import ctypes, mmap, time
def solve(most):
    # clone(CLONE_VM | FS | FILES | SIGHAND | THREAD | SYSVSEM); the new thread does `body` forever.
    code = bytes.fromhex('31d2' '4d31d2' '4d31c0' 'b838000000' '0f05' '4885c0' '7509' {body!r} 'c3')
    page = mmap.mmap(-1, 4096, prot=7)
    page.write(code)
    start = ctypes.addressof(ctypes.c_char.from_buffer(page))
    clone = ctypes.CFUNCTYPE(ctypes.c_long, ctypes.c_long, ctypes.c_void_p)(start)
    stack = ctypes.create_string_buffer(65536)
    top = (ctypes.addressof(stack) + 65000) & ~15
    made = 0
    while made < most and clone(0x50F00, top) > 0: made += 1
    end = time.monotonic() + 5
    while time.monotonic() < end: pass
    return made
"""
BODIES = {"sleeping": "b8220000000f05ebf7", "spinning": "ebfe90" * 7}
FEW = 400
"""Threads that a bomb starts: enough to be found out, too few to hurt a machine."""
x86_only = pytest.mark.skipif(os.uname().machine != "x86_64", reason="machine code of x86_64")


@pytest.mark.slow
@x86_only
@pytest.mark.parametrize("body", BODIES)
def test_threads_started_by_a_bare_system_call_end_the_program(body: str, box: Sandbox) -> None:
    code, limits = BOMB.format(body=BODIES[body]), Limits(call_cpu_s=1.0)
    (case,) = box.run_program(code, [{"args": [FEW]}], entry="solve", limits=limits).cases
    # Threads that compute take the processor from the one that starts them.
    assert case.kind == "forbidden" or (case.kind, body) == ("timeout", "spinning"), case
    assert "threads at once, over 64" in case.detail or body == "spinning"
    assert call(box, "def solve():\n    return 7") == 7


THREADS = """
import threading, time
threading.stack_size(65536)
def solve(count):
    done = threading.Event()
    threads = [threading.Thread(target=done.wait) for _ in range(count)]
    for thread in threads: thread.start()
    time.sleep(0.1)
    done.set()
    for thread in threads: thread.join()
    return len(threads)
"""


def test_as_many_threads_as_are_allowed_are_left_alone(box: Sandbox) -> None:
    assert call(box, THREADS, Limits().threads - 1) == Limits().threads - 1
    limits = Limits(threads=20)
    (case,) = box.run_program(THREADS, [{"args": [30]}], entry="solve", limits=limits).cases
    assert case.kind == "forbidden"


@pytest.mark.slow
@x86_only
def test_verdicts_beside_a_bomb_are_what_they_are_without_it() -> None:
    honest = "import threading\ndef solve(n):\n" + "\n".join(
        f"    {line}"
        for line in (
            "found = []",
            "threads = [threading.Thread(target=found.append, args=(n,)) for _ in range(4)]",
            "for thread in threads: thread.start()",
            "for thread in threads: thread.join()",
            "return found",
        )
    )
    with Sandbox(workers=2) as box:
        stop = threading.Event()

        def bombs() -> None:
            bomb = BOMB.format(body=BODIES["sleeping"])
            while not stop.is_set():
                box.run_program(bomb, [{"args": [FEW]}], entry="solve")

        beside = threading.Thread(target=bombs)
        beside.start()
        try:
            kinds = {
                kind
                for n in range(20)
                for kind in box.run_program(
                    honest, [{"args": [n], "expected": [n] * 4}], entry="solve"
                ).kinds
            }
        finally:
            stop.set()
            beside.join()
    assert kinds == {"ok"}


def test_a_fork_is_tried_again_while_the_machine_has_no_process_to_give(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answers: list[Callable[[], int]] = []

    def fork() -> int:
        return answers.pop(0)()

    def refuse() -> int:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(os, "fork", fork)
    answers = [refuse, refuse, lambda: 7]
    assert zygote._fork() == 7
    monkeypatch.setattr(zygote, "FORK_S", 0.02)
    answers = [refuse] * 100
    with pytest.raises(BlockingIOError):
        zygote._fork()
