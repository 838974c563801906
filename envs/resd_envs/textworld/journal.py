"""The journal of a text game: the player's positions, answers and their outcomes.

The compact observations and the feedback of all games are made from it. It knows only what the
player has seen, so it cannot reveal what the player could not know. TextWorld is not imported: the
embedded model's curriculum keeps the same journal for simulated games.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from resd_bench.types import Dialect, TurnFeedback
from resd_envs.textworld.maze import OPPOSITE

MOST_LINES = 4
"""Examples of each kind of problem in a report."""
MOST_ROOMS = 6
_MOST_CHARS = 40
"""Characters of an answer that a report repeats."""


class Outcome(StrEnum):
    """The outcome of an answer."""

    DONE = "done"
    """It was a command and the game executed it."""
    CUT_OFF = "cut_off"
    """It hit its token limit and is not a command."""
    NO_COMMAND = "no_command"
    """It did not contain a command."""
    NOT_UNDERSTOOD = "not_understood"
    """Its first word is not a verb of the game."""
    NO_EXIT = "no_exit"
    """There is no exit in that direction."""
    BARRED = "barred"
    """There is an exit, but its door is closed."""
    NO_EFFECT = "no_effect"
    """The verb is known, but this cannot be done here and now."""


SAYS: Mapping[Dialect, Mapping[Outcome, str]] = {
    "full": {
        Outcome.NO_COMMAND: "I need a command on the last line of your answer.",
        Outcome.NOT_UNDERSTOOD: "That's not a command I recognise.",
        Outcome.NO_EXIT: "You can't go that way.",
        Outcome.BARRED: "The door in that direction is closed.",
        Outcome.NO_EFFECT: "You can't do that here.",
    },
    "compact": {
        Outcome.DONE: "ok",
        Outcome.NO_COMMAND: "no command",
        Outcome.NOT_UNDERSTOOD: "not understood",
        Outcome.NO_EXIT: "no exit",
        Outcome.BARRED: "door closed",
        Outcome.NO_EFFECT: "no effect",
    },
}
"""The beginning of an observation, by outcome; of an answer that was cut off, the environment's
base class says so."""

_JOIN: Mapping[Dialect, str] = {"full": ", ", "compact": " "}
TIMES: Mapping[Dialect, str] = {"full": " ({count} times)", "compact": " x{count}"}
REPORT: Mapping[Dialect, Mapping[str, str]] = {
    "full": {
        "cut_off": "Answer cut off at the length limit{times}.",
        "no_command": "No command in the answer{times}.",
        "not_understood": "Not understood: {said}{times}.",
        "no_exit": "No exit: {said}, in the {room}{times}.",
        "barred": "Door closed: {said}, in the {room}{times}.",
        "no_effect": "Could not be done: {said}, in the {room}{times}.",
        "waiting": "Led nowhere: {said}, in the {room}{times}.",
        "turned_back": "Went back from the {room} before trying: {ways}{times}.",
        "dead_end": "Entered a dead end more than once: the {room}{times}.",
        "seen": "Saw but did not take: the {goal}, in the {room}.",
        "untried": "Never tried: {ways}, from the {room}.",
        "lost": "The game was lost by: {said}.",
        "rooms": "Last rooms: {rooms}.",
    },
    "compact": {
        "cut_off": "answer : cut off{times}",
        "no_command": "no command{times}",
        "not_understood": "not understood : {said}{times}",
        "no_exit": "no exit : {said} in {room}{times}",
        "barred": "door closed : {said} in {room}{times}",
        "no_effect": "no effect : {said} in {room}{times}",
        "waiting": "led nowhere : {said} in {room}{times}",
        "turned_back": "turned back in {room} before {ways}{times}",
        "dead_end": "dead end again : {room}{times}",
        "seen": "not taken : {goal} in {room}",
        "untried": "never tried : {ways} in {room}",
        "lost": "lost by : {said}",
        "rooms": "last rooms : {rooms}",
    },
}
"""The lines of a report, by their topic."""

ANYWHERE = (Outcome.CUT_OFF, Outcome.NO_COMMAND, Outcome.NOT_UNDERSTOOD)
"""Problems that have nothing to do with the room."""
IDLE = ("look", "inventory", "examine")
"""Verbs that change nothing."""


@dataclass(frozen=True, slots=True)
class Scene:
    """What a player sees at its position."""

    room: str
    exits: tuple[str, ...]
    """Directions that are open, in the order of `DIRECTIONS`."""
    things: tuple[str, ...] = ()
    """What is here, tersely; containers with their contents."""
    barred: tuple[str, ...] = ()
    """Closed doors, each with its direction."""
    names: frozenset[str] = frozenset()
    """Names of everything that can be seen here."""


@dataclass(frozen=True, slots=True)
class Ways:
    """The exits of a room, by what the player did with them."""

    new: tuple[str, ...]
    done: tuple[str, ...]
    back: tuple[str, ...]
    """The direction from which the player first came; none at the start."""


@dataclass(frozen=True, slots=True)
class Move:
    """One answer of the player."""

    said: str
    """As a report may repeat it."""
    outcome: Outcome
    room: str
    """The room in which it was given."""
    early: tuple[str, ...] = ()
    """Exits left untried by going back, if it went back."""


@dataclass
class Journal:
    """A running game, from the player's side."""

    scene: Scene
    goal: str = ""
    """Name of the thing to take; "" if the game is not about taking one."""
    goal_room: str = ""
    """Where the player saw it."""
    seen: dict[str, Scene] = field(default_factory=dict)
    tried: dict[str, set[str]] = field(default_factory=dict)
    origin: dict[str, str] = field(default_factory=dict)
    """By room, the direction back to where it was first entered from."""
    moves: list[Move] = field(default_factory=list)
    rooms: list[str] = field(default_factory=list)
    """Rooms in the order they were entered."""

    def __post_init__(self) -> None:
        self._enter(self.scene)

    def note(self, said: str, outcome: Outcome, after: Scene) -> None:
        """Record an answer, its outcome and the scene after it."""
        room, words = self.scene.room, said.split()
        early: tuple[str, ...] = ()
        moved = outcome is Outcome.DONE and words[:1] == ["go"] and after.room != room
        if moved:
            ways = self.ways(self.scene)
            early = ways.new if words[1] in ways.back else ()
            self.tried.setdefault(room, set()).add(words[1])
            if after.room not in self.seen:
                self.origin[after.room] = OPPOSITE[words[1]]
        self.moves.append(Move(shown(said), outcome, room, early))
        self.scene = after
        if moved:
            self._enter(after)
        self._look(after)

    def _enter(self, scene: Scene) -> None:
        self.rooms.append(scene.room)
        self._look(scene)

    def _look(self, scene: Scene) -> None:
        self.seen[scene.room] = scene
        if self.goal and self.goal in scene.names:
            self.goal_room = scene.room

    def ways(self, scene: Scene) -> Ways:
        """The exits of a room, sorted by what was done with them."""
        tried, back = self.tried.get(scene.room, set()), self.origin.get(scene.room, "")
        return Ways(
            tuple(d for d in scene.exits if d not in tried and d != back),
            tuple(d for d in scene.exits if d in tried and d != back),
            tuple(d for d in scene.exits if d == back),
        )

    def compact(self, outcome: Outcome | None = None) -> str:
        """The scene in one line, after the outcome of the last answer.

        It also says which exits are new, done, and lead back, because the embedded model is too
        small to keep a map.
        """
        ways = self.ways(self.scene)
        says = SAYS["compact"].get(outcome, "") if outcome else ""
        parts = [says, self.scene.room, *self.scene.things]
        for word in ("new", "done", "back"):
            found: tuple[str, ...] = getattr(ways, word)
            parts.append(" ".join([word, *found]) if found else "")
        return " , ".join(part for part in [*parts, *self.scene.barred] if part)

    def last_turn(self, dialect: Dialect) -> TurnFeedback:
        """What there is to say about the last answer, from what had happened by then."""
        move = self.moves[-1]
        where: Values = {"said": (move.said,), "room": (move.room,)}
        if move.outcome is not Outcome.DONE:
            return TurnFeedback("invalid", Line(move.outcome.value, where).worded(dialect))
        if self._told_before(move):
            return TurnFeedback("wasted", Line("waiting", where).worded(dialect))
        if move.early:
            back = Line("turned_back", {"room": (move.room,), "ways": move.early})
            return TurnFeedback("changed", back.worded(dialect))
        return TurnFeedback("changed")

    def _told_before(self, move: Move) -> bool:
        """Whether the last answer only looked, and had been told this since anything changed.

        Entering a room tells what `look` does.
        """
        if not move.said.startswith(IDLE):
            return False
        for earlier in reversed(self.moves[:-1]):
            if earlier.outcome is Outcome.DONE and not earlier.said.startswith(IDLE):
                return move.said == "look" and earlier.said.startswith("go ")
            if earlier.said == move.said:
                return True
        return move.said == "look"

    @property
    def failure(self) -> str:
        """The class of a failure to win within the turns."""
        if all(move.outcome is not Outcome.DONE for move in self.moves):
            return "nothing_done"
        if not self.goal:
            return "turn_limit"
        return "not_taken" if self.goal_room else "not_found"

    def report(self, dialect: Dialect, lost: bool = False) -> str:
        """What went wrong, one line each, in the order in which it should be fixed."""
        lines = [
            *self._mishaps(),
            *_counted("turned_back", self._turned_back()),
            *_counted("dead_end", self._dead_ends()),
            *(line for line in _counted("waiting", self._waiting()) if line.count > 1),
            *self._left_out(),
        ]
        if lost and self.moves:
            lines.append(Line("lost", {"said": (self.moves[-1].said,)}))
        lines.append(Line("rooms", {"rooms": tuple(self.rooms[-MOST_ROOMS:])}))
        return "\n".join(line.worded(dialect) for line in lines)

    def _mishaps(self) -> list[Line]:
        """Answers that the game did not execute; equal ones appear once."""
        found: dict[Outcome, list[Values]] = {kind: [] for kind in Outcome}
        for move in self.moves:
            room = "" if move.outcome in ANYWHERE else move.room
            found[move.outcome].append({"said": (move.said,), "room": (room,)})
        del found[Outcome.DONE]
        return [line for kind, values in found.items() for line in _counted(kind.value, values)]

    def _turned_back(self) -> list[Values]:
        return [{"room": (m.room,), "ways": m.early} for m in self.moves if m.early]

    def _dead_ends(self) -> list[Values]:
        """Repeated visits to rooms with one exit, except the start."""
        again: list[Values] = []
        known: set[str] = set()
        for room in self.rooms:
            scene = self.seen[room]
            dead = len(scene.exits) + len(scene.barred) == 1
            if dead and room in known and room not in (self.rooms[0], self.goal_room):
                again.append({"room": (room,)})
            known.add(room)
        return again

    def _waiting(self) -> list[Values]:
        """Commands that change nothing."""
        return [
            {"said": (m.said,), "room": (m.room,)}
            for m in self.moves
            if m.outcome is Outcome.DONE and m.said.startswith(IDLE)
        ]

    def _left_out(self) -> list[Line]:
        """The goal if it was seen, else exits that were seen but never tried."""
        if self.goal_room:
            return [Line("seen", {"goal": (self.goal,), "room": (self.goal_room,)})]
        rooms = dict.fromkeys(reversed(self.rooms))
        untried = [(room, self.ways(self.seen[room]).new) for room in rooms]
        left = [(room, ways) for room, ways in untried if ways][:MOST_LINES]
        return [Line("untried", {"ways": ways, "room": (room,)}) for room, ways in left]


Values = dict[str, tuple[str, ...]]
"""The values for a line of a report."""


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a report, before it is put into words."""

    key: str
    values: Values
    count: int = 1

    def worded(self, dialect: Dialect) -> str:
        """The line in words."""
        times = TIMES[dialect].format(count=self.count) if self.count > 1 else ""
        values = {name: _JOIN[dialect].join(words) for name, words in self.values.items()}
        return REPORT[dialect][self.key].format(times=times, **values)


def shown(text: str, most: int = _MOST_CHARS) -> str:
    """The beginning of `text` on one line of printable ASCII."""
    head = " ".join(text[: 4 * most].split())[:most]
    return printable(head)


def printable(text: str) -> str:
    """`text` with `?` for everything that is not printable ASCII."""
    return "".join(c if c.isascii() and c.isprintable() else "?" for c in text)


def _counted(key: str, found: Iterable[Values]) -> list[Line]:
    """The most frequent of `found`, each once, with its count."""
    counts = Counter(tuple(values.items()) for values in found)
    return [Line(key, dict(values), n) for values, n in counts.most_common(MOST_LINES)]
