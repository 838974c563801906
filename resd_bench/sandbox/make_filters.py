"""Compile the seccomp policy to `seccomp_filters.json`; a developer tool, not used at run time.

    pip install pyseccomp            # needs libseccomp.so.2
    python -m resd_bench.sandbox.make_filters

The policy is an allowlist: calls that are not named fail with EPERM. Calls that no honest pure
program makes end the process with SIGSYS, which the program cannot hide. `docs/sandbox.md` says
what each line gives up. After adding a call, run the corpus of attacks again.
"""

from __future__ import annotations

import base64
import errno
import importlib
import json
import socket
import tempfile
from collections.abc import Sequence
from typing import Any

from resd_bench.sandbox.seccomp import FILTERS

ALLOWED = """
brk mmap munmap mremap mprotect membarrier rseq msync
set_robust_list get_robust_list futex futex_waitv set_tid_address exit exit_group
sched_yield sched_getaffinity gettid getpid getppid getuid geteuid getgid getegid
getpgrp getpgid getsid getgroups getresuid getresgid
read pread64 readv preadv write writev pwrite64 pwritev lseek close close_range fstat
newfstatat stat lstat statx access faccessat faccessat2 readlink readlinkat
getdents64 getdents getcwd statfs fstatfs
dup dup2 dup3 pipe pipe2 poll ppoll select pselect6 eventfd2
epoll_create epoll_create1 epoll_ctl epoll_wait epoll_pwait epoll_pwait2
shutdown getsockopt
clock_gettime clock_getres clock_nanosleep nanosleep gettimeofday time times getrusage
setitimer getitimer alarm
rt_sigaction rt_sigprocmask rt_sigreturn rt_sigpending rt_sigsuspend rt_sigtimedwait sigaltstack
pause restart_syscall uname sysinfo getrandom arch_prctl getpriority getrlimit
""".split()  # noqa: SIM905
KILLED = """
execve execveat fork vfork ptrace process_vm_readv process_vm_writev
kill tkill tgkill rt_sigqueueinfo rt_tgsigqueueinfo pidfd_open pidfd_getfd pidfd_send_signal kcmp
socket connect bind listen accept accept4 sendmmsg recvmmsg
bpf perf_event_open userfaultfd io_uring_setup io_uring_enter io_uring_register
keyctl add_key request_key mount umount2 pivot_root chroot unshare setns
open_tree move_mount fsopen fsmount fsconfig mount_setattr
init_module finit_module delete_module kexec_load reboot swapon swapoff
open_by_handle_at name_to_handle_at fanotify_init memfd_secret process_madvise process_mrelease
quotactl acct settimeofday clock_settime
""".split()  # noqa: SIM905
FCNTL_COMMANDS = (0, 1, 2, 3, 4, 9, 1030, 1032, 1034)
"""Duplicate, flags, owner (read only), pipe size and seals (read only). Not F_SETOWN and F_SETSIG:
they can send any signal to a pipe's owner, which may be another process. No locks (5 to 7, 36 to
38): every program can query those that another holds on a file that both may open."""
ADVICE = (0, 1, 2, 3, 4, 8, 10, 11, 14, 15, 16, 17)
"""What allocators pass to madvise for their own memory. Not MADV_COLD, MADV_PAGEOUT and the like,
which move pages of files that other programs also read, nor MADV_MERGEABLE, which shares memory."""
MESSAGE_CALLS = {"sendto": 3, "recvfrom": 3, "sendmsg": 2, "recvmsg": 2}
"""The index of each call's flags argument."""
MSG_OOB = 1
IOCTL_COMMANDS = (0x5401, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451)
"""TCGETS (isatty), TIOCGWINSZ, FIONREAD, FIONBIO, FIONCLEX, FIOCLEX. Not FIOSETOWN."""
CLONE_THREAD = 0x00010000
SOCK_TYPE_MASK = 0xF
PR_SET_NAME, PR_GET_NAME = 15, 16
BINARY_TREE = 2
OPTIMIZE = 8
"""SCMP_FLTATR_CTL_OPTIMIZE."""
MACHINES = {"x86_64": "X86_64", "aarch64": "AARCH64"}


def compile_filter(machine: str, *, sealed: bool) -> bytes:
    """The BPF program of the policy for a machine."""
    sc: Any = importlib.import_module("pyseccomp")
    filter_ = sc.SyscallFilter(defaction=sc.ERRNO(errno.EPERM))
    filter_.set_attr(OPTIMIZE, BINARY_TREE)
    arch = getattr(sc.Arch, MACHINES[machine])
    if arch != sc.system_arch():
        filter_.add_arch(arch)
        filter_.remove_arch(sc.system_arch())
    for action, name, *conditions in _rules(sc, sealed):
        _add(filter_, action, name, conditions)
    with tempfile.TemporaryFile() as file:
        filter_.export_bpf(file)
        file.seek(0)
        return file.read()


def _add(filter_: Any, action: Any, name: str, conditions: Sequence[Any]) -> None:
    try:
        filter_.add_rule(action, name, *conditions)
    except OSError as error:
        # Calls that this architecture does not have, such as fork on aarch64.
        if error.errno not in (errno.EFAULT, errno.EINVAL, errno.EDOM):
            raise


def _rules(sc: Any, sealed: bool) -> list[tuple[Any, ...]]:
    allow, kill, arg = sc.ALLOW, sc.KILL_PROCESS, sc.Arg
    rules: list[tuple[Any, ...]] = [(allow, name) for name in ALLOWED]
    rules += [(kill, name) for name in KILLED]
    rules += [
        (allow, "clone", arg(0, sc.MASKED_EQ, CLONE_THREAD, CLONE_THREAD)),
        (kill, "clone", arg(0, sc.MASKED_EQ, CLONE_THREAD, 0)),
        # Its flags are in memory, which filters cannot read; libc then falls back to clone.
        (sc.ERRNO(errno.ENOSYS), "clone3"),
        # Event loops need a stream pair. A datagram socket could send to any address.
        (
            allow,
            "socketpair",
            arg(0, sc.EQ, socket.AF_UNIX),
            arg(1, sc.MASKED_EQ, SOCK_TYPE_MASK, socket.SOCK_STREAM),
        ),
        (allow, "prlimit64", arg(0, sc.EQ, 0), arg(2, sc.EQ, 0)),
        # Raising a limit reports success without doing it: honest templates raise their stack.
        (sc.ERRNO(0), "prlimit64", arg(2, sc.NE, 0)),
        (sc.ERRNO(0), "setrlimit"),
    ]
    # With RWF_NOWAIT it would reveal what is in the page cache.
    rules.append((allow, "preadv2", arg(5, sc.EQ, 0)))
    rules += [(allow, "madvise", arg(2, sc.EQ, advice)) for advice in ADVICE]
    rules += [
        (allow, call, arg(place, sc.MASKED_EQ, MSG_OOB, 0)) for call, place in MESSAGE_CALLS.items()
    ]
    rules += [(allow, "prctl", arg(0, sc.EQ, option)) for option in (PR_SET_NAME, PR_GET_NAME)]
    rules += [(allow, "fcntl", arg(1, sc.EQ, command)) for command in FCNTL_COMMANDS]
    rules += [(allow, "ioctl", arg(1, sc.EQ, command)) for command in IOCTL_COMMANDS]
    if not sealed:
        rules += [(allow, "openat"), (allow, "open")]
    return rules


def main() -> None:
    """Write the filters of every architecture next to this file."""
    filters = {}
    for machine in MACHINES:
        for name in ("landlock", "sealed"):
            code = compile_filter(machine, sealed=name == "sealed")
            filters[f"{machine}:{name}"] = base64.b64encode(code).decode("ascii")
            print(f"{machine} {name}: {len(code) // 8} instructions")
    with open(FILTERS, "w", encoding="ascii") as file:
        json.dump(filters, file, indent=1)
        file.write("\n")


if __name__ == "__main__":
    main()
