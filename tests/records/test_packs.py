"""Kept runs that are packed together read as before, and give their folders back."""

import fcntl
import json
import lzma
import os
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from resd_bench.cli import app
from resd_bench.config import RunConfig
from resd_bench.errors import UsageError
from resd_bench.files import packs, reading
from resd_bench.records import packing
from resd_bench.records.archive import keep
from resd_bench.records.find_runs import find_runs
from resd_bench.records.packing import compact, unpack_runs
from resd_bench.records.recorder import LOGS, run_state
from resd_bench.records.run_files import RunFiles, run_folders
from resd_bench.records.runs import RunData
from resd_bench.report.eval_table import find_evaluations
from tests.records.test_archive import a_run


def kept_runs(root: Path, seeds: range = range(3)) -> Path:
    """The folder of kept runs that differ in their seed and in what they measured."""
    for seed in seeds:
        run = a_run(root / "runs" / str(seed))
        for name, old, new in (
            ("config.yaml", "seed: 3", f"seed: {seed}"),
            ("evals.jsonl", '"score": 0.5', f'"score": 0.{seed}'),
        ):
            (run / name).write_text((run / name).read_text().replace(old, new))
        (run / "summary.json").write_text(json.dumps({"first": {}, "seed": seed}))
        keep(find_runs(run), root / "kept")
    return root / "kept/manufactoria-has/sft"


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


Told = tuple[RunData, list[Mapping[str, Any]], dict[str, Any]]


def told(runs: list[RunData]) -> list[Told]:
    """All that is read of runs."""
    return [
        (
            replace(run, files=None),
            list(run.training()),
            RunFiles.at(run.folder).json("summary.json"),
        )
        for run in runs
    ]


def test_packed_runs_read_as_before_by_every_kind_of_path(tmp_path: Path) -> None:
    folder = kept_runs(tmp_path)
    places: list[str | Path] = [tmp_path / "kept", folder, folder / "seed-*", folder / "seed-1"]
    places += [folder / "seed-[12]", folder / "*", folder.parent / "*/seed-*", f"{folder}/seed-*/"]
    before = [told(find_runs(place)) for place in places]
    hashes = [list(RunFiles.at(place).lines("evals.jsonl")) for place in run_folders(folder)]
    assert compact(tmp_path / "kept") == (0, 3, 1)
    assert [path.name for path in folder.iterdir()] == [packs.PACK_NAME]
    assert [told(find_runs(place)) for place in places] == before
    assert told(find_runs(folder / packs.PACK_NAME)) == before[0]
    assert [len(find_evaluations([f"{folder}/{own}"])) for own in ("*", packs.PACK_NAME)] == [3, 3]
    for place, lines in zip(run_folders(folder), hashes, strict=True):
        RunFiles.at(place).check()
        assert list(RunFiles.at(place).lines("evals.jsonl")) == lines
    assert RunConfig.of_record(folder / "seed-1/config.yaml").seed == 1
    with pytest.raises(UsageError, match="seed-3 is not a run folder"):
        RunFiles.at(folder / "seed-3")
    with pytest.raises(UsageError, match="no run found"):
        find_runs(folder / "seed-3")


def test_unpacking_gives_the_same_bytes(tmp_path: Path) -> None:
    folder = kept_runs(tmp_path)
    before = contents(folder)
    compact(folder)
    assert sum(map(len, contents(folder).values())) < sum(map(len, before.values())) / 2
    assert unpack_runs(folder) == [folder / f"seed-{seed}" for seed in range(3)]
    assert contents(folder) == before
    with pytest.raises(UsageError, match="no pack of runs found"):
        unpack_runs(folder)


def test_a_packed_run_is_there_for_whoever_would_keep_or_copy_it(tmp_path: Path) -> None:
    folder = kept_runs(tmp_path)
    compact(folder)
    runs = find_runs(folder)
    with pytest.raises(UsageError, match=r"seed-0 exists"):
        keep(runs, tmp_path / "kept")
    copies = keep(runs, tmp_path / "again")
    for copy, (run, training, summary) in zip(copies, told(runs), strict=True):
        assert told(find_runs(copy)) == [(replace(run, folder=copy), training, summary)]


def test_further_runs_join_a_pack(tmp_path: Path) -> None:
    folder = kept_runs(tmp_path)
    compact(folder)
    kept_runs(tmp_path, range(3, 5))
    before = told(find_runs(folder))
    assert [run.seed for run in find_runs(folder)] == [0, 1, 2, 3, 4]
    assert compact(folder) == (0, 2, 1)
    assert [path.name for path in folder.iterdir()] == [packs.PACK_NAME]
    assert told(find_runs(folder)) == before


def test_a_folder_hides_the_packed_run_of_its_name(tmp_path: Path) -> None:
    folder = kept_runs(tmp_path)
    shutil.copytree(folder / "seed-1", tmp_path / "copy")
    compact(folder)
    shutil.copytree(tmp_path / "copy", folder / "seed-1")
    assert [place.name for place in run_folders(folder)] == ["seed-0", "seed-1", "seed-2"]
    (folder / "seed-1/summary.json").unlink()
    with pytest.raises(UsageError, match=r"summary\.json is damaged \(it is missing\)"):
        RunFiles.at(folder / "seed-1").check()


def test_runs_with_more_than_records_stay_folders(tmp_path: Path) -> None:
    folder = kept_runs(tmp_path)
    (folder / "seed-0/answers").mkdir()
    (folder / "seed-1/notes.txt").write_text("mine")
    assert compact(folder) == (0, 1, 1)
    assert sorted(path.name for path in folder.iterdir()) == [packs.PACK_NAME, "seed-0", "seed-1"]
    assert len(find_runs(folder)) == 3


@pytest.mark.parametrize("step", range(11))
def test_packing_that_is_stopped_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    folder = kept_runs(tmp_path)
    before, done = told(find_runs(folder)), 0

    for name in ("write_atomically", "remove_folder", "rename"):

        def stopped(*given: object, of: object = getattr(packing, name)) -> None:
            nonlocal done
            done += 1
            if done > step:
                raise KeyboardInterrupt
            of(*given)  # type: ignore[operator]

        monkeypatch.setattr(packing, name, stopped)
    try:
        compact(folder)
    except KeyboardInterrupt:
        assert told(find_runs(folder)) == before
        monkeypatch.undo()
        compact(folder)
    else:
        assert step == 10, "a write that this test does not stop"
    assert told(find_runs(folder)) == before
    assert [path.name for path in folder.iterdir()] == [packs.PACK_NAME]


def test_a_pack_that_reads_back_differently_removes_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = kept_runs(tmp_path)
    before = contents(folder)
    honest = packs.pack_files
    monkeypatch.setattr(
        packs, "pack_files", lambda files: honest({k: v[:-1] for k, v in files.items()})
    )
    with pytest.raises(UsageError, match="the folders of its runs are left"):
        compact(folder)
    assert contents(folder) == before


@pytest.mark.parametrize("what", ["folder", "notes", "link", "run"])
def test_nothing_in_the_place_of_a_packed_run_costs_it(tmp_path: Path, what: str) -> None:
    folder = kept_runs(tmp_path)
    shutil.copytree(folder / "seed-1", tmp_path / "other")
    (tmp_path / "other/summary.json").write_text("{}")
    compact(folder)
    before, place = (folder / packs.PACK_NAME).read_bytes(), folder / "seed-1"
    if what == "link":
        place.symlink_to(tmp_path / "nowhere")
    elif what == "run":
        shutil.copytree(tmp_path / "other", place)
    else:
        place.mkdir()
        if what == "notes":
            (place / "notes.txt").write_text("mine")
    for command in (unpack_runs, compact):
        with pytest.raises(UsageError, match=r"seed-1|runs\.pack\.xz holds another run"):
            command(folder)
    if what != "run":
        with pytest.raises(UsageError, match="in the place of the packed run"):
            find_runs(folder)
    assert (folder / packs.PACK_NAME).read_bytes() == before
    assert sorted(p.name for p in folder.iterdir()) == [packs.PACK_NAME, "seed-1"]


def test_unpacking_that_was_stopped_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = kept_runs(tmp_path)
    before = contents(folder)
    compact(folder)

    def stopped(path: Path, root: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(packing, "remove", stopped)
    with pytest.raises(KeyboardInterrupt):
        unpack_runs(folder)
    shutil.rmtree(folder / "seed-2")
    monkeypatch.undo()
    assert unpack_runs(folder) == [folder / "seed-2"]
    assert contents(folder) == before


def test_a_pack_that_could_not_be_read_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = kept_runs(tmp_path)
    compact(folder)
    kept_runs(tmp_path, range(3, 5))
    before = contents(folder)
    monkeypatch.setattr(reading, "MAX_PACK", 5000)
    with pytest.raises(UsageError, match="is not written, since it could not be read"):
        compact(folder)
    assert contents(folder) == before
    monkeypatch.undo()
    assert len(find_runs(folder)) == 5


def test_a_run_with_two_forms_of_a_log_is_refused(tmp_path: Path) -> None:
    folder = kept_runs(tmp_path)
    (folder / "seed-1/evals.jsonl.gz").write_bytes(b"old")
    before = contents(folder)
    with pytest.raises(UsageError, match=r"seed-1 holds evals\.jsonl\.gz and evals\.jsonl\.col"):
        compact(folder)
    assert contents(folder) == before


@pytest.mark.parametrize("name", ["odd\\name", "...", ".git", "a\nb", "é"])
def test_runs_whose_names_are_not_plain_stay_folders(tmp_path: Path, name: str) -> None:
    folder = kept_runs(tmp_path)
    (folder / "seed-1").rename(folder / name)
    assert compact(folder) == (0, 2, 1)
    assert sorted(p.name for p in folder.iterdir()) == sorted([name, packs.PACK_NAME])
    assert len(find_runs(folder)) == 3


def test_two_commands_do_not_pack_at_once(tmp_path: Path) -> None:
    folder = kept_runs(tmp_path)
    compact(folder)
    kept_runs(tmp_path, range(3, 4))
    before = contents(folder)
    descriptor = os.open(folder, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    for command in (compact, unpack_runs):
        with pytest.raises(UsageError, match="another command changes what lies in"):
            command(folder)
    assert contents(folder) == before
    os.close(descriptor)
    assert compact(folder) == (0, 1, 1)


def test_a_run_is_not_made_over_a_packed_one(tmp_path: Path) -> None:
    folder = kept_runs(tmp_path)
    config = replace(RunConfig.of_record(folder / "seed-0/config.yaml"), out=str(tmp_path / "kept"))
    assert config.folder() == folder / "seed-0"
    assert run_state(config) == "finished"
    compact(folder)
    with pytest.raises(UsageError, match=r"a kept run in a pack.*results unpack"):
        run_state(config)


def test_a_pack_that_is_replaced_is_read_again(tmp_path: Path) -> None:
    folder = kept_runs(tmp_path)
    compact(folder)
    pack = folder / packs.PACK_NAME
    files, found = dict(reading.read_pack(pack)), pack.stat()
    new = packs.pack_files(
        {k: v.replace(b'"seed": 1', b'"seed": 7') for k, v in files.items()}
    ).ljust(found.st_size, b"\0")
    pack.with_suffix(".new").write_bytes(new[: found.st_size])
    os.utime(pack.with_suffix(".new"), ns=(found.st_atime_ns, found.st_mtime_ns))
    pack.with_suffix(".new").replace(pack)
    assert reading.read_pack(pack) is not files
    assert reading.read_pack(pack)["seed-1", "summary.json"] != files["seed-1", "summary.json"]


def listed(*entries: object, content: bytes = b"") -> bytes:
    return lzma.compress(json.dumps(entries).encode() + b"\n" + content)


HOSTILE = {
    "empty": b"",
    "no xz": b"PK\3\4 a zip",
    "nothing in it": lzma.compress(b""),
    "no list": lzma.compress(b"{}\n"),
    "no line": lzma.compress(b"[]"),
    "nested": lzma.compress(b"[" * 100_000 + b"\n"),
    "a long list": lzma.compress(b"[" + b"[], " * (1 << 20) + b"[]]\n"),
    "a bomb": lzma.compress(bytes(1 << 25)),
    "a path upwards": listed(["..", "config.yaml", 1], content=b"x"),
    "a path elsewhere": listed(["/etc", "config.yaml", 1], content=b"x"),
    "a path in a name": listed(["seed-0", "../config.yaml", 1], content=b"x"),
    "a drive": listed(["c:\\seed-0", "config.yaml", 1], content=b"x"),
    "no name": listed(["", "config.yaml", 1], content=b"x"),
    "too short": listed(["seed-0", "config.yaml", 9], content=b"x"),
    "too long": listed(["seed-0", "config.yaml", 1], content=b"xy"),
    "before its beginning": listed(["seed-0", "config.yaml", -1], content=b"x"),
    "twice": listed(["seed-0", "a", 1], ["seed-0", "a", 0], content=b"x"),
    "two values": listed(["seed-0", "config.yaml"]),
    "a number as name": listed([1, "config.yaml", 0]),
    "a hidden folder": listed([".git", "config.yaml", 1], content=b"x"),
    "a hidden file": listed(["seed-0", ".bashrc", 1], content=b"x"),
    "an incomplete folder": listed(["seed-0.tmp", "config.yaml", 1], content=b"x"),
    "half a character": listed(["seed-\ud800", "config.yaml", 1], content=b"x"),
    "colours": listed(["seed-\x1b[31m", "config.yaml", 1], content=b"x"),
    "two lines": listed(["seed-0\n", "config.yaml", 1], content=b"x"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_damaged_or_hostile_pack_is_named(name: str, tmp_path: Path) -> None:
    (tmp_path / packs.PACK_NAME).write_bytes(HOSTILE[name])
    for read in (find_runs, run_folders, lambda p: RunFiles.at(p / "seed-0"), unpack_runs):
        with pytest.raises(UsageError, match=r"runs\.pack\.xz is damaged \(it"):
            read(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [packs.PACK_NAME]


def test_only_files_of_records_are_unpacked(tmp_path: Path) -> None:
    pack = tmp_path / packs.PACK_NAME
    pack.write_bytes(packs.pack_files({("hooks", "post-checkout"): b"#!/bin/sh"}))
    with pytest.raises(UsageError, match="'post-checkout', which is no file of a record"):
        unpack_runs(tmp_path)
    assert list(tmp_path.iterdir()) == [pack]


def test_a_changed_file_in_a_pack_is_refused(tmp_path: Path) -> None:
    folder = kept_runs(tmp_path)
    compact(folder)
    files = dict(reading.read_pack(folder / packs.PACK_NAME))
    for name in ("config.yaml", "evals.jsonl.columns", "status.json"):
        changed = files["seed-1", name].replace(b"3", b"4").replace(b"1", b"2")
        (folder / packs.PACK_NAME).write_bytes(
            packs.pack_files({**files, ("seed-1", name): changed})
        )
        with pytest.raises(UsageError, match=rf"seed-1/{name} is damaged"):
            RunFiles.at(folder / "seed-1").check()
        with pytest.raises(UsageError, match=rf"seed-1/{name} is damaged"):
            unpack_runs(folder)
        RunFiles.at(folder / "seed-0").check()


def test_the_commands_say_what_they_did(tmp_path: Path) -> None:
    folder = kept_runs(tmp_path)
    packed = CliRunner().invoke(app, ["results", "compact", str(tmp_path / "kept")])
    assert packed.output == "wrote 0 logs in columns, and packed 3 runs into 1 files\n"
    shown = CliRunner().invoke(app, ["results", "show", f"{folder}/seed-0"])
    assert shown.exit_code == 0, shown.output
    back = CliRunner().invoke(app, ["results", "unpack", str(tmp_path / "kept")])
    assert back.output == f"unpacked 3 runs below {tmp_path / 'kept'}\n"
    assert len(LOGS) == sum(p.name.endswith(".xz") for p in (folder / "seed-0").iterdir())
