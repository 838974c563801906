"""The parts of a scene of bouncing polygons: vectors, shapes, balls, containers; and reading it.

Left out: motion, see `physics.py` and `rigid.py`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from resd_bench.errors import UsageError

Vector = tuple[float, float]
Scene = Mapping[str, Any]
"""`physics`, `boxes`, `balls` and optionally `outer_rotation_profile`: see `read`."""
Positions = list[list[Vector]]
"""One list of ball centres per time."""

CIRCLE_SIDES = 48
"""A ball with fewer than three sides is a circle, approximated by a polygon with this many."""
KICK = 1 / 4000
"""Seconds between kicks of gravity: the reference engine's step. With strong gravity (10,000 m/s^2)
it changes the answer by ten metres within 1.5 s."""


@dataclass(frozen=True, slots=True)
class Ball:
    """A regular polygon that flies."""

    position: Vector
    velocity: Vector
    radius: float
    """Distance from the centre to the vertices."""
    sides: int
    mass: float
    """Density times area."""
    inertia: float
    """About the centre; infinite for a ball that never rotates."""
    spin: float
    """rad/s."""

    @property
    def corners(self) -> list[Vector]:
        """Vertices relative to the centre, at the start."""
        return polygon(self.sides, self.radius, 0.0)


@dataclass(frozen=True, slots=True)
class Box:
    """A container: a regular polygon of walls, possibly rotating or moving on a given path."""

    centre: Vector
    radius: float
    """Distance from the centre to the vertices."""
    sides: int
    rotation: float
    spin: float
    """Mean rate of rotation, rad/s."""
    spin_swing: float
    """A of angle(t) = rotation + spin t - A cos t + A."""
    path: tuple[Vector, Vector, Vector]
    """Amplitudes, frequencies (Hz) and phases of a sine in x and one in y."""

    @property
    def apothem(self) -> float:
        """Distance from the centre to a wall."""
        return self.radius * math.cos(math.pi / self.sides)

    @property
    def still(self) -> bool:
        """Whether it neither rotates nor moves."""
        return self.spin == 0 and self.spin_swing == 0 and self.path[0] == (0, 0)


@dataclass(frozen=True, slots=True)
class World:
    """A scene, read."""

    boxes: tuple[Box, ...]
    balls: tuple[Ball, ...]
    gravity: Vector


# Shapes.


def polygon(sides: int, radius: float, angle: float) -> list[Vector]:
    """Vertices of a regular polygon about the origin, the first at `angle` from +x."""
    step = 2 * math.pi / sides
    turns = [angle + step * k for k in range(sides)]
    return [(radius * math.cos(a), radius * math.sin(a)) for a in turns]


def normals(sides: int, angle: float) -> list[Vector]:
    """Outward unit normals of the edges of `polygon(sides, _, angle)`."""
    return polygon(sides, 1.0, angle + math.pi / sides)


def reach(corners: Sequence[Vector], x: float, y: float) -> float:
    """How far a shape extends from its centre in the direction (x, y): its support function."""
    return max([a * x + b * y for a, b in corners])


def area(sides: int, radius: float) -> float:
    """Area of a regular polygon."""
    return sides / 2 * radius * radius * math.sin(2 * math.pi / sides)


# Scenes.


def read(scene: Scene) -> World:
    """Check and read a scene in the released schema; UsageError if it does not fit."""
    try:
        if scene.get("gravity_profile"):
            raise UsageError("gravity_profile is not supported: give a constant gravity")
        physics = scene.get("physics") or {}
        gravity = (0.0, 0.0)
        if physics.get("gravity_enabled"):
            gravity = float(physics["gravity_x"]), float(physics["gravity_y"])
        profile = scene.get("outer_rotation_profile") or {}
        boxes = tuple(_box(box, profile if n == 0 else {}) for n, box in enumerate(scene["boxes"]))
        balls = tuple(_ball(ball) for ball in scene["balls"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UsageError(
            f"not a scene: {error!r}; expected physics, boxes and balls as scenes.py writes them"
        ) from error
    if not boxes or not balls:
        raise UsageError("a scene needs at least one box and one ball")
    return World(boxes, balls, gravity)


def _box(box: Mapping[str, Any], profile: Mapping[str, Any]) -> Box:
    x, y = box["center"]
    sides = int(box["sides"])
    if sides < 3:
        raise ValueError(f"a box of {sides} sides")
    spin = float(box.get("rotation_speed", 0.0))
    swing = float(profile.get("amplitude", _SWING * spin)) if profile else 0.0
    return Box(
        centre=(float(x), float(y)),
        radius=float(box["diameter"]) / 2,
        sides=sides,
        rotation=float(box.get("rotation", 0.0)),
        spin=spin,
        spin_swing=swing,
        path=_path(box.get("translation_path")),
    )


_SWING = 0.4
"""omega(t) = spin (1 + 0.4 sin t), the released law of uneven rotation."""


def _path(path: Mapping[str, Any] | None) -> tuple[Vector, Vector, Vector]:
    if not path:
        return (0.0, 0.0), (0.0, 0.0), (0.0, 0.0)
    if path["type"] == "sin1d":
        size, rate = float(path["amplitude"]), float(path["freq"])
        if path["axis"] == "x":
            return (size, 0.0), (rate, 0.0), (0.0, 0.0)
        return (0.0, size), (0.0, rate), (0.0, 0.0)
    if path["type"] == "lissajous":
        sizes = float(path["ax"]), float(path["ay"])
        return sizes, (float(path["fx"]), float(path["fy"])), (0.0, math.pi / 2)
    raise ValueError(f"a path of type {path['type']!r}; known: sin1d, lissajous")


def _ball(ball: Mapping[str, Any]) -> Ball:
    (x, y), (u, v) = ball["position"], ball["velocity"]
    radius, sides = float(ball["radius"]), int(ball["sides"])
    density = float(ball.get("density", 1.0))
    round_ = sides < 3
    mass = density * (math.pi * radius * radius if round_ else area(sides, radius))
    sides = CIRCLE_SIDES if round_ else sides
    turns = bool(ball.get("rotation_affected"))
    # Second moment of a regular polygon about its centre.
    inertia = mass * radius * radius / 2 * (1 - 2 / 3 * math.sin(math.pi / sides) ** 2)
    return Ball(
        position=(float(x), float(y)),
        velocity=(float(u), float(v)),
        radius=radius,
        sides=sides,
        mass=mass,
        inertia=inertia if turns else math.inf,
        spin=float(ball.get("angular_velocity", 0.0)) if turns else 0.0,
    )
