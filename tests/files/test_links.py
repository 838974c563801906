"""Nothing is written through somebody else's link, or outside the folder that was named."""

from __future__ import annotations

import itertools
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from resd_bench.cli import main
from resd_bench.config import resolve
from resd_bench.errors import UsageError
from resd_bench.files.integrity import sealed
from resd_bench.jobs.run import run
from resd_bench.records.recorder import write_json
from tests.vouched import vouch

Capture = pytest.CaptureFixture[str]
RUN = Path("theirs/toy-say/toy-learner/seed-0")
PRECIOUS = "# a file of yours\n"


SETTINGS = {
    **{"env": "toy-say", "method": "toy-learner", "model": "scripted", "out": "theirs"},
    **{"batch_size": 5, "eval_samples": 1, "eval_tasks": 2, "checkpoint_every": 1},
    **{"max_new_tokens": 20, "trace": 1, "method.remember": 4, "warmup_updates": 0},
}


def words(budget: str, *more: str) -> list[str]:
    """The command line of the run."""
    sets = [word for key, value in SETTINGS.items() for word in ("--set", f"{key}={value}")]
    return ["run", "--budget", budget, *sets, *more]


@pytest.fixture
def place(toy: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "yours").mkdir()
    return tmp_path


def interrupt(run: Path) -> None:
    """Let a run that has finished look as if it had been killed on the way to more."""
    config = yaml.safe_load((run / "config.yaml").read_text())
    (run / "config.yaml").write_text(yaml.safe_dump(config | {"budget": "20ep"}))
    status = json.loads((run / "status.json").read_text()) | {"state": "interrupted"}
    write_json(run / "status.json", sealed({k: v for k, v in status.items() if k != "checksum"}))
    (run / "summary.json").unlink()
    with (run / "episodes.jsonl").open("a") as log:
        log.write("echo owned # ")


def outside() -> dict[str, str]:
    """What lies in the folder that is not theirs."""
    return {
        str(path): path.read_text(errors="replace") if path.is_file() else "folder"
        for path in sorted(Path("yours").rglob("*"))
    }


def every_file(folder: Path) -> list[Path]:
    """Each name that a run may write: what it wrote, and what it writes next to that."""
    here = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    suffixes = ("", ".tmp", ".orphaned", ".damaged")
    later = [Path("context/update-0004.json"), Path("checkpoints/update-00000004.ckpt")]
    return [path.with_name(path.name + s) for path in [*here, *later] for s in suffixes]


KINDS = ("to a file", "to nothing", "a second name")


def link(name: Path, kind: str) -> None:
    """Let a name of the run folder lead to a file that is not theirs."""
    there, victim = RUN / name, Path("yours/bashrc")
    victim.write_text(there.read_text(errors="replace") if there.is_file() else PRECIOUS)
    there.unlink(missing_ok=True)
    if kind == "a second name":
        os.link(victim, there)
    else:
        there.symlink_to((victim if kind == "to a file" else Path("yours/new")).resolve())


def resumed(budget: str) -> str:
    """Resume the run; how it ended, or the one line that says why not."""
    made = resolve({}, {}, [f"{k}={v}" for k, v in SETTINGS.items()] + [f"budget={budget}"])
    try:
        return run(made, resume=True).state
    except UsageError as error:
        return str(error)


@pytest.mark.slow
def test_no_file_of_a_run_folder_is_written_through_any_kind_of_link(place: Path) -> None:
    """Resume the run with each of its files a link; nothing of yours may change."""
    assert resumed("10ep") == "finished"
    interrupt(RUN)
    shutil.copytree("theirs", "master")
    names = every_file(RUN)
    assert len(names) > 40
    ends = set()
    for name, kind in itertools.product(names, KINDS):
        for folder in ("theirs", "yours"):
            shutil.rmtree(folder)
        shutil.copytree("master", "theirs")
        Path("yours").mkdir()
        link(name, kind)
        before = outside()
        end = resumed("20ep")
        ends.add("finished" if end == "finished" else "refused")
        assert outside() == before, f"{name}, {kind}: {end}"
        assert len(end.splitlines()) == 1
    assert ends == {"finished", "refused"}


FOLDERS = (
    *("toy-say", "toy-say/toy-learner", "toy-say/toy-learner/seed-0"),
    *(f"toy-say/toy-learner/seed-0/{name}" for name in ("context", "checkpoints", "traces")),
)


@pytest.mark.slow
@pytest.mark.parametrize("name", FOLDERS)
def test_no_folder_of_a_run_is_a_link(name: str, place: Path, capsys: Capture) -> None:
    assert resumed("10ep") == "finished"
    interrupt(RUN)
    shutil.move(f"theirs/{name}", "yours/moved")
    Path(f"theirs/{name}").symlink_to(place / "yours/moved")
    before = outside()
    assert main(words("20ep", "--resume")) == 2
    assert "is a link" in capsys.readouterr().err
    assert outside() == before


def test_a_folder_that_was_named_may_be_a_link_itself(place: Path) -> None:
    Path("theirs").symlink_to(place / "yours")
    assert main(words("10ep")) == 0
    assert (place / "yours/toy-say/toy-learner/seed-0/summary.json").is_file()


# Commands that write into the current folder, or into one that was named


def planted(*names: str) -> None:
    """Links at these names to a file that is not theirs."""
    Path("yours/bashrc").write_text(PRECIOUS)
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).symlink_to(Path("yours/bashrc").resolve())


def safe() -> bool:
    return Path("yours/bashrc").read_text() == PRECIOUS and len(outside()) == 1


@pytest.mark.slow
@pytest.mark.parametrize("suffix", ["", ".tmp"])
def test_figures_tables_and_pages_replace_links_and_do_not_follow_them(
    suffix: str, place: Path
) -> None:
    main(words("10ep"))
    made = ("compare.png", "compare.svg", "compare.csv", "report.html", "trace.html", "trace.json")
    planted(*(name + suffix for name in made))
    assert main(["compare", "theirs"]) == 0
    assert main(["report", "theirs"]) == 0
    assert main(["trace", str(RUN)]) == 0
    assert safe()
    assert all(Path(name).is_file() and not Path(name).is_symlink() for name in made)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["learning_curve.png", "learning_curve.svg", "learning_curve.png.tmp"]
)
def test_the_figure_of_a_finished_run_is_no_way_out(name: str, place: Path) -> None:
    main(words("10ep"))
    (RUN / name).unlink(missing_ok=True)
    planted(str(RUN / name))
    assert main(words("10ep")) == 0
    assert safe()


def test_a_sweeps_configurations_and_logs_are_no_way_out(place: Path, capsys: Capture) -> None:
    base: dict[str, Any] = {
        "env": "toy-say",
        "method": "toy-learner",
        "model": "scripted",
        "budget": "10ep",
    }
    base |= {"batch_size": 5, "eval_samples": 1, "max_new_tokens": 20}
    Path("mine.yaml").write_text(yaml.safe_dump({"out": "theirs", "base": base}))
    planted("theirs/.sweeps/mine/0000.log")
    assert main(["sweep", "mine.yaml", "--jobs", "1"]) == 2
    assert "is a link" in capsys.readouterr().err
    shutil.rmtree("theirs")
    planted("theirs/.sweeps/mine/0000.yaml", "theirs/.sweeps/mine/0000.yaml.tmp")
    main(["sweep", "mine.yaml", "--list"])
    assert safe()


@pytest.mark.parametrize("name", ["../../yours/x", "/tmp/x", "a/b", "..", "x\ny", "a\x1b[2J"])
def test_a_sweep_cannot_be_called_so_that_it_leads_out(name: str, place: Path) -> None:
    Path("mine.yaml").write_text(yaml.safe_dump({"name": name, "base": {"env": "toy-say"}}))
    assert main(["sweep", "mine.yaml", "--list"]) == 2


# Kept records


@pytest.mark.slow
@pytest.mark.parametrize("field", ["env", "method"])
@pytest.mark.parametrize(
    "value", ["../../yours", "/tmp/pwn-abs", "..", ".", "", "a/b", "x\\y", "a\x00b"]
)
def test_a_record_is_kept_inside_the_folder_that_was_named(
    field: str, value: str, place: Path, capsys: Capture
) -> None:
    main(words("10ep"))
    config = yaml.safe_load((RUN / "config.yaml").read_text())
    (RUN / "config.yaml").write_text(yaml.safe_dump(config | {field: value}))
    vouch(RUN)
    assert main(["results", "keep", str(RUN), "--to", "kept"]) == 2
    assert "cannot name a folder" in capsys.readouterr().err
    assert not Path("kept").exists()
    assert outside() == {}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["manifest.json", "summary.json", "metrics.jsonl", "config.yaml"])
def test_what_a_link_leads_to_is_not_kept(name: str, place: Path, capsys: Capture) -> None:
    main(words("10ep"))
    secret = (RUN / name).read_text()
    Path("yours/secret").write_text(secret)
    (RUN / name).unlink()
    (RUN / name).symlink_to(Path("yours/secret").resolve())
    assert main(["results", "keep", str(RUN), "--to", "kept"]) == 2
    assert not (Path("kept") / RUN.relative_to("theirs") / name).exists()


def test_a_link_below_the_folder_of_records_is_not_followed(place: Path) -> None:
    main(words("10ep"))
    Path("kept").mkdir()
    Path("kept/toy-say").symlink_to(Path("yours").resolve())
    assert main(["results", "keep", str(RUN), "--to", "kept"]) == 2
    assert outside() == {}


# Documents that are made again


def rows(path: Path) -> None:
    row = {"task": "t", "success": 1, "episodes": 0, "seed": 0, "env": "e", "model": "m"}
    texts = [json.dumps(row | {"method": m, "seed": s}) for m in ("a", "b") for s in (0, 1)]
    path.write_text("\n".join([*texts, ""]))


ESCAPES = [
    "report rows.jsonl --out ../../yours/victim.html",
    "report rows.jsonl --out=../../yours/victim.html",
    "report rows.jsonl --out fine.html --out ../../yours/victim.html",
    "report rows.jsonl --out ../../yours/victim.html --",
    "compare rows.jsonl --out ../../yours --",
    "compare rows.jsonl --out ../../yours",
    "compare rows.jsonl --out /tmp",
    "report rows.jsonl --out {place}/yours/victim.html",
    "compare rows.jsonl --out way/yours",
    "report rows.jsonl --out way/yours/victim.html",
    "sweep rows.jsonl",
    "results keep . --to ../../yours",
]


@pytest.mark.slow
@pytest.mark.parametrize("command", ESCAPES)
def test_no_document_has_a_file_made_outside_its_folder(
    command: str, place: Path, capsys: Capture
) -> None:
    folder = Path("theirs/sub")
    folder.mkdir(parents=True)
    Path("yours/victim.html").write_text(PRECIOUS)
    (folder / "way").symlink_to(place)
    rows(folder / "rows.jsonl")
    made = f"<!-- made by: resd-bench {command.format(place=place)} -->\nx\n<!-- end -->\n"
    (folder / "README.md").write_text(made)
    before = outside()
    assert main(["results", "verify", "theirs", "--write"]) == 1
    assert outside() == before
    assert "DIFFERS" in capsys.readouterr().out


@pytest.mark.slow
def test_a_document_that_is_a_link_is_replaced_and_not_written_through(place: Path) -> None:
    Path("theirs").mkdir()
    rows(Path("theirs/rows.jsonl"))
    made = "<!-- made by: resd-bench compare rows.jsonl --markdown -->\nx\n<!-- end -->\n"
    Path("yours/notes.md").write_text(made)
    Path("theirs/README.md").symlink_to(Path("yours/notes.md").resolve())
    before = outside()
    main(["results", "verify", "theirs", "--write"])
    assert outside() == before


# The mechanism


def steps(path: Path) -> Iterator[Callable[[], Any]]:
    """Everything that writes, at `path` below the folder `named`."""
    from resd_bench.files import writing

    named = Path("named")
    yield lambda: writing.write_atomically(path, b"x", named)
    yield lambda: writing.append_to(path, named).close()
    yield lambda: writing.open_lock(path, named).close()
    yield lambda: writing.make_folder(path, named)
    yield lambda: writing.rename(path, "other", named)
    yield lambda: writing.remove(path, named)
    yield lambda: writing.remove_folder(path, named)


@pytest.mark.parametrize(
    "path", ["named/../yours/x", "yours/x", "/tmp/x/y", "named/way/x", "named/a/way/x"]
)
def test_every_writer_refuses_to_leave_the_folder(path: str, place: Path) -> None:
    (place / "named/a").mkdir(parents=True)
    (place / "yours/x").write_text(PRECIOUS)
    (place / "named/way").symlink_to(place / "yours")
    (place / "named/a/way").symlink_to(place / "yours")
    for number, write in enumerate(steps(Path(path))):
        with pytest.raises(UsageError):
            write()
        assert outside() == {"yours/x": PRECIOUS}, number


def test_a_name_for_a_folder_is_one_step(place: Path) -> None:
    from resd_bench.files import writing

    for name in ("resd", "sdpo+ss", "manufactoria-has-l2", "a b", "ä", ".hidden", "x" * 200):
        assert writing.check_name(name, "method") == name
    for name in ("", ".", "..", "a/b", "/", "\\", "a\nb", "\x00", "x" * 201, "\ud800", "a\u202eb"):
        with pytest.raises(UsageError, match="cannot name a folder"):
            writing.check_name(name, "method")


def test_a_file_that_was_named_is_written_wherever_it_is(place: Path) -> None:
    from resd_bench.files import writing

    assert writing.write_named(Path("new/deep/file"), b"x").read_bytes() == b"x"
    out, into = os.pipe()
    writing.write_named(Path(f"/dev/fd/{into}"), b"through a pipe")
    assert os.read(out, 100) == b"through a pipe"
    writing.write_named(Path("/dev/null"), b"x")
    with pytest.raises(UsageError, match="Give another --out"):
        writing.write_named(Path("new/deep"), b"x")


# Code next to what is read


@pytest.mark.slow
def test_no_code_beside_a_document_is_run(place: Path) -> None:
    folder = Path("theirs/sub")
    (folder / "resd_bench").mkdir(parents=True)
    rows(folder / "rows.jsonl")
    made = "<!-- made by: resd-bench compare rows.jsonl --markdown -->\nx\n<!-- end -->\n"
    (folder / "README.md").write_text(made)
    for name in ("resd_bench/__init__.py", "resd_bench/__main__.py", "yaml.py", "json.py"):
        mark = place / "yours" / name.replace("/", "-")
        (folder / name).write_text(f"open({str(mark)!r}, 'w').close()\n")
    main(["results", "verify", "theirs"])
    assert outside() == {}
