"""The one way to a terminal: what is printed is text, whatever it holds.

Names, paths and errors may come from an untrusted file. They are never interpreted as markup, and
what would control a terminal (escape sequences, control characters, marks that change the writing
direction) is shown escaped. Left out: standard output that a program reads, such as JSON.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from resd_bench.files.fit_table import fit_table, least_width

_KEPT = "\n\t"
_WIDTH = 110
"""Width of text that goes into a file or a pipe; of tables the least, since nothing limits it."""


def printable(text: str) -> str:
    """`text` with whatever would control a terminal or cannot be encoded shown escaped."""
    if text.isprintable():
        return text
    return "".join(c if c in _KEPT or c.isprintable() else ascii(c)[1:-1] for c in text)


class PlainConsole(Console):
    """A console that never interprets text as markup, not even in table cells."""

    def render_str(self, text: str, **options: Any) -> Text:
        """`text` as it is, see `printable`."""
        return super().render_str(printable(text), **{**options, "markup": False, "emoji": False})

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


def out() -> Console:
    """The console for results."""
    wide = not sys.stdout.isatty() and "COLUMNS" not in os.environ
    return PlainConsole(highlight=False, width=_WIDTH if wide else None)


def errors() -> Console:
    """The console for everything else that a person should know."""
    return PlainConsole(stderr=True, highlight=False)


def say(text: object) -> None:
    """Print a line of a result, of any length."""
    print(printable(str(text)))


def page_text(texts: Iterable[str]) -> None:
    """Show texts one after another: in a pager where the output is a terminal."""
    # As git does: colours stay, nothing is cleared, and what fits on a screen is only printed.
    os.environ.setdefault("LESS", "FRX")
    shown = (printable(text) for text in texts)
    if sys.stdout.isatty():
        import click

        click.echo_via_pager(shown)
        return
    try:
        for text in shown:
            sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader, such as `head`, has seen enough; Python must not flush into it at its end.
        with suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def note(text: str) -> None:
    """Tell the user something that is not a result."""
    errors().print(text, soft_wrap=True)


def complain(error: Exception) -> None:
    """Tell the user of a mistake."""
    print(f"error: {printable(str(error))}", file=sys.stderr)


def guard_python() -> None:
    """Make Python's own warnings and tracebacks printable too: they quote what was read."""
    sys.excepthook = _show_exception
    warnings.formatwarning = _format_warning


def _show_exception(kind: type[BaseException], error: BaseException, trace: Any) -> None:
    import traceback

    print(printable("".join(traceback.format_exception(kind, error, trace))), file=sys.stderr)


def _format_warning(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, line: object = None
) -> str:
    return printable(f"{filename}:{lineno}: {category.__name__}: {message}\n")
