"""Ctrl-C: one line, exit code 130, and what it says is left is there and can be gone on with."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from resd_bench.cli import main
from resd_bench.commands.sweep import interrupted
from resd_bench.files.writing import append_to, write_atomically, written
from resd_bench.jobs import run as job
from resd_bench.records.left_behind import left_behind
from resd_bench.sweep.definition import load_sweep
from resd_bench.sweep.scheduler import make_jobs

Capture = pytest.CaptureFixture[str]

AT_AN_IMPORT = """
import os, runpy, signal, sys

# A process in the background of a shell ignores it.
signal.signal(signal.SIGINT, getattr(signal, sys.argv[1]))
at, entry, sys.argv = sys.argv[2], sys.argv[3], ["resd-bench", *sys.argv[4:]]

class Interrupt:
    def find_spec(self, name, path, target=None):
        if name == at:
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Interrupt())
if entry == "module":
    runpy.run_module("resd_bench", run_name="__main__")
else:
    from importlib.metadata import entry_points
    [script] = entry_points(group="console_scripts", name="resd-bench")
    sys.exit(script.load()())
"""
"""Gets SIGINT, handled as the first argument says, at the import that the second one names; the
third is an entry point, the others are a command line."""


def at_an_import(*words: str, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", AT_AN_IMPORT, *words]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, check=False)


@pytest.mark.parametrize("entry", ["module", "script"])
@pytest.mark.parametrize(
    ("words", "at", "told"),
    [
        (["run", "--budget", "1upd"], "typer", "interrupted before the run began"),
        (["compare", "x"], "resd_bench.cli", "interrupted before the command began"),
        (["run", "--budget", "1upd"], "resd_bench.commands.run", "interrupted"),
        (["envs", "list"], "resd_bench.commands.envs", "interrupted"),
    ],
)
def test_control_c_in_the_first_imports_is_answered_in_a_line(
    entry: str, words: Sequence[str], at: str, told: str, tmp_path: Path
) -> None:
    ended = at_an_import("default_int_handler", at, entry, *words, folder=tmp_path)
    assert (ended.returncode, ended.stdout) == (130, "")
    assert ended.stderr == f"{told}; nothing was written\n"
    assert not list(tmp_path.iterdir())


def test_a_process_that_ignores_control_c_goes_on_ignoring_it(tmp_path: Path) -> None:
    ended = at_an_import("SIG_IGN", "typer", "module", "--version", folder=tmp_path)
    assert (ended.returncode, ended.stderr) == (0, "")


def test_the_script_begins_where_the_module_does() -> None:
    [script] = importlib.metadata.entry_points(group="console_scripts", name="resd-bench")
    assert script.value == "resd_bench.__main__:main"


def press(owner: Any, name: str, monkeypatch: pytest.MonkeyPatch, after: int = 0) -> None:
    """Ctrl-C where `name` of `owner` is called for time number `after`, counted from 0."""
    real, calls = getattr(owner, name), [0]

    def called(*arguments: Any, **keywords: Any) -> Any:
        calls[0] += 1
        if calls[0] > after:
            raise KeyboardInterrupt
        return real(*arguments, **keywords)

    monkeypatch.setattr(owner, name, called)


RUN = [
    *("run", "--env", "toy-say", "--method", "toy-learner", "--model", "scripted"),
    *("--budget", "10ep", "--batch-size", "5", "--eval-samples", "1", "--eval-tasks", "2"),
    *("--checkpoint-every", "1", "--max-new-tokens", "20", "--out", "out"),
]
FOLDER = Path("out/toy-say/toy-learner/seed-0")
NOTHING = "interrupted before the run began; nothing was written\n"
AGAIN = "interrupted; nothing was measured yet. Begin again with the same command\n"
RESUME_ANEW = "interrupted; no checkpoint yet. Begin again with the same command and --resume\n"
CONTINUE = (
    "interrupted; the checkpoint after update {} is kept. Continue with the same command and "
    "--resume\n"
)


@pytest.mark.parametrize(
    ("place", "after", "told", "add"),
    [
        ((job, "set_up"), 0, NOTHING, []),
        ((job.Run, "evaluate"), 0, AGAIN, []),
        ((job.Run, "checkpoint"), 0, RESUME_ANEW, ["--resume"]),
        ((job.Run, "advance"), 1, CONTINUE.format(1), ["--resume"]),
        ((job, "conclude"), 0, CONTINUE.format(2), ["--resume"]),
    ],
    ids=lambda value: value[1] if isinstance(value, tuple) else None,
)
def test_control_c_says_what_is_there_of_a_run_and_what_it_says_to_do_finishes_it(
    place: tuple[Any, str],
    after: int,
    told: str,
    add: Sequence[str],
    toy: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Capture,
) -> None:
    monkeypatch.chdir(tmp_path)
    with monkeypatch.context() as pressed:
        press(*place, pressed, after)
        assert main(RUN) == 130
    said = capsys.readouterr().err
    assert said.endswith(told if told == NOTHING else f"{told}  {FOLDER}\n")
    assert FOLDER.exists() == (told != NOTHING)
    # Nobody looks at the figure.
    monkeypatch.setattr("resd_bench.commands.run.show_run", lambda *_: None)
    assert main([*RUN, *add]) == 0
    assert left_behind(FOLDER).what == "the run is finished"


def test_control_c_in_another_command_names_what_it_has_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    def stop(write: Callable[[], object]) -> str:
        def called(*_: object) -> None:
            write()
            raise KeyboardInterrupt

        monkeypatch.setattr("resd_bench.report.eval_table.find_evaluations", called)
        assert main(["results", "show", "x"]) == 130
        return capsys.readouterr().err

    monkeypatch.setattr("resd_bench.files.writing._WRITTEN", set())
    assert stop(lambda: None) == "interrupted; nothing was written\n"
    one, two = tmp_path / "one.md", tmp_path / "two.jsonl"
    assert stop(lambda: write_atomically(one, b"")) == f"interrupted; written before: {one}\n"
    told = f"interrupted; written before: 2 files in {tmp_path}\n"
    assert stop(lambda: append_to(two).close()) == told
    one.unlink()
    assert written() == f"written before: {two}"
    monkeypatch.chdir(tmp_path)
    append_to(Path("three.jsonl")).close()
    assert written() == f"written before: 2 files in {tmp_path}"
    two.unlink()
    append_to(Path("four.jsonl")).close()
    assert written() == f"written before: 2 files in {tmp_path}"


def test_an_interrupted_sweep_counts_what_is_finished_and_saved(
    toy: ModuleType, tmp_path: Path, capsys: Capture
) -> None:
    definition = tmp_path / "two.yaml"
    definition.write_text(
        "base: {env: toy-say, method: toy-learner, model: scripted, budget: 10ep, batch_size: 5}\n"
        f"out: {tmp_path / 'runs'}\ngrid: {{seed: [0, 1, 2]}}\n"
    )
    jobs = make_jobs(load_sweep(definition).trials, tmp_path / "jobs")

    def told() -> str:
        assert interrupted(2, jobs) == 130
        return capsys.readouterr().err

    nothing = "0 of 3 runs are finished, none of the others has a checkpoint"
    assert told() == f"interrupted; {nothing}. The same command begins again\n"
    place = jobs[0].trial.folder / "checkpoints"
    place.mkdir(parents=True)
    (place / "update-00000003.ckpt").write_text("")
    jobs[1].end("finished")
    some = "1 of 3 runs are finished, 1 of the others has a checkpoint"
    assert told() == f"interrupted; {some}. The same command continues\n"
