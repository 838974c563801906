"""A run's folder is held by somebody else, deleted, damaged or on a full disk: one line says so."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from resd_bench.cli import main
from resd_bench.config import RunConfig, resolve
from resd_bench.errors import UsageError
from resd_bench.jobs.run import run
from resd_bench.records import recorder
from resd_bench.records.archive import keep
from resd_bench.records.checkpoints import checkpoint_files, load_checkpoint
from resd_bench.records.find_runs import find_runs
from resd_bench.records.recorder import open_run
from resd_bench.records.runs import load_run
from resd_bench.report.eval_table import find_evaluations
from resd_bench.sweep.definition import Trial
from resd_bench.sweep.launch import LocalLauncher
from resd_bench.sweep.scheduler import Scheduler, make_jobs
from tests.places import TOY_PLUGIN

SETTINGS = {
    "env": "toy-say",
    "method": "toy-learner",
    "model": "scripted",
    "budget": "30ep",
    "batch_size": 5,
    "eval_every": 2,
    "eval_samples": 2,
    "max_new_tokens": 20,
    "checkpoint_every": 2,
}
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="NO /proc: holders are not named")


@pytest.fixture
def config(toy: ModuleType, tmp_path: Path) -> RunConfig:
    return resolve(SETTINGS, {"out": str(tmp_path / "out")})


class Killed(BaseException):
    """Ends a run at once."""


class At:
    """Does something when an update is done."""

    def __init__(self, update: int, deed: Callable[[], object]) -> None:
        self.update, self.deed = update, deed

    def updated(self, row: dict[str, Any]) -> None:
        if row["update"] == self.update:
            self.deed()

    def evaluated(self, point: Any) -> None:
        pass


def stop() -> None:
    raise Killed


def interrupt(config: RunConfig, after: int) -> None:
    with pytest.raises(Killed):
        run(config, watchers=[At(after, stop)])


HOLDER = """
import os, sys, time
from pathlib import Path
from resd_bench.config import RunConfig
from resd_bench.records.recorder import open_run
recorder = open_run(RunConfig.from_yaml(Path(sys.argv[1]).read_text()))
child = os.fork()
if child == 0:
    time.sleep(600)
print(child, flush=True)
if sys.argv[2] == "stay":
    time.sleep(600)
os._exit(0)
"""


@pytest.fixture
def held(config: RunConfig, tmp_path: Path) -> Iterator[Callable[[str], tuple[int, int]]]:
    """Have a process hold the folder and fork; the numbers of the two."""
    file = tmp_path / "held.yaml"
    file.write_text(config.to_yaml())
    started: list[int] = []

    def hold(word: str) -> tuple[int, int]:
        path = os.pathsep.join([str(TOY_PLUGIN), *sys.path])
        parent = subprocess.Popen(
            [sys.executable, "-c", HOLDER, str(file), word],
            env={**os.environ, "PYTHONPATH": path},
            stdout=subprocess.PIPE,
        )
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        started.append(child)
        if word == "stay":
            started.append(parent.pid)
        else:
            parent.wait()
        return parent.pid, child

    yield hold
    for pid in started:
        os.kill(pid, signal.SIGKILL)


@pytest.mark.slow
@on_linux
def test_a_folder_that_is_held_says_by_whom(config: RunConfig, held: Any) -> None:
    parent, _ = held("stay")
    with pytest.raises(UsageError, match=rf"another process: process {parent} \(.*python.*--out"):
        open_run(config)


@pytest.mark.slow
@on_linux
def test_a_child_that_inherited_the_lock_is_named_with_what_ends_it(
    config: RunConfig, held: Any
) -> None:
    parent, child = held("leave")
    told = rf"process {parent}, which took it, has ended, but left {child} \(.*kill {child}\b"
    with pytest.raises(UsageError, match=told):
        open_run(config)
    os.kill(child, signal.SIGSTOP)
    assert recorder.is_held(config.folder())


@on_linux
def test_a_restarted_sweep_waits_for_what_is_left_of_the_one_before(
    config: RunConfig, held: Any, tmp_path: Path
) -> None:
    _, child = held("leave")
    jobs = make_jobs([Trial(0, "v", config)], tmp_path / "jobs")
    waits: list[str] = []
    ended: list[int] = []

    def watch(now: Any) -> None:
        waits.append(now[0].reason)
        if len(waits) == 5:
            assert now[0].starts == 0
            os.kill(child, signal.SIGTERM)
            ended.append(child)

    launcher = LocalLauncher(1, lambda file: [sys.executable, "-c", ""])
    Scheduler(jobs, launcher, retries=0, watch=watch, period=0.02).run()
    assert ended
    assert f"left {child} (" in waits[0]
    assert jobs[0].starts == 1


def test_a_folder_that_nobody_holds_is_free(config: RunConfig) -> None:
    assert not recorder.is_held(config.folder())
    held = open_run(config)
    assert recorder.is_held(config.folder())
    assert str(os.getpid()) in recorder.holder(config.folder())
    held.close()
    assert not recorder.is_held(config.folder())


def test_a_folder_deleted_under_a_run_ends_it_and_is_not_made_again(config: RunConfig) -> None:
    deed = At(3, lambda: shutil.rmtree(config.folder()))
    with pytest.raises(UsageError, match=r"was deleted, moved or replaced.*run again"):
        run(config, watchers=[deed])
    assert not config.folder().exists()


def test_a_folder_moved_under_a_run_ends_it(config: RunConfig, tmp_path: Path) -> None:
    deed = At(3, lambda: config.folder().rename(tmp_path / "elsewhere"))
    with pytest.raises(UsageError, match="was deleted, moved or replaced"):
        run(config, watchers=[deed])
    assert not config.folder().exists()
    (tmp_path / "elsewhere").rename(config.folder())
    assert run(config, resume=True).state == "finished"


@pytest.mark.parametrize("name", ["metrics.jsonl", "episodes.jsonl", "evals.jsonl"])
def test_a_log_deleted_under_a_run_ends_it(config: RunConfig, name: str) -> None:
    deed = At(3, (config.folder() / name).unlink)
    with pytest.raises(UsageError, match=f"{name} was deleted, moved or replaced"):
        run(config, watchers=[deed])
    assert json.loads((config.folder() / "status.json").read_text())["state"] != "finished"


@pytest.mark.parametrize("name", ["metrics.jsonl", "episodes.jsonl", "evals.jsonl"])
def test_a_log_that_changes_under_a_run_does_not_end_as_finished(
    config: RunConfig, name: str
) -> None:
    path = config.folder() / name

    def spoil() -> None:
        with path.open("r+b") as file:
            file.seek(40)
            file.write(b"7")

    with pytest.raises(UsageError, match=rf"{name} is damaged"):
        run(config, watchers=[At(5, spoil)])
    assert json.loads((path.parent / "status.json").read_text())["state"] == "failed"
    with pytest.raises(UsageError, match=r"no longer what was written|is damaged"):
        run(config, resume=True)


BROKEN = ["", "{", "[]", "null", "3", '"finished"', "[" * 10**5, "\x00\x00", "{}}"]


@pytest.mark.slow
@pytest.mark.parametrize("text", [*BROKEN, '{"state": 5}', '{"state": "done"}', '{"update": []}'])
def test_a_damaged_status_is_named_and_can_be_done_without(config: RunConfig, text: str) -> None:
    interrupt(config, 3)
    path = config.folder() / "status.json"
    path.write_text(text)
    for read in (lambda: run(config, resume=True), lambda: load_run(config.folder())):
        with pytest.raises(UsageError, match=r"status\.json is damaged .*delete it and use --res"):
            read()
    path.unlink()
    assert run(config, resume=True).state == "finished"


@pytest.mark.slow
@pytest.mark.parametrize("text", [*BROKEN, '{"sessions": 5}', '{"hardware": [1]}'])
def test_a_damaged_manifest_is_named_and_can_be_done_without(config: RunConfig, text: str) -> None:
    interrupt(config, 3)
    path = config.folder() / "manifest.json"
    path.write_text(text)
    with pytest.raises(UsageError, match=r"manifest\.json is damaged .*delete it and use --resume"):
        run(config, resume=True)
    path.unlink()
    assert run(config, resume=True).state == "finished"


@pytest.mark.parametrize("version", ['"1"', "null", "[1]", "1.5"])
def test_a_version_that_is_no_number_is_damage(config: RunConfig, version: str) -> None:
    interrupt(config, 3)
    (config.folder() / "manifest.json").write_text(f'{{"schema_version": {version}}}')
    with pytest.raises(UsageError, match=r"manifest\.json is damaged"):
        load_run(config.folder())


def test_of_an_unfinished_run_what_a_checkpoint_covers_counts(config: RunConfig) -> None:
    interrupt(config, 5)
    covered = load_run(config.folder())
    assert [point.update for point in covered.points] == [0, 2, 4]
    assert [row["update"] for row in covered.metrics] == [1, 2, 3, 4]
    assert {row["update"] for row in covered.training()} == {1, 2, 3, 4}
    path = config.folder() / "evals.jsonl"
    content = path.read_bytes()
    half = content.splitlines(keepends=True)[:7]
    path.write_bytes(content + b"".join(half).replace(b'"update": 0', b'"update": 5'))
    assert load_run(config.folder()).points == covered.points


def test_of_an_unfinished_run_what_a_checkpoint_covers_must_be_whole(config: RunConfig) -> None:
    interrupt(config, 5)
    path = config.folder() / "evals.jsonl"
    content = path.read_bytes()
    for harm in (content[:-100], content.replace(b"1.0", b"0.0", 1), b""):
        path.write_bytes(harm)
        with pytest.raises(UsageError, match=r"evals\.jsonl is damaged .*use --resume"):
            load_run(config.folder())
    path.write_bytes(content)
    assert load_run(config.folder()).points


def test_a_run_before_its_first_checkpoint_has_no_evaluation_yet(config: RunConfig) -> None:
    interrupt(config, 1)
    for path in checkpoint_files(config.folder() / "checkpoints"):
        path.unlink()
    with pytest.raises(UsageError, match="no evaluation yet that a checkpoint covers"):
        load_run(config.folder())


def test_of_several_runs_one_that_has_no_evaluation_yet_is_left_out(
    config: RunConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    other = replace(config, seed=1)
    for own, after in ((config, 1), (other, 5)):
        interrupt(own, after)
    for path in checkpoint_files(config.folder() / "checkpoints"):
        path.unlink()
    both = config.folder().parent
    assert [run.folder for run in find_runs(both)] == [other.folder()]
    err = capsys.readouterr().err
    assert f"left out: {config.folder()} has no evaluation yet" in err.replace("\n", "")
    with pytest.raises(UsageError, match="no evaluation yet that a checkpoint covers"):
        find_runs(config.folder())


def test_a_bit_of_a_log_that_flipped_before_the_checkpoint_is_noticed_on_resuming(
    config: RunConfig,
) -> None:
    interrupt(config, 5)
    path = config.folder() / "evals.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    place = max(i for i, line in enumerate(lines) if b'"success": 0.0' in line)
    lines[place] = lines[place].replace(b'"success": 0.0', b'"success": 1.0')
    path.write_bytes(b"".join(lines))
    notes = run(config, resume=True).notes
    assert any("no longer what was written" in note for note in notes)
    whole = resolve(SETTINGS, {"out": f"{config.out}-whole"})
    run(whole)
    mine, theirs = (load_run(one.folder()).points for one in (config, whole))
    assert [(p.update, p.success) for p in mine] == [(p.update, p.success) for p in theirs]


def old(config: RunConfig) -> Path:
    """A finished run as it was before there were hashes."""
    folder = run(config).folder
    path = folder / "status.json"
    status = json.loads(path.read_text())
    for name in ("files", "checksum"):
        status.pop(name, None)
    path.write_text(json.dumps(status))
    return folder


def test_a_record_without_hashes_is_read(config: RunConfig, tmp_path: Path) -> None:
    points = load_run(old(config)).points
    [place] = keep(find_runs([config.out]), tmp_path / "kept")
    assert load_run(place).points == points
    assert "files" in json.loads((place / "status.json").read_text())


def lines_of(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines(keepends=True)


CUTS: dict[str, tuple[str, Callable[[list[bytes]], list[bytes]], str]] = {
    "an evaluation is gone": ("evals", lambda rows: rows[:-12], "no evaluation after 6 updates"),
    "one in the middle is gone": ("evals", lambda rows: [*rows[:12], *rows[24:]], "after 2 upd"),
    "a sample is gone": ("evals", lambda rows: rows[:-1], "after 6 updates is not complete"),
    "a task is gone": ("evals", lambda rows: rows[:-2], "after 6 updates is not complete"),
    "cut in a line": ("evals", lambda rows: [*rows[:-1], rows[-1][:-9]], "line 48: cut off"),
    "a line is none": ("evals", lambda rows: [*rows[:5], b"\0\n", *rows[6:]], "line 6"),
    "another outcome": (
        "evals",
        lambda rows: [*rows, turn(rows[-1])],
        "row 49 is another outcome of task 'test-5', sample 1, after 6 updates",
    ),
    "a success of 2": (
        "evals",
        lambda rows: [re.sub(rb'"success": \d\.0', b'"success": 2.0', rows[0]), *rows[1:]],
        "success is 2.0",
    ),
    "turned at the end": (
        "evals",
        lambda rows: [*rows[:-1], turn(rows[-1])],
        "success after 6 updates is .* summary.json says",
    ),
    "an update is gone": ("metrics", lambda rows: rows[:-1], "not those of updates 1 to 6"),
    "no updates": ("metrics", lambda rows: [], "not those of updates 1 to 6"),
}


def turn(row: bytes) -> bytes:
    """The other outcome."""
    one, two = b'"success": 0.0', b'"success": 1.0'
    return row.replace(one, two) if one in row else row.replace(two, one)


@pytest.mark.slow
@pytest.mark.parametrize(("log", "cut", "told"), CUTS.values(), ids=CUTS)
def test_a_record_without_hashes_is_held_against_its_settings(
    config: RunConfig, log: str, cut: Callable[[list[bytes]], list[bytes]], told: str
) -> None:
    path = old(config) / f"{log}.jsonl"
    path.write_bytes(b"".join(cut(lines_of(path))))
    with pytest.raises(UsageError, match=rf"{log}\.jsonl is damaged .*({told})"):
        load_run(path.parent)


def test_a_row_that_stands_there_twice_counts_once(config: RunConfig) -> None:
    path = old(config) / "evals.jsonl"
    points = load_run(path.parent).points
    rows = lines_of(path)
    path.write_bytes(b"".join([*rows, *rows[-12:]]))
    assert load_run(path.parent).points == points


def test_damaged_episodes_are_not_kept_in_part(config: RunConfig, tmp_path: Path) -> None:
    path = old(config) / "episodes.jsonl"
    rows = lines_of(path)
    for harm in ([*rows[:9], b"\0" + rows[9][1:], *rows[10:]], rows[:9], [*rows[:-1], b"{"]):
        path.write_bytes(b"".join(harm))
        with pytest.raises(UsageError, match=r"episodes\.jsonl is damaged"):
            keep(find_runs([config.out]), tmp_path / "kept")
        assert not list((tmp_path / "kept").rglob("seed-0"))
    path.write_bytes(b"".join(rows))
    [place] = keep(find_runs([config.out]), tmp_path / "kept")
    assert len(list(load_run(place).training())) == 30


def test_a_half_kept_record_is_no_record(config: RunConfig, tmp_path: Path) -> None:
    run(config)
    [place] = keep(find_runs([config.out]), tmp_path / "kept")
    half = place.with_name("seed-1.tmp")
    shutil.copytree(place, half)
    (half / "evals.jsonl.columns.xz").unlink()
    assert len(find_runs([str(tmp_path / "kept")])) == 1


def test_a_run_folder_that_lost_its_settings_is_missed(config: RunConfig, tmp_path: Path) -> None:
    folder = run(config).folder
    (folder / "config.yaml").unlink()
    with pytest.raises(UsageError, match=r"no config\.yaml.*restore"):
        find_runs([config.out])


def test_rows_of_an_evaluation_that_are_not_whole_are_refused(
    toy: ModuleType, config: RunConfig, tmp_path: Path
) -> None:
    folder = run(config).folder
    file = tmp_path / "rows.jsonl"
    size = ["--tasks", "3", "--samples", "4", "--out", str(file)]
    assert main(["eval", str(folder), *size]) == 0
    rows = lines_of(file)
    assert find_evaluations([str(file)])[0].points[0].samples == 12
    for harm, told in ((rows[:-1], "is incomplete"), ([*rows, turn(rows[0])], "another outcome")):
        file.write_bytes(b"".join(harm))
        with pytest.raises(UsageError, match=told):
            find_evaluations([str(file)])


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_command_on_a_full_disk_ends_with_one_line(
    config: RunConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    number: int,
) -> None:
    folder = run(config).folder

    def full(*args: Any, **keywords: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("os.fsync", full)
    monkeypatch.setattr("shutil.copyfile", full)
    assert main(["results", "keep", str(folder), "--to", str(tmp_path / "kept")]) == 2
    told = capsys.readouterr().err
    assert told.startswith("error: ")
    assert "make room" in told
    assert len(told.splitlines()) == 1


def test_left_over_files_of_a_kill_do_not_stand_in_the_way(config: RunConfig) -> None:
    config.folder().mkdir(parents=True)
    for name in (".lock", "config.yaml.tmp", "status.json.tmp"):
        (config.folder() / name).touch()
    assert run(config, resume=True).state == "finished"


def test_what_is_no_left_over_still_does(config: RunConfig) -> None:
    config.folder().mkdir(parents=True)
    (config.folder() / "thesis.tex").touch()
    with pytest.raises(UsageError, match="is not empty and has no config"):
        run(config, resume=True)


def test_a_checkpoint_of_another_run_is_not_evaluated(config: RunConfig) -> None:
    other = resolve({**SETTINGS, "seed": 1}, {"out": config.out})
    for one in (config, other):
        run(one)
    for path in checkpoint_files(other.folder() / "checkpoints"):
        shutil.copyfile(path, config.folder() / "checkpoints" / path.name)
    assert main(["eval", str(config.folder()), "--tasks", "2"]) == 2
    assert main(["eval", str(other.folder()), "--tasks", "2"]) == 0


def test_a_run_of_before_checkpoints_had_hashes_goes_on(config: RunConfig, tmp_path: Path) -> None:
    import torch

    whole = resolve(SETTINGS, {"out": str(tmp_path / "whole")})
    run(whole)
    interrupt(config, 5)
    for path in checkpoint_files(config.folder() / "checkpoints"):
        state = load_checkpoint(path).state
        for name in ("evaluated_elsewhere", "unscored"):
            state.pop(name, None)
        buffer = io.BytesIO()
        torch.save(state, buffer)
        header = json.loads(path.read_bytes().partition(b"\n")[0])
        digest = hashlib.sha256(buffer.getvalue()).hexdigest()
        kept = {"format": 1, "update": header["update"], "rows": header["rows"], "sha256": digest}
        path.write_bytes(json.dumps(kept).encode() + b"\n" + buffer.getvalue())
    assert [point.update for point in load_run(config.folder()).points] == [0, 2, 4]
    assert run(config, resume=True).state == "finished"
    mine, theirs = (load_run(one.folder()).points for one in (config, whole))
    assert [(p.update, p.success) for p in mine] == [(p.update, p.success) for p in theirs]


def test_a_checkpoint_of_another_model_is_named(
    config: RunConfig, toy: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupt(config, 3)

    class Other(toy.CountingPolicy):  # type: ignore[name-defined, misc]
        def load_state_dict(self, state: Any) -> None:
            raise ValueError("the saved state is of another model; parameters that differ: ['a']")

    with pytest.raises(UsageError, match="checkpoint after 2 updates is of another model"):
        run(config, resume=True, policy=lambda c: Other(lambda prompt, seed, j: ""))
