"""Mistakes of a user: each is answered in a line that says what to do, and none in a traceback."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from resd_bench import packaged_models
from resd_bench.cli import main
from resd_bench.errors import UsageError
from resd_bench.files.writing import check_target
from tests.places import ROOT

KEPT = ROOT / "results/nano/manufactoria-has/sft/seed-0"
EVAL = ["eval", "--model", "nano", "--env", "finer", "--tasks", "1", "--samples", "1"]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with things that are in the way."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "afile").write_text("x")
    (tmp_path / "adir").mkdir()
    (tmp_path / "twice.yaml").write_text("env: finer\nseed: 1\nenv: finer\n")
    (tmp_path / "ok.jsonl").write_text(
        '{"task": "t", "sample": 0, "success": 1, "episodes": 0, "generated_tokens": 0, '
        '"method": "a", "seed": 0}\n'
    )
    model = tmp_path / "model"
    model.mkdir()
    for name in ("config.json", "model.safetensors"):
        shutil.copy(packaged_models.packaged_folder("nano") / name, model)
    return tmp_path


@pytest.mark.parametrize(
    ("command", "told"),
    [
        (["run", "--config", "twice.yaml"], "the key 'env' is given twice"),
        (["run", "--set", "env.nope=1"], "manufactoria-has: it has no option 'nope'"),
        (["envs", "info", "finer", "--set", "env.nope=1"], "finer: it has no option 'nope'"),
        (["run", "--model", "model", "--budget", "1upd"], "it has no tokenizer"),
        ([*EVAL, "--out", "adir"], "it is a folder"),
        ([*EVAL, "--out", "afile/rows.jsonl"], "cannot write afile/rows.jsonl"),
        (["compare", "ok.jsonl", "--out", "afile"], "cannot write afile/compare.csv"),
        (["compare", "ok.jsonl", "--out", "adir", "--baseline", "b"], "unknown group of runs 'b'"),
        (["report", str(KEPT), "--out", "afile/r.html"], "cannot write afile/r.html"),
        (["reproduce", "table2", "--env", "nope", "--no-run"], "unknown environment 'nope'"),
        (["reproduce", "table2", "--env", "ifeval", "--no-run"], "table2 has no runs there"),
    ],
)
def test_a_mistake_is_told_in_a_line(
    here: Path, command: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if command[0] == "reproduce":
        command = [*command, "--runs", str(ROOT / "runs/nano"), "--records", "adir"]
    assert main(command) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ")
    assert told in error


def test_a_target_is_checked_before_anything_is_measured(here: Path) -> None:
    assert check_target(Path("new/folder/rows.jsonl")) == Path("new/folder/rows.jsonl")
    assert Path("new/folder").is_dir()
    assert check_target(Path("/dev/null"))
    with pytest.raises(UsageError, match="it is a folder"):
        check_target(Path("adir"))
