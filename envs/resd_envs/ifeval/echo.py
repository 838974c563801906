"""Whether a response repeats its prompt instead of answering it.

The published checkers look only at form, and a prompt has the form it asks for more often than
chance: a copy of it follows all instructions in a quarter of the probe. Left out: paraphrased
copies, and nonsense that follows the instructions, which the checkers accept by design.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

RUN = 4
"""Length, in words, of a run that counts as copied."""
MOSTLY, NEARLY_ALL = 0.5, 0.9

_WORD = re.compile(r"\w+")
_QUOTED = re.compile(r'"[^"]*+"')


def is_echo(prompt: str, response: str, *, begin: str = "", end: str = "") -> bool:
    """Whether `response` adds hardly a word to `prompt`, apart from case and punctuation.

    This is so if most of its words are in runs copied from the prompt outside quotation marks, or
    if it is nearly the whole prompt and nearly nothing else; so quoted parts of a prompt may be
    used. `begin` and `end` are texts that the prompt asks for word for word; they do not count, and
    if there is nothing else, there is no answer.
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
    """How many of `words` are in runs of `run` words that occur in `source`."""
    known = {tuple(source[i : i + run]) for i in range(len(source) - run + 1)}
    copied = end = 0
    for begin in range(len(words) - run + 1):
        if tuple(words[begin : begin + run]) in known:
            copied += begin + run - max(begin, end)
            end = begin + run
    return copied
