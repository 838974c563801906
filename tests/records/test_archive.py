"""Kept records read like the runs they come from."""

import gzip
import json
from dataclasses import replace
from pathlib import Path

import pytest

from resd_bench.config import resolve
from resd_bench.errors import UsageError
from resd_bench.files import columns
from resd_bench.records.archive import keep
from resd_bench.records.find_runs import find_runs
from resd_bench.records.packing import compact
from resd_bench.records.recorder import LOGS, to_line
from resd_bench.records.run_files import RunFiles
from resd_bench.report.comparisons import compare, group_runs
from resd_bench.report.markdown import as_markdown
from resd_bench.report.metric_table import detail_table

IN_COLUMNS = tuple(f"{name}.columns.xz" for name in LOGS)


def a_run(folder: Path, state: str = "finished") -> Path:
    """The files of a run with two evaluations, written by hand."""
    folder.mkdir(parents=True)
    settings = {"method": "sft", "seed": 3, "eval_samples": 2}
    (folder / "config.yaml").write_text(resolve(settings).to_yaml())
    (folder / "status.json").write_text(f'{{"state": "{state}", "update": 4}}')
    metrics = [{"update": u, "episodes": 32 * u} for u in (1, 2, 3, 4)]
    (folder / "metrics.jsonl").write_bytes(b"".join(map(to_line, metrics)))
    rows = [
        {"update": u, "episodes": 32 * u, "generated_tokens": 9 * u, "task": task, "sample": j}
        | {"success": float(u > 0 and j), "score": 0.5, "kind": "", "stop": "eos", "error": ""}
        for u in (0, 4)
        for task in ("a", "b")
        for j in (0, 1)
    ]
    (folder / "evals.jsonl").write_bytes(b"".join(map(to_line, rows)))
    episodes = [
        {"update": u, "task": f"t{u % 3}", "attempt": u // 3, "success": u == 3, "score": 0.5}
        | {"turns": [{"response": "a secret", "tokens": 3}] * 2, "stop": "eos", "reward": 0.0}
        for u in (1, 2, 3, 4)
    ]
    (folder / "episodes.jsonl").write_bytes(b"".join(map(to_line, episodes)))
    return folder


def test_a_kept_run_reads_like_the_run(tmp_path: Path) -> None:
    [run] = find_runs([str(a_run(tmp_path / "run"))])
    [place] = keep([run], tmp_path / "kept")
    assert place == tmp_path / "kept/manufactoria-has/sft/seed-3"
    [kept] = find_runs([str(tmp_path / "kept")])
    assert kept.points == run.points
    assert kept.metrics == run.metrics
    assert kept.settings == run.settings
    assert not (place / "episodes.jsonl").exists()


def test_a_kept_run_says_when_it_succeeded_first_and_what_it_ever_solved(tmp_path: Path) -> None:
    runs = find_runs([str(a_run(tmp_path / "run"))])
    [place] = keep(runs, tmp_path / "kept")
    rows = columns.read_columns(place / "episodes.jsonl.columns.xz")
    assert "secret" not in json.dumps(rows)
    assert rows[2] == {
        **{"update": 3, "task": "t0", "attempt": 1, "success": True, "score": 0.5},
        **{"stop": "eos", "tokens": 6},
    }
    groups = group_runs(find_runs([str(place)]))
    table = as_markdown(detail_table(groups, compare(groups, 128), 128))
    assert "| episode of the first training success | median 3 (1/1) |" in table
    assert "| training tasks ever solved | 1 |" in table


def test_a_kept_run_can_be_kept_again_and_one_without_episodes_reads_too(tmp_path: Path) -> None:
    runs = find_runs([str(a_run(tmp_path / "run"))])
    [one] = keep(runs, tmp_path / "one")
    [two] = keep(find_runs([str(one)]), tmp_path / "two")
    for name in IN_COLUMNS:
        assert (one / name).read_bytes() == (two / name).read_bytes()
    (two / "episodes.jsonl.columns.xz").unlink()
    # As records were before they had hashes.
    (two / "status.json").write_text(json.dumps({"state": "finished", "update": 4}))
    [old] = find_runs([str(two)])
    assert list(old.training()) == []
    assert old.points == runs[0].points


def test_equal_records_give_equal_bytes(tmp_path: Path) -> None:
    runs = find_runs([str(a_run(tmp_path / "run"))])
    [one], [two] = keep(runs, tmp_path / "one"), keep(runs, tmp_path / "two")
    name = "evals.jsonl.columns.xz"
    assert (one / name).read_bytes() == (two / name).read_bytes()


def test_an_unfinished_run_is_refused(tmp_path: Path) -> None:
    [run] = find_runs([str(a_run(tmp_path / "run"))])
    unfinished = replace(run, status={"state": "interrupted"})
    with pytest.raises(UsageError, match="--resume"):
        keep([unfinished], tmp_path / "kept")
    assert not (tmp_path / "kept").exists()


def test_a_kept_run_is_never_overwritten(tmp_path: Path) -> None:
    runs = find_runs([str(a_run(tmp_path / "run"))])
    keep(runs, tmp_path / "kept")
    with pytest.raises(UsageError, match="exists"):
        keep(runs, tmp_path / "kept")


def test_a_damaged_record_is_named(tmp_path: Path) -> None:
    [place] = keep(find_runs([str(a_run(tmp_path / "run"))]), tmp_path / "kept")
    packed = place / "evals.jsonl.columns.xz"
    packed.write_bytes(packed.read_bytes()[:-9])
    with pytest.raises(UsageError, match=r"evals\.jsonl\.columns\.xz is damaged"):
        find_runs([str(place)])


def test_a_record_older_than_a_setting_compares_with_newer_runs(tmp_path: Path) -> None:
    old, new = a_run(tmp_path / "old"), a_run(tmp_path / "new")
    lines = (old / "config.yaml").read_text().splitlines()
    kept = [line for line in lines if not line.startswith("weight_decay")]
    assert len(kept) == len(lines) - 1
    (old / "config.yaml").write_text("\n".join(kept))
    (new / "config.yaml").write_text(
        (new / "config.yaml").read_text().replace("seed: 3", "seed: 4")
    )
    assert list(group_runs(find_runs([str(old), str(new)]))) == ["sft"]


def as_before(place: Path, *plain: str) -> Path:
    """A kept run as it was kept before there were columns: compressed, or the logs `plain`."""
    for name in LOGS:
        packed = place / f"{name}.columns.xz"
        lines = b"".join(map(columns.line_of, columns.read_columns(packed)))
        if name in plain:
            (place / name).write_bytes(lines)
        else:
            (place / f"{name}.gz").write_bytes(gzip.compress(lines))
        packed.unlink()
    return place


def test_kept_records_of_before_read_the_same_and_are_written_in_columns(tmp_path: Path) -> None:
    runs = find_runs([str(a_run(tmp_path / "run"))])
    [new] = keep(runs, tmp_path / "new")
    assert {path.name for path in new.iterdir()} >= set(IN_COLUMNS)
    lines = {name: list(RunFiles.at(new).lines(name)) for name in LOGS}
    assert lines["evals.jsonl"] == list(RunFiles.at(runs[0].folder).lines("evals.jsonl"))
    [kept] = find_runs([str(new)])
    for number, plain in enumerate(((), ("metrics.jsonl",), LOGS)):
        [place] = keep(runs, tmp_path / str(number))
        as_before(place, *plain)
        [before] = find_runs([str(place)])
        assert replace(before, files=None, folder=kept.folder) == replace(kept, files=None)
        assert list(before.training()) == list(kept.training())
        assert compact(place).logs == len(LOGS)
        assert {p.name for p in place.iterdir()} == {p.name for p in new.iterdir()}
        assert {name: list(RunFiles.at(place).lines(name)) for name in LOGS} == lines
        RunFiles.at(place).check()
        assert compact(place) == (0, 0, 0)


def test_a_log_that_columns_cannot_give_byte_by_byte_is_compressed(tmp_path: Path) -> None:
    folder = a_run(tmp_path / "run")
    log = folder / "metrics.jsonl"
    log.write_bytes(log.read_bytes().replace(b"64", b"6.40e1"))
    for number in range(2):
        [place] = keep(find_runs([str(folder)]), tmp_path / str(number))
        assert gzip.decompress((place / "metrics.jsonl.gz").read_bytes()) == log.read_bytes()
        assert (place / "evals.jsonl.columns.xz").exists()
        assert compact(place) == (0, 0, 0)
        RunFiles.at(place).check()
        folder = place


def test_columns_that_are_not_as_they_were_kept_are_refused(tmp_path: Path) -> None:
    [place] = keep(find_runs([str(a_run(tmp_path / "run"))]), tmp_path / "kept")
    path = place / "evals.jsonl.columns.xz"
    intact = path.read_bytes()
    rows = columns.read_columns(path)
    for changed in (rows[:-1], [{**rows[0], "success": 0.5}, *rows[1:]]):
        packed = columns.pack_columns(map(columns.line_of, changed))
        assert packed is not None
        path.write_bytes(packed)
        for read in (RunFiles.at(place).rows, lambda log: list(RunFiles.at(place).lines(log))):
            with pytest.raises(UsageError, match=r"evals\.jsonl\.columns\.xz is damaged"):
                read("evals.jsonl")
    path.write_bytes(intact[:-9])
    with pytest.raises(UsageError, match="end too early"):
        RunFiles.at(place).rows("evals.jsonl")
    path.unlink()
    with pytest.raises(UsageError, match="it is missing"):
        RunFiles.at(place).rows("evals.jsonl")


def test_a_log_that_is_not_as_it_was_kept_is_not_compressed(tmp_path: Path) -> None:
    [place] = keep(find_runs([str(a_run(tmp_path / "run"))]), tmp_path / "kept")
    log = as_before(place, "metrics.jsonl") / "metrics.jsonl"
    log.write_bytes(log.read_bytes().replace(b"64", b"65"))
    with pytest.raises(UsageError, match=r"metrics\.jsonl is damaged"):
        compact(tmp_path)
    assert log.exists()
    assert {path.name for path in place.iterdir()} >= {"evals.jsonl.gz", "episodes.jsonl.gz"}
    with pytest.raises(UsageError, match="is not finished"):
        compact(a_run(tmp_path / "unfinished", "interrupted"))
