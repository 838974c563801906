"""ScienceWorld's texts in fewer words, for the embedded model, whose context is short.

A room becomes a line, such as `hallway : picture , door to kitchen closed`. What does not match a
pattern stays as it is, in lower case and without articles.
"""

from __future__ import annotations

import re

PATTERNS = (
    (r"this (?:room is called|outside location is called) (?:the )?([^.]+)\. ?", r"\1 : "),
    (r"(?:in it|here),? you see: ?", ""),
    (r"you also see: ?", ""),
    (r"^(?:the )?agent$", ""),
    (r"substances? called ", ""),
    (r"\(that is (open|closed)\)", r"\1"),
    (r"(?<=\w)\. the [^.]+ door is (open|closed)\. ?", r" \1 "),
    (r"\. (?:on|in|inside) the [^.:]+ is: nothing\.?", ""),
    (r"\. (?:on|in|inside) the [^.:]+ is: ", " : "),
    (r", which is (?:turned )?", " "),
    (r"\(containing ([^)]*)\)", r"( \1 )"),
    (r"in your inventory, you see:", "holding :"),
    (r"no known action matches that input", "not possible"),
    (r"^you (?:decide to )?", ""),
    (r"\b(?:the|an|a) ", ""),
)
COMPILED = [(re.compile(pattern), replacement) for pattern, replacement in PATTERNS]


def brief(text: str) -> str:
    """`text` on one line, in fewer words."""
    told = []
    for line in text.lower().splitlines():
        line = " ".join(line.split())
        for pattern, replacement in COMPILED:
            line = pattern.sub(replacement, line)
        told.append(line.strip(" ,."))
    joined = " , ".join(part for part in told if part)
    return " ".join(re.sub(r": ,", ":", joined).split())
