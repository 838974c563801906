"""Fold what is told to a person at words, to the width of a terminal, and cut nothing.

What a user copies stays whole: a path, a name, a span in backticks, and a command, which stands on
a line of its own. It may be longer than a line; then the terminal breaks it, and copying joins it.
Left out: tables, see `fit_table`.
"""

from __future__ import annotations

import re

_COMMAND = r"(?:pip install|resd-bench [a-z]) ?[^,;:()`]*[^\s,;:()`]"
_WORD = r"(?:[^\s`]|`[^`]*`|`)+"
_PIECES = re.compile(f"(?P<command>{_COMMAND})[,;:]?|(?:--set )?{_WORD}")


def folded(text: str, width: int | None, indent: str = "  ") -> str:
    """`text` in lines of at most `width` columns; those that continue one begin with `indent`.

    Left as they are: lines that fit, further ones that begin with a blank, all without a width.
    """
    if width is None:
        return text
    first, *others = text.split("\n")
    told = [one if one.startswith(" ") else _folded(one, width, indent) for one in others]
    return "\n".join([_folded(first, width, indent), *told])


def _folded(line: str, width: int, indent: str) -> str:
    if len(line) <= width:
        return line
    lines, alone, end = list[str](), False, 0
    for piece in _PIECES.finditer(line):
        word, command = piece.group(), piece.group("command")
        whole = (lines[-1] if lines else "") + line[end : piece.start()] + word
        if command:
            # What separates it from the next words is the end of its line.
            word = command
        if not lines:
            lines.append(whole)
        elif lines[-1].endswith("->") or not (alone or command or len(whole) > width):
            lines[-1] = whole
        else:
            lines.append(indent + word)
        alone, end = command is not None, piece.end()
    return "\n".join(lines)
