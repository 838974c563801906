"""The record of a game: answers, their outcomes, and the report on a failure.

It knows the player's answers, the game's replies and which answers brought progress; it knows
nothing about the solution, so it cannot give it away. TextWorld games keep a journal of rooms and
exits instead (`resd_envs.textworld.journal`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from resd_bench.types import Dialect, TurnFeedback
from resd_envs.textworld import commands
from resd_envs.textworld.journal import MOST_LINES, TIMES, printable, shown

MOST_CHARS = 200
"""Maximum length of a command."""
MOST_SHOWN = 60
"""Characters of a command, and of the game's reply to it, that a report repeats."""
LAST = 6
"""Commands at the end of a report."""


class CommandOutcome(StrEnum):
    """The outcome of an answer."""

    DONE = "done"
    """The game accepted it."""
    NO_COMMAND = "no_command"
    """It did not contain a command."""
    NOT_UNDERSTOOD = "not_understood"
    """Its first word is not one that commands of the game begin with."""
    NOT_POSSIBLE = "not_possible"
    """It begins like a command, but cannot be done here and now."""


REPLIES: Mapping[Dialect, Mapping[CommandOutcome, str]] = {
    "full": {
        CommandOutcome.DONE: "Done.",
        CommandOutcome.NO_COMMAND: "I need a command on the last line of your answer.",
        CommandOutcome.NOT_UNDERSTOOD: "That's not a command I recognise.",
        CommandOutcome.NOT_POSSIBLE: "You can't do that here and now.",
    },
    "compact": {
        CommandOutcome.DONE: "ok",
        CommandOutcome.NO_COMMAND: "no command",
        CommandOutcome.NOT_UNDERSTOOD: "not understood",
        CommandOutcome.NOT_POSSIBLE: "not possible",
    },
}
"""The replies to answers that never reach the game."""

LINES: Mapping[Dialect, Mapping[str, str]] = {
    "full": {
        "no_command": "No command in the answer{times}.",
        "not_understood": "Not understood: {said}{times}.",
        "not_possible": "Could not be done: {said}{times}{told}.",
        "repeated": "Said again and again with the same result: {said}{times}.",
        "progress": "Brought progress: {said}.",
        "lost": "The game was lost by: {said}{told}.",
        "last": "Last commands: {said}.",
    },
    "compact": {
        "no_command": "no command{times}",
        "not_understood": "not understood : {said}{times}",
        "not_possible": "not possible : {said}{times}{told}",
        "repeated": "repeated : {said}{times}",
        "progress": "progress by : {said}",
        "lost": "lost by : {said}{told}",
        "last": "last : {said}",
    },
}
TOLD: Mapping[Dialect, str] = {"full": ' ("{told}")', "compact": " : {told}"}
_JOIN: Mapping[Dialect, str] = {"full": "; ", "compact": " , "}


@dataclass(frozen=True, slots=True)
class _Turn:
    """One answer of the player."""

    said: str
    """As a report may repeat it."""
    outcome: CommandOutcome
    told: str = ""
    """The beginning of the game's reply."""
    progress: bool = False
    """Whether more of the goal was reached than ever before."""


@dataclass
class Record:
    """A running game, from the player's side."""

    turns: list[_Turn] = field(default_factory=list)

    def note(
        self, said: str, outcome: CommandOutcome, told: str = "", progress: bool = False
    ) -> None:
        """Record an answer, its outcome, and the game's reply."""
        said, told = shown(said, MOST_SHOWN), shown(told, MOST_SHOWN)
        self.turns.append(_Turn(said, outcome, told, progress))

    def last_turn(self, dialect: Dialect) -> TurnFeedback:
        """What there is to say about the last answer, from what had happened by then.

        One that the game accepted is wasted if its reply is that to the answer right before, which
        was the same.
        """
        turn, before = self.turns[-1], self.turns[-2:-1]
        words = {"said": turn.said, "times": "", "told": ""}
        if turn.outcome is not CommandOutcome.DONE:
            return TurnFeedback("invalid", LINES[dialect][turn.outcome.value].format(**words))
        if before == [turn] and not turn.progress:
            return TurnFeedback("wasted", LINES[dialect]["repeated"].format(**words))
        return TurnFeedback("changed")

    @property
    def failure(self) -> str:
        """The class of a failure to win within the turns."""
        done = any(turn.outcome is CommandOutcome.DONE for turn in self.turns)
        return "turn_limit" if done else "nothing_done"

    def report(self, dialect: Dialect, *, lost: bool = False) -> str:
        """What went wrong, one line each, in the order in which it should be fixed."""
        lines = [
            *self._mishaps(dialect),
            *self._repeated(dialect),
            *self._listed("progress", dialect, [t.said for t in self.turns if t.progress]),
        ]
        if lost and self.turns:
            last = self.turns[-1]
            lines.append(_worded("lost", dialect, last.said, told=last.told))
        lines += self._listed("last", dialect, [turn.said for turn in self.turns[-LAST:]])
        return "\n".join(lines)

    def _mishaps(self, dialect: Dialect) -> Iterable[str]:
        """Answers that the game did not accept; equal ones appear once."""
        for kind in (
            CommandOutcome.NO_COMMAND,
            CommandOutcome.NOT_UNDERSTOOD,
            CommandOutcome.NOT_POSSIBLE,
        ):
            found = Counter((t.said, t.told) for t in self.turns if t.outcome is kind)
            for (said, told), count in found.most_common(MOST_LINES):
                yield _worded(kind.value, dialect, said, count, told)

    def _repeated(self, dialect: Dialect) -> Iterable[str]:
        """Commands that the game accepted more than twice, always with the same reply."""
        done = [turn for turn in self.turns if turn.outcome is CommandOutcome.DONE]
        counts = Counter((turn.said, turn.told) for turn in done if not turn.progress)
        for (said, _), count in counts.most_common(MOST_LINES):
            if count > 2:
                yield _worded("repeated", dialect, said, count)

    def _listed(self, key: str, dialect: Dialect, said: list[str]) -> list[str]:
        """One line for all of `said`; none if there is nothing."""
        said = [command for command in said if command]
        return [_worded(key, dialect, _JOIN[dialect].join(said))] if said else []


def _worded(key: str, dialect: Dialect, said: str, count: int = 1, told: str = "") -> str:
    """A line of a report in words."""
    times = TIMES[dialect].format(count=count) if count > 1 else ""
    quoted = TOLD[dialect].format(told=told) if told else ""
    return LINES[dialect][key].format(said=said, times=times, told=quoted)


def read_printable_command(action: str) -> str:
    """The last line of `action` that is not blank, in lower case, undecorated, in printable ASCII.

    Whatever is not printable ASCII becomes `?`, so lone surrogates and control characters never
    reach a game. At most `MOST_CHARS` long; "" if there is no such line.
    """
    return printable(commands.read_command(action, MOST_CHARS))
