"""Recorded ratios of speed: what has become slower is found, and every claim can be measured."""

from __future__ import annotations

import json
from typing import Any

import pytest

from benchmarks import claims
from tests.places import ROOT

RECORDED = json.loads(claims.FILE.read_text(encoding="utf-8"))


@pytest.mark.parametrize(("now", "slower"), [(1.81, False), (1.79, True), (3.0, False)])
def test_a_ratio_below_nine_tenths_of_the_recorded_one_is_found(now: float, slower: bool) -> None:
    before: list[dict[str, Any]] = [{"name": "a", "ratio": 2.0}, {"name": "new"}]
    found = claims.fallen(before, [{"name": "a", "ratio": now}, {"name": "new", "ratio": 0.1}])
    assert found == ([f"a: ratio {now:.2f}, recorded 2.00"] if slower else [])


def test_the_ratio_is_that_of_the_peer_or_else_of_the_target_to_ours() -> None:
    asked: list[dict[str, Any]] = [{"name": "a", "target": 9.0}, {"name": "b", "target": 9.0}]
    rows = [{"name": "b", "ours": 3.0}, {"name": "a", "ours": 2.0, "peer": 5.0}]
    assert [claim["ratio"] for claim in claims.measured(asked, rows)] == [2.5, 3.0]


def test_every_claim_says_how_it_was_measured_and_has_a_script() -> None:
    assert len({claim["name"] for claim in RECORDED}) == len(RECORDED)
    for claim in RECORDED:
        assert claim["ratio"] > 0
        assert {"unit", "target", "ours", "machine", "versions", "command"} <= claim.keys()
        python, script, *_ = claim["command"].split()
        assert python == "python"
        assert (ROOT / script).is_file()
    assert len(claims.table(RECORDED).splitlines()) == len(RECORDED) + 1
