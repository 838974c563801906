"""The sandbox as a whole: results, limits, recovery, threads, forks, levels, the end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from resd_bench.errors import UsageError
from resd_bench.sandbox import (
    Limits,
    PlainDict,
    PlainSet,
    Sandbox,
    SandboxError,
    SandboxTooWeak,
    processes,
    shared,
)
from resd_bench.sandbox import box as box_module
from resd_bench.sandbox.preload import is_light
from resd_bench.sandbox.processes import Zygote
from tests.sandbox.world import descendants

DOUBLE = "def f(x):\n    return 2 * x"
CASES = [{"args": [3], "expected": 6}]


@pytest.fixture(scope="module")
def box() -> Iterator[Sandbox]:
    with Sandbox() as sandbox:
        yield sandbox


def value(box: Sandbox, body: str, **case: Any) -> Any:
    """What a function of no arguments returns, out of the sandbox."""
    code = f"def f(*args, **kwargs):\n    {body}"
    return box.run_program(code, [{"args": [], **case}], entry="f").cases[0].value


def zygote(box: Sandbox, *, light: bool = False) -> Zygote:
    """A zygote of an idle sandbox; the light one runs programs that import little."""
    return box._slots[-1][light]


def test_a_case_without_expected_is_ok_where_a_plain_value_came_back(box: Sandbox) -> None:
    code = "def f(x):\n    return x if x else object()"
    result = box.run_program(code, [{"args": [1]}, {"args": [0]}], entry="f")
    assert result.kinds == ("ok", "bad_output")
    assert result.cases[0].value == 1
    assert result.cases[1].value is None


def test_a_wrong_value_is_handed_out_too(box: Sandbox) -> None:
    case = box.run_program(DOUBLE, [{"args": [3], "expected": 5}], entry="f").cases[0]
    assert (case.kind, case.value) == ("wrong", 6)


@pytest.mark.parametrize(
    "given",
    [
        None,
        True,
        -(2**70),
        0.1,
        float("inf"),
        "naïve 🌍 \ud800\x00",
        b"\x00\xff",
        1 + 2j,
        [1, [2, (3, "x")]],
        (),
    ],
)
def test_plain_values_cross_both_ways_unchanged(given: Any, box: Sandbox) -> None:
    result = value(box, "return args[0]", args=[given])
    assert result == given
    assert type(result) is type(given)


def test_sets_and_dicts_come_back_unhashed(box: Sandbox) -> None:
    assert value(box, "return {1: {2, 3}}") == PlainDict([(1, PlainSet([2, 3]))])
    assert repr(value(box, "return {1: {2}, 'a': set()}")) == "{1: {2}, 'a': set()}"


def test_keyword_arguments_and_methods_are_called(box: Sandbox) -> None:
    code = "class Solution:\n    def f(self, a, *, b):\n        return a - b"
    cases = [{"args": [5], "kwargs": {"b": 2}, "expected": 3}]
    assert box.run_program(code, cases, entry="Solution.f").score == 1


def test_an_integer_too_long_to_print_is_compared_but_not_handed_out(box: Sandbox) -> None:
    code = "def f(n):\n    return 7 ** n"
    cases: list[dict[str, Any]] = [
        {"args": [6000], "expected": 7**6000},
        {"args": [6000], "expected": 7},
        {"args": [6000]},
    ]
    result = box.run_program(code, cases, entry="f")
    assert result.kinds == ("ok", "wrong", "bad_output")
    assert repr(result)
    assert all(case.value is None for case in result.cases)


def test_the_same_program_gives_the_same_values_in_every_sandbox(box: Sandbox) -> None:
    body = "import random; import numpy; return [hash('x'), random.random(), numpy.random.rand()]"
    with Sandbox() as other:
        assert value(box, body) == value(other, body) == value(other, body)


def test_a_program_changes_nothing_for_the_next_one(box: Sandbox) -> None:
    vandal = "import builtins, json\nbuiltins.sum = json.dumps = None\ndef f(x):\n    return 0"
    box.run_program(vandal, CASES, entry="f")
    assert value(box, "return sum([1, 2])") == 3


def test_after_a_fatal_event_the_other_cases_are_not_run(box: Sandbox) -> None:
    code = "import os\ndef f(x):\n    return 6 if x < 4 else os._exit(0)"
    cases = [{"args": [x], "expected": 6} for x in (3, 4, 3)]
    result = box.run_program(code, cases, entry="f")
    assert result.kinds == ("ok", "crash", "crash")
    assert result.cases[2].detail.startswith("not run")


@pytest.mark.slow
def test_processor_time_of_the_whole_program_is_limited(box: Sandbox) -> None:
    code = """
import time
def f(x):
    end = time.process_time() + 0.3
    while time.process_time() < end: pass
    return 6
"""
    limits = Limits(call_cpu_s=2, total_cpu_s=0.75)
    result = box.run_program(code, CASES * 6, entry="f", limits=limits)
    assert set(result.kinds) == {"ok", "timeout"}
    assert result.cpu_s < 2


def test_results_are_limited_together(box: Sandbox) -> None:
    limits = Limits(total_output_bytes=2500)
    code = "def f(x):\n    return 'x' * 1000"
    kinds = box.run_program(code, [{"args": [1]}] * 4, entry="f", limits=limits).kinds
    assert kinds == ("ok", "ok", "bad_output", "bad_output")


def test_memory_is_limited(box: Sandbox) -> None:
    code = "def f(mb):\n    return len(bytearray(mb << 20)) >> 20"
    cases = [{"args": [mb], "expected": mb} for mb in (50, 400)]
    assert box.run_program(code, cases, entry="f").kinds == ("ok", "ok")
    limits = Limits(memory_mb=64)
    assert box.run_program(code, cases, entry="f", limits=limits).kinds == ("ok", "memory")


def test_a_program_that_is_too_long_or_holds_a_nul_is_not_run(box: Sandbox) -> None:
    for code in ("#" * 300_000, DOUBLE + "\0"):
        assert box.run_program(code, CASES, entry="f").kinds == ("bad_output",)


@pytest.mark.parametrize("code", ["", "\ud800", "def f(:", "\x07", "f = 3", "raise SystemExit"])
def test_text_that_is_no_program_is_a_crash(code: str, box: Sandbox) -> None:
    result = box.run_program(code, CASES, entry="f")
    assert result.kinds == ("crash",)
    assert result.cases[0].detail.isascii()
    assert result.cases[0].detail.isprintable()


def test_mistakes_of_the_caller_are_not_the_programs(box: Sandbox) -> None:
    with pytest.raises(UsageError, match="needs 'args'"):
        box.run_program(DOUBLE, [{"stdin": "x", "expected": "y"}], entry="f")
    with pytest.raises(UsageError, match="needs 'stdin'"):
        box.run_program(DOUBLE, CASES)
    with pytest.raises(UsageError, match="case 0 cannot be sent"):
        box.run_program(DOUBLE, [{"args": [object()]}], entry="f")
    with pytest.raises(ValueError, match="tolerance"):
        box.run_program(DOUBLE, CASES, entry="f", rel=float("inf"))
    with pytest.raises(ValueError, match="call_cpu_s"):
        Limits(call_cpu_s=0)


def test_a_killed_zygote_is_replaced(box: Sandbox) -> None:
    for light, code in ((True, DOUBLE), (False, f"import random\n{DOUBLE}")):
        assert box.run_program(code, CASES, entry="f").score == 1
        before = zygote(box, light=light)
        os.killpg(before.process.pid, signal.SIGKILL)
        assert box.run_program(code, CASES, entry="f").score == 1
        assert zygote(box, light=light) is not before


SEEN = """
def f():
    import sys, hashlib
    from decimal import Decimal
    digest = hashlib.md5(b'x').hexdigest()
    return [sys.argv, digest, str(Decimal(1) / 7), hash('x'), sys.getrecursionlimit()]
"""


def test_a_program_sees_the_same_in_both_zygotes(
    box: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = []
    for light in (True, False):
        monkeypatch.setattr(box, "_may_be_light", lambda _, light=light: light)
        (case,) = box.run_program(SEEN, [{"args": []}], entry="f").cases
        assert case.kind == "ok"
        values.append(case.value)
    assert values[0] == values[1]


@pytest.mark.parametrize(
    ("code", "light"),
    [
        ("from collections import deque\nimport math, heapq as h", True),
        ("x = 1", True),
        ("import math\nimport decimal", False),
        ("import math, numpy", False),
        ("import math, \\\n    decimal", False),
        ("from random import random", False),
        ("m = __import__('num' + 'py')", False),
        ("import \uff4eumpy", False),
    ],
)
def test_a_program_gets_the_light_zygote_where_it_imports_little(code: str, light: bool) -> None:
    assert is_light(code, ("numpy",)) is light


@pytest.mark.slow
def test_a_zygote_killed_under_a_program_is_replaced_and_the_program_run_again(
    box: Sandbox,
) -> None:
    code = "import time\ndef f(x):\n    time.sleep(0.8)\n    return 2 * x"
    box.run_program(DOUBLE, CASES, entry="f")
    pid = zygote(box, light=True).process.pid
    timer = threading.Timer(0.3, os.killpg, (pid, signal.SIGKILL))
    timer.start()
    assert box.run_program(code, CASES, entry="f").score == 1
    timer.join()


def test_a_zygote_that_does_not_greet_is_started_once_more_and_then_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    started: list[bool] = []

    def silent(*args: Any, **options: Any) -> Zygote:
        started.append(True)
        monkeypatch.setattr(processes, "START_S", 0.001 if len(started) < failures else 60.0)
        return Zygote(*args, **options)

    monkeypatch.setattr(processes, "START_S", 0.001)
    monkeypatch.setattr(processes, "Zygote", silent)
    failures = 2
    with Sandbox(want="kernel") as box:
        assert box.run_program(DOUBLE, CASES, entry="f").score == 1
    failures = 1000
    started.clear()
    with pytest.raises(SandboxError, match=r"not answer within 0\.001 s: is this machine overload"):
        Sandbox(want="kernel")
    assert len(started) == processes.START_ATTEMPTS


def test_programs_of_many_threads_do_not_mix() -> None:
    with Sandbox(workers=2) as box, ThreadPoolExecutor(6) as pool:

        def run(number: int) -> bool:
            cases = [{"args": [number], "expected": 2 * number}]
            return box.run_program(DOUBLE, cases, entry="f").score == 1

        assert all(pool.map(run, range(24)))
        assert sum(map(len, box._slots)) <= 3


def test_descriptors_and_processes_do_not_grow(box: Sandbox) -> None:
    def run() -> tuple[int, int]:
        for code in (DOUBLE, "import os\nos._exit(0)", "def f(x):\n    return 'x' * (2 << 20)"):
            box.run_program(code, CASES, entry="f")
        box.run_program("print(1)", [{"stdin": "", "expected": "1"}])
        return len(os.listdir("/proc/self/fd")), len(descendants())

    assert run() == [run() for _ in range(5)][-1]


def test_nothing_is_left_after_the_end() -> None:
    before = descendants()
    box = Sandbox()
    pid = zygote(box).process.pid
    assert pid in descendants()
    box.close()
    assert descendants() <= before
    with pytest.raises(RuntimeError, match="closed"):
        box.run_program(DOUBLE, CASES, entry="f")


ORPHAN = """
import os, sys
from resd_bench.sandbox import Sandbox
box = Sandbox()
box.run_program("def f(): pass", [{"args": []}], entry="f")
print(*[zygote.process.pid for zygote in box._slots[-1].values()], flush=True)
box.run_program("import time\\ndef f(): time.sleep(60)", [{"args": []}], entry="f")
"""


@pytest.mark.slow
def test_a_killed_parent_leaves_no_process() -> None:
    with subprocess.Popen([sys.executable, "-c", ORPHAN], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        pids = parent.stdout.readline().decode().split()
        time.sleep(0.3)
        parent.kill()
    for _ in range(100):
        if not any(Path(f"/proc/{pid}").exists() for pid in pids):
            return
        time.sleep(0.1)
    raise AssertionError("a zygote outlived its parent")


def test_the_shared_sandbox_is_one_and_survives_a_fork() -> None:
    box = shared()
    assert shared() is box
    assert box.run_program(DOUBLE, CASES, entry="f").score == 1
    pid = os.fork()
    if pid == 0:
        right = shared().run_program(DOUBLE, CASES, entry="f").score == 1
        shared().close()
        os._exit(0 if right else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert box.run_program(DOUBLE, CASES, entry="f").score == 1


def test_a_closed_shared_sandbox_is_opened_again() -> None:
    with shared() as box:
        assert not box.closed
    assert shared().run_program(DOUBLE, CASES, entry="f").score == 1


def test_the_shared_sandbox_requires_what_the_environment_says(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(box_module.ENVIRONMENT_VARIABLE, "fortress")
    with pytest.raises(UsageError, match="fortress"):
        shared()


def test_an_unknown_package_is_the_users_mistake() -> None:
    with pytest.raises(UsageError, match="pip install"):
        Sandbox(packages=["no_such_package"])


def test_packages_are_readable_only_where_they_were_asked_for() -> None:
    with Sandbox(packages=()) as box:
        code = "def f(x):\n    import numpy\n    return 2 * x"
        assert box.run_program(code, CASES, entry="f").kinds == ("crash",)


def test_too_little_isolation_is_refused_with_the_reasons() -> None:
    with pytest.raises(SandboxTooWeak, match=r"'kernel' was required, .* 'process': isolation"):
        Sandbox(want="process")


def test_running_without_isolation_is_never_silent() -> None:
    with pytest.warns(RuntimeWarning, match="without isolation"):
        box = Sandbox("process", want="process")
    with box:
        assert box.level == "process"
        result = box.run_program(DOUBLE, CASES, entry="f")
    assert (result.score, result.level) == (1, "process")


def test_at_level_process_what_a_program_leaves_behind_is_swept() -> None:
    code = """
import os, time
def f(x):
    for _ in range(3):
        if os.fork() == 0:
            if os.fork() == 0: os.setsid()
            time.sleep(60)
    return 2 * x
"""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        box = Sandbox("process", want="process")
    with box:
        box.run_program(DOUBLE, CASES, entry="f")
        before = descendants()
        box.run_program(code, CASES, entry="f")
        assert descendants() == before
