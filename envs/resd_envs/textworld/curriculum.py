"""The coin-collector curriculum of the embedded model: searches with known misconceptions.

A correct search looks for the coin room by room: take it if it is here, else try the first new
exit, else go back. Nine misconceptions can spoil it: seven shared ones, which a lesson cures on
every map, and two instance-specific ones, about one exit of one room, which only a reflection on
the attempt can name. Games are played only on pre-training maps, by a small imitation of the
compact dialect that tests compare with the environment; TextWorld is not needed.

An answer is the whole episode as methods show it: commands after `> ` and the observations between
them. `chat` gives the same as turns, from which a multi-turn document is made.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from resd_bench.nano.curriculum import (
    CheckedTurn,
    Exercise,
    Mistake,
    OrderedCurriculum,
    blamed,
    verdict_on,
)
from resd_bench.types import Task
from resd_envs.textworld.commands import failure, read_command, resolve_command
from resd_envs.textworld.games import TIERS
from resd_envs.textworld.journal import Journal, Outcome, Scene, Ways
from resd_envs.textworld.maze import (
    DIRECTIONS,
    Layout,
    Maze,
    draw_maze,
    from_content,
    share_of,
)

TIER = TIERS["coin", "medium"]
"""The tier whose episodes are simulated."""
LAYOUTS: Sequence[tuple[Layout, float]] = (
    (Layout(3, 3), 0.5),
    (Layout(2, 3, deep=True), 0.15),
    (Layout(3, 2), 0.15),
    (Layout(4, 2), 0.2),
)
"""Sizes of pre-training maps, and their shares."""
PROMPT = "find coin"
GOAL = "coin"
_VERBS = ("drop", "examine", "go", "inventory", "look", "take")
_SAYS = "> "
"""The prefix of a command in an answer."""

ORDER = ("verb", "wall", "turn", "stuck", "again", "rest", "blind", "pass", "get")
"""Misconceptions in the order in which attempts reveal them."""

PRIORS = {
    "verb": 0.45,
    "wall": 0.45,
    "turn": 0.55,
    "stuck": 0.85,
    "again": 0.50,
    "rest": 0.50,
    "blind": 0.85,
    "pass": 0.60,
    "get": 0.50,
}
"""How often an untaught search gets each point right."""

SHARED = {
    "verb": Mistake(
        "verb",
        "walk is not understood",
        ("say go and a direction , not walk", "the verb for moving is go"),
        True,
        wrong=("say walk and a direction , not go",),
    ),
    "wall": Mistake(
        "wall",
        "it walks straight on where there is no exit",
        ("go only where an exit is shown", "do not walk on into a wall , use the exits"),
        True,
        wrong=("walk straight on where no exit is shown",),
    ),
    "turn": Mistake(
        "turn",
        "it turns back before trying new exits",
        ("try new exits before going back", "go back only when nothing is new"),
        True,
        wrong=("go back before trying new exits",),
    ),
    "again": Mistake(
        "again",
        "it enters a dead end again",
        ("do not take a done exit again", "leave out exits that are done"),
        True,
        wrong=("take a done exit again",),
    ),
    "rest": Mistake(
        "rest",
        "it stays and looks in a dead end",
        ("at a dead end go back at once", "when nothing is new go back , do not look"),
        True,
        wrong=("at a dead end look , do not go back",),
    ),
    "pass": Mistake(
        "pass",
        "it leaves the room of the coin",
        ("stop at the coin and take it", "when the coin is here take it before moving"),
        True,
        wrong=("leave the room of the coin",),
    ),
    "get": Mistake(
        "get",
        "get is not understood",
        ("say take coin , not get coin", "the verb for the coin is take"),
        True,
        wrong=("say get coin , not take coin",),
    ),
}


@dataclass
class _Play:
    """A simulated episode in the compact dialect."""

    maze: Maze
    turns: int

    def __post_init__(self) -> None:
        self.place = 0
        self.won = False
        self.journal = Journal(self.scene(), GOAL)
        self.observations = [f"{PROMPT}\n{self.journal.compact()}"]
        self.said: list[str] = []

    @property
    def over(self) -> bool:
        """Whether the coin is taken or the commands are used up."""
        return self.won or len(self.said) >= self.turns

    def scene(self) -> Scene:
        """The scene at the player's position."""
        exits = tuple(self.maze.exits[self.place])
        things = (GOAL,) if self.place == self.maze.coin and not self.won else ()
        return Scene(self.maze.names[self.place], exits, things, names=frozenset(things))

    def commands(self) -> list[str]:
        """The commands that are possible now."""
        ways = [f"go {direction}" for direction in self.maze.exits[self.place]]
        coin = ["take coin", "examine coin"] if self.place == self.maze.coin else []
        return ["look", "inventory", *ways, *coin]

    def act(self, action: str) -> None:
        """Take one action, as the environment does."""
        self.said.append(action)
        said = read_command(action)
        command = resolve_command(said, self.commands(), "compact")
        if command is None:
            outcome = failure(said, _VERBS, self.journal.scene, "compact")
            self.journal.note(said, outcome, self.journal.scene)
        else:
            outcome = Outcome.DONE
            self.won = command == "take coin"
            if command.startswith("go "):
                self.place = self.maze.exits[self.place][command.removeprefix("go ")]
            self.journal.note(command, outcome, self.scene())
        seen = "holding nothing , " if command == "inventory" else ""
        self.observations.append(seen + self.journal.compact(outcome))

    @property
    def feedback(self) -> str:
        """The environment's feedback on a failure at level 3."""
        if self.won:
            return ""
        steps, best = self._progress()
        counts = f"passed {best} of {steps}: {self.journal.failure}"
        return f"{counts}\n{self.journal.report('compact')}"

    def _progress(self) -> tuple[int, int]:
        """Steps of the quest, and the largest number of them that was done."""
        route, place, along = self.maze.route, 0, [0]
        for direction in route:
            place = self.maze.exits[place][direction]
            along.append(place)
        names = [self.maze.names[room] for room in along]
        reached = [names.index(room) for room in self.journal.rooms if room in names]
        return len(route) + 1, max(reached)


@dataclass(frozen=True)
class _Searcher:
    """Gives the next command of a search with the given mistakes."""

    mistakes: Mapping[str, Mistake]

    def command(self, play: _Play) -> str:
        """The next command."""
        scene, wrong = play.journal.scene, self.mistakes
        if GOAL in scene.things and "pass" not in wrong:
            return "get coin" if "get" in wrong else "take coin"
        direction = self._direction(play, scene)
        if not direction:
            return "look"
        return f"{'walk' if 'verb' in wrong else 'go'} {direction}"

    def _direction(self, play: _Play, scene: Scene) -> str:
        """Where it goes; "" for nowhere."""
        ways, wrong = self._seen(play.journal.ways(scene), scene.room), self.mistakes
        if self._is_about("stuck", scene.room):
            return wrong["stuck"].where[1].split()[1]
        came = self._heading(play)
        if "wall" in wrong and came and came not in scene.exits:
            return came
        if "again" in wrong and ways.done:
            return ways.done[0]
        if "turn" in wrong and ways.back:
            return ways.back[0]
        if "rest" in wrong and not ways.new and ways.back:
            return ""
        return next(iter(ways.new + ways.back), "")

    def _seen(self, ways: Ways, room: str) -> Ways:
        """The exits without the one that it overlooks."""
        if not self._is_about("blind", room):
            return ways
        missed = self.mistakes["blind"].where[1].split()[1]
        return Ways(tuple(w for w in ways.new if w != missed), ways.done, ways.back)

    def _is_about(self, key: str, room: str) -> bool:
        return key in self.mistakes and self.mistakes[key].where[1].split()[0] == room

    def _heading(self, play: _Play) -> str:
        """The direction of the last move; "" before the first."""
        moves = [m.said.split() for m in play.journal.moves if m.said.startswith(("go ", "walk "))]
        return moves[-1][1] if moves else ""


class CoinCurriculum(OrderedCurriculum):
    """See `resd_bench.nano.curriculum.Curriculum`; `chat` is added for several turns."""

    order = ORDER

    def exercise(self, rng: np.random.Generator) -> Exercise:
        shares = np.array([share for _, share in LAYOUTS])
        while True:
            layout = LAYOUTS[int(rng.choice(len(LAYOUTS), p=shares / shares.sum()))][0]
            maze = draw_maze(layout, rng)
            if share_of(maze) == "pretraining":
                return _exercise(maze)

    def of_task(self, task: Task) -> Exercise:
        return _exercise(from_content(task.data["maze"]))

    def priors(self, exercise: Exercise) -> Mapping[str, float]:
        return {key: PRIORS[key] for key in _bearing(exercise.content)}

    def mistake(self, exercise: Exercise, key: str, rng: np.random.Generator) -> Mistake:
        if key in SHARED:
            return SHARED[key]
        places = _places(from_content(exercise.content), key)
        at, direction, room = places[int(rng.integers(len(places)))]
        return _specific(key, at, direction, room)

    def answer(self, exercise: Exercise, mistakes: Mapping[str, Mistake]) -> str:
        searcher = _Searcher(mistakes)
        return _transcript(_played(exercise.content, searcher.command))

    def chat(self, exercise: Exercise, response: str) -> tuple[tuple[str, str], ...]:
        """The turns of an answer: each observation and the command that followed it, in order."""
        play = _replay(exercise.content, response)
        return tuple(zip(play.observations, play.said, strict=False))

    def checked(
        self, exercise: Exercise, mistakes: Mapping[str, Mistake]
    ) -> tuple[CheckedTurn, ...]:
        """See `TurnCurriculum`."""
        play, turns = _Play(from_content(exercise.content), TIER.turns), list[CheckedTurn]()
        while not play.over:
            asked = play.observations[-1]
            said, right, fault = blamed(ORDER, mistakes, lambda left: _Searcher(left).command(play))
            play.act(said)
            told = play.journal.last_turn("compact")
            verdict = verdict_on(told.kind, fault)
            turns.append(CheckedTurn(asked, said, right, fault, verdict, told.text))
        return tuple(turns)

    def instead(
        self, exercise: Exercise, said: Sequence[str], mistakes: Mapping[str, Mistake]
    ) -> str:
        """See `TurnCurriculum`."""
        return _Searcher(mistakes).command(_after(exercise.content, said))

    def feedback(self, exercise: Exercise, response: str) -> tuple[bool, str]:
        play = _replay(exercise.content, response)
        return play.won, play.feedback

    def distractor(self, rng: np.random.Generator) -> Mistake:
        exercise = self.exercise(rng)
        keys = list(self.priors(exercise))
        return self.mistake(exercise, keys[int(rng.integers(len(keys)))], rng)


@lru_cache(maxsize=50_000)
def _exercise(maze: Maze) -> Exercise:
    play = _Play(maze, TIER.turns)
    return Exercise(play.observations[0], "coin", maze.content, maze.fingerprint)


def _played(content: Sequence[str], command: Callable[[_Play], str]) -> _Play:
    play = _Play(from_content(content), TIER.turns)
    while not play.over:
        play.act(command(play))
    return play


def _transcript(play: _Play) -> str:
    lines = [f"{_SAYS}{play.said[0]}"]
    for observation, said in zip(play.observations[1:], play.said[1:], strict=False):
        lines += [observation, f"{_SAYS}{said}"]
    return "\n".join(lines)


def _replay(content: Sequence[str], response: str) -> _Play:
    """The episode in which the commands of a transcript were given."""
    says = (line for line in response.splitlines() if line.startswith(_SAYS))
    return _after(content, [line.removeprefix(_SAYS) for line in says])


def _after(content: Sequence[str], said: Sequence[str]) -> _Play:
    """The episode in which these commands were given, to its end."""
    play = _Play(from_content(content), TIER.turns)
    for action in said:
        if not play.over:
            play.act(action)
    return play


def _specific(key: str, at: int, direction: str, room: str) -> Mistake:
    """A mistake about one exit of one room."""
    if key == "stuck":
        symptom = f"in {room} it walks {direction} into a wall"
        lesson = f"in {room} do not go {direction}"
    else:
        symptom = f"in {room} it never tries {direction}"
        lesson = f"in {room} go {direction}"
    return Mistake(key, symptom, (lesson,), False, (at, f"{room} {direction}"))


def _places(maze: Maze, key: str) -> list[tuple[int, str, str]]:
    """Where on the route an instance-specific mistake can be: position, direction, room."""
    found, place = [], 0
    for at, onward in enumerate(maze.route):
        walls = [d for d in DIRECTIONS if d not in maze.exits[place]]
        for direction in walls if key == "stuck" else [onward]:
            found.append((at, direction, maze.names[place]))
        place = maze.exits[place][onward]
    return found


@lru_cache(maxsize=50_000)
def _bearing(content: tuple[str, ...]) -> tuple[str, ...]:
    """Misconceptions that alone make a search of this map fail, in order of decision."""
    maze = from_content(content)
    keys = []
    for key in ORDER:
        if key in SHARED:
            mistakes = {key: SHARED[key]}
        elif places := _places(maze, key):
            mistakes = {key: _specific(key, *places[0])}
        else:
            continue
        if not _played(content, _Searcher(mistakes).command).won:
            keys.append(key)
    return tuple(keys)


CURRICULUM = CoinCurriculum()
"""The object of the entry point `textworld-coin` in the group `resd_bench.curricula`."""
