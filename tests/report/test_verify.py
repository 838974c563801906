"""`results verify` makes committed tables and figures again, and names what differs."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from resd_bench.cli import main
from resd_bench.errors import UsageError
from resd_bench.records.recorder import to_line
from resd_bench.report.verify import (
    SHOWN,
    blocks,
    derive_block,
    file_differences,
    text_differences,
    verify,
)
from tests.places import ROOT

pytestmark = pytest.mark.slow


ROWS = [
    {"method": method, "seed": seed, "task": task, "episodes": spent, "generated_tokens": 7 * spent}
    | {"success": float(spent > 0 and (method == "good" or task == "a"))}
    for method in ("poor", "good")
    for seed in (0, 1)
    for spent in (0, 100)
    for task in ("a", "b", "c", "d")
]
COMMAND = "resd-bench compare rows.jsonl --markdown --out ."


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of results that `--write` filled."""
    folder = tmp_path_factory.mktemp("results")
    (folder / "rows.jsonl").write_bytes(b"".join(map(to_line, ROWS)))
    text = f"# Two\n\n<!-- made by: {COMMAND} -->\n<!-- end -->\n\nWords.\n"
    (folder / "README.md").write_text(text)
    assert main(["results", "verify", str(folder), "--write"]) == 0
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "copy"))


def change(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


def test_pages_that_lie_together_are_derived_together_and_judged_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names, where = ["fig6", "fig8"], ["--env", "textworld-coin", "--no-run", "--out", str(tmp_path)]
    assert main(["reproduce", *names, *where]) == 0
    calls: list[Sequence[str]] = []
    run = subprocess.run

    def counted(command: Sequence[str], **options: Any) -> Any:
        calls.append(command)
        return run(command, **options)

    monkeypatch.setattr(subprocess, "run", counted)
    assert not [problem for check in verify(tmp_path) for problem in check.problems]
    assert len(calls) == 1
    change(tmp_path / "fig8.md", "| textworld-coin |", "| elsewhere |")
    wrong = [check.what for check in verify(tmp_path) if check.problems]
    assert len(wrong) == 1
    assert "fig8.md" in wrong[0]


def test_the_committed_results_are_what_their_records_give(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    drawn = []

    def compared(committed: Path, now: Path) -> Any:
        if now.suffix == ".svg":
            drawn.append(now.read_text())
        return file_differences(committed, now)

    monkeypatch.setattr("resd_bench.report.verify.file_differences", compared)
    checks = list(verify(ROOT / "results"))
    assert [problem for check in checks for problem in check.problems] == []
    assert {path.name for check in checks for path in check.made} >= {
        "compare.csv",
        "compare.png",
        "compare.svg",
    }
    # The compressed bytes of a raster are others on other processors.
    assert len(drawn) > 20
    assert not [text for text in drawn if "<image" in text]


def test_writing_fills_the_marked_part_and_nothing_else(made: Path) -> None:
    text = (made / "README.md").read_text()
    assert "| good | 2 | 100.0%" in text
    assert text.startswith("# Two\n")
    assert text.endswith("<!-- end -->\n\nWords.\n")
    assert {p.name for p in made.iterdir()} >= {"compare.csv", "compare.png", "compare.svg"}


def test_each_difference_is_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change(folder / "README.md", "| good | 2 | 100.0%", "| good | 2 | 90.0%")
    change(folder / "compare.csv", ",100,700,", ",100,701,")
    change(folder / "compare.svg", "<svg ", "<svg  ")
    (folder / "old.csv").write_text("a\n1\n")
    assert main(["results", "verify", str(folder)]) == 1
    printed = capsys.readouterr().out
    assert "row 'good', column 'success at 100 rollouts': the file has '90.0%" in printed
    assert "column 'generated_tokens': the file has 701, the records give 700" in printed
    assert "compare.svg: the figure differs" in printed
    assert "compare.svg line 4: the file has '<svg  " in printed
    assert "old.csv is made by no command" in printed
    assert "compare.png" not in printed


def test_a_figure_may_be_kept_as_a_picture_alone(folder: Path) -> None:
    (folder / "compare.svg").unlink()
    assert not [problem for check in verify(folder) for problem in check.problems]
    (folder / "compare.png").unlink()
    problems = [problem for check in verify(folder) for problem in check.problems]
    missing = (folder / "compare.png", folder / "compare.svg")
    assert problems == [f"{path} is missing: the records give it" for path in missing]


@pytest.mark.parametrize(
    "command",
    ["resd-bench run --method sft", "resd-bench results keep a --to b", "rm -r .", "resd-bench"],
)
def test_a_command_that_does_more_than_read_records_is_not_run(
    tmp_path: Path, command: str
) -> None:
    (tmp_path / "a.md").write_text(f"<!-- made by: {command} -->\n<!-- end -->\n")
    [block] = blocks(tmp_path / "a.md")
    with pytest.raises(UsageError, match="is not run"):
        derive_block(block, tmp_path)


def test_a_command_that_fails_is_a_difference(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("<!-- made by: resd-bench results show no -->\n<!-- end -->\n")
    first, _ = verify(tmp_path)
    assert "no run found in no" in first.problems[0]


def test_a_mark_without_an_end_and_a_folder_without_marks_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="has no document with a line"):
        list(verify(tmp_path))
    (tmp_path / "a.md").write_text("<!-- made by: resd-bench results show x -->\n| a |\n")
    with pytest.raises(UsageError, match="has no <!-- end -->"):
        list(verify(tmp_path))


def test_cells_of_each_table_go_by_the_header_of_that_table() -> None:
    old = "| a | b |\n|---|---|\n| x | 1 |\n\n| c | d |\n|---|---|\n| y | 2 |\n"
    found = text_differences(old, old.replace("2", "3").replace("1", "4"), "doc", first=10)
    assert found == [
        "doc line 12, row 'x', column 'b': the file has '1', the records give '4'",
        "doc line 16, row 'y', column 'd': the file has '2', the records give '3'",
    ]
    assert text_differences(old, old + "more", "doc", 10) == [
        "doc line 17: the file has nothing, the records give 'more'"
    ]


def test_many_differences_are_counted() -> None:
    old, new = ("\n".join(f"{letter}{i}" for i in range(20)) for letter in "ab")
    found = text_differences(old, new, "doc")
    assert len(found) == SHOWN + 1
    assert found[-1] == f"doc: {20 - SHOWN} more differences"


def test_rounding_of_another_processor_is_no_difference_and_the_ninth_digit_is(
    tmp_path: Path,
) -> None:
    paths = {name: tmp_path / f"{name}.csv" for name in ("here", "there", "other")}
    numbers = {"here": "0.1", "there": "0.10000000000000002", "other": "0.100000001"}
    for name, path in paths.items():
        path.write_text(f"label,mean\nx,{numbers[name]}\n")
    assert not file_differences(paths["here"], paths["there"]).problems
    [problem] = file_differences(paths["here"], paths["other"]).problems
    assert "line 2, column 'mean': the file has 0.1, the records give 0.100000001" in problem
    paths["there"].write_text("label,mean\n")
    assert "the records give nothing" in file_differences(paths["here"], paths["there"]).problems[0]
    assert "is missing" in file_differences(tmp_path / "none.csv", paths["here"]).problems[0]


def test_a_figure_of_another_matplotlib_is_not_compared(tmp_path: Path) -> None:
    for name, version in (("a", "3.9.0"), ("b", "3.11.2")):
        (tmp_path / f"{name}.svg").write_text(f"<svg>Matplotlib v{version}, {name}</svg>")
    check = file_differences(tmp_path / "a.svg", tmp_path / "b.svg")
    assert not check.problems
    assert "drawn by matplotlib 3.9.0, here is 3.11.2" in check.notes[0]
