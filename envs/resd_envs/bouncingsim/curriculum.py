"""The BouncingSim curriculum of the embedded model: programs with known misconceptions.

Every answer moves the ball of a room in steps of a 200th of a second and turns it at four walls.
Nine misconceptions can spoil it: seven shared ones, which a lesson cures in every room, and two
instance-specific ones, which only a reflection on the attempt can name. Pre-training rooms have
other numbers than those of any split of `bouncingsim-basic`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np

from resd_bench.nano.curriculum import Exercise, Mistake, OrderedCurriculum
from resd_bench.types import SPLITS, Task
from resd_envs.bouncingsim.env import rooms
from resd_envs.bouncingsim.scenes import TIMES, Room, draw_room
from resd_envs.bouncingsim.verifier import right_positions, verify
from resd_envs.bouncingsim.wording import room_prompt
from resd_envs.bouncingsim.world import Positions

ORDER = ("name", "shape", "steps", "fall", "axis", "size", "loss", "omit", "slip")
"""Misconceptions in the order in which feedback and program reveal them."""

PRIORS = {
    "name": 0.60,
    "shape": 0.55,
    "steps": 0.55,
    "fall": 0.55,
    "axis": 0.55,
    "size": 0.45,
    "loss": 0.50,
    "omit": 0.88,
    "slip": 0.85,
}
"""How often an untaught answer gets each point right."""

SHARED = {
    "name": Mistake(
        "name",
        "the function has the wrong name",
        ("call the function predict_position", "the name is predict_position not predict"),
        True,
        wrong=("call the function predict",),
    ),
    "shape": Mistake(
        "shape",
        "it returns a pair and no list of pairs",
        ("return a list of pairs [[x, y]]", "put the pair in a list : [[x, y]]"),
        True,
        wrong=("return a pair [x, y] not a list of pairs",),
    ),
    "steps": Mistake(
        "steps",
        "time runs at half speed",
        ("take 200 steps a second : t * 200", "the count of steps is t * 200"),
        True,
        wrong=("take 100 steps a second : t * 100",),
    ),
    "fall": Mistake(
        "fall",
        "gravity pulls up",
        ("gravity pulls down : v -= gravity", "take gravity from v with a minus"),
        True,
        wrong=("gravity pulls up : v += gravity",),
    ),
    "axis": Mistake(
        "axis",
        "floor and ceiling turn u",
        ("floor and ceiling turn v not u", "at low or high y change v"),
        True,
        wrong=("floor and ceiling turn u not v",),
    ),
    "size": Mistake(
        "size",
        "the ball is a point at the walls",
        ("keep the radius from every wall", "the rim bounces : walls are a radius nearer"),
        True,
        wrong=("the ball is a point : walls are at 0 and the width",),
    ),
    "loss": Mistake(
        "loss",
        "a bounce halves the speed",
        ("a bounce keeps the whole speed", "lose no speed at walls : never halve it"),
        True,
        wrong=("a bounce halves the speed",),
    ),
}

WALLS = ("left", "right", "bottom", "top")
FIELDS = ("x", "y", "u", "v")
STEPS = 200
"""Steps per second."""


@dataclass(frozen=True, slots=True)
class _Writer:
    """Writes one program with the given mistakes."""

    room: Room
    start: tuple[int, int, int, int]
    """x, y, u, v in the program."""
    missing: str
    """A wall that the program lacks, or ""."""
    wrong: frozenset[str]

    def program(self) -> str:
        name = "predict" if "name" in self.wrong else "predict_position"
        steps = STEPS // 2 if "steps" in self.wrong else STEPS
        sign = "+" if "fall" in self.wrong else "-"
        lines = [
            f"def {name}(t):",
            f"    x, y, u, v = {', '.join(map(str, self.start))}",
            f"    for i in range(round(t * {steps})):",
            f"        x += u / {STEPS}",
            f"        y += v / {STEPS}",
            f"        v {sign}= {self.room.gravity} / {STEPS}",
        ]
        for wall in WALLS:
            if wall != self.missing:
                lines += self.bounce(wall)
        shape = "[x, y]" if "shape" in self.wrong else "[[x, y]]"
        return "\n".join([*lines, f"    return {shape}"])

    def bounce(self, wall: str) -> list[str]:
        """The two lines that turn the ball at a wall."""
        place = "x" if wall in ("left", "right") else "y"
        speed = "u" if place == "x" or "axis" in self.wrong else "v"
        width, radius = str(self.room.width), str(self.room.radius)
        low = wall in ("left", "bottom")
        if "size" in self.wrong:
            edge = "0" if low else width
        else:
            edge = radius if low else f"{width} - {radius}"
        after = f"abs({speed})" if low else f"-abs({speed})"
        half = " / 2" if "loss" in self.wrong else ""
        sign = "<" if low else ">"
        return [f"        if {place} {sign} {edge}:", f"            {speed} = {after}{half}"]


class BouncingCurriculum(OrderedCurriculum):
    """See `resd_bench.nano.curriculum.Curriculum`."""

    order = ORDER

    @cached_property
    def reserved(self) -> frozenset[str]:
        """Fingerprints of the rooms of every split."""
        return frozenset(_exercise(room).fingerprint for split in SPLITS for room in rooms(split))

    def exercise(self, rng: np.random.Generator) -> Exercise:
        while True:
            found = _exercise(draw_room(rng))
            if found.fingerprint not in self.reserved:
                return found

    def of_task(self, task: Task) -> Exercise:
        return _exercise(task.data["room"])

    def priors(self, exercise: Exercise) -> Mapping[str, float]:
        return PRIORS

    def mistake(self, exercise: Exercise, key: str, rng: np.random.Generator) -> Mistake:
        if key in SHARED:
            return SHARED[key]
        room = _room(exercise)
        if key == "omit":
            met = walls_met(room)
            wall = met[int(rng.integers(len(met)))]
            symptom, lessons = f"the {wall} wall is missing", (f"add the {wall} wall",)
            return Mistake(key, symptom, lessons, False, (WALLS.index(wall), wall))
        at = int(rng.integers(len(FIELDS)))
        name, right, wrong = FIELDS[at], _start(room)[at], _slipped(room, at)
        symptom, lessons = f"{name} starts at {wrong}", (f"{name} must start at {right}",)
        return Mistake(key, symptom, lessons, False, (at, name))

    def answer(self, exercise: Exercise, mistakes: Mapping[str, Mistake]) -> str:
        room = _room(exercise)
        start = list(_start(room))
        if "slip" in mistakes:
            at = mistakes["slip"].where[0]
            start[at] = _slipped(room, at)
        x, y, u, v = start
        missing = mistakes["omit"].where[1] if "omit" in mistakes else ""
        writer = _Writer(room, (x, y, u, v), missing, frozenset(mistakes))
        return f"```python\n{writer.program()}\n```"

    def feedback(self, exercise: Exercise, response: str) -> tuple[bool, str]:
        room = _room(exercise)
        verdict = verify(response, room.scene(), _right(room), dialect="compact")
        return verdict.success, verdict.render(3)


def _room(exercise: Exercise) -> Room:
    return Room(*map(int, exercise.content))


def _exercise(room: Room) -> Exercise:
    content = tuple(map(str, room.numbers))
    return Exercise(room_prompt(room), "room", content, " ".join(content))


def _start(room: Room) -> tuple[int, int, int, int]:
    return room.x, room.y, room.u, room.v


def _slipped(room: Room, at: int) -> int:
    """A starting value after a slip: another hundred, or another direction."""
    value = _start(room)[at]
    if at >= 2:
        return -value
    return value + 100 if value < room.width / 2 else value - 100


@lru_cache(maxsize=4096)
def _right(room: Room) -> Positions:
    return right_positions(room.scene())


def walls_met(room: Room) -> tuple[str, ...]:
    """The walls that the ball touches within the tests, at least two."""
    low, high = room.radius, room.width - room.radius
    x, y, u, v = map(float, _start(room))
    met = set()
    for _ in range(round(TIMES[-1] * STEPS)):
        x, y, v = x + u / STEPS, y + v / STEPS, v - room.gravity / STEPS
        if not low <= x <= high:
            met.add("left" if x < low else "right")
            u = abs(u) if x < low else -abs(u)
        if not low <= y <= high:
            met.add("bottom" if y < low else "top")
            v = abs(v) if y < low else -abs(v)
    return tuple(wall for wall in WALLS if wall in met)


CURRICULUM = BouncingCurriculum()
