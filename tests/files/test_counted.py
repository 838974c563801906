"""What takes a while to read is counted: in a line that goes away, or in one note."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest

from resd_bench.files import counted as place
from resd_bench.files.counted import counted
from resd_bench.records.find_runs import find_runs
from resd_bench.reproduce.match_records import Records, gather
from resd_bench.sweep.definition import load_sweep
from tests.places import ROOT


class Stderr(io.StringIO):
    """Takes what is written, and is a terminal or not."""

    def __init__(self, terminal: bool) -> None:
        super().__init__()
        self._terminal = terminal

    def isatty(self) -> bool:
        return self._terminal


EITHER = pytest.mark.parametrize("terminal", [True, False], ids=["terminal", "pipe"])


def listen(terminal: bool, monkeypatch: pytest.MonkeyPatch, soon: float = 0.0) -> Stderr:
    shown = Stderr(terminal)
    monkeypatch.setattr(sys, "stderr", shown)
    monkeypatch.setattr(place, "SLOW", soon)
    return shown


@EITHER
def test_what_is_fast_says_nothing(terminal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    stderr = listen(terminal, monkeypatch, soon=60.0)
    assert list(counted([1, 2, 3], "reading")) == [1, 2, 3]
    assert stderr.getvalue() == ""


@EITHER
def test_what_is_slow_is_counted(terminal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    stderr = listen(terminal, monkeypatch)
    monkeypatch.setattr(place, "REDRAW", 0.0)
    monkeypatch.setenv("COLUMNS", "20")
    things = list(range(12))
    assert list(counted(things, "reading records")) == things
    told = stderr.getvalue()
    if terminal:
        shown = told.split(place._CLEAR)
        assert "reading records 3/12"[:19] in shown
        assert shown[-1] == "", "the line goes away"
        assert max(map(len, shown)) < 20
    else:
        assert told == "reading records: 12\n"


def test_the_line_goes_away_where_reading_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    stderr = listen(True, monkeypatch)
    for _ in counted([1, 2], "reading"):
        break
    assert stderr.getvalue().endswith(place._CLEAR)


def test_reading_runs_and_records_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    stderr = listen(True, monkeypatch)
    kept = ROOT / "results/nano/manufactoria-has/base"
    find_runs(kept)
    records = Records.scan([kept])
    gather(load_sweep(Path(ROOT / "runs/nano/table2.yaml")).trials[:2], records)
    for doing in ("reading runs", "looking at records", "reading records of runs"):
        assert doing in stderr.getvalue()
