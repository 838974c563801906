"""A running game: TextWorld's logic and, if asked for, its story in words.

TextWorld's own state of the game determines what is possible, what wins, and the progress of the
quest. The compiled game only narrates: it gets commands that the state allows and never a player's
text, since its interpreter writes files on `save`, ends on `quit`, and is written in C.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable
from typing import Any

from resd_envs.textworld.games import Recipe, check_story, read_state, require_textworld
from resd_envs.textworld.journal import Scene
from resd_envs.textworld.maze import DIRECTIONS

STATUS_LINE = re.compile(r"\n>[^\n]*$")
"""The interpreter's prompt and status line, which end its text."""
THE_END = "*** "
"""The beginning of the text at the end of a game: the score and how to restart."""
STATES = ("fried", "roasted", "grilled", "burned", "chopped", "sliced", "diced", "raw", "uncut")
SHUT = ("closed", "locked")
RECIPE_BEGINS = "Ingredients:"
SEED = 1234
"""Seed of the interpreter, which otherwise uses the time of day."""


class Engine:
    """Plays one game at a time; `start` it before anything else."""

    def __init__(self, *, story: bool) -> None:
        require_textworld()
        import textworld
        from textworld.envs.tw import TextWorldEnv

        self._player: Any = TextWorldEnv(textworld.EnvInfos(policy_commands=True))
        self._story = story
        self._interpreter: Any = None
        self._recipe: Recipe | None = None

    def start(self, recipe: Recipe) -> str:
        """Begin a game that is in the cache; returns its first scene, "" without a story."""
        if recipe != self._recipe:
            read_state(recipe.state_file)
            self._player.load(str(recipe.state_file))
            self._recipe = recipe
        self._state = self._player.reset()
        self.lost = self.won = False
        return self._begin_story(recipe) if self._story else ""

    def _begin_story(self, recipe: Recipe) -> str:
        import jericho

        check_story(recipe.story_file)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if self._interpreter is None:
                self._interpreter = jericho.FrotzEnv(str(recipe.story_file), seed=SEED)
            else:
                self._interpreter.load(str(recipe.story_file))
        self._interpreter.reset()
        return self._tell("look")

    def _tell(self, command: str) -> str:
        return tidied(str(self._interpreter.step(command)[0]))

    def act(self, command: str) -> str:
        """Execute one of `commands`; returns the outcome, "" without a story."""
        told = self._tell(command) if self._story else ""
        self._state, _, _ = self._player.step(command)
        self.won, self.lost = bool(self._state["won"]), bool(self._state["lost"])
        return told

    @property
    def commands(self) -> list[str]:
        """The commands that are possible now, in order."""
        return list(self._state["admissible_commands"])

    @property
    def verbs(self) -> list[str]:
        """The verbs of the game, in order."""
        return sorted(self._state["verbs"])

    @property
    def goal(self) -> str:
        """The thing to take; "" if the game is not about taking one."""
        return str(self._state["game"].metadata["goal"])

    @property
    def objective(self) -> str:
        """The objective of the game."""
        return str(self._state["objective"])

    @property
    def walkthrough(self) -> tuple[str, ...]:
        """Commands that win from the start."""
        return tuple(self._state["game"].metadata["walkthrough"])

    @property
    def remaining(self) -> tuple[str, ...]:
        """Commands that win from here, as far as TextWorld knows; empty if it knows none."""
        return tuple(self._state["policy_commands"])

    def scene(self) -> Scene:
        """The scene that the player sees."""
        view = _View(self._state)
        return view.scene()

    def carried(self) -> str:
        """What the player holds, tersely."""
        return "holding " + (" + ".join(_View(self._state).carried()) or "nothing")

    def examined(self, name: str) -> str:
        """What is written on a thing, tersely; only recipes have text."""
        for info in self._state["game"].infos.values():
            if info.name == name and RECIPE_BEGINS in (info.desc or ""):
                text = str(info.desc).partition(RECIPE_BEGINS)[2]
                return "recipe : " + " , ".join(_lines(text.splitlines()))
        return ""


def tidied(text: str) -> str:
    """The interpreter's text, without status line and ending, and without repeated blank lines."""
    lines: list[str] = []
    for line in STATUS_LINE.sub("", text).partition(THE_END)[0].split("\n"):
        if line.strip():
            lines.append(line)
        elif lines and lines[-1]:
            lines.append("")
    return "\n".join(lines).strip()


def _lines(lines: Iterable[str]) -> list[str]:
    return [line.strip() for line in lines if line.strip() and not line.strip().endswith(":")]


class _View:
    """The facts of a state, queried for what a player can see."""

    def __init__(self, state: Any) -> None:
        self.facts: list[Any] = list(state["_facts"])
        self.infos = state["game"].infos

    def name(self, entity: Any) -> str:
        return str(self.infos[entity.name].name)

    def pairs(self, *relations: str) -> list[tuple[Any, Any]]:
        """The arguments of every fact with one of these binary relations."""
        return [
            (f.arguments[0], f.arguments[1])
            for f in self.facts
            if f.name in relations and len(f.arguments) == 2
        ]

    def states(self, entity: Any) -> set[str]:
        return {f.name for f in self.facts if f.arguments == (entity,)}

    def scene(self) -> Scene:
        room = next(place for thing, place in self.pairs("at") if thing.name == "P")
        leads = {
            direction: to
            for direction in DIRECTIONS
            for to, here in self.pairs(f"{direction}_of")
            if here == room and to.type == "r"
        }
        free = [to for here, to in self.pairs("free") if here == room]
        doors = {
            f.arguments[2]: f.arguments[1]
            for f in self.facts
            if f.name == "link" and f.arguments[0] == room
        }
        barred = [
            f"{d} {self.described(doors[to])}"
            for d, to in leads.items()
            if to not in free and to in doors
        ]
        here = [thing for thing, place in self.pairs("at") if place == room and thing.name != "P"]
        inside = [held for thing in here for held in self.held(thing)]
        return Scene(
            room=self.name(room),
            exits=tuple(d for d, to in leads.items() if to in free),
            things=tuple(sorted(map(self.with_contents, here))),
            barred=tuple(barred),
            names=frozenset(map(self.name, [*here, *inside])),
        )

    def held(self, thing: Any) -> list[Any]:
        """What is on or in a thing, if that is visible."""
        if self.states(thing) & set(SHUT):
            return []
        return [held for held, place in self.pairs("on", "in") if place == thing]

    def described(self, thing: Any) -> str:
        states = self.states(thing)
        words = [s for s in STATES if s in states]
        return " ".join([*words, self.name(thing), *(s for s in SHUT if s in states)])

    def with_contents(self, thing: Any) -> str:
        held = sorted(map(self.described, self.held(thing)))
        return self.described(thing) + (f" : {' + '.join(held)}" if held else "")

    def carried(self) -> list[str]:
        return sorted(self.described(held) for held, place in self.pairs("in") if place.name == "I")
