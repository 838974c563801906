"""Recorded ratios of speed: what has become slower is found, and every claim can be measured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.in_turn import in_turn, print_row
from benchmarks.load import Load, grown
from resd_bench.check import claims
from resd_bench.cli import main
from resd_bench.errors import UsageError

Capture = pytest.CaptureFixture[str]
SCRIPT = """
import json, os
for name, ours in (("a", 2.0), ("b", 4.0)):
    row = {"name": name, "unit": "CPU s", "ours": ours, "peer": 8.0, "peer_name": "a peer"}
    print(json.dumps({**row, "spread": 0.1, "target_ratio": 3}))
print("threads", os.environ["OMP_NUM_THREADS"])
"""


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A clone whose benchmarks measure a (4 times as fast as its peer) and b (twice)."""
    folder = tmp_path / "benchmarks"
    folder.mkdir()
    (folder / "ab.py").write_text(SCRIPT)
    (folder / "results.json").write_text("[]")
    monkeypatch.setattr(claims, "CLONE", tmp_path)
    monkeypatch.setattr(claims, "FILE", folder / "results.json")
    assert main(["bench", "--add", "python benchmarks/ab.py"]) == 0
    return tmp_path


def change(clone: Path, name: str, **told: Any) -> None:
    path = clone / "benchmarks" / "results.json"
    rows = json.loads(path.read_text())
    path.write_text(json.dumps([row | told if row["name"] == name else row for row in rows]))


def test_a_measurement_is_recorded_with_its_ratio_machine_load_and_command(clone: Path) -> None:
    first, second = claims.recorded()
    assert (first["name"], first["ratio"], second["ratio"]) == ("a", 4.0, 2.0)
    assert first["command"] == "python benchmarks/ab.py"
    assert {"machine", "load", "versions"} <= first.keys()
    assert [claims.meets_target(claim) for claim in (first, second)] == [True, False]


@pytest.mark.parametrize(("before", "code"), [(4.4, 0), (4.5, 1), (2.0, 0)])
def test_a_ratio_below_nine_tenths_of_the_recorded_one_fails(
    clone: Path, before: float, code: int, capsys: Capture
) -> None:
    change(clone, "a", ratio=before)
    assert main(["bench", "--check"]) == code
    assert ("slower: a: ratio 4, recorded 4.5" in capsys.readouterr().out) == bool(code)
    assert main(["bench", "b", "--check"]) == 0
    assert claims.recorded()[0]["ratio"] == before


def test_only_what_is_named_is_recorded_again(clone: Path) -> None:
    change(clone, "a", ours=99.0)
    change(clone, "b", ours=99.0)
    assert main(["bench", "b", "--write"]) == 0
    assert [claim["ours"] for claim in claims.recorded()] == [99.0, 4.0]


def test_an_unknown_name_and_a_failing_script_are_mistakes_of_one_line(
    clone: Path, capsys: Capture
) -> None:
    assert main(["bench", "nothing"]) == 2
    (clone / "benchmarks" / "ab.py").write_text("raise SystemExit(3)")
    assert main(["bench", "a"]) == 2
    told = capsys.readouterr().err.splitlines()
    assert "error: no claim begins with 'nothing'" in told[0]
    assert "`python benchmarks/ab.py` failed with 3" in told[-1]


def test_an_installed_wheel_says_that_benchmarks_are_in_the_clone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claims, "FILE", tmp_path / "benchmarks" / "results.json")
    with pytest.raises(UsageError, match="benchmarks are part of a clone"):
        claims.recorded()


def test_every_recorded_claim_says_how_it_was_measured_and_fits_80_columns(
    monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["bench"]) == 0
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 80
    found = claims.recorded()
    assert len({claim["name"] for claim in found}) == len(found) > 0
    for claim in found:
        needed = {"unit", "ours", "peer", "peer_name", "spread", "machine", "load", "versions"}
        assert needed <= claim.keys()
        assert claim["ratio"] == pytest.approx(claim["peer"] / claim["ours"], rel=0.01)
        python, script, *_ = claim["command"].split()
        assert python == "python"
        assert (claims.CLONE / script).is_file()


def test_the_spread_is_that_of_the_ratios_of_turns(capsys: Capture) -> None:
    order: list[str] = []
    costs = {"ours": iter([1.0, 2.0, 1.0]), "peer": iter([4.0, 8.0, 3.0])}

    def way(name: str) -> float:
        order.append(name)
        return next(costs[name])

    found = in_turn({"ours": lambda: way("ours"), "peer": lambda: way("peer")}, 3)
    assert order == ["ours", "peer"] * 3
    print_row("a", "ms", (found["ours"], found["peer"]), "a peer", 0.5, target=3)
    row = json.loads(capsys.readouterr().out)
    assert (row["ours"], row["peer"], row["spread"], row["target"]) == (2.0, 8.0, 0.25, 3)


@pytest.mark.parametrize(
    ("last", "found"),
    [
        (Load(40, 3, 22, 105.0, 0), []),
        (Load(40, 3, 22, 120.0, 0), ["memory from 100 to 120"]),
        (Load(40, 4, 23, 100.0, 1), ["processes", "descriptors", "files"]),
    ],
)
def test_what_grows_under_load_is_found(last: Load, found: list[str]) -> None:
    seen = [Load(number, 3, 22, 100.0, 0) for number in range(30)]
    told = grown([*seen, *[last] * 10], 0.1)
    assert len(told) == len(found)
    assert all(line.startswith(word) for line, word in zip(told, found, strict=True))
