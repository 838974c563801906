"""The result of an experiment: text, tables, rows and a figure, as Markdown, CSV, PNG and SVG."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table

from resd_bench.files.writing import make_folder, write_atomically
from resd_bench.report.figures import save_figure
from resd_bench.report.markdown import as_markdown, as_text, without_html
from resd_bench.report.spreadsheet import as_csv

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Draw = Callable[[], "Figure"]


@dataclass
class Page:
    """One table or figure, reproduced."""

    name: str
    title: str
    tables: list[Table]
    rows: list[Mapping[str, object]]
    """For the CSV file; keys may differ from row to row."""
    notes: list[str] = field(default_factory=list)
    draw: Draw | None = None
    model: str = ""
    """The model that the numbers are of."""

    @property
    def heading(self) -> str:
        """The title with the model."""
        return f"{self.title} · {self.model}" if self.model else self.title

    def save(self, folder: Path, command: str) -> list[Path]:
        """Write the page and return the files written; `command` made it."""
        make_folder(folder, folder)
        figures: list[Path] = []
        if self.draw is not None:
            figures = save_figure(self.draw(), folder / self.name, self.heading)
        page = self._markdown(command, figures).encode("utf-8", "backslashreplace")
        text = write_atomically(folder / f"{self.name}.md", page)
        return [text, *self._csv(folder / f"{self.name}.csv"), *figures]

    def _markdown(self, command: str, figures: Sequence[Path]) -> str:
        # `results verify` finds the page by this mark, and derives it again.
        parts = [f"# {as_text(self.heading)}", f"<!-- made by: {command} -->", f"`{command}`"]
        parts += map(without_html, self.notes)
        parts += [f"![{self.title}]({path.name})" for path in figures if path.suffix == ".png"]
        parts += [*(as_markdown(empty_table) for empty_table in self.tables), "<!-- end -->"]
        return "\n\n".join(parts) + "\n"

    def _csv(self, path: Path) -> list[Path]:
        if not self.rows:
            return []
        columns = list(dict.fromkeys(key for row in self.rows for key in row))
        lines = [[row.get(column, "") for column in columns] for row in self.rows]
        return [write_atomically(path, as_csv([columns, *lines]))]


def empty_table(title: str, columns: Sequence[str], numbers: int, caption: str = "") -> Table:
    """An empty table; columns before `numbers` are left-aligned, the others right-aligned."""
    made = Table(title=title, title_justify="left", caption_justify="left", caption=caption or None)
    for place, column in enumerate(columns):
        made.add_column(column, justify="left" if place < numbers else "right")
    return made
