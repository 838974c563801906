"""Untrusted text stays text: on a terminal, in a table, a document, a page and a spreadsheet."""

from __future__ import annotations

import csv
import io
import json
import re
import warnings
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType
from typing import Any

import hypothesis.strategies as st
import pytest
import yaml
from hypothesis import given
from rich.table import Table
from rich.text import Text

from resd_bench.cli import main
from resd_bench.commands.envs.calibrate import rarity_table
from resd_bench.errors import UsageError
from resd_bench.files.plain_console import PlainConsole
from resd_bench.files.printable import printable
from resd_bench.jobs.difficulty import Rarity
from resd_bench.report.html.page import render_page
from resd_bench.report.markdown import as_markdown
from resd_bench.reproduce.page import Page
from resd_bench.stats import Interval
from tests.vouched import vouch

Capture = pytest.CaptureFixture[str]
EVIL = (
    "<script>alert(1)</script><img src=x onerror=alert(2)>\x1b[31mRED\x1b]0;owned\x07\x1b[2J\x9b31m"
    "\u202eRTL\u0000\ud800\r [bold red]markup[/] [/red] [link=http://evil]x[/link] :smile: ${jndi} "
    "$data </script> --> ]]> | `code` [a](javascript:b) ![c](http://evil/d.png) \\| &lt;"
)
STEERING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def row(**values: Any) -> dict[str, Any]:
    return {
        **{"task": "t", "success": 1, "episodes": 0, "method": "a", "seed": 0, "env": "e"},
        **{"model": "m"},
        **values,
    }


def evil_rows(path: Path, evil: str = EVIL) -> Path:
    """Results of somebody else, in which every name is hostile."""
    rows = [
        row(method=method, seed=seed, episodes=episodes, env=evil, model=evil, task=f"{evil}{task}")
        for method in ("base", evil)
        for seed in (0, 1, 2)
        for episodes in (0, 64)
        for task in range(4)
    ]
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    return path


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


# The terminal


@given(st.text(alphabet=st.characters()))
def test_what_is_printable_steers_no_terminal_and_honest_text_is_as_it_is(text: str) -> None:

    shown = printable(text)
    assert not STEERING.search(shown)
    shown.encode()
    if not STEERING.search(text) and text.isprintable():
        assert shown == text


def test_nothing_is_read_as_markup(capsys: Capture) -> None:
    from resd_bench.files import terminal

    table = Table("[bold]head[/]", title=EVIL, caption="[red]cap[/red]")
    table.add_row("[/bold] :smile: [x]")
    terminal.out().print(table)
    terminal.out().print("[red]one[/red] [/nothing]")
    terminal.note("[red]two[/red] [/]")
    terminal.say(EVIL)
    terminal.complain(UsageError(EVIL))
    shown = "".join(capsys.readouterr())
    for text in (
        "[bold]head[/]",
        "[red]cap[/red]",
        "[/bold] :smile: [x]",
        "[red]one[/red]",
        "[red]two",
    ):
        assert text in shown
    assert not STEERING.search(shown)


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        *(["compare"], ["compare", "--detail"], ["compare", "--markdown"], ["report"]),
        *(["results", "show"], ["results", "show", "--markdown"]),
    ],
)
def test_no_command_prints_what_steers_a_terminal(
    words: list[str], here: Path, capsys: Capture
) -> None:
    path = evil_rows(here / "rows.jsonl")
    assert main([*words, str(path)]) in (0, 2)
    assert not STEERING.search("".join(capsys.readouterr()))


@pytest.mark.parametrize(
    "name", ["[red]a.jsonl", "[link=x]a[bold].jsonl", "a\x1b[2Jb.jsonl", "x\ny.jsonl"]
)
def test_paths_are_shown_as_they_are(name: str, here: Path, capsys: Capture) -> None:
    path = here / name
    path.write_text("no JSON\n")
    assert main(["envs", "score", "guess-number", str(path)]) == 2
    shown = capsys.readouterr().err
    assert (name if name.isprintable() else name[-len("y.jsonl") :]) in shown
    assert not STEERING.search(shown)


def test_a_path_with_brackets_is_printed_whole(here: Path, capsys: Capture) -> None:
    rows = evil_rows(here / "rows.jsonl", "m")
    Path("[red]x[bold]").mkdir()
    assert main(["report", str(rows), "--out", "[red]x[bold]/page.html"]) == 0
    assert main(["compare", str(rows), "--out", "[red]x[bold]"]) == 0
    shown = capsys.readouterr().out
    assert "report [red]x[bold]/page.html" in shown
    assert "figure [red]x[bold]/compare.png" in shown


def test_errors_of_files_are_shown_without_what_steers(here: Path, capsys: Capture) -> None:
    Path("config.yaml").write_text(yaml.safe_dump({f"seed{EVIL[:90]}": 1}, allow_unicode=False))
    assert main(["run", "--config", "config.yaml"]) == 2
    Path("config.yaml").write_text(yaml.safe_dump({"budget": "\x1b]0;owned\x07"}))
    assert main(["run", "--config", "config.yaml"]) == 2
    assert not STEERING.search("".join(capsys.readouterr()))


def test_a_warning_of_python_is_printable(capsys: Capture) -> None:
    main(["--version"])
    shown = warnings.formatwarning(EVIL, UserWarning, "file\x1b.py", 1)
    assert not STEERING.search(shown)
    assert "RED" in shown


def test_a_left_out_problem_is_told_of_without_what_steers(here: Path) -> None:
    from resd_envs.python_functions.env import PythonFunctionsEnv

    good = {"id": 1, "prompt": "p", "entry": "f", "cases": [{"args": [1], "expected": 1}]}
    bad = {"id": EVIL, "prompt": "p", "entry": "f", "cases": []}
    Path("tasks.jsonl").write_text(f"{json.dumps(good)}\n{json.dumps(bad)}\n")
    with pytest.warns(UserWarning, match="left out") as told:
        PythonFunctionsEnv(path="tasks.jsonl")
    assert not STEERING.search(str(told[0].message))


@pytest.mark.slow
def test_a_run_with_hostile_records_is_shown_as_text(
    toy: ModuleType, here: Path, capsys: Capture
) -> None:
    words = ["run", "--env", "toy-say", "--method", "toy-learner", "--model", "scripted"]
    words += ["--out", "out", "--budget", "10ep", "--batch-size", "5", "--max-new-tokens", "20"]
    assert main(words) == 0
    folder = here / "out/toy-say/toy-learner/seed-0"
    config = yaml.safe_load((folder / "config.yaml").read_text())
    (folder / "config.yaml").write_text(yaml.safe_dump(config | {"method": EVIL, "model": EVIL}))
    vouch(folder)
    capsys.readouterr()
    for command in (["compare"], ["report"], ["results", "show"]):
        assert main([*command, str(folder)]) == 0
    assert main(["results", "keep", str(folder), "--to", "kept"]) == 2
    assert not STEERING.search("".join(capsys.readouterr()))


def test_limits_in_brackets_are_printed_without_backslashes() -> None:

    found = Rarity("e", Interval(0.1, 0.05, 0.2, 9), 0.5, 0.5, 0)
    console = PlainConsole(width=200, file=io.StringIO())
    console.print(rarity_table([found], "nano"))
    assert "10 [5, 20]" in console.file.getvalue()  # type: ignore[attr-defined]


# Documents


class Tags(HTMLParser):
    """Collects what a browser would take for tags."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attributes: object) -> None:
        self.found.append(tag)


def tags(text: str) -> list[str]:
    parser = Tags()
    parser.feed(text)
    return parser.found


@given(
    st.text(alphabet=st.characters(exclude_categories=["Cs"]))
    | st.sampled_from([EVIL, "\\|", "a\\"])
)
def test_a_cell_of_markdown_stays_in_its_cell_and_holds_no_html(text: str) -> None:
    table = Table("one", "two")
    table.add_row(text, Text(text))
    line = as_markdown(table).splitlines()[-1]
    unescaped = re.sub(r"\\.", "", line)
    assert unescaped.count("|") == 3
    assert tags(line) == []
    assert "](" not in line
    assert "<" not in line


def test_a_page_of_reproduce_holds_no_html_of_a_model(tmp_path: Path) -> None:
    page = Page("t", EVIL, [], [{"label": "=1+1", "mean": -0.5}], [EVIL], model=EVIL)
    written = page.save(tmp_path, "resd-bench reproduce t")
    text = written[0].read_text()
    assert tags(text) == []
    assert text.count("<!--") == 2, "its own two marks"
    assert (tmp_path / "t.csv").read_text().splitlines()[1] == "'=1+1,-0.5"


def test_a_card_holds_no_html_of_a_run(here: Path) -> None:
    from resd_bench.report.markdown import as_text

    assert tags(as_text(EVIL)) == []
    assert "&lt;script" in as_text(EVIL)


# Spreadsheets


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"])))
def test_no_text_in_a_csv_is_a_formula_and_all_of_it_is_there(text: str) -> None:
    from resd_bench.report.spreadsheet import as_csv

    (line,) = csv.reader(io.StringIO(as_csv([[text, 1]]).decode(), newline=""))
    cell = line[0]
    if cell != text:
        assert cell == f"'{text}"
    assert not cell.startswith(("=", "@", "\t", "\r", "\n")) or cell.startswith("'")
    if cell.startswith(("+", "-")):
        float(cell.rstrip("%"))


@pytest.mark.slow
@pytest.mark.parametrize(
    "evil", ["=1+1", "+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "\t=1", "\r=1", "＝1"]
)
def test_no_label_in_compares_table_is_a_formula(evil: str, here: Path) -> None:
    assert main(["compare", str(evil_rows(here / "rows.jsonl", evil))]) == 0
    lines = list(csv.DictReader(io.StringIO(Path("compare.csv").read_bytes().decode(), newline="")))
    assert {line["method"] for line in lines} == {"base", f"'{evil}"}
    assert all(line["env"] == f"'{evil}" for line in lines)
    assert all(float(line["mean"]) == 1 for line in lines)


@given(st.integers() | st.floats(allow_nan=False))
def test_numbers_stay_numbers(number: float) -> None:
    from resd_bench.report.spreadsheet import as_csv

    (line,) = csv.reader(io.StringIO(as_csv([[number, f"{number:g}"]]).decode()))
    assert type(number)(line[0]) == number
    assert not line[1].startswith("'") or line[1] in ("'-inf", "'+inf")


# Pages


def test_a_page_of_html_ends_no_script_and_opens_no_tag() -> None:
    honest = render_page({"title": "t", "kind": "suite"})
    evil = render_page({"title": EVIL, "kind": EVIL, "viewers": [{EVIL: [EVIL]}]})
    assert tags(evil) == tags(honest)
    assert not STEERING.search(evil)
    assert evil.count("</script") == honest.count("</script")
