"""Tables that fit the terminal: names wrap between words, and nothing is cut.

A table whose words do not fit side by side is shown as a list, a row after the other, since two
rows that were cut could look equal. Left out: a single word that is wider than the terminal, which
is continued on the next line.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

NARROW = 20
"""Width of a column below which sentences cannot be read."""
TALL = 5
"""Lines that a cell in a narrow column may take."""


def fit_table(table: Table, width: int) -> RenderableType:
    """`table` with column widths that fit `width` characters, or its rows as a list."""
    columns = [[*column.cells, column.header] for column in table.columns]
    natural = [max(map(_longest_line, cells)) for cells in columns]
    # Every column has a border before it and a blank on both sides.
    room = width - 3 * len(columns) - 1
    if sum(natural) > room:
        words = [max(map(_longest_word, cells)) for cells in columns]
        wholes = zip(table.columns, natural, words, strict=True)
        least = [line if column.no_wrap else word for column, line, word in wholes]
        least = least if sum(least) <= room else words
        sizes = _share(natural, least, room)
        narrow = any(s < NARROW and line > TALL * s for s, line in zip(sizes, natural, strict=True))
        if sum(least) > room or narrow:
            return Group(*_rows_as_list(table))
        for column, size in zip(table.columns, sizes, strict=True):
            column.width = size
    for column in table.columns:
        column.overflow, column.no_wrap = "fold", False
    return table


def least_width(table: Table) -> int:
    """The width in which `fit_table` still gives a table."""
    words = [
        max(map(_longest_line if c.no_wrap else _longest_word, [*c.cells, c.header]))
        for c in table.columns
    ]
    return sum(words) + 3 * len(words) + 1


def _share(natural: Sequence[int], least: Sequence[int], room: int) -> list[int]:
    """Widths from `least` to `natural`, `room` in all: the narrowest column grows first."""
    sizes, spare = list(least), room - sum(least)
    while spare > 0:
        growing = [i for i, size in enumerate(sizes) if size < natural[i]]
        if not growing:
            break
        sizes[min(growing, key=sizes.__getitem__)] += 1
        spare -= 1
    return sizes


def _rows_as_list(table: Table) -> Iterator[RenderableType]:
    """The title, each row as its first cell with the others below it by name, and the caption.

    A row with nothing but its first cell is the heading of those that follow.
    """
    if table.title:
        yield _text(table.title)
    heads = [" ".join(_text(column.header).plain.split()) for column in table.columns]
    for row in zip(*(column.cells for column in table.columns), strict=True):
        first, *others = map(_text, row)
        is_heading = not any(cell.plain for cell in others)
        head = f"{heads[0]} " if heads[0] and not is_heading else ""
        yield Text.assemble(head, (first.plain, "bold"))
        for head, cell in zip(heads[1:], others, strict=True):
            if cell.plain:
                yield Padding(_named(head, cell), (0, 0, 0, 2), expand=False)
    if table.caption:
        yield _text(table.caption)


def _named(head: str, cell: Text) -> Text:
    words = Text(" ".join(cell.plain.split("\n")))
    return Text.assemble((f"{head}: " if head else "", "dim"), words, overflow="fold")


def _text(cell: object) -> Text:
    return cell if isinstance(cell, Text) else Text("" if cell is None else str(cell))


def _longest_line(cell: object) -> int:
    return max((Text(line).cell_len for line in _text(cell).plain.split("\n")), default=0)


def _longest_word(cell: object) -> int:
    return max((Text(word).cell_len for word in _text(cell).plain.split()), default=0)
