"""A console of rich that prints text as it is, and tables that fit.

A module of its own, because rich takes as long to import as a line of help takes to print.
"""

from __future__ import annotations

import os
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from resd_bench.files.fit_table import fit_table, least_width
from resd_bench.files.folded import folded
from resd_bench.files.printable import printable


class PlainConsole(Console):
    """A console that never interprets text as markup, not even in table cells."""

    def render_str(self, text: str, **options: Any) -> Text:
        """`text` as it is, see `printable`."""
        return super().render_str(printable(text), **{**options, "markup": False, "emoji": False})

    def tell(self, text: str, indent: str = "  ", style: str | None = None) -> None:
        """Print a sentence: folded at words in a terminal, of any length elsewhere."""
        shown = folded(printable(text), self.width if self.is_terminal else None, indent)
        super().print(self.render_str(shown), soft_wrap=True, style=style)

    def print(self, *objects: Any, **options: Any) -> None:
        """Print as rich does, but with tables that fit: see `fit_table`."""
        tables = [one for one in objects if isinstance(one, Table)]
        before = self.width
        width = before if _has_width(self) else max([before, *map(least_width, tables)])
        if width > before:
            self.width = width
        shown = [fit_table(one, width) if isinstance(one, Table) else one for one in objects]
        super().print(*shown, **options)
        if width > before:
            self.width = before


def _has_width(console: Console) -> bool:
    """Whether what is printed must fit a terminal, or a width that the user names."""
    return console.is_terminal or "COLUMNS" in os.environ
