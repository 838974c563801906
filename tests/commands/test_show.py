"""`show`: all that was said, within 80 columns, and nothing that controls a terminal."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

from resd_bench.cli import main
from resd_bench.commands.show import folded
from resd_bench.records.log_files import read_log
from resd_bench.records.recorder import to_line
from tests.files.test_text import STEERING

Capture = pytest.CaptureFixture[str]
RUN = [
    *("run", "--env", "toy-count", "--method", "toy-learner", "--model", "scripted"),
    *("--budget", "40ep", "--batch-size", "5", "--eval-samples", "2", "--max-new-tokens", "20"),
    *("--out", "out"),
]
FOLDER = "out/toy-count/toy-learner/seed-0"
EVIL = "\x1b[2J\x1b]0;title\x07\r\u202egnp\x00\ud800 end"


@pytest.fixture
def here(toy: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def row(**given: Any) -> dict[str, Any]:
    turn = {
        "messages": [{"role": "user", "content": "p " * 60}],
        "response": f"<think>{'why ' * 40}</think>{'x' * 200}{EVIL}",
        "tokens": 7,
        "stop": "eos",
    }
    told = {"task": "t/1", "sample": 0, "update": 3, "episodes": 9, "generated_tokens": 9}
    verdict = {"success": 0.0, "score": 0.5, "kind": "wrong", "stop": "eos", "error": ""}
    said = {"turns": [turn], "feedback": f"漢字{'字' * 80}", "cases": []}
    return {**told, **verdict, **said, **given}


def test_it_shows_as_many_answers_and_failures_as_were_measured(
    here: Path, capsys: Capture
) -> None:
    main(RUN)
    last = [r for r in read_log(Path(FOLDER, "evals.jsonl")) if r["update"] == 8]
    lost = [r for r in last if not r["success"]]
    assert 0 < len(lost) < len(last)
    for words, expected in (([], last), (["--failed"], lost), (["--task", "test-1"], last[2:4])):
        capsys.readouterr()
        assert main(["show", FOLDER, *words]) == 0
        shown = re.findall(r"^── (\S+) · sample (\d)", capsys.readouterr().out, re.MULTILINE)
        assert shown == [(r["task"], str(r["sample"])) for r in expected]
    capsys.readouterr()
    assert main(["show", FOLDER, "--training", "--update", "2"]) == 0
    printed = capsys.readouterr().out
    for told in read_log(Path(FOLDER, "episodes.jsonl")):
        heading = f"── {told['task']} · update {told['update']}, attempt {told['attempt']}\n"
        assert (heading in printed) == (told["update"] == 2)


def test_hostile_text_reaches_no_terminal_and_all_of_it_is_within_80_columns(
    here: Path, capsys: Capture
) -> None:
    Path("rows.jsonl").write_bytes(to_line(row(task=f"t{EVIL}", kind=EVIL, error=EVIL)))
    assert main(["show", "rows.jsonl"]) == 0
    printed = capsys.readouterr().out
    assert not STEERING.search(printed)
    assert max(map(cell_len, printed.splitlines())) <= 80
    squeezed = re.sub(r"\s", "", printed)
    for text in ("why" * 40, "x" * 200, "漢字" + "字" * 80, "p" * 60, r"\x1b[2J"):
        assert text in squeezed
    assert "response, with its reasoning" in printed


@settings(max_examples=40, deadline=None)
@given(st.text(max_size=200), st.integers(20, 90))
def test_folding_loses_nothing_but_blanks(text: str, width: int) -> None:
    from resd_bench.files.printable import printable

    lines = folded(text, width)
    assert all(cell_len(line) <= width for line in lines)
    squeezed = [re.sub(r"\s", "", part) for part in ("".join(lines), printable(text))]
    assert squeezed[0] == squeezed[1]


KEPT = "kept/toy-count/toy-learner/seed-0"
MISTAKES = (
    ([FOLDER, "--task", "nope"], "nope"),
    ([FOLDER, "--update", "4"], "give --update 8"),
    ([FOLDER, "--evaluation", "validaton"], "evaluation"),
    ([FOLDER, "--training", "--update", "99"], "give --update 1 to 8"),
    ([FOLDER, "--training", "--evaluation", "playbook"], "give one of them"),
    (["."], "not a run folder"),
    (["bad.jsonl"], "line 1"),
    (["worse.jsonl"], "turns"),
    ([KEPT], "sample them again"),
    ([KEPT, "--training"], "kept record"),
)


def test_mistakes_are_one_line_with_a_remedy(here: Path, capsys: Capture) -> None:
    main(RUN)
    main(["results", "keep", FOLDER, "--to", "kept"])
    Path("bad.jsonl").write_text("{}\n")
    Path("worse.jsonl").write_bytes(to_line(row(turns=[1])))
    for words, told in MISTAKES:
        capsys.readouterr()
        assert main(["show", *words]) == 2
        error = capsys.readouterr().err
        assert told in error
        assert error.count("\n") == 1


def test_a_reader_that_has_seen_enough_ends_it_quietly(here: Path) -> None:
    Path("rows.jsonl").write_bytes(b"".join(to_line(row(sample=n)) for n in range(400)))
    command = f"{sys.executable} -m resd_bench show rows.jsonl | head -n 1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)
    assert done.stdout == "400 of 400 attempts shown, 400 of them failed\n"
    assert done.stderr == ""
