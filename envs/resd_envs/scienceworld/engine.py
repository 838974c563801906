"""A running ScienceWorld task: its texts, whether it is done, and its progress.

The game has one random generator, one object counter and one list of simplifications for all
episodes on a machine. Here each engine has its own, and hands them to the game when it takes over
from another one; so the texts depend only on the task and the commands. Left out: the game's lists
of possible actions, which take longer than the actions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from resd_envs.games import java
from resd_envs.games.java import GameEngineError
from resd_envs.games.packages import SCIENCEWORLD
from resd_envs.scienceworld.progress import Progress, read_progress
from resd_envs.scienceworld.tasks import Variation

AMBIGUOUS = "Ambiguous request:"
"""The beginning of a reply that asks, by number, which of several things is meant."""
SIMPLIFIER = "main.scala.scienceworld.runtime.SimplifierProcessor"
UNKNOWN = ("No known action matches that input.", "Unknown action.")
"""The beginning of a reply to what the game does not understand; then nothing happens."""


@dataclass(frozen=True, slots=True)
class GameState:
    """A game's text and state."""

    text: str
    """The reply to the last command."""
    won: bool = False
    lost: bool = False

    @property
    def asks(self) -> bool:
        """Whether the game asks which of several things is meant."""
        return self.text.startswith(AMBIGUOUS)

    @property
    def unknown(self) -> bool:
        """Whether it did not understand."""
        return self.text.startswith(UNKNOWN)


class Engine(java.JavaEngine):
    """Plays one task at a time; `start` it before anything else."""

    jar = "scienceworld.jar"
    interface: ClassVar[str] = "scienceworld.runtime.pythonapi.PythonInterface"

    def __init__(self) -> None:
        super().__init__(SCIENCEWORLD.folder)
        self._variation: Variation | None = None
        self._first = GameState("")
        self._chance: Any = None
        """The random generator of this engine's episodes."""
        self._things = 0
        """The number of objects made in this episode when another one took over."""

    def start(self, variation: Variation) -> GameState:
        """Begin a task; returns the first scene. A task that is loaded and untouched is kept."""
        replaced = self._take_machine()
        if replaced or self._said or variation != self._variation:
            self._variation = variation
            # If this fails, the loaded task is no longer untouched.
            self._said = [""]
            self.begin()
        return self._first

    def act(self, command: str) -> GameState:
        """Send the game a command."""
        state: GameState = self.tell(command)
        return state

    @property
    def description(self) -> str:
        """The task's description."""
        return self._call("at its task", lambda: str(self._server.getTaskDescription()))

    def progress(self) -> Progress:
        """The progress of the task."""
        told = self._call("at its progress", lambda: str(self._server.getGoalProgressStr()))
        return read_progress(told)

    def find_solution(self, variation: Variation) -> tuple[str, ...]:
        """The game's own winning commands; finding them takes up to ten seconds of CPU.

        They may be more than there are turns, and for a few tasks they do not win.
        """
        self._variation = None
        self._take_machine()

        def find() -> tuple[str, ...]:
            self._load_variation(variation, solve=True)
            return tuple(str(command) for command in self._server.getGoldActionSequence())

        return self._call(f"looking for a solution of {variation}", find)

    def _load(self) -> None:
        assert self._variation is not None
        self._load_variation(self._variation, solve=False)
        self._first = GameState(str(self._server.freeActionLook()).strip())

    def _load_variation(self, wanted: Variation, *, solve: bool) -> None:
        self._take_over()
        refused = self._server.load(wanted.task, wanted.number, wanted.simplifications, solve)
        if refused:
            raise GameEngineError(f"ScienceWorld cannot make {wanted}: {refused}")

    def _tell(self, command: str) -> GameState:
        self._take_over()
        text = str(self._server.step(command))
        if self._server.agentInterface().get().isInErrorState():
            raise GameEngineError(f"ScienceWorld failed at {command!r}: {text[:200]}")
        # Focusing on the wrong thing makes the score negative, which loses.
        lost = float(self._server.getScore()) < 0
        return GameState(text.strip(), bool(self._server.getCompleted()) and not lost, lost)

    def _take_machine(self) -> bool:
        replaced = super()._take_machine()
        if replaced and self._machine is not None:
            self._chance = self._machine.new("java.util.Random", 0)
        return replaced

    def _take_over(self) -> None:
        """Restore the game's shared state as it was when this engine last played."""
        machine = self._machine
        assert machine is not None
        if machine.user is self:
            return
        counter = machine.singleton("util.UniqueIdentifier")
        if isinstance(machine.user, Engine):
            machine.user._things = int(counter.count())
        getattr(counter, "count_$eq")(self._things)
        self._set_chance(machine)
        if self._server.agentInterface().isDefined():
            simplified = self._server.agentInterface().get().simplificationStr()
            machine.singleton(SIMPLIFIER).parseSimplificationStr(simplified)
        machine.user = self

    def _set_chance(self, machine: java.Machine) -> None:
        """Make the game draw from this engine's generator."""
        everyones = machine.singleton("scala.util.Random")
        field = everyones.getClass().getSuperclass().getDeclaredField("self")
        field.setAccessible(True)
        field.set(everyones, self._chance)
