"""Tables as Markdown, for documents. Left out: colours and widths."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from resd_bench.files.printable import printable


def as_markdown(table: Table) -> str:
    """A table of texts: its title, its rows and its caption, with blank lines between."""
    columns = [[column.header, *column.cells] for column in table.columns]
    head, *body = zip(*columns, strict=True)
    rule = ["---:" if column.justify == "right" else "---" for column in table.columns]
    rows = [_row(head), f"|{'|'.join(rule)}|", *map(_row, body)]
    parts = [_plain(table.title), "\n".join(rows), _plain(table.caption)]
    return "\n\n".join(part for part in parts if part)


def _row(cells: Sequence[object]) -> str:
    return f"| {' | '.join(map(_plain, cells))} |"


def _plain(cell: object) -> str:
    if cell is None:
        return ""
    return as_text(cell.plain if isinstance(cell, Text) else str(cell)).replace("|", "\\|")


def as_text(text: str) -> str:
    """`text` on one line of a document, escaped so that it has no HTML, link or image."""
    line = without_html(" ".join(text.split()))
    return line.replace("\\", "&#92;").replace("`", "&#96;").replace("](", "]&#40;")


def without_html(text: str) -> str:
    """Markdown escaped so that it has no HTML."""
    return printable(text).replace("&", "&amp;").replace("<", "&lt;")
