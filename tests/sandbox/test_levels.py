"""Poorer machines, played by a filter around the whole of Python."""

from __future__ import annotations

import errno
import platform
import shutil
import struct
import subprocess
import sys

import pytest

from resd_bench.sandbox import Sandbox, SandboxTooWeak, landlock, seccomp, syscalls

PLAY = """
import sys
from tests.sandbox import test_levels
test_levels.hide([int(number) for number in sys.argv[1].split(",")])
from resd_bench.sandbox import Sandbox, SandboxError
try:
    with Sandbox(sys.argv[2], want="kernel") as box:
        code = "def f(p):\\n open('/dev/null', 'w').write('x'); return p and open(p).read()"
        cases = [{"args": [""]}, {"args": ["/etc/hostname"]}]
        print(box.level, *box.run_program(code, cases, entry="f").kinds)
except SandboxError as error:
    print(type(error).__name__, error)
"""


def hide(calls: list[int]) -> None:
    """Make system calls answer "not implemented", in this process and all it starts."""
    load_number = struct.pack("<HBBI", 0x20, 0, 0, 0)
    refuse = struct.pack("<HBBI", 0x06, 0, 0, 0x00050000 | errno.ENOSYS)
    allow = struct.pack("<HBBI", 0x06, 0, 0, 0x7FFF0000)
    code = load_number
    for number in calls:
        code += struct.pack("<HBBI", 0x15, 0, 1, number) + refuse
    seccomp.prctl(seccomp.PR_SET_NO_NEW_PRIVS, 1)
    seccomp.load_filter(code + allow)


def play(*calls: int, require: str = "kernel") -> str:
    arguments = [",".join(map(str, calls)), require]
    done = subprocess.run(
        [sys.executable, "-c", PLAY, *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_without_landlock_programs_are_sealed() -> None:
    assert play(landlock.CREATE_RULESET).split() == ["kernel+sealed", "ok", "forbidden"]


def test_without_seccomp_the_sandbox_does_not_start() -> None:
    said = play(seccomp.SECCOMP_CALL[platform.machine()])
    assert said.startswith("SandboxTooWeak isolation 'kernel' was required")
    assert "offers no seccomp filters" in said


def test_without_pidfd_the_sandbox_does_not_start() -> None:
    assert play(syscalls.PIDFD_OPEN).startswith("SandboxError Linux 5.3 or newer is needed")


def test_bubblewrap_gives_the_highest_level() -> None:
    if shutil.which("bwrap") is None:
        pytest.skip("NAMESPACES NOT TESTED: apt install bubblewrap")
    with Sandbox("namespace") as box:
        assert box.level.startswith("namespace")
        code = "import os\ndef f():\n    return os.path.exists('/etc/hostname')"
        assert box.run_program(code, [{"args": [], "expected": False}], entry="f").score == 1


@pytest.mark.slow
def test_a_missing_bubblewrap_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with Sandbox() as box:
        assert box.level == "kernel"
        assert any("bwrap" in note for note in box.notes)
    with pytest.raises(SandboxTooWeak, match="bwrap is not installed"):
        Sandbox("namespace")


def test_a_child_that_cannot_lock_itself_down_is_an_error() -> None:
    assert play(landlock.RESTRICT_SELF).startswith("SandboxError a child could not lock itself")
