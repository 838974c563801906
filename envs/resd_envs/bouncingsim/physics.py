"""Where bouncing polygons are at a given time, by exact events instead of time steps.

World: metres and seconds, y up, no friction, perfectly elastic. A ball is a regular polygon with a
vertex on +x; unless the scene says otherwise it never rotates, so a wall acts on its centre as a
half-plane and a second ball as the Minkowski sum of both shapes, and every next contact has a
closed form. Gravity acts in kicks, as in the reference engine, between which flight is straight.
Scenes in which shapes rotate or containers move, or with several containers, go to `rigid.py`. Left
out: friction, loss of energy, gravity that changes over time.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

from resd_bench.errors import UsageError
from resd_envs.bouncingsim import rigid
from resd_envs.bouncingsim.world import (
    KICK,
    Box,
    Positions,
    Scene,
    Vector,
    World,
    normals,
    polygon,
    reach,
    read,
)

MAX_EVENTS = 100_000
"""More contacts than this mean a mistake in the scene."""
_INSTANT = 1e-10
"""Shorter times (s) are rounding."""
_NEVER = math.inf
_GRAZE = 1e-12
"""Closing speeds below this do not count as an approach."""
_LARGER = 1 + 1e-3
"""Circles are drawn larger by this factor, so that rounding hides no contact."""


def simulate(scene: Scene, times: Sequence[float]) -> Positions:
    """Centres of all balls at each of `times` (seconds from 0, in any order).

    Exact up to floating point for still containers and balls that do not rotate; otherwise as exact
    as `rigid.simulate`. UsageError for a scene that is malformed or has what we leave out.
    """
    if any(not 0 <= t < math.inf for t in times):
        raise UsageError(f"times must be finite and not negative, not {list(times)}")
    world = read(scene)
    order = sorted(set(times))
    found = _run(world, order)
    at = dict(zip(order, found, strict=True))
    return [list(at[t]) for t in times]


def _run(world: World, times: Sequence[float]) -> Positions:
    turning = any(math.isfinite(ball.inertia) for ball in world.balls)
    if len(world.boxes) == 1 and world.boxes[0].still and not turning:
        return _Flight(world).visit(times)
    return rigid.simulate_rigid(world, times)


# Flight from contact to contact.

Plane = tuple[float, float, float]
"""x, y, d: the points p with p.(x, y) <= d."""


class _Flight:
    """Balls that do not rotate, in one still container."""

    def __init__(self, world: World) -> None:
        self.gravity = world.gravity
        self.now = 0.0
        self.rest = 0.0
        """Time until the next kick."""
        self.events = 0
        self.masses = [ball.mass for ball in world.balls]
        self.p = [list(ball.position) for ball in world.balls]
        self.v = [list(ball.velocity) for ball in world.balls]
        shapes = [(ball.sides, ball.radius) for ball in world.balls]
        self.walls = [_walls(world.boxes[0], shape) for shape in shapes]
        self.pairs = [
            (i, j, _touching(shapes[i], shapes[j]), (shapes[i][1] + shapes[j][1]) * _LARGER)
            for j in range(len(shapes))
            for i in range(j)
        ]

    def visit(self, times: Sequence[float]) -> Positions:
        """Centres at ascending `times`."""
        found: Positions = []
        for time in times:
            if self.gravity == (0, 0):
                self.glide(time - self.now)
            else:
                self.fall_until(time)
            found.append([(x, y) for x, y in self.p])
        return found

    def fall_until(self, time: float) -> None:
        """Fly under gravity: many kicks at once if nothing is near, else one by one."""
        while time - self.now > _INSTANT:
            if self.rest <= _INSTANT:
                free = self.free_kicks(time - self.now)
                if free > 0:
                    self.leap(free)
                    continue
                self.kick(1)
                self.rest = KICK
            wait = min(self.rest, time - self.now)
            self.glide(wait)
            self.rest -= wait

    def free_kicks(self, limit: float) -> int:
        """How many kicks are certain to pass within `limit` before the next contact."""
        gx, gy = self.gravity
        # The parabola through the points that the kicked path visits.
        self.shift((gx * KICK / 2, gy * KICK / 2))
        wait, contact = self.next_contact(limit, self.gravity)
        self.shift((-gx * KICK / 2, -gy * KICK / 2))
        return int((wait + _INSTANT) / KICK) - (contact is not None)

    def leap(self, kicks: int) -> None:
        """Let this many kicks pass without a contact."""
        gx, gy = self.gravity
        time = kicks * KICK
        for p, v in zip(self.p, self.v, strict=True):
            p[0] += (v[0] + gx * (time + KICK) / 2) * time
            p[1] += (v[1] + gy * (time + KICK) / 2) * time
        self.kick(kicks)
        self.now += time

    def kick(self, kicks: int) -> None:
        """Let gravity act on the velocities."""
        self.shift((self.gravity[0] * kicks * KICK, self.gravity[1] * kicks * KICK))

    def shift(self, change: Vector) -> None:
        """Add to all velocities."""
        for v in self.v:
            v[0] += change[0]
            v[1] += change[1]

    def glide(self, wait: float) -> None:
        """Fly straight from contact to contact for `wait` seconds."""
        left, still = wait, (0.0, 0.0)
        while True:
            step, contact = self.next_contact(left, still)
            for p, v in zip(self.p, self.v, strict=True):
                p[0] += v[0] * step
                p[1] += v[1] * step
            left -= step
            if contact is None:
                break
            self.bounce(*contact)
            self.events += 1
            if self.events > MAX_EVENTS:
                raise UsageError("the balls of this scene never get free of each other")
        self.now += wait

    def next_contact(
        self, limit: float, gravity: Vector
    ) -> tuple[float, tuple[int, int, float, float] | None]:
        """Time to the next contact within `limit`, with (ball, other ball or -1, normal)."""
        best, contact = limit, None
        for i, planes in enumerate(self.walls):
            (px, py), (vx, vy) = self.p[i], self.v[i]
            for x, y, d in planes:
                # Outwards, which is the only way to a wall.
                speed = vx * x + vy * y
                pull = gravity[0] * x + gravity[1] * y
                if speed <= _GRAZE and pull <= 0:
                    continue
                wait = _time_to_wall(max(d - px * x - py * y, 0.0), speed, pull)
                if wait < best:
                    best, contact = wait, (i, -1, x, y)
        for i, j, edges, near in self.pairs:
            if self.stay_apart(i, j, near, best):
                continue
            wait, x, y = self.time_to_touch(i, j, edges, best)
            if wait < best:
                best, contact = wait, (i, j, x, y)
        return best, contact

    def stay_apart(self, i: int, j: int, near: float, limit: float) -> bool:
        """Whether the circles around balls i and j, with radii of `near` together, surely do not
        touch within `limit`: most pairs need no closer look."""
        (ax, ay), (bx, by) = self.p[i], self.p[j]
        (au, av), (bu, bv) = self.v[i], self.v[j]
        qx, qy, wx, wy = bx - ax, by - ay, bu - au, bv - av
        far = qx * qx + qy * qy - near * near
        if far <= 0:
            return False
        closing = qx * wx + qy * wy
        if closing >= 0:
            return True
        speed = wx * wx + wy * wy
        # At their closest, or else at the limit, where they still come closer.
        if closing * closing < far * speed:
            return True
        return -closing > speed * limit and far + limit * (2 * closing + speed * limit) > 0

    def time_to_touch(
        self, i: int, j: int, edges: Sequence[Plane], limit: float
    ) -> tuple[float, float, float]:
        """When balls i and j next touch (gravity moves both alike), and the normal from i to j."""
        (ax, ay), (bx, by) = self.p[i], self.p[j]
        (au, av), (bu, bv) = self.v[i], self.v[j]
        qx, qy, wx, wy = bx - ax, by - ay, bu - au, bv - av
        enter, leave, nx, ny = -_NEVER, _NEVER, 0.0, 0.0
        for x, y, d in edges:
            gap, speed = qx * x + qy * y - d, wx * x + wy * y
            if abs(speed) <= _GRAZE:
                if gap > 0:
                    return _NEVER, 0.0, 0.0
            elif speed < 0:
                wait = -gap / speed
                if wait > enter:
                    enter, nx, ny = wait, x, y
            elif -gap / speed < leave:
                leave = -gap / speed
            if enter >= limit:
                return _NEVER, 0.0, 0.0
        if -1e-9 < enter < leave:
            return max(enter, 0.0), nx, ny
        return _NEVER, 0.0, 0.0

    def bounce(self, i: int, j: int, x: float, y: float) -> None:
        """Exchange momentum along the normal (x, y)."""
        a = self.v[i]
        if j < 0:
            change = 2 * (a[0] * x + a[1] * y)
            a[0] -= change * x
            a[1] -= change * y
            return
        b = self.v[j]
        closing = (b[0] - a[0]) * x + (b[1] - a[1]) * y
        impulse = -2 * closing / (1 / self.masses[i] + 1 / self.masses[j])
        a[0] -= impulse / self.masses[i] * x
        a[1] -= impulse / self.masses[i] * y
        b[0] += impulse / self.masses[j] * x
        b[1] += impulse / self.masses[j] * y


def _time_to_wall(gap: float, speed: float, pull: float) -> float:
    """When a ball at `speed` towards a wall, accelerated by `pull`, crosses the `gap` outwards."""
    square = speed * speed + 2 * pull * gap
    if square < 0:
        return _NEVER
    # The root at which the ball moves outwards, in its stable form.
    root = math.sqrt(square)
    if speed > 0:
        return 2 * gap / (speed + root)
    return (root - speed) / pull if root - speed > _GRAZE else _NEVER


Shape = tuple[int, float]
"""Sides and radius of a ball that does not turn."""


@lru_cache(maxsize=256)
def _walls(box: Box, shape: Shape) -> tuple[Plane, ...]:
    """The half-planes in which the centre of a ball stays."""
    cx, cy = box.centre
    corners = polygon(*shape, 0.0)
    return tuple(
        (x, y, cx * x + cy * y + box.apothem - reach(corners, x, y))
        for x, y in normals(box.sides, box.rotation)
    )


@lru_cache(maxsize=256)
def _touching(first: Shape, second: Shape) -> tuple[Plane, ...]:
    """The Minkowski sum of the first shape and the mirrored second one, as half-planes."""
    corners = polygon(*first, 0.0)
    mirrored = [(-x, -y) for x, y in polygon(*second, 0.0)]
    edges = normals(first[0], 0.0)
    edges += [(-x, -y) for x, y in normals(second[0], 0.0)]
    return tuple((x, y, reach(corners, x, y) + reach(mirrored, x, y)) for x, y in edges)
