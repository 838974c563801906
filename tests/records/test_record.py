"""The run directory and its checkpoints: atomic, honest about damage, and plain JSON."""

from __future__ import annotations

import errno
import gzip
import hashlib
import io
import json
import math
import os
import tracemalloc
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from resd_bench.config import resolve
from resd_bench.errors import UsageError
from resd_bench.files.writing import write_atomically
from resd_bench.jobs.run import run
from resd_bench.records.checkpoints import (
    KEEP,
    Checkpoint,
    CorruptCheckpoint,
    checkpoint_files,
    load_checkpoint,
    save_checkpoint,
)
from resd_bench.records.log_files import read_log, scan_log, truncate_log
from resd_bench.records.recorder import open_run, plain, read_json, to_line


@given(st.text())
def test_any_string_survives_a_log_line(text: str) -> None:
    line = to_line({"text": text})
    assert line.count(b"\n") == 1
    assert json.loads(line)["text"] == text


def test_a_lone_surrogate_survives_a_log_line() -> None:
    assert json.loads(to_line({"text": "\ud800"}))["text"] == "\ud800"


def test_what_json_cannot_hold_becomes_what_it_can() -> None:
    value = {"a": math.nan, "b": np.float64(2), "c": (1, {3}), 4: np.arange(2), "p": Path("x")}
    assert plain(value) == {"a": None, "b": 2.0, "c": [1, [3]], "4": [0, 1], "p": "x"}


def test_rows_after_those_that_are_kept_move_aside(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"update": 1}\n{"update": 2}\n{"update": 3}\n{"upd')
    assert truncate_log(scan_log(path), 1) == 3
    assert path.read_bytes() == b'{"update": 1}\n'
    sidecar = path.with_name("metrics.jsonl.orphaned")
    assert sidecar.read_bytes() == b'{"update": 2}\n{"update": 3}\n{"upd\n'


@pytest.mark.parametrize("form", ["", ".gz"])
def test_a_log_is_read_and_truncated_without_being_in_memory(tmp_path: Path, form: str) -> None:
    path = tmp_path / "episodes.jsonl"
    lines = [to_line({"update": n, "text": "x" * 20_000}) for n in range(500)]
    content = b"".join(lines)
    path.with_name(path.name + form).write_bytes(gzip.compress(content, 1) if form else content)
    tracemalloc.start()
    log = scan_log(path)
    logged = log.first(300)
    assert truncate_log(log, 300) == 200
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 0.05 * len(content)
    assert (log.rows, log.rows_until(99), log.has_tail) == (500, 100, False)
    assert logged.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert path.read_bytes() == b"".join(lines[:300])
    assert path.with_name("episodes.jsonl.orphaned").read_bytes() == b"".join(lines[300:])


@pytest.mark.parametrize("line", ["[]", "{}", '{"update": "x"}', "\x00\x00"])
def test_a_line_that_is_no_row_is_damage(tmp_path: Path, line: str) -> None:
    path = tmp_path / "evals.jsonl"
    path.write_text(f'{{"update": 1}}\n{line}\n{{"update": 2}}\n')
    with pytest.raises(UsageError, match=r"evals.jsonl line 2 is damaged"):
        list(read_log(path))


def test_a_checkpoint_comes_back_as_it_was(tmp_path: Path) -> None:
    state = {"weights": torch.arange(5.0), "list": [1, "a", None], "n": 3}
    path = save_checkpoint(tmp_path, Checkpoint(7, {"metrics.jsonl": 7}, state))
    loaded = load_checkpoint(path)
    assert (loaded.update, loaded.rows) == (7, {"metrics.jsonl": 7})
    assert torch.equal(loaded.state["weights"], state["weights"])  # type: ignore[arg-type]
    assert loaded.state["list"] == [1, "a", None]


def test_a_checkpoint_is_its_first_line_and_what_torch_saves(tmp_path: Path) -> None:
    state = {"weights": torch.arange(50_000.0), "few": torch.ones(2), "n": 3}
    content = save_checkpoint(tmp_path, Checkpoint(7, {}, state)).read_bytes()
    line, payload = content.split(b"\n", 1)
    expected = io.BytesIO()
    torch.save(state, expected)
    assert payload == expected.getvalue()
    assert json.loads(line)["sha256"] == hashlib.sha256(payload).hexdigest()


def test_a_checkpoint_is_written_without_a_second_copy_of_it(tmp_path: Path) -> None:
    state = {"weights": torch.zeros(4 << 20)}
    tracemalloc.start()
    save_checkpoint(tmp_path, Checkpoint(1, {}, state))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # Buffers of bytes are traced, the tensors themselves are not.
    assert peak < 0.25 * state["weights"].nbytes


def test_a_checkpoint_that_finds_no_room_is_an_error_of_the_disk_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full(io.BytesIO):
        def write(self, data: Any) -> int:
            if self.tell() + len(data) > 10_000:
                raise OSError(errno.ENOSPC, "No space left on device")
            return super().write(data)

    first = save_checkpoint(tmp_path, Checkpoint(1, {}, {"n": 1}))
    real = os.fdopen

    def full(handle: int, mode: str) -> Full:
        os.close(handle)
        return Full()

    monkeypatch.setattr(os, "fdopen", full)
    with pytest.raises(OSError, match="No space left") as caught:
        save_checkpoint(tmp_path, Checkpoint(2, {}, {"weights": torch.zeros(20_000)}))
    monkeypatch.setattr(os, "fdopen", real)
    assert caught.value.filename == str(tmp_path / "update-00000002.ckpt")
    assert list(tmp_path.iterdir()) == [first]


def test_the_last_checkpoints_are_kept(tmp_path: Path) -> None:
    for update in (1, 2, 3, 10):
        save_checkpoint(tmp_path, Checkpoint(update, {}, {}))
    names = [path.name for path in checkpoint_files(tmp_path)]
    assert names == ["update-00000010.ckpt", "update-00000003.ckpt"]
    assert len(names) == KEEP


@given(st.data())
def test_any_flipped_byte_of_a_checkpoint_is_noticed(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("checkpoints")
    path = save_checkpoint(folder, Checkpoint(1, {}, {"w": torch.ones(3)}))
    content = bytearray(path.read_bytes())
    start = content.index(b"\n") + 1
    content[data.draw(st.integers(start, len(content) - 1))] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(CorruptCheckpoint, match="checksum"):
        load_checkpoint(path)


def test_any_flipped_bit_of_a_checkpoints_first_line_is_noticed(tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path, Checkpoint(3, {"evals.jsonl": 24}, {"n": 1}))
    content = path.read_bytes()
    line = content.index(b"\n")
    for place in range(0, 8 * line, 5):
        turned = bytearray(content)
        turned[place // 8] ^= 1 << place % 8
        path.write_bytes(turned)
        with pytest.raises(CorruptCheckpoint):
            load_checkpoint(path)


def test_a_checkpoint_under_another_name_is_noticed(tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path, Checkpoint(3, {}, {}))
    with pytest.raises(CorruptCheckpoint, match="its name"):
        load_checkpoint(path.rename(tmp_path / "update-00000007.ckpt"))


def test_checkpoints_of_before_their_first_line_had_a_checksum_are_read(tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path, Checkpoint(3, {"metrics.jsonl": 3}, {"n": 1}))
    line, _, payload = path.read_bytes().partition(b"\n")
    header = json.loads(line)
    kept = {key: header[key] for key in ("update", "rows", "sha256")} | {"format": 1}
    path.write_bytes(json.dumps(kept).encode() + b"\n" + payload)
    assert load_checkpoint(path).rows == {"metrics.jsonl": 3}
    other = json.dumps(kept | {"update": 7}).encode() + b"\n" + payload
    path.write_bytes(other)
    with pytest.raises(CorruptCheckpoint):
        load_checkpoint(path)


def test_files_with_other_names_are_no_checkpoints(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, Checkpoint(3, {}, {}))
    for name in ("update-3 (copy).ckpt", "update-.ckpt", "update-00000009.ckpt.tmp"):
        (tmp_path / name).touch()
    assert [path.name for path in checkpoint_files(tmp_path)] == ["update-00000003.ckpt"]


def test_a_checkpoint_cannot_run_code(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (eval, ("1/0",))

    path = save_checkpoint(tmp_path, Checkpoint(1, {}, {"x": Evil()}))
    with pytest.raises(CorruptCheckpoint, match="torch cannot read it"):
        load_checkpoint(path)


def test_a_write_that_fails_leaves_the_old_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "status.json"
    write_atomically(path, b"old")

    def full(handle: int) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="disk full"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"


def test_damaged_json_is_named(tmp_path: Path) -> None:
    (tmp_path / "status.json").write_text("{")
    with pytest.raises(UsageError, match=r"status.json is damaged"):
        read_json(tmp_path / "status.json")


def test_two_processes_cannot_write_one_folder(toy: ModuleType, tmp_path: Path) -> None:
    config = resolve({"env": "toy-say", "method": "toy-learner"}, {"out": str(tmp_path)})
    first = open_run(config)
    with pytest.raises(UsageError, match=r"written by another process.*--out"):
        open_run(config)
    first.close()
    open_run(config).close()


@pytest.mark.parametrize("resume", [False, True])
def test_a_run_in_progress_is_said_to_be_one_before_anything_is_loaded(
    toy: ModuleType, tmp_path: Path, resume: bool
) -> None:
    named = {"env": "toy-say", "method": "toy-learner", "model": "no-such-model"}
    config = resolve(named, {"out": str(tmp_path)})
    recorder = open_run(config)
    recorder.log("metrics.jsonl", [{"update": 1}])
    recorder.status("running")
    with pytest.raises(UsageError, match="written by another process") as told:
        run(config, resume=resume)
    assert "--resume" not in str(told.value)
    recorder.close()


def test_settings_may_change_while_nothing_was_measured(toy: ModuleType, tmp_path: Path) -> None:
    flags = {"out": str(tmp_path), "env": "toy-say", "method": "toy-learner"}
    open_run(resolve(flags)).close()
    open_run(resolve(flags, {"batch_size": 3})).close()
    assert "batch_size: 3" in (tmp_path / "toy-say/toy-learner/seed-0/config.yaml").read_text()
