"""The command line: what it prints, what it writes, and how it answers mistakes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import typer
import yaml

from resd_bench.cli import app, main
from resd_bench.errors import UsageError
from resd_bench.options import whole_numbers
from resd_bench.records.log_files import read_log
from tests.places import TOY_PLUGIN

Capture = pytest.CaptureFixture[str]

SMALL = [
    *("run", "--env", "toy-say", "--method", "toy-learner", "--model", "scripted"),
    *("--budget", "40ep", "--batch-size", "5", "--eval-samples", "2"),
    *("--max-new-tokens", "20", "--set", "method.remember=4", "--out", "out"),
]


@pytest.fixture
def out(toy: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path / "out"


def test_the_version_is_that_of_the_package(capsys: Capture) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"resd-bench {metadata.version('resd-bench')}\n"


@pytest.mark.slow
def test_run_prints_held_out_success_before_and_after_and_where_it_wrote(
    out: Path, capsys: Capture
) -> None:
    assert main(SMALL) == 0
    printed = capsys.readouterr().out
    for text in ("mean@2", "best@2", "before", "after 40 training rollouts", "out/toy-say"):
        assert text in printed
    folder = out / "toy-say/toy-learner/seed-0"
    assert {p.name for p in folder.iterdir()} >= {
        "config.yaml",
        "manifest.json",
        "metrics.jsonl",
        "episodes.jsonl",
        "evals.jsonl",
        "context",
        "checkpoints",
        "status.json",
        "summary.json",
        "learning_curve.png",
        "learning_curve.svg",
    }


@pytest.mark.slow
def test_a_finished_run_shows_its_results_again(out: Path, capsys: Capture) -> None:
    main(SMALL)
    first = capsys.readouterr().out
    assert main(SMALL) == 0
    again = capsys.readouterr()
    assert "finished" in again.err
    assert again.out == first


@pytest.mark.slow
def test_the_saved_configuration_runs_the_same_again(out: Path) -> None:
    main(SMALL)
    saved = out / "toy-say/toy-learner/seed-0/config.yaml"
    assert main(["run", "--config", str(saved), "--out", "again"]) == 0
    rows = [
        list(read_log(p / "toy-say/toy-learner/seed-0/evals.jsonl")) for p in (out, Path("again"))
    ]
    assert rows[0] == rows[1]


def test_a_dry_run_shows_the_plan_and_writes_nothing(out: Path, capsys: Capture) -> None:
    assert main([*SMALL, "--dry-run"]) == 0
    printed = capsys.readouterr().out
    assert yaml.safe_load(printed)["method_options"]["remember"] == 4
    assert "# updates: 8 of 5 rollouts each" in printed
    assert "# rollout tokens: at most 800" in printed
    assert list(out.parent.iterdir()) == []


@pytest.mark.slow
def test_several_seeds_run_in_turn_and_are_compared(
    out: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Tables fit the columns, which a test's process may have been given.
    monkeypatch.setenv("COLUMNS", "160")
    assert main([*SMALL, "--seeds", "0-2"]) == 0
    assert "· 3 seeds" in capsys.readouterr().out
    grouped = [
        *SMALL,
        "--method",
        "toy-group",
        "--budget",
        "160ep",
        "--seeds",
        "0,1,2",
        "--eval-every",
        "1",
    ]
    assert main(grouped) == 0
    capsys.readouterr()
    assert main(["compare", str(out), "--out", "figures"]) == 0
    printed = capsys.readouterr().out
    assert "success at 40 rollouts" in printed
    assert "points [" in printed
    assert {p.name for p in Path("figures").iterdir()} == {
        "compare.png",
        "compare.svg",
        "compare.csv",
    }


def test_eval_measures_a_checkpoint_again(out: Path, capsys: Capture) -> None:
    main(SMALL)
    folder = out / "toy-say/toy-learner/seed-0"
    capsys.readouterr()
    assert main(["eval", str(folder), "--out", "rows.jsonl"]) == 0
    assert "toy-learner after 8 updates" in capsys.readouterr().out
    last = [row for row in read_log(folder / "evals.jsonl") if row["update"] == 8]
    rows = [json.loads(line) for line in Path("rows.jsonl").read_text().splitlines()]
    assert [row["success"] for row in rows] == [row["success"] for row in last]


@pytest.mark.slow
def test_lists_name_what_is_installed(out: Path, capsys: Capture) -> None:
    assert main(["envs", "list"]) == main(["methods", "list"]) == 0
    printed = capsys.readouterr().out
    assert "toy-say" in printed
    assert "Learns by counting." in printed
    assert "nano, the default model, speaks manufactoria-has, " in printed
    assert main(["methods", "info", "toy-learner"]) == 0
    assert "Successes to remember." in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "--env", "toy-sayy"], "Did you mean 'toy-say'"),
        (["run", "--env", "toy-say", "--method", "toy-leaner"], "Did you mean 'toy-learner'"),
        ([*SMALL, "--set", "method.remembers=3"], "Did you mean 'remember'"),
        ([*SMALL, "--set", "bach_size=3"], "Did you mean 'batch_size'"),
        ([*SMALL, "--budget", "lots"], "such as 1280ep"),
        ([*SMALL, "--config", "absent.yaml"], "absent.yaml cannot be read"),
        ([*SMALL, "--seeds", "0-x"], "give 0,1,2 or 0-4"),
        ([*SMALL, "--seeds", "1", "--seed", "1"], "give one of them"),
        ([*SMALL, "--batch-size", "99"], "--batch-size of at most 10"),
        (["eval"], "give a run folder or --model"),
        (["eval", "nowhere"], "is not a run folder"),
        (["compare", "nowhere"], "no run found in nowhere"),
        (["methods", "info", "toy-leaner"], "Did you mean 'toy-learner'"),
    ],
)
def test_mistakes_are_one_line_with_a_remedy_and_exit_code_2(
    out: Path, capsys: Capture, arguments: list[str], message: str
) -> None:
    assert main(arguments) == 2
    printed = capsys.readouterr()
    assert message in printed.err
    assert printed.err.count("\n") == 1
    assert printed.err.startswith("error: ")
    assert not out.exists()


def test_an_unknown_flag_is_refused(out: Path, capsys: Capture) -> None:
    assert main([*SMALL, "--bach-size", "3"]) == 2
    assert "--batch-size" in capsys.readouterr().err


def test_a_folder_of_another_configuration_is_refused(out: Path, capsys: Capture) -> None:
    main(SMALL)
    capsys.readouterr()
    assert main([*SMALL, "--learning-rate", "0.1"]) == 2
    error = capsys.readouterr().err
    assert "learning_rate: 1e-06 there, 0.1 here" in error
    assert "--out" in error


def test_seeds_are_read_as_lists_and_ranges() -> None:
    assert whole_numbers("--seeds", "0,2-4,9") == [0, 2, 3, 4, 9]
    assert whole_numbers("--seeds", f"{2**63 - 1}") == [2**63 - 1]
    for text in ("", "a", "1-", "3,3", "4-2", "1,", "²", "-1"):
        with pytest.raises(UsageError, match=r"--seeds: .* give 0,1,2 or 0-4"):
            whole_numbers("--seeds", text)
    with pytest.raises(UsageError, match="at most 100,000 numbers"):
        whole_numbers("--seeds", "0-9999999999999999999")


CHILD = """
import sys
import toy_plugin, resd_bench.jobs.setup
from resd_bench.cli import app, main
resd_bench.jobs.setup.build_policy = toy_plugin.policy
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.slow
def test_control_c_ends_cleanly_and_says_how_to_go_on(tmp_path: Path) -> None:
    path = str(TOY_PLUGIN)
    slow = [*SMALL, "--set", "method.wait=0.2", "--budget", "400ep"]
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, *slow],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    log = tmp_path / "out/toy-say/toy-learner/seed-0/metrics.jsonl"
    deadline = time.monotonic() + 60
    while not (log.exists() and log.stat().st_size) and time.monotonic() < deadline:
        time.sleep(0.05)
    child.send_signal(signal.SIGINT)
    _, errors = child.communicate(timeout=60)
    assert child.returncode == 130, errors
    assert "Continue with the same command and --resume" in errors
    assert "Traceback" not in errors


def commands(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command of the command line, groups included, with the words that call it."""
    yield path, command
    for name in getattr(command, "list_commands", lambda _: ())(None):
        yield from commands(command.get_command(None, name), (*path, name))


COMMANDS = dict(commands(typer.main.get_command(app)))


def without_blanks(text: str) -> str:
    return "".join(text.split())


@pytest.mark.slow
@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_help_shows_every_description_whole_at_80_columns(
    path: tuple[str, ...], capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert main([*path, "--help"]) == 0
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines())) <= 80
    command = COMMANDS[path]
    parts = [own for under, own in COMMANDS.items() if under and under[:-1] == path]
    told = [command.help, *(own.help for own in command.params), *(own.help for own in parts)]
    for text in told:
        assert text, path
        first = text.split("\n\n")[0].rstrip(".") if text != command.help else text
        assert without_blanks(first) in without_blanks(shown)


def test_the_summary_of_a_command_fits_on_a_line_of_80_columns() -> None:
    for path, command in COMMANDS.items():
        if path:
            assert len(command.get_short_help_str(limit=1000)) <= 80 - 15, path


def test_help_is_quick_and_shows_what_settings_mean() -> None:
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "resd_bench", "run", "--help"],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "COLUMNS": "160"},
    )
    assert time.perf_counter() - start < 5
    assert "--inner-steps" in done.stdout
    assert "Rollouts per task in an update (N)" in done.stdout
