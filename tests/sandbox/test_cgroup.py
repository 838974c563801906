"""A control group bounds the processes of a sandbox where one can be made, and leaves no trace."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from resd_bench.sandbox import Sandbox, cgroup
from tests.sandbox.world import descendants


def call(box: Sandbox, code: str, *args: Any) -> Any:
    """What `solve(*args)` of a program returns."""
    (case,) = box.run_program(code, [{"args": list(args)}], entry="solve").cases
    assert case.kind == "ok", case
    return case.value


@pytest.fixture
def group() -> Iterator[cgroup.PidsGroup]:
    made = cgroup.make_group()
    if made is None:
        pytest.skip("CONTROL GROUPS NOT TESTED: none can be made here")
    yield made
    made.close()


def test_a_control_group_bounds_processes_where_nothing_else_does(
    group: cgroup.PidsGroup, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cgroup, "MAX_PIDS", 20)
    code = """
import os, signal
def solve(most):
    pids = []
    try:
        while len(pids) < most:
            pid = os.fork()
            if pid == 0: signal.pause()
            pids.append(pid)
    except BlockingIOError: pass
    for pid in pids: os.kill(pid, signal.SIGKILL)
    return len(pids)
"""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        box = Sandbox("process", want="process")
    with box:
        assert call(box, code, 40) < 20


def test_control_groups_are_removed_with_their_sandbox(group: cgroup.PidsGroup) -> None:
    parent = group._folder.parent

    def groups() -> set[Path]:
        return set(parent.glob(f"{cgroup.PREFIX}{os.getpid()}-*"))

    before = groups()
    with Sandbox() as box:
        assert len(groups() - before) == 2
        assert {layer.name: layer.active for layer in box.layers}["pids group"]
    assert groups() == before


def test_groups_of_ended_runs_are_removed_by_later_ones(group: cgroup.PidsGroup) -> None:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    left = group._folder.parent / f"{cgroup.PREFIX}{pid}-0"
    left.mkdir()
    made = cgroup.make_group()
    assert made is not None
    made.close()
    assert not left.exists()


def test_without_control_groups_everything_else_works(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cgroup, "_parents", lambda: iter([Path("/nonexistent")]))
    assert cgroup.make_group() is None
    before = descendants()
    with Sandbox() as box:
        assert not {layer.name: layer.active for layer in box.layers}["pids group"]
        assert call(box, "def solve():\n    return 7") == 7
    assert descendants() <= before
