"""Mistakes of a user: each is answered in a line that says what to do, and none in a traceback."""

from __future__ import annotations

import shutil
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from resd_bench import packaged_models
from resd_bench.check.result import PropertyVerdict
from resd_bench.cli import main
from resd_bench.commands.shared import show_verdicts
from resd_bench.errors import UsageError
from resd_bench.files.writing import check_folder_target, check_target
from tests.commands.test_cli import COMMANDS
from tests.places import ROOT

KEPT = ROOT / "results/nano/manufactoria-has/sft/seed-0"
TABLE2, TUNE = str(ROOT / "runs/nano/table2.yaml"), str(ROOT / "runs/nano/tune.yaml")
EVAL = ["eval", "--model", "nano", "--env", "finer", "--tasks", "1", "--samples", "1"]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with things that are in the way."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "afile").write_text("x")
    (tmp_path / "adir").mkdir()
    (tmp_path / "empty").write_text("")
    (tmp_path / "answers.jsonl").write_text('{"task": "t", "answer": "a"}\n')
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
        (["run", "--config", "empty"], "empty is empty: give settings, a line each"),
        (["reproduce", "--no-run"], "give what to reproduce, such as table2"),
        (["reproduce", "--env", "nope"], "give what to reproduce, such as table2"),
        (["run", "--engine", "chat"], "--engine chat, and no --server was given: --server http"),
        (["run", "--env", "nope"], "more: `resd-bench envs list --names` lists all"),
        (["run", "--set", "env.nope=1"], "manufactoria-has: it has no option 'nope'"),
        (["envs", "info", "finer", "--set", "env.nope=1"], "finer: it has no option 'nope'"),
        (["run", "--model", "model", "--budget", "1upd"], "it has no tokenizer"),
        (["eval", "model"], "model is a model, not a run folder: give --model model --env ENV"),
        ([*EVAL, "--out", "adir"], "it is a folder"),
        ([*EVAL, "--out", "afile/rows.jsonl"], "cannot write afile/rows.jsonl"),
        (["compare", "ok.jsonl", "--out", "afile"], "cannot write to afile: afile is a file"),
        (["compare", "ok.jsonl", "--out", "adir", "--baseline", "b"], "unknown group of runs 'b'"),
        (["report", str(KEPT), "--out", "afile/r.html"], "cannot write afile/r.html"),
        (["sweep", "nope.yaml"], "nope.yaml cannot be read: No such file or directory"),
        (["sweep", "adir"], "adir cannot be read: Is a directory"),
        (["sweep", "empty"], "empty is empty: give base, variants or grid"),
        (["sweep", "afile"], "afile holds a single value"),
        (["sweep", "twice.yaml"], "the key 'env' is given twice"),
        (["sweep", TABLE2, "--only", "0", "--keep", "afile"], "cannot write to afile: afile is a"),
        (["tune", TUNE, "--no-run", "--pages", "afile/x"], "cannot write to afile/x"),
        (["show", "empty"], "empty is empty: give a run folder"),
        (["show", str(KEPT)], "holds no answers to held-out tasks (a kept or old record"),
        (["show", str(KEPT), "--training"], "give the folder that `run` wrote"),
        (["envs", "play", "finer", "--task", "nope"], "without --task any is played"),
        (["envs", "score", "finer", "empty"], "empty has no answers"),
        (["envs", "score", "finer", "adir"], "adir cannot be read: Is a directory. Give a JSONL"),
        (["envs", "score", "finer", "answers.jsonl", "--out", "adir"], "cannot write adir"),
        (["envs", "calibrate", "finer", "--split", "nope"], "--split: expected 'train'"),
        (["engines", "check", "fast", "--device", "nope"], "unknown device 'nope'"),
        (["engines", "check", "fast", "--model", "nope"], "no model at 'nope'"),
        (["results", "compact", "nope"], "no run found in nope"),
        (
            ["results", "keep", str(KEPT), "--to", "afile"],
            "is a file. Give another folder with --to",
        ),
        (["results", "schema", "nope"], "unknown schema 'nope'"),
        (["reproduce", "table2", "--no-run", "--out", "afile"], "cannot write to afile"),
        (["export", "adir", "--to", "x"], "adir is not a run folder"),
        (["trace", "afile"], "afile is not a run folder"),
        (["init", "env", "my-task", "--out", "adir"], "adir exists and is not overwritten"),
        (["nano", "probe", "--samples", "0"], "greater than or equal to 1: see `resd-bench nano"),
        (["cross-check", "trl", "--python", "/bin/true"], "/bin/true is not a Python"),
        (["cross-check", "trl", "--out", "afile"], "cannot write to afile"),
        (["eval", str(KEPT)], "has no checkpoint, as kept records have none"),
        (["nope"], "no such command 'nope': see `resd-bench --help`"),
        (["export", "x"], "missing option '--to': see `resd-bench export --help`"),
        (["envs", "list", "x"], "see `resd-bench envs list --help`"),
        (["reproduce", "table2", "--env", "nope", "--no-run"], "unknown environment 'nope'"),
        (["reproduce", "table2", "--env", "ifeval", "--no-run"], "table2 has no runs there"),
    ],
)
def test_a_mistake_is_told_in_a_line(
    here: Path, command: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if command[0] == "reproduce" and "--env" in command:
        command = [*command, "--runs", str(ROOT / "runs/nano"), "--records", "adir"]
    assert main(command) == 2
    said = capsys.readouterr()
    error = said.err.strip().splitlines()[-1]
    assert error.startswith("error: ")
    assert told in error
    assert "Errno" not in error


def test_an_unknown_option_is_no_fault_of_what_is_checked(
    capsys: pytest.CaptureFixture[str],
) -> None:
    verdicts = [
        PropertyVerdict("docs", "FAIL", "TypeError: f() got an unexpected keyword argument 'nope'"),
        PropertyVerdict("pure", "pass", "fine"),
    ]
    with pytest.raises(UsageError, match="finer has no option 'nope': check --set"):
        show_verdicts("finer", verdicts, ["nope"])
    assert not capsys.readouterr().out
    # A constructor that lacks what every one must take is at fault itself.
    assert show_verdicts("finer", verdicts, ["other"]) == 1


def test_help_is_no_mistake(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "--help"]) == 0
    assert main([]) == 2
    assert "error:" not in capsys.readouterr().err


def test_control_c_in_any_command_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("resd_bench.report.eval_table.find_evaluations", stop)
    assert main(["results", "show", "x"]) == 130
    assert capsys.readouterr().err.startswith("interrupted; ")


def written_to() -> list[tuple[str, ...]]:
    """Every option of a command that names what is written, after the words that call it."""
    named = {"--out", "--to", "--keep", "--pages"}
    return [
        (*path, option)
        for path, command in COMMANDS.items()
        for parameter in getattr(command, "params", ())
        for option in named & set(parameter.opts)
    ]


@pytest.mark.parametrize("words", written_to(), ids=" ".join)
def test_where_nothing_can_be_written_a_command_says_so_before_it_does_anything(
    here: Path, words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever else is missing from the command, and to root too, who may write everywhere."""
    suffix = "x.html" if words[0] in ("report", "trace") else "x"
    assert main([*words, f"/proc/none/{suffix}"]) == 2
    assert main([*words, f"afile/{suffix}"]) == 2
    said = capsys.readouterr().err.splitlines()
    kind = "file" if "FILE" in said[0] or "another file" in said[0] else "folder"
    ends = f"Give another {kind} with {words[-1]}"
    assert len(said) == 2
    for line, place, why in zip(
        said,
        ("/proc/none/x", "afile/x"),
        ("nothing can be made in /proc", "afile is a file"),
        strict=True,
    ):
        assert line.startswith("error: cannot write ")
        assert place in line
        assert why in line
        assert line.endswith(ends)


def test_the_commands_that_write_are_known() -> None:
    assert {words[0] for words in written_to()} >= {
        *("run", "eval", "sweep", "tune", "compare", "report", "trace", "reproduce", "export"),
        *("init", "results", "nano", "cross-check", "envs"),
    }


def test_folders_of_runs_are_checked_too(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Those that a file names, and what has taken the place of a run."""
    (here / "one.yaml").write_text("base: {env: finer}\nout: afile/runs\ngrid: {seed: [0]}\n")
    (here / "runs-out").write_text("")
    for command in (
        ["sweep", "one.yaml"],
        ["run", "--budget", "1upd", "--out", "afile"],
        ["reproduce", "table2", "--no-run"],
    ):
        assert main(command) == 2
        assert "is a file. Give another folder with --out" in capsys.readouterr().err
    assert {path.name for path in here.iterdir()} >= {"afile", "runs-out"}
    assert not (here / "afile.tmp").exists()


def test_a_check_of_a_target_makes_nothing(here: Path) -> None:
    before = sorted(here.rglob("*"))
    assert check_target(Path("new/folder/rows.jsonl")) == Path("new/folder/rows.jsonl")
    assert check_folder_target(Path("new/folder")) == Path("new/folder")
    assert check_target(Path("/dev/null"))
    with pytest.raises(UsageError, match="it is a folder"):
        check_target(Path("adir"))
    (here / "broken").symlink_to("nowhere")
    with pytest.raises(UsageError, match="broken is a link to nothing"):
        check_folder_target(Path("broken/runs"))
    assert sorted(here.rglob("*")) == sorted([*before, here / "broken"])


def test_environments_that_lack_the_same_package_are_listed_together(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def lacks(name: str) -> None:
        raise UsageError(f"install {'games' if name.startswith('game') else 'puzzles'}")

    entries = {
        name: EntryPoint(name, "nowhere:Nothing", "resd_bench.envs")
        for name in ("game-a", "puzzle", "game-b")
    }
    monkeypatch.setattr("resd_bench.plugins.make_env", lacks)
    monkeypatch.setattr("resd_bench.plugins.installed", lambda group: entries)
    assert main(["envs", "list"]) == 0
    said = capsys.readouterr().out
    assert "game-a, game-b\ncannot be made: install games\n" in said
    assert "puzzle\ncannot be made: install puzzles\n" in said
