"""What this process may use of a machine, inside and outside a container."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from resd_bench.machine import cores, memory
from resd_bench.policy import loading
from tests.policy import tiny


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, math.inf),
        ({"cpu.max": "max 100000\n"}, math.inf),
        ({"cpu.max": "150000 100000\n"}, 1.5),
        ({"cpu.max": "50000 100000\n"}, 0.5),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, math.inf),
        ({"cpu/cpu.cfs_quota_us": "400000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 4.0),
        ({"cpu/cpu.cfs_quota_us": "400000\n"}, math.inf),
        ({"cpu.max": "100000 0\n"}, math.inf),
        ({"cpu.max": "no numbers"}, math.inf),
    ],
)
def test_cores_are_granted_by_the_control_group_of_either_version(
    tmp_path: Path, files: dict[str, str], expected: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cpu").mkdir()
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    assert cores.granted(tmp_path) == expected
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    assert cores.usable_cores(tmp_path) == min(8, math.ceil(expected) if expected < 8 else 8)


def test_a_process_that_is_bound_to_a_core_may_use_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3}, raising=False)
    assert cores.usable_cores() == 1


def test_memory_left_is_what_machine_and_container_leave_and_files_that_were_read_are_free(
    tmp_path: Path,
) -> None:
    def left() -> int | None:
        return memory.memory_left(tmp_path, tmp_path / "meminfo")

    assert left() is None
    (tmp_path / "meminfo").write_text("MemTotal: 9 kB\nMemAvailable:  7 kB\nSwapFree: 1 kB\n")
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("3000\n")
    (tmp_path / "memory.stat").write_text("anon 1000\ninactive_file 500\n")
    assert left() == 8 * 1024
    (tmp_path / "memory.max").write_text("5000\n")
    assert left() == 2500
    (tmp_path / "memory.max").write_text("100\n")
    assert left() == 0


def test_usable_memory_is_the_machines_unless_a_container_grants_less(tmp_path: Path) -> None:
    whole = memory.usable_memory(tmp_path)
    assert whole is not None
    assert whole > 2**30
    (tmp_path / "memory.max").write_text("max\n")
    assert memory.usable_memory(tmp_path) == whole
    (tmp_path / "memory.max").write_text(f"{2**29}\n")
    assert memory.usable_memory(tmp_path) == 2**29


def test_a_large_model_gets_no_more_threads_than_there_are_usable_cores(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before, model = torch.get_num_threads(), tiny.model()
    monkeypatch.setattr(loading, "_SMALL", 0)
    monkeypatch.setattr(cores, "usable_cores", lambda: 2)
    try:
        torch.set_num_threads(16)
        assert loading.set_threads(None, model) == 2
        torch.set_num_threads(1)
        assert loading.set_threads(None, model) == 1, "as the user's OMP_NUM_THREADS says"
        assert loading.set_threads(5, model) == 5
    finally:
        torch.set_num_threads(before)


COMMAND = """
import os, sys
from resd_bench.__main__ import main
sys.argv = ["resd-bench", "--version"]
main()
print(os.environ.get("GOMP_SPINCOUNT"), "torch" in sys.modules)
"""


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ({}, "1000"),
        ({"GOMP_SPINCOUNT": "7"}, "7"),
        ({"OMP_WAIT_POLICY": "ACTIVE"}, "None"),
    ],
)
def test_a_command_makes_threads_sleep_while_they_wait_unless_told_otherwise(
    given: dict[str, str], found: str
) -> None:
    rest = {k: v for k, v in os.environ.items() if not k.startswith(("GOMP_", "OMP_"))}
    ran = subprocess.run(
        [sys.executable, "-c", COMMAND],
        env=rest | given,
        capture_output=True,
        text=True,
        check=True,
    )
    # Before torch is loaded, which reads it once.
    assert ran.stdout.splitlines()[1:] == [f"{found} False"]
