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
LONG = (
    "run",
    "--method",
    "sft",
    "--env",
    "guess-number",
    "--eval-tasks",
    "2",
    "--budget",
    "9999ep",
)


@pytest.fixture(scope="module")
def code(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file that every Python here imports as it starts."""
    path = tmp_path_factory.mktemp("code") / "sitecustomize.py"
    path.write_text("")
    return path


@pytest.fixture(scope="module")
def launcher(code: Path) -> Iterator[LocalLauncher]:
    """Starts runs that learn for a long time in the folder that it is given."""
    launcher = LocalLauncher(1, lambda out: [*FRESH, *LONG, "--out", str(out)])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(code.parent))
        yield launcher
        launcher.close()


@pytest.fixture
def source(launcher: LocalLauncher) -> Preloaded:
    if launcher._preloaded is None:
        launcher._preloaded = Preloaded()
    return launcher._preloaded


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


def begun(fork: Fork, out: Path, file: str = "config.yaml") -> int:
    """The process id of a run that has written `file`."""
    until(lambda: any(out.rglob(file)) or fork.poll() is not None)
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
    launcher: LocalLauncher, tmp_path: Path
) -> None:
    out = tmp_path / "interrupted"
    fork = launcher.start(out, tmp_path / "log")
    assert isinstance(fork, Fork)
    pid = begun(fork, out, "metrics.jsonl")
    assert "resd_bench.sweep.preloaded" in words_of(pid)
    assert os.getsid(pid) == pid, "a signal to its session would reach others"
    fork.interrupt()
    assert ended(fork) == 128 + signal.SIGINT
    [status] = out.rglob("status.json")
    assert json.loads(status.read_text())["state"] == "interrupted"
    fork = launcher.start(tmp_path / "killed", tmp_path / "log")
    assert isinstance(fork, Fork)
    begun(fork, tmp_path / "killed")
    fork.kill()
    assert fork.poll() == -signal.SIGKILL
    assert forks(fork.source) == []


def test_code_that_has_changed_since_is_read_anew(
    launcher: LocalLauncher, code: Path, tmp_path: Path
) -> None:
    code.write_text("print('new code')")
    fork = launcher.start(tmp_path / "changed", tmp_path / "log")
    assert isinstance(fork, Fork)
    pid = begun(fork, tmp_path / "changed")
    assert "resd_bench.sweep.preloaded" not in words_of(pid)
    assert (tmp_path / "log").read_text().startswith("new code")
    fork.kill()


def test_forks_end_with_their_source_which_is_started_again(
    launcher: LocalLauncher, tmp_path: Path
) -> None:
    fork = launcher.start(tmp_path / "lost", tmp_path / "log")
    assert isinstance(fork, Fork)
    pid = begun(fork, tmp_path / "lost")
    fork.source._process.kill()
    assert ended(fork) == LOST
    until(lambda: not Path(f"/proc/{pid}").exists() or state(pid) == "Z")
    again = launcher.start(tmp_path / "again", tmp_path / "log")
    assert isinstance(again, Fork)
    assert again.source is not fork.source
    assert again.poll() is None


def state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def test_a_file_that_is_gone_or_replaced_has_another_version(tmp_path: Path) -> None:
    one = tmp_path / "one.py"
    one.write_text("1")
    before = versions([str(one)])
    assert versions(before) == before
    one.write_text("22")
    assert versions(before) != before
    one.unlink()
    assert versions(before) != before
