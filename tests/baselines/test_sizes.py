"""One screen per algorithm."""

from __future__ import annotations

import pytest

from tests.places import ROOT

MOST = 99


@pytest.mark.parametrize("name", ["ace", "gepa", "opsd", "rlcsd", "rlsd"])
def test_a_method_takes_less_than_a_hundred_lines(name: str) -> None:
    path = ROOT / "baselines" / "resd_baselines" / f"{name}.py"
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MOST
