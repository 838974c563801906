"""The API reference builds from docstrings, and its examples run as they stand."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.places import ROOT

pytestmark = pytest.mark.slow


PAGE = ROOT / "docs" / "python.md"
SOURCES = (ROOT / "resd_bench", ROOT / "envs/resd_envs", ROOT / "baselines/resd_baselines")
NO_PDOC = "NO PDOC: pip install '.[docs]'"


def public_modules() -> Iterator[Path]:
    """The address of every public module, as a page below the reference's folder."""
    for package in SOURCES:
        for path in package.rglob("*.py"):
            inside = path.relative_to(package.parent)
            module = inside.parent if inside.name == "__init__.py" else inside
            if not any(part.startswith("_") for part in module.parts):
                yield module.with_suffix(".html")


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("pdoc") is None, reason=NO_PDOC)
def test_the_reference_has_a_page_for_every_public_module(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "docs/_api.py"), str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "pdoc" not in done.stdout + done.stderr, done.stderr  # it warns about what it skips
    made = {path.relative_to(tmp_path) for path in tmp_path.rglob("*.html")}
    ten_lines = Path("ten_lines_of_python.html")
    assert made == {*public_modules(), ten_lines, Path("index.html")}
    assert "Ten lines of Python" in (tmp_path / ten_lines).read_text(encoding="utf-8")
    assert "ten_lines_of_python.html" in (tmp_path / "index.html").read_text(encoding="utf-8")


@pytest.mark.slow
def test_ten_lines_of_python_run_as_they_stand(tmp_path: Path) -> None:
    text = PAGE.read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.+?)```(?:\n\n```text\n(.+?)```)?", text, re.S)
    assert len(blocks) == text.count("```python")
    marks = [f"print({f'--- {number}'!r})\n" for number in range(len(blocks))]
    code = "".join(mark + block for mark, (block, _) in zip(marks, blocks, strict=True))
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    printed = re.split(r"--- \d+\n", done.stdout)[1:]
    for (block, shown), own in zip(blocks, printed, strict=True):
        assert own, block
        assert shown in ("", own), block
