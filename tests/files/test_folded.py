"""What is told to a person fits a terminal, and nothing that is copied from it is cut."""

from __future__ import annotations

import ast
import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from io import StringIO
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import given

from resd_bench.commands.doctor import render
from resd_bench.files.folded import folded
from resd_bench.files.plain_console import PlainConsole
from resd_bench.plugins import Check
from tests.places import ROOT

PIECES = st.one_of(
    st.text("abcxyz-_/.,:;()0123456789", min_size=1, max_size=30),
    st.just("`run --model smollm2 --env ifeval-one`"),
    st.just("--set method.use_reflection=false"),
)
COMMAND = "pip install -c constraints.txt -e '.[lora]'"


@given(st.lists(PIECES, min_size=1, max_size=40), st.integers(20, 90))
def test_lines_fit_and_no_piece_is_cut_lost_or_moved(pieces: list[str], width: int) -> None:
    lines = folded(" ".join(pieces), width).split("\n")
    assert " ".join(line.strip() for line in lines) == " ".join(pieces)
    at = 0
    for line in lines:
        begun = at
        while at < len(pieces) and len(" ".join(pieces[begun : at + 1])) <= len(line.strip()):
            at += 1
        assert " ".join(pieces[begun:at]) == line.strip(), "a line ends where a piece does"
        assert len(line) <= width or at == begun + 1, "only one piece may be longer than a line"
    assert all(line.startswith("  ") for line in lines[1:])


@pytest.mark.parametrize("after", ["", ", and then go on with the same command as before"])
def test_a_command_stands_on_a_line_of_its_own(after: str) -> None:
    lines = folded(f"--lora-rank needs peft, which is not there: {COMMAND}{after}", 80).split("\n")
    assert f"  {COMMAND}" in lines
    assert folded(f"{'':20}-> {COMMAND}", 60) == f"{'':20}-> {COMMAND}"


def test_a_further_line_that_begins_with_a_blank_is_a_name_and_stays() -> None:
    path = "  runs-out/a folder with blanks/" + "long/" * 20
    assert folded(f"interrupted; nothing\n{path}", 40).split("\n")[1] == path


@pytest.mark.parametrize("terminal", [True, False])
def test_only_a_terminal_gets_folded_lines(terminal: bool) -> None:
    shown = StringIO()
    console = PlainConsole(file=shown, force_terminal=terminal, width=40, color_system=None)
    console.tell("word " * 20)
    assert (shown.getvalue().count("\n") > 1) == terminal
    checks = [Check("python", False, "word " * 20, "word " * 20)]
    assert (render(checks, 80 if terminal else None).count("\n") > 1) == terminal


def in_a_terminal(*words: str, folder: Path) -> str:
    """What a command prints in a terminal of 80 columns, as text."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    kept = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "LINES", "NO_COLOR")}
    child = subprocess.Popen(
        [sys.executable, "-m", "resd_bench", *words],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**kept, "TERM": "xterm"},
        cwd=folder,
    )
    os.close(theirs)
    found = b""
    while True:
        try:
            if not (more := os.read(ours, 1 << 16)):
                break
        except OSError:
            # The last process at the other end is gone.
            break
        found += more
    os.close(ours)
    child.wait(60)
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", found.decode()).replace("\r\n", "\n")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["run", "--env", "ifeval", "--out", "/proc/x"], "warning: nano was pre-trained on"),
        (["eval", "--model", "nano", "--env", "ifeval", "--out", "/proc/x"], "error: cannot"),
        (["envs", "check", "guess-number", "--nope"], "error: no such option"),
        (["sweep", "x", "--out", "/proc/x"], "error: cannot write to /proc/x"),
        (["report", "x" * 20, "--out", "/proc/" + "x" * 10 + "/r.html"], "error: cannot write"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_what_is_told_fits_eighty_columns(words: list[str], told: str, tmp_path: Path) -> None:
    shown = in_a_terminal(*words, folder=tmp_path)
    assert told in shown
    assert max(map(len, shown.split("\n"))) <= 80


def test_no_text_is_left_to_a_console_that_would_cut_long_names() -> None:
    """Rich breaks a path that is longer than a line, unless it is told not to (`soft_wrap`)."""
    cut = [
        f"{path.relative_to(ROOT)}:{call.lineno}"
        for path in sorted((ROOT / "resd_bench").rglob("*.py"))
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(call, ast.Call)
        and isinstance(call.func, ast.Attribute)
        and call.func.attr == "print"
        and any(isinstance(one, ast.JoinedStr | ast.BinOp) for one in call.args)
        and "soft_wrap" not in {keyword.arg for keyword in call.keywords}
    ]
    assert not cut, "\n".join(cut)
