"""The one way to a terminal: what is printed is text, whatever it holds.

Names, paths and errors may come from an untrusted file. They are never interpreted as markup, and
what would control a terminal (escape sequences, control characters, marks that change the writing
direction) is shown escaped. Left out: standard output that a program reads, such as JSON.
"""

from __future__ import annotations

import os
import shutil
import sys
import warnings
from collections.abc import Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TextIO

from resd_bench.files.folded import folded
from resd_bench.files.printable import printable

if TYPE_CHECKING:
    from resd_bench.files.plain_console import PlainConsole

_WIDTH = 110
"""Width of text that goes into a file or a pipe; of tables the least, since nothing limits it."""


def out() -> PlainConsole:
    """The console for results."""
    from resd_bench.files.plain_console import PlainConsole

    wide = not sys.stdout.isatty() and "COLUMNS" not in os.environ
    return PlainConsole(highlight=False, width=_WIDTH if wide else None)


def errors() -> PlainConsole:
    """The console for everything else that a person should know."""
    from resd_bench.files.plain_console import PlainConsole

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
    """Tell the user something that is not a result; in a terminal it is folded at words."""
    errors().tell(text)


def complain(error: Exception) -> None:
    """Tell the user of a mistake."""
    print(folded(f"error: {printable(str(error))}", columns(sys.stderr)), file=sys.stderr)


def columns(stream: TextIO) -> int | None:
    """Width of the terminal that `stream` goes to; None where it goes elsewhere."""
    return shutil.get_terminal_size().columns if stream.isatty() else None


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
    text = printable(f"{filename}:{lineno}: {category.__name__}: {message}")
    return f"{folded(text, columns(sys.stderr))}\n"
