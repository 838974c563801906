"""Count sentences and split text into words, as the counting instructions need.

The official checkers use the trained Punkt and Treebank tokenizers of NLTK. These are the same
rules without the trained statistics, and so without a download: a sentence ends with ".", "?" or
"!" before white space or before a mark such as a bracket or a star; not after an abbreviation or
an initial, according to lists. A line break alone does not end a sentence. Left out: learning which
words are abbreviations and which words begin sentences.
"""

from __future__ import annotations

import re

_ABBREVIATED = (
    "mr mrs ms dr prof st jr sr gen sen rep gov lt col sgt capt maj hon rev vs etc inc ltd co corp "
    "dept est approx no vol fig al e.g i.e u.s u.k p.s p.p.s a.m p.m jan feb mar apr aug sept oct "
    "nov dec"
)
_BEFORE_NAMES = "mr mrs ms dr prof gen sen rep gov lt col sgt capt maj hon rev vs e.g i.e"
ABBREVIATIONS = frozenset(_ABBREVIATED.split())
"""Words whose full stop does not end a sentence by itself."""

ALWAYS_ABBREVIATED = frozenset(_BEFORE_NAMES.split())
"""Those that may be followed by a capital letter inside a sentence."""

_END = re.compile(r".*[.?!](?=[?!)\";}\]*:@'({\[]|$)", re.DOTALL)
"""Up to the last mark of a run of characters that may end a sentence."""

CLOSERS = "\"')]}"
"""Marks that belong to the sentence they close."""

WORD_CHARS = 40
"""How far back from a full stop its word may begin."""


def count_sentences(text: str) -> int:
    """Number of sentences; text after the last mark counts as one more."""
    runs = text.split()
    count, begun = 0, False
    for place, run in enumerate(runs):
        begun = True
        match = _END.match(run)
        if match is None or (match.end() == len(run) and place + 1 == len(runs)):
            continue
        rest = run[match.end() :]
        following = rest.strip(CLOSERS + "*") or " ".join(runs[place + 1 : place + 2])
        if match[0].endswith(".") and not _is_end(match[0][:-1], following):
            continue
        count, begun = count + 1, bool(rest.strip(CLOSERS))
    return count + begun


def _is_end(before: str, following: str) -> bool:
    """Whether a full stop between `before` and `following` ends a sentence."""
    word = before[-WORD_CHARS:].lstrip("\"'“‘([{*_").lower()
    first = following.lstrip("\"'“‘([{*_")[:1]
    if word.endswith("."):
        return first.isupper()
    if word in ALWAYS_ABBREVIATED or (len(word) == 1 and word.isalpha() and word != "i"):
        return False
    if word in ABBREVIATIONS or re.fullmatch(r"(?:[a-z]\.)+[a-z]", word):
        return first.isupper()
    return not (word.isdigit() and first.islower())


def count_words(text: str) -> int:
    """Number of runs of letters, digits and underscores."""
    return sum(1 for _ in re.finditer(r"\w+", text))


_TOKEN = re.compile(r"[^\s\"“”(){}\[\]<>,;:!?…&$#@%*]+")
_CONTRACTION = re.compile(r"n't$|'(?:s|m|d|ll|re|ve)?$|(?<=^can)not$|(?<=^gon|^wan)na$", re.I)
LONGEST_TOKEN = 200


def count_capital_words(text: str) -> int:
    """Number of tokens all of whose letters are capitals; "IT'S" is two, "U.S." one."""
    count = 0
    for match in _TOKEN.finditer(text):
        token = match[0][:LONGEST_TOKEN].rstrip(".").lstrip("'")
        tail = _CONTRACTION.search(token)
        pieces = [token[: tail.start()], tail[0]] if tail else [token]
        count += sum(piece.isupper() for piece in pieces)
    return count
