"""Notebooks run from top to bottom."""

import subprocess
import sys
from pathlib import Path

import pytest

NOTEBOOKS = sorted((Path(__file__).resolve().parents[1] / "notebooks").glob("*.py"))


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_runs_and_shows_what_it_announces(notebook: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(notebook)], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "lesson:" in done.stdout
    assert "teacher:" in done.stdout


def test_there_are_notebooks() -> None:
    assert NOTEBOOKS
