"""From a model's answer to a command of the game. Any text is allowed."""

from __future__ import annotations

import re
from collections.abc import Sequence

from resd_bench.types import Dialect
from resd_envs.textworld.journal import Outcome, Scene
from resd_envs.textworld.maze import DIRECTIONS

_MOST_CHARS = 100
"""Maximum length of a command."""
DECORATION = "`*>\"' \t."
"""Characters that models put around a command."""
ARTICLES = re.compile(r"\b(the|a|an)\s+")
SYNONYMS = (
    (re.compile(r"^(?:get|grab|pick up) "), "take "),
    (re.compile(r"^(?:walk|move|head|run) "), "go "),
    (re.compile(r"^(?:x|inspect|read) "), "examine "),
    (re.compile(r"^(?:l|look around)$"), "look"),
    (re.compile(r"^(?:i|inv)$"), "inventory"),
)
SHORT_WAYS = {"n": "north", "e": "east", "s": "south", "w": "west"}


def read_command(action: str, most: int = _MOST_CHARS) -> str:
    """The last line of `action` that is not blank, in lower case and undecorated; "" if none."""
    last = action.rstrip().rpartition("\n")[2][: 4 * most]
    return " ".join(last.strip(DECORATION).lower().split())[:most]


def resolve_command(command: str, possible: Sequence[str], dialect: Dialect) -> str | None:
    """The possible command that `command` means; None if there is none or more than one.

    `compact` requires it word for word; `full` accepts the usual synonyms of text games, and a
    thing without its location.
    """
    by_name = {p.lower(): p for p in possible}
    if command in by_name or dialect == "compact":
        return by_name.get(command)
    plain = plainer(command)
    if plain in by_name:
        return by_name[plain]
    longer = [p for name, p in by_name.items() if name.startswith(f"{plain} from ")]
    return longer[0] if len(longer) == 1 else None


def plainer(command: str) -> str:
    """`command` without articles, and with synonyms replaced."""
    command = ARTICLES.sub("", command)
    for pattern, word in SYNONYMS:
        command = pattern.sub(word, command)
    command = SHORT_WAYS.get(command, command)
    return f"go {command}" if command in DIRECTIONS else command


def failure(command: str, verbs: Sequence[str], scene: Scene, dialect: Dialect) -> Outcome:
    """Why `command` is not possible in `scene`."""
    if not command:
        return Outcome.NO_COMMAND
    words = (command if dialect == "compact" else plainer(command)).split()
    if not words or words[0] not in verbs:
        return Outcome.NOT_UNDERSTOOD
    if words[0] == "go" and words[1:2] and words[1] in DIRECTIONS:
        barred = any(door.startswith(f"{words[1]} ") for door in scene.barred)
        return Outcome.BARRED if barred else Outcome.NO_EXIT
    return Outcome.NO_EFFECT
