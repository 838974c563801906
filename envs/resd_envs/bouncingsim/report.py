"""The report on a failed test: distances, and what the answer itself shows to be wrong.

Nothing here gives a correct position except `positions`, which is for level 4.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from resd_bench.types import Dialect
from resd_envs.bouncingsim import rigid
from resd_envs.bouncingsim.answers import CALL_SECONDS
from resd_envs.bouncingsim.marks import TOLERANCE, Mark
from resd_envs.bouncingsim.world import Scene, Vector, World, read

MISSING: Mapping[Dialect, Mapping[str, str]] = {
    "full": {
        "missing_answer": "There is no program: put it between ```python and ```.",
        "truncated": "The answer was cut off at the length limit before a program was complete.",
    },
    "compact": {
        "missing_answer": "program : missing",
        "truncated": "program : cut off",
    },
}
MAX_BALLS = 12
"""Maximum number of balls whose distances are listed."""
_SIDES = (
    "right",
    "upper right",
    "top",
    "upper left",
    "left",
    "lower left",
    "bottom",
    "lower right",
)


@dataclass(frozen=True, slots=True)
class Seen:
    """A failed test among the others."""

    scene: Scene
    times: Sequence[float]
    marks: Sequence[Mark]
    index: int

    @property
    def mark(self) -> Mark:
        """The verdict on this test."""
        return self.marks[self.index]

    @property
    def time(self) -> float:
        """The time that this test asks for (s)."""
        return self.times[self.index]


def detail(seen: Seen, dialect: Dialect, *, first: bool) -> str:
    """One line about a failed test; the `first` shown also says how the tests went before it."""
    if seen.mark.kind != "wrong_answer":
        return _compact_error(seen) if dialect == "compact" else _error(seen)
    if dialect == "compact":
        return _compact_distance(seen)
    return (_boundary(seen) if first else "") + _distance(seen)


def positions(row: Sequence[Vector]) -> str:
    """Right positions, for level 4."""
    return "[" + ", ".join(f"[{x:.2f}, {y:.2f}]" for x, y in row) + "]"


# Errors.


def _error(seen: Seen) -> str:
    mark, at = seen.mark, f"At t = {seen.time:.2f}"
    line = f" (line {mark.line})" if mark.line else ""
    why = clean(mark.why) + line
    if mark.kind == "syntax_error":
        return f"The program does not parse: {why}."
    if mark.kind == "definition_error":
        return f"The program fails before predict_position can be called: {why}."
    if mark.kind == "blocked":
        return f"The program is not run: {why}."
    if mark.kind == "exception":
        return f"{at} predict_position fails: {why}."
    if mark.kind == "timeout":
        return f"{at} predict_position needs more than {CALL_SECONDS:g} s."
    return f"{at} the program is stopped: {why}."


def _compact_error(seen: Seen) -> str:
    mark = seen.mark
    where = f"line {mark.line}" if mark.line else "program"
    if mark.kind == "timeout":
        return f"{where} : too slow"
    return f"{where} : {clean(mark.why)}"


def clean(text: str) -> str:
    """Text from a program, on one line and without anything that would control a terminal."""
    return "".join(c if c.isprintable() and c.isascii() else "?" for c in text)


# Distances.


def _boundary(seen: Seen) -> str:
    passed = [m.kind == "pass" for m in seen.marks]
    if any(passed[seen.index :]) or not all(passed[: seen.index]) or seen.index == 0:
        return ""
    return f"Right until t = {seen.times[seen.index - 1]:.2f}, wrong from t = {seen.time:.2f} on. "


def _distance(seen: Seen) -> str:
    mark, worst = seen.mark, _worst(seen.mark)
    x, y = mark.predicted[worst]
    listed = ", ".join(f"{d:.4g}" for d in mark.distances[:MAX_BALLS])
    text = (
        f"At t = {seen.time:.2f} the mean distance is {mark.mean:.6g} m, the limit "
        f"{TOLERANCE:g} m; by ball {listed}. Your ball {worst + 1} is at ({x:.6g}, {y:.6g})"
    )
    notes = [f"your ball {n + 1} is outside ({side})" for n, side in _outside(seen)]
    notes += [f"your balls {i + 1} and {j + 1} overlap" for i, j in _overlaps(seen)]
    return "; ".join([text, *notes[:MAX_SHOWN_NOTES]]) + "."


MAX_SHOWN_NOTES = 4


def _compact_distance(seen: Seen) -> str:
    mark, worst = seen.mark, _worst(seen.mark)
    ball = f"ball {worst + 1} " if len(mark.distances) > 1 else ""
    outside = dict(_outside(seen))
    if worst in outside:
        return f"t {seen.time:.1f} : {ball}outside {outside[worst]}"
    if not math.isfinite(mark.mean):
        return f"t {seen.time:.1f} : {ball}no finite position"
    # A rounded distance does not give the correct position away.
    return f"t {seen.time:.1f} : {ball}off by {round(mark.distances[worst], -1):.0f}"


def _worst(mark: Mark) -> int:
    """The ball that is farthest off; a ball without a finite position comes first."""
    order = [math.inf if math.isnan(d) else d for d in mark.distances]
    return order.index(max(order))


def _outside(seen: Seen) -> list[tuple[int, str]]:
    """Predicted balls whose centre is outside every container they started in, with the side."""
    world = read(seen.scene)
    found = []
    for n, (point, ball) in enumerate(zip(seen.mark.predicted, world.balls, strict=True)):
        homes = [k for k, box in enumerate(world.boxes) if not _side(world, k, 0.0, ball.position)]
        sides = [_side(world, k, seen.time, point) for k in homes]
        if sides and all(sides) and all(map(math.isfinite, point)):
            found.append((n, sides[0]))
    return found


def _side(world: World, index: int, time: float, point: Vector) -> str:
    """On which side a point is outside a container; "" if it is inside."""
    box = rigid.container_at(world.boxes[index], time)
    beyond = [
        (a * (point[0] - box.x) + b * (point[1] - box.y) - box.apothem, a, b) for a, b in box.faces
    ]
    excess, a, b = max(beyond)
    return _SIDES[round(math.atan2(b, a) / (math.pi / 4)) % 8] if excess > 0 else ""


def _overlaps(seen: Seen) -> list[tuple[int, int]]:
    """Pairs of predicted balls that certainly overlap, because their inscribed circles do."""
    world = read(seen.scene)
    inner = [ball.radius * math.cos(math.pi / ball.sides) for ball in world.balls]
    points = seen.mark.predicted
    return [
        (i, j)
        for j in range(len(points))
        for i in range(j)
        if math.dist(points[i], points[j]) < inner[i] + inner[j]
    ]
