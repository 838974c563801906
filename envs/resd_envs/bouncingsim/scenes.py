"""Draw scenes: the released generator of several balls in one container, and its relatives.

A letter names a feature of a scene: A balls that rotate, B a rotating container, C a moving
container, D gravity, F several containers, G several balls; letters combine. G is the paper's task.
`Room` is a scene of few numbers for the embedded model. A scene is kept only if a small shift of
the balls does not change the answer, which replaces the released comparison of two step sizes. Left
out: E, which the release simulates as something else, and the periodic presets H and I.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from resd_bench.errors import UsageError
from resd_envs.bouncingsim.physics import simulate
from resd_envs.bouncingsim.world import Scene, Vector, polygon

Difficulty = Literal["basic", "easy", "medium", "hard", "extreme"]
DIFFICULTIES: tuple[Difficulty, ...] = ("basic", "easy", "medium", "hard", "extreme")
LETTERS = "ABCDFG"
TIMES = tuple(round(0.1 * k, 2) for k in range(1, 16))
"""The times (s) of the 15 tests."""

_Range = tuple[float, float]
CENTRE = (750, 750)
MARGIN = 5
"""Free metres around every ball at the start."""
ATTEMPTS, PLACE_TRIES = 500, 200
SHIFT = 0.1
"""Metres by which balls are shifted to see whether a scene is well conditioned."""
MAX_SPREAD = 15.0
"""Largest effect (m) of that shift in an accepted scene."""
MAX_SPREAD_TURNING = 50.0
"""The same for balls that rotate, which is chaotic."""
CHECKED = (0.5, 1.0, 1.5)

# Per difficulty, from the released generator.
SPEEDS: tuple[_Range, ...] = ((200, 400), (400, 600), (600, 800), (800, 1000), (1000, 1200))
SIDES: tuple[_Range, ...] = ((3, 4), (5, 6), (6, 7), (7, 8), (8, 8))
RADII = (40, 35, 30, 30, 30)
DIAMETERS = {
    "A": (450, 420, 390, 360, 300),
    "B": (450, 420, 390, 360, 240),
    "C": (450, 420, 390, 360, 300),
    "D": (450, 420, 390, 360, 300),
    "F": (450, 420, 390, 360, 300),
    "G": (750, 750, 750, 750, 750),
}
BALLS_G: tuple[_Range, ...] = ((2, 2), (3, 3), (4, 5), (5, 6), (7, 9))
RADIUS_G = 20
SIDES_G: _Range = (3, 6)
SPINS_A: tuple[_Range, ...] = ((0.1, 0.2), (0.2, 0.5), (0.5, 1), (1, 2), (2, 2.5))
MAX_SPEED_A = 800
SPINS_B: tuple[_Range, ...] = ((0.1, 0.2), (0.2, 0.5), (0.5, 1), (1, 1.5), (2, 3))
SWING_B = 0.4
AMPLITUDES_C: tuple[_Range, ...] = ((0, 10), (20, 40), (40, 60), (60, 90), (90, 120))
RATES_C = (0.1, 0.5, 1.0)
GRAVITY_D = (100.0, 1000.0, 10000.0, 10000.0, 10000.0)
TILT_D = 120
BOXES_F = (2, 2, 3, 4, 6)
DISTANCE_F: _Range = (250, 280)


def generate(letters: str, difficulty: Difficulty, rng: np.random.Generator) -> Scene:
    """Draw a well-conditioned scene; UsageError for unknown letters or difficulties."""
    if not letters or set(letters) - set(LETTERS) or len(set(letters)) < len(letters):
        raise UsageError(f"scene letters {letters!r}: give one or more of {LETTERS}, each once")
    if difficulty not in DIFFICULTIES:
        raise UsageError(f"difficulty {difficulty!r}: give one of {', '.join(DIFFICULTIES)}")
    level = DIFFICULTIES.index(difficulty)
    for _ in range(ATTEMPTS):
        scene = _draw(letters, level, rng)
        if scene is not None and well_conditioned(scene):
            return scene
    raise UsageError(f"no scene of {letters}-{difficulty} in {ATTEMPTS} attempts: use another seed")


def well_conditioned(scene: Scene) -> bool:
    """Whether a shift of `SHIFT` leaves every ball within `MAX_SPREAD` at the checked times."""
    shifted = dict(scene)
    turns = polygon(len(scene["balls"]), SHIFT, 1.0)
    shifted["balls"] = [
        dict(ball, position=[ball["position"][0] + x, ball["position"][1] + y])
        for ball, (x, y) in zip(scene["balls"], turns, strict=True)
    ]
    turning = any(ball.get("rotation_affected") for ball in scene["balls"])
    limit = MAX_SPREAD_TURNING if turning else MAX_SPREAD
    for one, other in zip(simulate(scene, CHECKED), simulate(shifted, CHECKED), strict=True):
        if any(math.dist(a, b) > limit for a, b in zip(one, other, strict=True)):
            return False
    return True


def _draw(letters: str, level: int, rng: np.random.Generator) -> dict[str, Any] | None:
    """A scene that may be ill-conditioned; None if the balls found no room."""
    sizes = [DIAMETERS[letter][level] for letter in letters]
    diameter = int(rng.integers(min(sizes), max(sizes) + 1))
    sides = int(_integer(SIDES_G if "G" in letters else SIDES[level], rng))
    radius = RADIUS_G if "G" in letters else RADII[level]
    apothem = diameter / 2 * math.cos(math.pi / sides)
    balls = _balls(letters, level, apothem, radius, rng)
    if balls is None:
        return None
    box = _box(CENTRE, diameter, sides)
    if "B" in letters:
        box["rotation_speed"] = _number(SPINS_B[level], rng)
    if "C" in letters:
        box["translation_path"] = _path(level, rng)
    scene: dict[str, Any] = {"physics": _physics(letters, level, rng), "boxes": [box]}
    if "F" in letters:
        scene["boxes"] += [
            _box(centre, diameter, int(_integer(SIDES[level], rng)))
            for centre in _others(BOXES_F[level] - 1, rng)
        ]
    scene["balls"] = balls
    if "B" in letters and level >= 3:
        scene["outer_rotation_profile"] = {"amplitude": round(SWING_B * box["rotation_speed"], 4)}
    return scene


def _box(centre: tuple[int, int], diameter: float, sides: int, rotation: float = 0.0) -> Any:
    return {
        "center": list(centre),
        "diameter": diameter,
        "sides": sides,
        "rotation": rotation,
        "friction": 0.0,
        "restitution": 1.0,
        "rotation_speed": 0.0,
    }


def _others(count: int, rng: np.random.Generator) -> list[tuple[int, int]]:
    """Centres of further containers around the first."""
    centres = []
    for _ in range(count):
        x, y = _polar(float(rng.uniform(*DISTANCE_F)), rng)
        centres.append((round(CENTRE[0] + x), round(CENTRE[1] + y)))
    return centres


def _path(level: int, rng: np.random.Generator) -> dict[str, Any]:
    low, high = AMPLITUDES_C[level]
    if level < len(RATES_C):
        size = int(rng.integers(int(low), int(high) + 1))
        return {"type": "sin1d", "amplitude": size, "axis": "x", "freq": RATES_C[level]}
    ax, ay = (int(size) for size in rng.integers(int(low), int(high) + 1, size=2))
    return {"type": "lissajous", "ax": ax, "ay": ay, "fx": 0.6, "fy": 0.9}


def _physics(letters: str, level: int, rng: np.random.Generator) -> dict[str, Any]:
    if "D" not in letters:
        return {"gravity_enabled": False, "gravity_x": 0.0, "gravity_y": 0.0}
    tilt = math.radians(float(rng.uniform(-TILT_D, TILT_D))) if level >= 3 else 0.0
    size = GRAVITY_D[level]
    x, y = round(size * math.sin(tilt), 2), round(-size * math.cos(tilt), 2)
    return {"gravity_enabled": True, "gravity_x": x, "gravity_y": y}


def _balls(
    letters: str, level: int, apothem: float, radius: int, rng: np.random.Generator
) -> list[dict[str, Any]] | None:
    count = int(_integer(BALLS_G[level], rng)) if "G" in letters else 1
    room = apothem - radius - MARGIN
    centres = _places(count, room, 2 * radius + MARGIN - 1, rng)
    if centres is None:
        return None
    spin = _number(SPINS_A[level], rng) if "A" in letters else 0.0
    balls = []
    for x, y in centres:
        low, high = SPEEDS[level]
        if "A" in letters:
            low, high = min(low, MAX_SPEED_A - 200), min(high, MAX_SPEED_A)
        u, v = _polar(_number((low, high), rng), rng)
        dx, dy = rng.uniform(-40, 40, size=2)
        sides = _integer(SIDES_G if "G" in letters else SIDES[level], rng)
        place = [round(CENTRE[0] + x + dx), round(CENTRE[1] + y + dy)]
        balls.append(_ball(place, [round(u, 2), round(v, 2)], radius, int(sides)))
        if "A" in letters:
            balls[-1] |= {"rotation_affected": True, "angular_velocity": spin}
    places = [ball["position"] for ball in balls]
    apart = all(
        math.dist(p, q) >= 2 * radius + MARGIN for n, p in enumerate(places) for q in places[:n]
    )
    return balls if apart and all(math.dist(p, CENTRE) <= room for p in places) else None


def _ball(place: list[int], velocity: list[float], radius: int, sides: int) -> dict[str, Any]:
    return {
        "position": place,
        "velocity": velocity,
        "radius": float(radius),
        "sides": sides,
        "density": 1.0,
        "restitution": 1.0,
        "rotation_affected": False,
    }


def _places(count: int, room: float, apart: float, rng: np.random.Generator) -> list[Vector] | None:
    """Centres within `room` of the middle and `apart` from each other."""
    found: list[Vector] = []
    for _ in range(count):
        for _ in range(PLACE_TRIES):
            place = _polar(float(rng.uniform(0, room)), rng)
            if all(math.dist(place, other) >= apart for other in found):
                found.append(place)
                break
        else:
            return None
    return found


def _polar(size: float, rng: np.random.Generator) -> Vector:
    """A vector of length `size` in a random direction."""
    angle = float(rng.uniform(0, 2 * math.pi))
    return size * math.cos(angle), size * math.sin(angle)


def _number(bounds: _Range, rng: np.random.Generator) -> float:
    return round(float(rng.uniform(*bounds)), 2)


def _integer(bounds: _Range, rng: np.random.Generator) -> int:
    return int(rng.integers(int(bounds[0]), int(bounds[1]) + 1))


# Rooms.


@dataclass(frozen=True, slots=True)
class Room:
    """A square room with one ball: seven numbers, all multiples of ten, in metres and seconds.

    The floor is y = 0 and the left wall x = 0. The ball is a square on its tip, so its radius is
    the distance that its centre keeps from every wall.
    """

    width: int
    radius: int
    gravity: int
    """Downwards, m/s^2."""
    x: int
    y: int
    u: int
    v: int

    @property
    def numbers(self) -> tuple[int, ...]:
        """The seven numbers in the order of the fields."""
        return self.width, self.radius, self.gravity, self.x, self.y, self.u, self.v

    def scene(self) -> Scene:
        """As a scene in the released schema."""
        middle = self.width // 2
        ball = _ball([self.x, self.y], [float(self.u), float(self.v)], self.radius, 4)
        return {
            "physics": {
                "gravity_enabled": True,
                "gravity_x": 0.0,
                "gravity_y": -float(self.gravity),
            },
            "boxes": [_box((middle, middle), math.sqrt(2) * self.width, 4, math.pi / 4)],
            "balls": [ball],
        }


def draw_room(rng: np.random.Generator) -> Room:
    """A room whose ball meets a side wall as well as the floor or the ceiling within the tests."""
    for _ in range(ATTEMPTS):
        width = 20 * int(rng.integers(20, 41))
        radius = 10 * int(rng.integers(4, 9))
        gravity = 100 * int(rng.integers(3, 10))
        x, y = (10 * int(k) for k in rng.integers((radius + 10) // 10, (width - radius) // 10, 2))
        u, v = (10 * int(k) for k in rng.integers(15, 61, 2) * rng.choice([-1, 1], 2))
        room = Room(width, radius, gravity, x, y, u, v)
        if _bounces(room) and well_conditioned(room.scene()):
            return room
    raise UsageError(f"no room in {ATTEMPTS} attempts: use another seed")


def _bounces(room: Room) -> bool:
    """Whether free flight leaves the room by a good margin in x as well as in y."""
    low, high = room.radius - MAX_OVERSHOOT, room.width - room.radius + MAX_OVERSHOOT
    end = TIMES[-1]
    x = room.x + room.u * end
    heights = [room.y + room.v * t - room.gravity / 2 * t * t for t in TIMES]
    return not low < x < high and not (low < min(heights) and max(heights) < high)


MAX_OVERSHOOT = 100
"""Metres beyond a wall that a ball without that wall would reach in the end."""
