"""The compiled seccomp filters, run by a small interpreter: what each system call is answered."""

from __future__ import annotations

import base64
import errno
import json
import struct
from pathlib import Path

import pytest

from resd_bench.sandbox import make_filters
from resd_bench.sandbox.seccomp import FILTERS

KILL, ALLOW, ERRNO = 0x80000000, 0x7FFF0000, 0x00050000
ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
EVERY = [(machine, name) for machine in ARCH for name in ("landlock", "sealed")]
NUMBERS = {
    "read": (0, 63),
    "write": (1, 64),
    "openat": (257, 56),
    "socket": (41, 198),
    "socketpair": (53, 199),
    "clone": (56, 220),
    "clone3": (435, 435),
    "execve": (59, 221),
    "kill": (62, 129),
    "ptrace": (101, 117),
    "fcntl": (72, 25),
    "ioctl": (16, 29),
    "prlimit64": (302, 261),
    "prctl": (157, 167),
    "io_uring_setup": (425, 425),
    "unshare": (272, 97),
    "mount": (165, 40),
    "fchmodat": (268, 53),
    "memfd_create": (319, 279),
    "bpf": (321, 280),
    "preadv2": (327, 286),
    "fadvise64": (221, 223),
    "madvise": (28, 233),
    "sendto": (44, 206),
    "recvfrom": (45, 207),
    "sendmsg": (46, 211),
    "recvmsg": (47, 212),
    "flock": (73, 32),
    "cachestat": (451, 451),
    "mincore": (27, 232),
}


def answer(code: bytes, machine: str, number: int, *arguments: int) -> int:
    """What classic BPF returns for a system call (the subset that libseccomp emits)."""
    padded = (*arguments, *[0] * (6 - len(arguments)))
    data = struct.pack("<iIQ6Q", number, ARCH[machine], 0, *padded)
    program = [struct.unpack_from("<HBBI", code, at) for at in range(0, len(code), 8)]
    at: int = 0
    accumulator: int = 0
    while True:
        operation, if_true, if_false, k = map(int, program[at])
        at += 1
        if operation == 0x20:
            (accumulator,) = struct.unpack_from("<I", data, k)
        elif operation == 0x54:
            accumulator &= k
        elif operation == 0x05:
            at += k
        elif operation == 0x06:
            return k
        else:
            test = {
                0x15: accumulator == k,
                0x25: accumulator > k,
                0x35: accumulator >= k,
                0x45: bool(accumulator & k),
            }[operation]
            at += if_true if test else if_false


def ask(machine: str, name: str, call: str, *arguments: int) -> int:
    code = base64.b64decode(json.loads(Path(FILTERS).read_text())[f"{machine}:{name}"])
    number = NUMBERS[call][0 if machine == "x86_64" else 1]
    return answer(code, machine, number, *arguments)


@pytest.mark.parametrize(("machine", "name"), EVERY)
def test_processes_sockets_and_kernel_doors_end_the_program(machine: str, name: str) -> None:
    for call in ("socket", "execve", "kill", "ptrace", "io_uring_setup", "unshare", "mount", "bpf"):
        assert ask(machine, name, call) == KILL, call
    assert ask(machine, name, "clone", 17) == KILL


@pytest.mark.parametrize(("machine", "name"), EVERY)
def test_reading_writing_and_threads_are_allowed(machine: str, name: str) -> None:
    assert ask(machine, name, "read") == ask(machine, name, "write") == ALLOW
    assert ask(machine, name, "clone", 0x003D0F00) == ALLOW
    assert ask(machine, name, "clone3") == ERRNO | errno.ENOSYS


@pytest.mark.parametrize(("machine", "name"), EVERY)
def test_what_is_not_named_is_refused(machine: str, name: str) -> None:
    for call in ("fchmodat", "memfd_create"):
        assert ask(machine, name, call) == ERRNO | errno.EPERM, call


@pytest.mark.parametrize(("machine", "name"), EVERY)
def test_only_stream_pairs_are_made(machine: str, name: str) -> None:
    assert ask(machine, name, "socketpair", 1, 1 | 0o2000000) == ALLOW
    assert ask(machine, name, "socketpair", 1, 2) == ERRNO | errno.EPERM
    assert ask(machine, name, "socketpair", 2, 1) == ERRNO | errno.EPERM


@pytest.mark.parametrize(("machine", "name"), EVERY)
def test_no_descriptor_gets_an_owner_to_signal(machine: str, name: str) -> None:
    f_setown, f_setsig, fiosetown, isatty = 8, 10, 0x8901, 0x5401
    assert ask(machine, name, "fcntl", 3, f_setown) == ERRNO | errno.EPERM
    assert ask(machine, name, "fcntl", 3, f_setsig) == ERRNO | errno.EPERM
    assert ask(machine, name, "ioctl", 3, fiosetown) == ERRNO | errno.EPERM
    assert ask(machine, name, "ioctl", 3, isatty) == ALLOW


@pytest.mark.parametrize(("machine", "name"), EVERY)
def test_no_file_is_locked(machine: str, name: str) -> None:
    posix_locks, locks_of_open_files = (5, 6, 7), (36, 37, 38)
    for command in (*posix_locks, *locks_of_open_files):
        assert ask(machine, name, "fcntl", 3, command) == ERRNO | errno.EPERM, command
    assert ask(machine, name, "flock", 3, 2) == ERRNO | errno.EPERM
    get_flags, set_flags = 3, 4
    assert ask(machine, name, "fcntl", 3, get_flags) == ALLOW
    assert ask(machine, name, "fcntl", 3, set_flags) == ALLOW


@pytest.mark.parametrize(("machine", "name"), EVERY)
def test_the_page_cache_is_neither_asked_nor_changed(machine: str, name: str) -> None:
    nowait, cold, pageout, mergeable = 8, 20, 21, 12
    assert ask(machine, name, "preadv2", 3, 0, 0, 0, 0, 0) == ALLOW
    assert ask(machine, name, "preadv2", 3, 0, 0, 0, 0, nowait) == ERRNO | errno.EPERM
    for call in ("fadvise64", "cachestat", "mincore"):
        assert ask(machine, name, call) == ERRNO | errno.EPERM, call
    for advice in (cold, pageout, mergeable):
        assert ask(machine, name, "madvise", 0, 0, advice) == ERRNO | errno.EPERM, advice
    dont_need, huge_page = 4, 14
    for advice in (dont_need, huge_page):
        assert ask(machine, name, "madvise", 0, 0, advice) == ALLOW, advice


@pytest.mark.parametrize(("machine", "name"), EVERY)
def test_no_message_is_out_of_band(machine: str, name: str) -> None:
    out_of_band, no_signal = 1, 0x4000
    for call, before in (("sendto", 3), ("recvfrom", 3), ("sendmsg", 2), ("recvmsg", 2)):
        arguments = [0] * before
        assert ask(machine, name, call, *arguments, 0) == ALLOW, call
        assert ask(machine, name, call, *arguments, no_signal) == ALLOW, call
        for flags in (out_of_band, out_of_band | no_signal):
            assert ask(machine, name, call, *arguments, flags) == ERRNO | errno.EPERM, call


@pytest.mark.parametrize(("machine", "name"), EVERY)
def test_limits_are_read_but_not_set(machine: str, name: str) -> None:
    assert ask(machine, name, "prlimit64", 0, 7, 0) == ALLOW
    assert ask(machine, name, "prlimit64", 0, 7, 0x7FFF_0000_1000) == ERRNO
    assert ask(machine, name, "prlimit64", 1, 7, 0) == ERRNO | errno.EPERM


@pytest.mark.parametrize("machine", ARCH)
def test_without_landlock_nothing_is_opened(machine: str) -> None:
    assert ask(machine, "landlock", "openat") == ALLOW
    assert ask(machine, "sealed", "openat") == ERRNO | errno.EPERM


def test_calls_of_another_machine_are_refused() -> None:
    filters = json.loads(Path(FILTERS).read_text())
    code = base64.b64decode(filters["x86_64:landlock"])
    assert answer(code, "aarch64", 63) != ALLOW
    x32_read = 0x40000000
    assert answer(code, "x86_64", x32_read) != ALLOW


def test_the_shipped_filters_are_what_the_policy_compiles_to() -> None:
    pytest.importorskip("pyseccomp", reason="FILTERS NOT COMPARED: pip install pyseccomp")
    shipped = json.loads(Path(FILTERS).read_text())
    for machine, name in EVERY:
        code = make_filters.compile_filter(machine, sealed=name == "sealed")
        assert base64.b64decode(shipped[f"{machine}:{name}"]) == code
