"""A running TextWorldExpress game: its texts, possible commands, and progress.

The game accepts only commands that it has just listed, so nothing else is ever sent to it. Left
out: its own ways to draw a game at random.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from resd_bench.files import reading
from resd_envs.games import java
from resd_envs.games.java import GameEngineError
from resd_envs.games.packages import TEXTWORLD_EXPRESS
from resd_envs.textworld_express.games import Game

AGENTS = {
    "arithmetic": "Arithmetic",
    "coin": "Coin",
    "cookingworld": "CookingWorld",
    "mapreader": "MapReader",
    "peckingorder": "PeckingOrder",
    "simonsays": "SimonSays",
    "sorting": "Sorting",
    "twc": "TWC",
}
"""From a game to the beginning of the name of the agent that can win it."""
MOST_TRIES, ENOUGH_TRIES = 50, 5
"""Limits on walks of such an agent, which wanders: their number, and the number that won."""
IDLE = ("", "look around")


@dataclass(frozen=True, slots=True)
class _State:
    """A game's text and state."""

    text: str
    """The reply to the last command."""
    look: str
    inventory: str
    possible: tuple[str, ...]
    """Commands that it accepts now."""
    score: float
    """The share of the goal that is reached; in some games negative if it is lost."""
    won: bool
    lost: bool

    @property
    def place(self) -> tuple[str, str, float]:
        """The visible part of a state, to detect whether a walk has returned to it."""
        return self.look, self.inventory, self.score


class Engine(java.JavaEngine):
    """Plays one game at a time; `start` it before anything else."""

    jar = "textworld-express.jar"
    interface: ClassVar[str] = "textworldexpress.runtime.PythonInterface"

    def __init__(self) -> None:
        super().__init__(TEXTWORLD_EXPRESS.folder)
        self._game: Game | None = None
        self._maker: tuple[str, str] | None = None
        """The game that the server is configured for; configuring reads a file each time."""

    def start(self, game: Game) -> _State:
        """Begin a game."""
        self._game = game
        self.begin()
        return self._state

    def act(self, command: str) -> _State:
        """Execute one of the possible commands."""
        state: _State = self.tell(command)
        return state

    @property
    def description(self) -> str:
        """The game's objective."""
        return self._call("at its task", lambda: str(self._server.getTaskDescription()))

    @property
    def goals(self) -> int:
        """Number of parts of its goal."""
        most = self._call("at its score", lambda: float(self._server.game().scorer().maxScore()))
        return max(1, round(most))

    def _take_machine(self) -> bool:
        replaced = super()._take_machine()
        if replaced:
            self._maker = None
        return replaced

    def _load(self) -> None:
        game = self._game
        assert game is not None
        if self._maker != (game.game, game.parameters):
            refused = self._server.load(game.game, game.parameters)
            if refused:
                raise GameEngineError(f"TextWorldExpress cannot make {game}: {refused}")
            self._maker = (game.game, game.parameters)
        told = self._server.generateNewGameJSON(game.seed, game.fold, False)
        self._state = _read(told)

    def _tell(self, command: str) -> _State:
        return _read(self._server.stepJSON(command))

    def find_solution(self, game: Game) -> tuple[str, ...]:
        """Commands that win, the same at each call; GameEngineError if none are found.

        The game's own agent walks about until it has what it needs; this takes the shortest of
        several walks, and leaves out detours that lead back to where it was.
        """
        walks: list[list[str]] = []
        for number in range(MOST_TRIES):
            walk = self._walk(game, number)
            if walk is not None:
                walks.append(walk)
            if len(walks) >= ENOUGH_TRIES:
                break
        for walk in sorted(walks, key=len):
            states = self.play(game, walk)
            if states[-1].won:
                return self._straightened(game, walk[: len(states) - 1])
        raise GameEngineError(f"the agent of TextWorldExpress does not win {game}")

    def _walk(self, game: Game, number: int) -> list[str] | None:
        """The commands of the game's agent; None if it does not win."""
        self.start(game)
        memory = "Memory" if "memorization=1" in game.parameters else ""
        name = f"textworldexpress.goldagent.{AGENTS[game.game]}{memory}GoldAgent"

        def walk() -> list[str] | None:
            assert self._machine is not None
            # With our own generator: the agent's would be seeded from the clock.
            chance = self._machine.new("scala.util.Random", number)
            found = self._machine.new(name, self._server.game()).mkGoldPath(chance)
            return [str(command) for command in found._2()] if found._1() else None

        commands = self._call("looking for a solution", walk)
        return commands and [command for command in commands if command not in IDLE]

    def play(self, game: Game, commands: Sequence[str]) -> list[_State]:
        """The states of a game played until it or the commands end."""
        states = [self.start(game)]
        for command in commands:
            states.append(self.act(command))
            if states[-1].won or states[-1].lost:
                break
        return states

    def _straightened(self, game: Game, walk: list[str]) -> tuple[str, ...]:
        """`walk` without the parts that lead back to where they began, as long as it still wins."""
        at = 0
        while at < len(walk):
            places = [state.place for state in self.play(game, walk)]
            back = len(places) - 1 - places[::-1].index(places[at])
            shorter = walk[:at] + walk[back:]
            if back > at and self.play(game, shorter)[-1].won:
                walk = shorter
            else:
                at += 1
        return tuple(walk)


def _read(told: str) -> _State:
    """The state in the game's reply."""
    answer: dict[str, Any] = reading.parse_json(told)
    lost = bool(answer["taskfailure"])
    return _State(
        text=_tidy(answer["observation"]),
        look=_tidy(answer["look"]),
        inventory=_tidy(answer["inventory"]),
        possible=tuple(sorted(answer["validActions"])),
        score=float(answer["score"]),
        won=bool(answer["tasksuccess"]) and not lost,
        lost=lost,
    )


def _tidy(text: str) -> str:
    return "\n".join(" ".join(line.split()) for line in text.splitlines()).strip()
