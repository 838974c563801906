"""Tables fit the terminal, and nothing of them is cut."""

import io
import re
from collections.abc import Sequence

import pytest
from rich.table import Table

from resd_bench.files import terminal
from resd_bench.files.plain_console import PlainConsole
from resd_bench.report.tables import table_label

ROWS = [
    ("resd · method.use_playbook=False · method.use_reflection=True", "5", "81.7% [75.7, 87.7]"),
    ("resd · method.use_playbook=True · method.use_reflection=False", "5", "81.7% [75.7, 87.7]"),
    ("textworld-express-cookingworld-easy", "5", "words between which a line may end"),
]


def printed(width: int, rows: Sequence[tuple[str, ...]] = ROWS, terminal: bool = True) -> str:
    table = Table("runs", "seeds", "success at 1280 rollouts", title="a title", caption="a caption")
    for row in rows:
        table.add_row(*row)
    file = io.StringIO()
    PlainConsole(file=file, width=width, force_terminal=terminal, no_color=True).print(table)
    return re.sub(r"\x1b\[[0-9;]*m", "", file.getvalue())


@pytest.mark.parametrize("width", [36, 40, 50, 60, 80, 110, 200])
def test_no_word_is_cut_or_broken_and_no_line_is_too_long(width: int) -> None:
    text = printed(width)
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= width
    for word in " ".join(cell for row in ROWS for cell in row).split():
        if len(word) <= width - 2:
            assert word in text


def test_a_row_too_wide_for_the_terminal_is_a_list_of_its_cells() -> None:
    lines = printed(50).splitlines()
    assert "runs textworld-express-cookingworld-easy" in lines
    assert lines.count("  seeds: 5") == 3
    assert not any("│" in line for line in lines)


def test_in_a_list_a_row_of_one_cell_is_the_heading_of_those_that_follow() -> None:
    lines = printed(36, [("finer", "", ""), ROWS[0]]).splitlines()
    assert "finer" in lines
    assert any(line.startswith("runs resd ·") for line in lines)


def test_sentences_are_not_squeezed_into_a_narrow_column() -> None:
    rows = [("concise_after_curation", "integer at least 1, or none", "a few words " * 10)]
    assert "│" not in printed(60, rows)
    assert "│" in printed(100, rows)


def test_a_table_that_fits_is_a_table_of_its_natural_widths() -> None:
    assert printed(200) == printed(130)
    assert "│ resd · method.use_playbook=False · method.use_reflection=True │" in printed(130)


def test_a_pipe_has_no_width_that_a_table_must_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    long = [("x" * 150, "5", "a"), ("x" * 149 + "y", "5", "a")]
    text = printed(110, long, terminal=False)
    assert f"│ {'x' * 150} │" in text
    monkeypatch.setenv("COLUMNS", "80")
    assert "│" not in printed(80, long, terminal=False)
    assert terminal.out().width == 80


def test_long_labels_that_differ_at_their_end_stay_different() -> None:
    one, other = table_label("x" * 500 + "a"), table_label("x" * 500 + "b")
    assert one != other
    assert len(one) == len(other) == 240
