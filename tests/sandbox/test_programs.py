"""Attacks and honest programs of our own, at the level this machine has."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from resd_bench.sandbox import Limits, Sandbox
from tests.sandbox.programs import ATTACKS, HONEST, SCRIPTS
from tests.sandbox.world import world

CASES = [{"args": [3], "expected": 7}, {"args": [4], "expected": 9}]
TIGHT = Limits(call_cpu_s=0.5, call_wall_s=2.5, total_cpu_s=2)


@pytest.fixture(scope="module")
def box() -> Iterator[Sandbox]:
    with Sandbox() as sandbox:
        yield sandbox


@pytest.mark.slow
@pytest.mark.parametrize("name", ATTACKS)
def test_no_attack_scores_or_leaves_a_trace(name: str, box: Sandbox, tmp_path: Path) -> None:
    kinds, program = ATTACKS[name]
    with world(tmp_path) as where:
        result = box.run_program(where.fill(program), CASES, entry="solve", limits=TIGHT)
        assert "ok" not in result.kinds
        # A busy machine may run out of wall time first.
        assert set(result.kinds) <= {*kinds.split(), "timeout"}, result.cases
        assert not where.canary.exists()
        assert where.look_at_victim() == where.victim_before
        assert not where.contacted()


@pytest.mark.parametrize("name", HONEST)
def test_honest_functions_are_right(name: str, box: Sandbox) -> None:
    result = box.run_program(HONEST[name], CASES, entry="solve")
    assert result.kinds == ("ok", "ok"), result.cases


@pytest.mark.parametrize("name", SCRIPTS)
def test_honest_scripts_are_right(name: str, box: Sandbox) -> None:
    result = box.run_program(SCRIPTS[name], [{"stdin": "3 4\n", "expected": "7"}])
    assert result.kinds == ("ok",), result.cases


def test_the_sandbox_works_after_all_of_them(box: Sandbox) -> None:
    result = box.run_program("def solve(n): return 2 * n + 1", CASES, entry="solve")
    assert result.score == 1
