"""Disturbed at any write, fsync or rename and resumed, a run measures what it would have."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.places import TESTS

pytestmark = pytest.mark.slow


SETTINGS = {
    "env": "toy-count",
    "eval_also": "toy-say",
    "eval_validation": 2,
    "method": "toy-learner",
    "model": "scripted",
    "budget": "20ep",
    "batch_size": 5,
    "eval_every": 3,
    "eval_samples": 2,
    "max_new_tokens": 20,
    "checkpoint_every": 2,
    "trace": 2,
}
"""Several turns, every kind of evaluation, updates with and without evaluation and checkpoint."""


def inject(
    out: Path, *, points: int, full: bool = False, twice: bool = False, seconds: float = 400
) -> dict[str, Any]:
    """Disturb runs at this many changes (0: at all of them); returns the outcomes."""
    job = {"out": str(out), "settings": SETTINGS, "points": points, "full": full, "seed": 0}
    done = subprocess.run(
        [sys.executable, str(TESTS / "injector.py")],
        input=json.dumps(job | {"twice": twice, "seconds": seconds}),
        env={"PYTHONPATH": str(TESTS / "toy_plugin"), "OMP_NUM_THREADS": "1", "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert told["tried"] >= min(points, 8), told
    return told


def test_killed_at_every_change_of_its_files_a_run_measures_the_same(tmp_path: Path) -> None:
    told = inject(tmp_path, points=0)
    assert told["problems"] == []
    assert told["changes"] > 60


def test_killed_twice_a_run_measures_the_same(tmp_path: Path) -> None:
    assert inject(tmp_path, points=40, twice=True)["problems"] == []


def test_with_a_disk_full_at_every_change_a_run_says_so_and_then_measures_the_same(
    tmp_path: Path,
) -> None:
    assert inject(tmp_path, points=0, full=True)["problems"] == []
