"""Find the program in an answer: the last fenced block that defines what the tests call.

A more lenient rule than the released one of the paper's tasks
(`resd_bench.parsing.last_code_block`), which pairs all fences of a text and knows one spelling of
the language. Here a fence begins a line, or ends one with the name of the language; so fences that
prose mentions and backticks inside a program do not count. A tag may be spelled in any usual way,
blocks of tildes or with longer fences count too, and what follows the program (how to use it, what
it prints) is not taken for it. Takes time linear in the length of the answer.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from resd_bench.parsing import FENCE, last_code_block

TAG = "python"
"""Language tag of the fenced block."""
NEARBY = 3
"""A fence that ends a block or begins the next is indented by at most this much more than the one
that opened it."""

_PYTHON = re.compile(r"\{?\.?(?:python|pycon|ipython|py)[\d.]*+(?!\w)", re.IGNORECASE)
_AT_BEGIN = re.compile(r"([ \t]*+)(`{3,}+|~{3,}+)(.*)", re.DOTALL)
_AT_END = re.compile(r"(`{3,}+)[ \t]*+([\w.]*+)[ \t\r]*+\Z")


@dataclass(frozen=True, slots=True)
class Block:
    """One fenced block."""

    tag: str
    """The text after the opening fence."""
    code: str

    @property
    def is_python(self) -> bool:
        """Whether it has this tag."""
        return _PYTHON.match(self.tag) is not None


@dataclass(slots=True)
class _Open:
    """A block that is still open."""

    fence: str
    tag: str
    indent: int
    lines: list[str] = field(default_factory=list)

    def block(self) -> Block:
        return Block(self.tag, _unindented(self.lines, self.indent))


def program_of(text: str, entry: str | None) -> str | None:
    """The program in `text`; None if there is no block.

    For tests that call `entry` it is the last block that defines it; if none does, or for programs
    on standard input, it is the last one tagged as Python, else the last one without a tag, else
    that of the released rule.
    """
    blocks = list(fenced_blocks(text))
    released = last_code_block(text, TAG)
    if entry is not None:
        codes = [block.code for block in reversed(blocks)]
        for code in codes if released is None else [*codes, released]:
            if defines(code, entry):
                return code
    for fits in (lambda block: block.is_python, lambda block: not block.tag):
        found = [block.code for block in blocks if fits(block)]
        if found:
            return found[-1]
    return released


def defines(code: str, entry: str) -> bool:
    """Whether a program seems to define `f`, or for `Class.f` one of the two."""
    names = "|".join(map(re.escape, entry.split(".")))
    made = rf"(?:async[ \t]++)?(?:def|class)[ \t]++(?:{names})\b"
    assigned = rf"(?:{names})[ \t]*+[:=](?!=)"
    imported = rf"(?:from|import)\b[^\n]*\b(?:{names})\b"
    pattern = rf"^[ \t]*+(?:{made}|{assigned}|{imported})"
    return re.search(pattern, code, re.MULTILINE) is not None


def fenced_blocks(text: str) -> Iterator[Block]:
    """The fenced blocks of a text, in order.

    A line that begins with a fence opens a block or closes the one before; one with a Python tag
    always opens, since no closing fence has a tag, and the fence before it was a mention. A block
    without such an end is closed by the first fence in its lines, if there is any.
    """
    opened: _Open | None = None
    for line in text.split("\n"):
        fence = _fence(line, opened)
        if fence is not None and (opened is None or _PYTHON.match(fence.tag)):
            opened = fence
        elif fence is not None and opened is not None:
            yield opened.block()
            opened = None
        elif opened is not None:
            opened.lines.append(line)
    if opened is not None:
        code, found, _ = "\n".join(opened.lines).partition(FENCE)
        if found:
            yield Block(opened.tag, _unindented(code.split("\n"), opened.indent))


def _fence(line: str, opened: _Open | None) -> _Open | None:
    """The fence on a line (if a block is open, one that ends it); None for other lines."""
    match = _AT_BEGIN.fullmatch(line)
    if match is None:
        return _fence_after_words(line) if opened is None else None
    indent, fence, tag = len(match[1]), match[2], match[3].strip()
    if opened is None:
        # Further backticks after backticks are inline code in prose.
        return None if "`" in tag and fence[0] == "`" else _Open(fence, tag, indent)
    near = indent <= opened.indent + NEARBY
    if near and _PYTHON.match(tag):
        return _Open(fence, tag, indent)
    ends = fence[0] == opened.fence[0] and len(fence) >= len(opened.fence)
    return _Open(fence, tag, indent) if near and ends and not tag[:1].isalnum() else None


def _fence_after_words(line: str) -> _Open | None:
    """A fence at the end of a line: with a Python tag, or the only one on the line."""
    start = line.rfind(FENCE)
    while start > 0 and line[start - 1] == "`":
        start -= 1
    match = _AT_END.match(line, start) if start >= 0 else None
    if match is None:
        return None
    alone = not match[2] and FENCE not in line[:start]
    return _Open(match[1], match[2], 0) if alone or _PYTHON.fullmatch(match[2]) else None


def _unindented(lines: Sequence[str], indent: int) -> str:
    """The code on `lines`, without the indentation of its fence and without one of its own."""
    if indent:
        lines = [line[min(indent, len(line) - len(line.lstrip(" \t"))) :] for line in lines]
    code = "\n".join(lines).strip("\ufeff\r\n")
    return (textwrap.dedent(code) if code[:1] in (" ", "\t") else code).strip()
