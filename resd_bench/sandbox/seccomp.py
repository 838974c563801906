"""seccomp and capabilities: the system calls that a child may make, and the rights it gives up.

The filters are data, `seccomp_filters.json`, compiled by `make_filters.py` at development time;
running needs no libseccomp. Linux only, x86_64 and aarch64. See seccomp(2).
"""

from __future__ import annotations

import base64
import ctypes
import json
import os

from resd_bench.sandbox.syscalls import checked, libc

PR_SET_PDEATHSIG, PR_SET_SECCOMP, PR_CAPBSET_DROP = 1, 22, 24
PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS = 36, 38
MODE_FILTER = 2
GET_ACTION_AVAIL = 2
KILL_PROCESS = 0x80000000
SECCOMP_CALL = {"x86_64": 317, "aarch64": 277}
CAPABILITY_VERSION_3 = 0x20080522
FILTERS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "seccomp_filters.json")
INSTRUCTION_BYTES = 8


class Program(ctypes.Structure):
    """struct sock_fprog."""

    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))


class CapabilityHeader(ctypes.Structure):
    """struct __user_cap_header_struct; pid 0 is the caller."""

    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class CapabilityData(ctypes.Structure):
    """struct __user_cap_data_struct."""

    _fields_ = tuple((name, ctypes.c_uint32) for name in ("effective", "permitted", "inherited"))


def prctl(option: int, argument: int = 0) -> None:
    """prctl(2) with one argument; OSError."""
    arguments = [ctypes.c_ulong(number) for number in (argument, 0, 0, 0)]
    checked(f"prctl {option}", libc.prctl(option, *arguments))


def missing() -> str:
    """Why there is no seccomp here; "" if there is."""
    machine = os.uname().machine
    if machine not in SECCOMP_CALL:
        return f"there is no seccomp filter for {machine}"
    action = ctypes.c_uint32(KILL_PROCESS)
    if libc.syscall(SECCOMP_CALL[machine], GET_ACTION_AVAIL, 0, ctypes.byref(action)) != 0:
        return "the kernel offers no seccomp filters"
    return ""


def compiled(name: str) -> bytes:
    """The filter `landlock` (Landlock restricts paths) or `sealed` (nothing can be opened)."""
    with open(FILTERS, encoding="ascii") as file:
        return base64.b64decode(json.load(file)[f"{os.uname().machine}:{name}"])


def load_filter(code: bytes) -> None:
    """Filter the system calls of this process from now on; needs no_new_privs; OSError."""
    buffer = ctypes.create_string_buffer(code, len(code))
    program = Program(len(code) // INSTRUCTION_BYTES, ctypes.cast(buffer, ctypes.c_void_p))
    mode, zero = ctypes.c_ulong(MODE_FILTER), ctypes.c_ulong(0)
    result = libc.prctl(PR_SET_SECCOMP, mode, ctypes.byref(program), zero, zero)
    checked("loading the seccomp filter", result)


def drop_capabilities() -> None:
    """Give up every capability for good; the user id stays. OSError."""
    capability = 0
    while libc.prctl(PR_CAPBSET_DROP, ctypes.c_ulong(capability), 0, 0, 0) == 0:
        capability += 1
    header = CapabilityHeader(CAPABILITY_VERSION_3, 0)
    checked("capset", libc.capset(ctypes.byref(header), (CapabilityData * 2)()))
