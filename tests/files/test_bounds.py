"""An untrusted file takes little time and memory, however it is made; its reader says why."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
import torch
import yaml
from hypothesis import example, given

from resd_bench.cli import main
from resd_bench.config import load_file
from resd_bench.errors import UsageError
from resd_bench.files.bounded_yaml import parse_yaml
from resd_bench.files.integrity import sealed
from resd_bench.files.reading import Unreadable
from resd_bench.records.checkpoints import (
    Checkpoint,
    CorruptCheckpoint,
    load_checkpoint,
    save_checkpoint,
)
from resd_bench.records.jsonl import read_objects
from resd_bench.records.log_files import read_log
from resd_bench.records.recorder import read_json
from resd_bench.sweep.definition import load_sweep


def nested_aliases(levels: int, width: int, merge: bool = False) -> str:
    """Each level names the one before `width` times: width to the power of levels in all."""
    lines = ["a0: &a0 {x: 1}"]
    for level in range(1, levels):
        names = ", ".join([f"*a{level - 1}"] * width)
        value = f"{{<<: [{names}]}}" if merge else f"[{names}]"
        lines.append(f"a{level}: &a{level} {value}")
    return "\n".join(lines)


YAML_BOMBS = {
    "aliases": nested_aliases(12, 10),
    "merged mappings": nested_aliases(12, 10, merge=True),
    "an alias inside itself": "a: &a [*a]",
    "a merge of itself": "a: &a {<<: *a}",
    "lists in lists": "[" * 100_000,
    "mappings in mappings": "{a: " * 20_000,
    "blocks in blocks": "- " * 20_000 + "x",
    "keys of keys": "? " * 20_000 + "x",
    "a number in base sixty": "a: 1" + ":59" * 30_000,
    "a long number": "a: " + "9" * 100_000,
    "a long hexadecimal": "a: 0x" + "f" * 100_000,
    "many keys": "\n".join(f"k{i}: {i}" for i in range(30_000)),
    "a date that is none": "a: 2026-13-45",
    "a long file": "a: " + "x" * (2 << 20),
    "code": "!!python/object/apply:os.system ['true']",
}


@pytest.mark.slow
@pytest.mark.parametrize("name", YAML_BOMBS)
def test_no_yaml_is_a_bomb(name: str, tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(YAML_BOMBS[name])
    began = time.process_time()
    for read in (load_file, load_sweep):
        with pytest.raises(UsageError, match=r"config\.yaml") as told:
            read(path)
        assert "\n" not in str(told.value)
    assert time.process_time() - began < 5


@pytest.mark.slow
@pytest.mark.parametrize("name", ["aliases", "lists in lists", "a date that is none"])
def test_a_bomb_on_the_command_line_is_one_line_and_exit_code_2(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(YAML_BOMBS[name])
    assert main(["run", "--config", str(path), "--dry-run"]) == 2
    assert main(["envs", "list", "--nonsense"]) == 2
    capsys.readouterr()
    assert main(["sweep", str(path), "--list"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")


YAML_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=30,
)


@given(st.text("abcyn:-[]{}&*'\"%@`#,\n  01.~\\<=_", max_size=40))
@example("env: e\nsets: &a {x: 1, y: [*a]}\n")
@example("a: &b [1]\nc: [*b, *b]\n")
@example("- - -\n  - a\n")
def test_yaml_is_the_same_with_libyaml_and_without(text: str) -> None:
    assert values_or_none(text) == values_or_none(text + " #!")  # "!" is not read by libyaml.


def values_or_none(text: str) -> tuple[Any] | None:
    """The values of a document, None where it is refused."""
    try:
        return (repr(parse_yaml(text)),)
    except Unreadable:
        return None


@given(YAML_VALUES)
def test_yaml_of_honest_size_is_read_as_ever(value: Any) -> None:

    text = yaml.safe_dump(value, allow_unicode=True)
    assert parse_yaml(text) == yaml.safe_load(text)


def test_anchors_and_merged_keys_are_understood() -> None:

    text = "base: &b {lr: 1, k: [1, 2]}\none: {<<: *b, k: 3}\ntwo: *b"
    assert parse_yaml(text) == yaml.safe_load(text)


MOST_VALUES = 10_000_000
JSON_BOMBS = {
    "lists in lists": b"[" * 1_000_000,
    "closed lists in lists": b"[" * 50_000 + b"]" * 50_000,
    "few hundred levels": b'{"a":' * 300 + b"1" + b"}" * 300,
    "more values than memory": b"[" + b"[]," * (MOST_VALUES + 10) + b"1]",
    "a long number": b"9" * 10_000,
}


@pytest.mark.slow
@pytest.mark.parametrize("name", JSON_BOMBS)
def test_no_json_is_a_bomb(name: str, tmp_path: Path) -> None:
    path = tmp_path / "status.json"
    path.write_bytes(JSON_BOMBS[name])
    with pytest.raises(UsageError, match="is damaged"):
        read_json(path)
    path.write_bytes(JSON_BOMBS[name] + b"\n")
    with pytest.raises(UsageError, match="line 1"):
        list(read_objects(path, "give an object"))
    path.write_bytes(b'{"update": 0}\n' + JSON_BOMBS[name] + b"\n" + b'{"update": 1}\n')
    with pytest.raises(UsageError, match="line 2 is damaged"):
        list(read_log(path))


def test_commas_inside_texts_are_no_values() -> None:
    from resd_bench.files import reading

    text = "," * (MOST_VALUES + 10)
    assert reading.parse_json(json.dumps({"answer": text})) == {"answer": text}


@pytest.mark.slow
@given(
    st.recursive(
        st.none() | st.integers() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)
    )
)
def test_json_of_honest_size_is_read_as_ever(value: Any) -> None:
    from resd_bench.files import reading

    assert reading.parse_json(json.dumps(value)) == value


# gzip


def packed(piece: bytes, times: int) -> bytes:
    """`piece` repeated, packed without holding all of it."""
    return gzip.compress(piece) * times


GZIP_BOMBS = {
    "one line": packed(b"0" * (1 << 24), 16),
    "rows": packed(b'{"update": 0}\n' * (1 << 18), 16),
    "blank lines": packed(b"\n" * (1 << 22), 16),
    "nothing at all": packed(b"", 100) + packed(b"\n" * (1 << 22), 16),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", GZIP_BOMBS)
def test_no_gzip_is_a_bomb(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # What is read before the bound takes time that tests have not.
    with suppress(ImportError):
        monkeypatch.setattr("resd_bench.files.reading.UNPACKED_AT_LEAST", 1 << 20)
        monkeypatch.setattr("resd_bench.files.reading.MOST_PACKED", 5)
    path = tmp_path / "evals.jsonl.gz"
    path.write_bytes(GZIP_BOMBS[name])
    assert path.stat().st_size < 300_000
    with pytest.raises(UsageError, match="unpacks to more than"):
        list(read_objects(path, "give an object"))
    # A log is read up to its first damaged line, as a blank one is, before a bound is reached.
    blank = name in ("blank lines", "nothing at all")
    why = "line 1 is damaged" if blank else "unpacks to more than"
    with pytest.raises(UsageError, match=why):
        list(read_log(path.with_suffix("")))


def test_a_log_packed_to_a_sixtieth_is_read(tmp_path: Path) -> None:
    rows = b"".join(
        json.dumps({"update": 0, "task": f"t{i % 8}"}).encode() + b"\n" for i in range(9999)
    )
    path = tmp_path / "evals.jsonl"
    small = gzip.compress(rows)
    assert len(rows) > 60 * len(small)
    path.with_name("evals.jsonl.gz").write_bytes(small)
    assert len(list(read_log(path))) == 9999


def test_a_line_without_an_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resd_bench.files.reading.MAX_LINE", 1000)
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"a": "' + b"x" * 2000 + b'"}\n')
    with pytest.raises(UsageError, match="a line of more than"):
        list(read_objects(path, "give an object"))


# Not files


@pytest.mark.parametrize("name", ["config.yaml", "evals.jsonl", "status.json", "metrics.jsonl.gz"])
def test_a_pipe_in_a_run_folder_does_not_keep_its_reader_waiting(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "config.yaml").write_text("env: e\nmethod: m\nmodel: nano\nseed: 4\n")
    row = {"update": 0, "task": "t", "sample": 0, "success": True, "episodes": 0, "score": 1}
    (tmp_path / "evals.jsonl").write_text(json.dumps(row | {"generated_tokens": 0}) + "\n")
    (tmp_path / name).unlink(missing_ok=True)
    os.mkfifo(tmp_path / name)
    code: list[int] = []
    reader = threading.Thread(
        target=lambda: code.append(main(["compare", str(tmp_path)])), daemon=True
    )
    reader.start()
    reader.join(30)
    assert code == [2]
    assert "error: " in capsys.readouterr().err


def test_an_endless_device_is_refused_and_a_shells_pipe_is_read(tmp_path: Path) -> None:
    link = tmp_path / "config.yaml"
    link.symlink_to("/dev/zero")
    with pytest.raises(UsageError, match="not a regular file"):
        load_file(link)
    out, into = os.pipe()
    os.write(into, b"seed: 3\n")
    os.close(into)
    assert load_file(f"/dev/fd/{out}") == {"seed": 3}
    os.close(out)


# Checkpoints


def repacked(path: Path, how: Any) -> None:
    """The checkpoint's archive written again by `how`, with a header that fits."""
    import hashlib
    import io
    import zipfile

    line, _, payload = path.read_bytes().partition(b"\n")
    old, new = zipfile.ZipFile(io.BytesIO(payload)), io.BytesIO()
    with zipfile.ZipFile(new, "w", zipfile.ZIP_DEFLATED) as made:
        for entry in old.infolist():
            made.writestr(entry.filename, how(entry.filename, old.read(entry)))
    header = json.loads(line) | {"sha256": hashlib.sha256(new.getvalue()).hexdigest()}
    header = sealed({key: value for key, value in header.items() if key != "checksum"})
    path.write_bytes(json.dumps(header).encode() + b"\n" + new.getvalue())


def test_a_checkpoint_whose_archive_is_compressed_is_not_unpacked(tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path, Checkpoint(1, {}, {"w": torch.zeros(1 << 20)}))
    assert torch.equal(load_checkpoint(path).state["w"], torch.zeros(1 << 20))
    repacked(path, lambda name, data: data)
    assert path.stat().st_size < 1 << 16
    with pytest.raises(CorruptCheckpoint, match="compressed"):
        load_checkpoint(path)


@pytest.mark.parametrize(
    "head", [b"{" * 5000, b'{"update": 1' + b" " * (2 << 20), b"[" * 99_999 + b"\n"]
)
def test_a_checkpoints_first_line_is_bounded(head: bytes, tmp_path: Path) -> None:
    path = tmp_path / "update-00000001.ckpt"
    path.write_bytes(head)
    with pytest.raises(CorruptCheckpoint):
        load_checkpoint(path)


# Sweeps


@pytest.mark.parametrize(
    "grid",
    [
        "{seed: 0-999999999999}",
        "{seed: 0-9, env: [a, b], "
        + ", ".join(f"k{i}: [0,1,2,3,4,5,6,7,8,9]" for i in range(9))
        + "}",
        "{seed: '9" + "9" * 5000 + "'}",
    ],
)
def test_a_sweep_has_no_more_runs_than_anyone_starts(grid: str, tmp_path: Path) -> None:
    path = tmp_path / "sweep.yaml"
    path.write_text(f"base: {{model: nano}}\ngrid: {grid}\n")
    with pytest.raises(UsageError, match=r"sweep\.yaml"):
        load_sweep(path)


def test_a_run_folder_with_strange_names_is_read_all_the_same(tmp_path: Path) -> None:
    from resd_bench.report.html.playbooks import contexts

    (tmp_path / "config.yaml").write_text("env: e\n")
    (tmp_path / "context").mkdir()
    for name in ("update-x.json", "update-.json", "update-²3.json", "update--1.json"):
        (tmp_path / "context" / name).write_text("{}")
    (tmp_path / "context" / "update-0003.json").write_text("{}")
    assert list(contexts(tmp_path)) == [3]


@pytest.mark.slow
def test_memory_stays_small_whatever_is_packed(tmp_path: Path) -> None:
    path = tmp_path / "evals.jsonl.gz"
    path.write_bytes(packed(b"0" * (1 << 24), 100))
    (tmp_path / "config.yaml").write_text("env: e\nmethod: m\nmodel: nano\nseed: 4\n")
    program = (
        "import re, sys\n"
        "from resd_bench.cli import main\n"
        "code = main(['compare', sys.argv[1]])\n"
        # What resource.getrusage says counts the process that this one was forked from.
        "status = open('/proc/self/status').read()\n"
        "print(code, int(re.search(r'VmHWM:\\s+(\\d+)', status)[1]) >> 10)\n"
    )
    words = [sys.executable, "-c", program, str(tmp_path)]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    code, mebibytes = map(int, done.stdout.split())
    assert code == 2
    assert "unpacks to more than" in done.stderr
    assert mebibytes < 1000, "of 1,600 that it unpacks to"
