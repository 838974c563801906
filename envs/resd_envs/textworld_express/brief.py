"""TextWorldExpress's texts in fewer words, for the embedded model, whose context is short.

The game describes a room in sentences; here it is a line, such as `kitchen , stove , fridge
closed , counter : knife + cookbook , north wood door closed , west corridor`. Nothing but the
wording is lost. What does not match a pattern stays as it is, in lower case and without articles.
"""

from __future__ import annotations

import re

WAY = "north|south|east|west"
PATTERNS = (
    # Of a room.
    (r"you are in the ([^.]+)\. ?", r"\1 , "),
    (r"(?:in one|in another) part of the room you see ", ""),
    (r"(?:there is also|you also see) ", ""),
    (r",? that has nothing on it", ""),
    (r",? that is (closed|open|empty)", r" \1"),
    # Of its ways out.
    (rf"through an open [^,]+, to the ({WAY}) you see ", r"\1 "),
    (rf"to the ({WAY}) you see (?:a )?closed ([^.]+)", r"\1 \2 closed"),
    (rf"to the ({WAY}) you see ", r"\1 "),
    # Of an answer.
    (r"your inventory is currently empty", "nothing"),
    (r"inventory(?: \([^)]*\))?: ?", "holding "),
    (r"you can't move there, the door is closed", "door closed"),
    (r"that is already ", "already "),
    (r"it's empty inside", "empty"),
    (r"simon says, '([^']+)'", r"simon says \1"),
    (r"the current task is to ", ""),
    (r"your (?:first )?task is to ", ""),
    (r"\byou (?=\w)", ""),
    # Of anything.
    (r"\b(?:the|an|a|some) ", ""),
)
HOLDS = re.compile(r",? (?:that has (.+?) on it|(?:that )?contains (.+?))(?=\.|$)")
"""What is on or in a thing, as a list in words."""
COMPILED = [(re.compile(pattern), replacement) for pattern, replacement in PATTERNS]


def brief(text: str) -> str:
    """`text` on one line, in fewer words."""
    told = []
    for sentence in _sentences(text.lower()):
        sentence = HOLDS.sub(_listed, sentence)
        for pattern, replacement in COMPILED:
            sentence = pattern.sub(replacement, sentence)
        told.append(sentence.strip(" ,."))
    joined = " , ".join(part for part in told if part)
    return re.sub(r"(?: ,)+ ", " , ", " ".join(joined.split()))


def _listed(found: re.Match[str]) -> str:
    return " : " + " + ".join(re.split(r",? and |, ", found[1] or found[2]))


def _sentences(text: str) -> list[str]:
    return [part for line in text.splitlines() for part in re.split(r"(?<=\.)\s+", line)]
