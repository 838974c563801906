"""Rows as columns: the same lines come back, byte by byte, and what is no such file is refused."""

from __future__ import annotations

import json
import lzma
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resd_bench.files import columns, reading

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=4
)
ROWS = st.lists(st.dictionaries(st.sampled_from(["a", "b", "c", ""]), VALUES), max_size=8)


def written(path: Path, told: Any) -> Path:
    path.write_bytes(lzma.compress(json.dumps(told).encode()))
    return path


@given(ROWS)
def test_lines_come_back_byte_by_byte(tmp_path_factory: Any, rows: list[dict[str, Any]]) -> None:
    lines = [columns.line_of(row) for row in rows]
    packed = columns.pack_columns(lines)
    assert packed is not None
    path = tmp_path_factory.mktemp("columns") / "log.jsonl.columns.xz"
    path.write_bytes(packed)
    found = columns.read_columns(path)
    assert [columns.line_of(row) for row in found] == lines
    assert [list(row) for row in found] == [list(json.loads(line)) for line in lines]


@pytest.mark.parametrize(
    "line", [b'{"a":1}\n', b'{"a": 1}', b'{"a": 1, "a": 1}\n', b"[1]\n", b'{"a": 1e0}\n']
)
def test_lines_that_would_not_come_back_are_not_packed(line: bytes) -> None:
    assert columns.pack_columns([columns.line_of({"a": 1}), line]) is None


@pytest.mark.parametrize(
    "told",
    [
        [],
        {"kinds": [["a"]], "rows": [0]},
        {"kinds": [["a"]], "rows": [0, 0], "columns": {"a": [1]}},
        {"kinds": [["a"]], "rows": [0], "columns": {"a": [1, 2]}},
        {"kinds": [["a"]], "rows": [1], "columns": {"a": [1]}},
        {"kinds": [["b"]], "rows": [0], "columns": {"a": [1]}},
        {"kinds": [[[]]], "rows": [0], "columns": {"a": [1]}},
        {"kinds": 3, "rows": "ab", "columns": []},
    ],
)
def test_what_does_not_hold_rows_is_unreadable(told: Any, tmp_path: Path) -> None:
    with pytest.raises(reading.Unreadable, match="does not hold rows in columns"):
        columns.read_columns(written(tmp_path / "log.jsonl.columns.xz", told))


def test_damaged_and_excessive_data_are_unreadable(tmp_path: Path) -> None:
    path = written(tmp_path / "bomb.jsonl.columns.xz", {"a": " " * (reading.UNPACKED_AT_LEAST + 9)})
    assert path.stat().st_size < 10_000
    with pytest.raises(reading.Unreadable, match="unpacks to more than 16 MiB"):
        columns.read_columns(path)
    whole = columns.pack_columns([columns.line_of({"a": 1})]) or b""
    for data in (b"", b"no xz", whole[:-4]):
        path.write_bytes(data)
        with pytest.raises(reading.Unreadable, match="data are damaged"):
            columns.read_columns(path)
