"""The corpus of attacks and honest programs, at every level this machine has."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from resd_bench.sandbox import Level, Sandbox, SandboxTooWeak
from tests.conftest import FIXTURES
from tests.sandbox.world import assert_expectations, descendants, load_case, run_case, world

CORPUS = sorted((FIXTURES / "attacks").glob("*.json"))
STRONG: tuple[Level, ...] = ("kernel", "namespace")


@pytest.fixture(scope="module", params=STRONG)
def box(request: pytest.FixtureRequest) -> Iterator[Sandbox]:
    before = descendants()
    try:
        sandbox = Sandbox(request.param, want=request.param)
    except SandboxTooWeak as error:
        pytest.skip(f"LEVEL {request.param} NOT TESTED (apt install bubblewrap): {error}")
    with sandbox:
        yield sandbox
    assert descendants() <= before


@pytest.mark.slow
@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.stem)
def test_every_expectation_of_the_corpus_holds(path: Path, box: Sandbox, tmp_path: Path) -> None:
    with world(tmp_path) as where:
        case = load_case(path, where)
        before = descendants()
        begin = time.monotonic()
        result = run_case(box, case)
        assert_expectations(case["expect"], result, where, time.monotonic() - begin)
        assert descendants() <= before
