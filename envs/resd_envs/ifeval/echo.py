"""Whether a response repeats its prompt instead of answering it.

The published checkers look at form alone, and a prompt has the form it asks for more often than
chance: a copy of it follows all instructions of a quarter of the probe. Left out: copies in other
words, and nonsense that follows the instructions, which the checkers accept by design.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

RUN = 4
"""Words in a row that are copied and not chosen."""
MOSTLY, NEARLY_ALL = 0.5, 0.9

_WORD = re.compile(r"\w+")
_QUOTED = re.compile(r'"[^"]*+"')


def is_echo(prompt: str, response: str, *, begin: str = "", end: str = "") -> bool:
    """Whether `response` has hardly a word of its own beside `prompt`, case and marks aside.

    That is so where most of its words are runs copied from what the prompt says outside quotation
    marks, or where it is nearly the whole prompt and nearly nothing else; so what a prompt quotes
    may be used. `begin` and `end` are what the prompt asks to be said word for word; they do not
    count, and where nothing else is said there is no answer.
    """
    said = _words(_without(response, begin, end))
    if not said:
        return bool(begin or end)
    source, told = _words(prompt), _words(_QUOTED.sub(" ", prompt))
    run = min(RUN, len(source))
    if len(said) < run:
        return False
    mostly = _copied(said, told, run) >= MOSTLY * len(said)
    whole = _copied(said, source, run) >= NEARLY_ALL * len(said)
    return mostly or (whole and _copied(source, said, run) >= NEARLY_ALL * len(source))


def _without(response: str, begin: str, end: str) -> str:
    """`response` without what it was asked to begin and to end with."""
    rest, begin, end = response.strip(), begin.strip(), end.strip()
    if begin and rest.lower().startswith(begin.lower()):
        rest = rest[len(begin) :]
    if end and rest.lower().endswith(end.lower()):
        rest = rest[: -len(end)]
    return rest


def _words(text: str) -> list[str]:
    return _WORD.findall(text.casefold())


def _copied(words: Sequence[str], source: Sequence[str], run: int) -> int:
    """How many of `words` stand in runs of `run` words that occur in `source`."""
    known = {tuple(source[i : i + run]) for i in range(len(source) - run + 1)}
    copied = end = 0
    for begin in range(len(words) - run + 1):
        if tuple(words[begin : begin + run]) in known:
            copied += begin + run - max(begin, end)
            end = begin + run
    return copied
