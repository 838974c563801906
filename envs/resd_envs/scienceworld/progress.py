"""The progress of a ScienceWorld task, read from what the game prints about its subgoals."""

from __future__ import annotations

import re
from dataclasses import dataclass

LINE = re.compile(r"\d+\t(true|false)\t\s*\w+\t(.*)")
"""Number, whether it is reached, kind, and description."""
REQUIRED, HELPFUL = "Sequential Subgoals:", "Unordered and Optional Subgoals:"


@dataclass(frozen=True, slots=True)
class Subgoal:
    """A part of a task."""

    what: str
    """Such as "focus on substance"."""
    reached: bool


@dataclass(frozen=True, slots=True)
class Progress:
    """The parts of a task."""

    required: tuple[Subgoal, ...]
    """What must be reached, in this order."""
    helpful: tuple[Subgoal, ...] = ()
    """What may help, partly as an alternative to something else; it is not required."""

    @property
    def reached(self) -> int:
        """Number of required parts that are reached."""
        return sum(part.reached for part in self.required)


def read_progress(text: str) -> Progress:
    """The subgoals in the result of `getGoalProgressStr`; ValueError if there are none."""
    found: dict[str, list[Subgoal]] = {REQUIRED: [], HELPFUL: []}
    section = ""
    for line in text.splitlines():
        if line in found:
            section = line
        elif section and (part := LINE.fullmatch(line)):
            found[section].append(Subgoal(part[2].strip(), part[1] == "true"))
    if not found[REQUIRED]:
        raise ValueError(f"no subgoals in {text[:200]!r}")
    return Progress(tuple(found[REQUIRED]), tuple(found[HELPFUL]))
