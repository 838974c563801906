"""Trials forked from a process with the imports done are runs like any other."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from resd_bench.sweep.launch import LocalLauncher
from resd_bench.sweep.preloaded import FRESH, Fork, Preloaded, can_fork, versions
from resd_bench.sweep.processes import LOST

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not can_fork(), reason="TRIALS ARE NOT FORKED HERE: Linux only"),
]
LONG = ("run", "--method", "sft", "--env", "guess-number", "--eval-tasks", "2")


@pytest.fixture(scope="module")
def source() -> Iterator[Preloaded]:
    source = Preloaded()
    yield source
    source.close()


def ended(fork: Fork, limit: float = 120) -> int:
    end = time.monotonic() + limit
    while (code := fork.poll()) is None:
        assert time.monotonic() < end, "it goes on"
        time.sleep(0.05)
    return code


def until(true: Callable[[], bool], limit: float = 120) -> None:
    end = time.monotonic() + limit
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)


def forks(source: Preloaded) -> list[int]:
    pid = source._process.pid
    return [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def words_of(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/cmdline").read_text().split("\0")


def begun(fork: Fork, out: Path) -> int:
    """The process id of a run that has begun to learn."""
    until(lambda: any(out.rglob("metrics.jsonl")) or fork.poll() is not None)
    [pid] = forks(fork.source)
    return pid


def test_a_fork_measures_and_records_what_a_process_of_its_own_does(
    source: Preloaded, tmp_path: Path
) -> None:
    words = ["run", "--method", "resd", "--env", "finer", "--budget", "32ep", "--eval-tasks", "4"]
    found = []
    for name in ("fork", "process"):
        given, log = (
            [*words, "--seed", "3", "--out", str(tmp_path / name)],
            tmp_path / f"{name}.log",
        )
        if name == "fork":
            assert ended(source.start(given, log)) == 0, log.read_text()
        else:
            with log.open("wb") as file:
                subprocess.run([*FRESH, *given], stdout=file, stderr=file, check=True)
        folder = tmp_path / name / "finer/resd/seed-3"
        manifest = json.loads((folder / "manifest.json").read_text())
        logs = [(folder / file).read_bytes() for file in ("evals.jsonl", "episodes.jsonl")]
        command = [word for word in manifest.pop("command") if str(tmp_path) not in word]
        del manifest["sessions"]
        found.append((logs, manifest, command))
    assert found[0] == found[1]


def test_its_exit_code_and_its_words_arrive(source: Preloaded, tmp_path: Path) -> None:
    log = tmp_path / "log"
    several = [source.start(["--version"], log), source.start(["run", "--env", "nope"], log)]
    assert [ended(fork) for fork in several] == [0, 2]
    assert "resd-bench" in log.read_text()
    assert "nope" in log.read_text()


def test_an_interrupted_fork_saves_and_a_killed_one_is_gone(
    source: Preloaded, tmp_path: Path
) -> None:
    fork = source.start(
        [*LONG, "--budget", "9999ep", "--out", str(tmp_path / "a")], tmp_path / "a.log"
    )
    pid = begun(fork, tmp_path)
    assert os.getsid(pid) == pid, "a signal to its session would reach others"
    fork.interrupt()
    assert ended(fork) == 128 + signal.SIGINT
    [status] = tmp_path.rglob("status.json")
    assert json.loads(status.read_text())["state"] == "interrupted"
    fork = source.start(
        [*LONG, "--budget", "9999ep", "--out", str(tmp_path / "b")], tmp_path / "b.log"
    )
    begun(fork, tmp_path / "b")
    fork.kill()
    assert fork.poll() == -signal.SIGKILL
    assert forks(source) == []


def test_forks_end_with_their_source_which_is_started_again(tmp_path: Path) -> None:
    launcher = LocalLauncher(1, lambda config: [*FRESH, *LONG, "--out", str(config)])
    fork = launcher.start(tmp_path / "out", tmp_path / "log")
    assert isinstance(fork, Fork)
    pid = begun(fork, tmp_path)
    fork.source._process.kill()
    assert ended(fork) == LOST
    until(lambda: not Path(f"/proc/{pid}").exists() or state(pid) == "Z")
    again = launcher.start(tmp_path / "again", tmp_path / "log")
    assert isinstance(again, Fork)
    begun(again, tmp_path / "again")
    launcher.close()


def state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def test_code_that_has_changed_since_is_read_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = tmp_path / "sitecustomize.py"
    code.write_text("")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    source = Preloaded()
    for name in ("as it was", "changed"):
        if name == "changed":
            code.write_text("print('new code')")
        fork = source.start(
            [*LONG, "--budget", "9999ep", "--out", str(tmp_path / name)], tmp_path / f"{name}.log"
        )
        pid = begun(fork, tmp_path / name)
        assert ("resd_bench.sweep.preloaded" in words_of(pid)) == (name == "as it was")
        fork.kill()
    source.close()
    assert "new code" not in (tmp_path / "as it was.log").read_text()


def test_a_file_that_is_gone_or_replaced_has_another_version(tmp_path: Path) -> None:
    one = tmp_path / "one.py"
    one.write_text("1")
    before = versions([str(one)])
    assert versions(before) == before
    one.write_text("22")
    assert versions(before) != before
    one.unlink()
    assert versions(before) != before
