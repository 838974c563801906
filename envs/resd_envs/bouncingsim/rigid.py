"""Bouncing polygons that rotate, containers that rotate or move, and several containers.

Conservative advancement: a step is never longer than the least time to a possible contact, so no
contact is missed; a contact exchanges momentum at its point. A ball whose centre starts inside a
container stays inside it, and meets any other container as a solid polygon. Containers follow their
paths no matter what hits them. Left out: friction, resting contact.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from resd_envs.bouncingsim.world import (
    KICK,
    Ball,
    Box,
    Positions,
    Vector,
    World,
    normals,
    polygon,
)

CLEARANCE = 0.005
"""Shapes this close (m) touch; the gap that the reference engine leaves."""
TOUCH = CLEARANCE * 1.1
PART = 0.0094
"""The reference engine pushes touching shapes this far (m) apart before they bounce. That rotates a
ball a little, which later bounces magnify."""
SHORTEST, LONGEST = 1e-6, 0.01
"""Steps in seconds."""
MAX_IMPULSES = 12
"""Impulses at one instant, e.g. of a face that meets a wall with two corners."""
MAX_PUSHES = 50
"""Pushes that free balls which start across walls."""
_GRAZE = 1e-9
"""Closing speeds (m/s) below this do not count as an approach."""
_INSTANT = 1e-10
"""Shorter times (s) are rounding."""


@dataclass(slots=True)
class Body:
    """A polygon at an instant; its corners and normals are in the world's frame."""

    sides: int
    radius: float
    apothem: float
    x: float
    y: float
    u: float
    v: float
    angle: float
    spin: float
    inverse_mass: float
    """0 for a container."""
    inverse_inertia: float
    drift: float = 0.0
    """Upper bound on how much faster (m/s) its centre may become within the longest step."""
    corners: Sequence[Vector] = ()
    faces: Sequence[Vector] = ()

    def shape(self) -> None:
        """Compute corners and normals."""
        x, y = self.x, self.y
        at_origin = polygon(self.sides, self.radius, self.angle)
        self.corners = [(x + a, y + b) for a, b in at_origin]
        self.faces = normals(self.sides, self.angle)

    def speed_at(self, x: float, y: float) -> Vector:
        """Velocity of the body at a point."""
        return self.u - self.spin * (y - self.y), self.v + self.spin * (x - self.x)


@dataclass(frozen=True, slots=True)
class Touch:
    """Where a ball nearly meets another body."""

    gap: float
    x: float
    y: float
    nx: float
    ny: float
    """Normal, away from the other body and towards the ball."""


def simulate_rigid(world: World, times: Sequence[float]) -> Positions:
    """Centres of all balls at ascending `times`."""
    return _Engine(world).visit(times)


class _Engine:
    """The bodies of a world, moved forward."""

    def __init__(self, world: World) -> None:
        self.world, self.now = world, 0.0
        longest = LONGEST * math.hypot(*world.gravity)
        self.balls = [_ball_body(ball, longest) for ball in world.balls]
        self.boxes = [_box_body(box) for box in world.boxes]
        self.rest = 0.0
        """Time until the next kick of gravity."""
        self.inside = {
            (i, k)
            for i, ball in enumerate(self.balls)
            for k, box in enumerate(self.boxes)
            if _holds(box, ball.x, ball.y)
        }
        # Only now: a path may start away from the centre, and carries along what is inside.
        self.place()
        self.settle()

    def visit(self, times: Sequence[float]) -> Positions:
        """Centres at ascending `times`."""
        found: Positions = []
        for time in times:
            while time - self.now > _INSTANT:
                wait = min(self.wait(), time - self.now)
                if self.world.gravity == (0, 0):
                    self.advance(wait)
                else:
                    self.fall(wait)
                self.collide()
            found.append([(ball.x, ball.y) for ball in self.balls])
        return found

    def settle(self) -> None:
        """Push balls that start across a wall to the side where their centre is."""
        for _ in range(MAX_PUSHES):
            worst = min(
                (
                    (touch.gap, ball, touch)
                    for ball, other, inside in self.meetings()
                    for touch in _touches(ball, other, inside)
                ),
                key=lambda found: found[0],
                default=None,
            )
            if worst is None or worst[0] >= 0:
                return
            gap, ball, touch = worst
            ball.x -= gap * touch.nx
            ball.y -= gap * touch.ny
            ball.shape()

    def place(self) -> None:
        """Move the containers to their current positions, and compute all shapes."""
        for box, body in zip(self.world.boxes, self.boxes, strict=True):
            follow(box, body, self.now)
        for ball in self.balls:
            ball.shape()

    def fall(self, wait: float) -> None:
        """Move under gravity for at most `wait`: whole kicks, or up to the next one."""
        kicks = int((wait + _INSTANT) / KICK) if self.rest <= _INSTANT else 0
        if kicks:
            self.kick((kicks + 1) / 2)
            self.advance(kicks * KICK)
            self.kick((kicks - 1) / 2)
            return
        if self.rest <= _INSTANT:
            self.kick(1)
            self.rest = KICK
        wait = min(wait, self.rest)
        self.advance(wait)
        self.rest -= wait

    def kick(self, kicks: float) -> None:
        """Let gravity act on the velocities."""
        gx, gy = self.world.gravity
        for ball in self.balls:
            ball.u += gx * kicks * KICK
            ball.v += gy * kicks * KICK

    def advance(self, wait: float) -> None:
        """Let everything move in a straight line."""
        for ball in self.balls:
            ball.x += ball.u * wait
            ball.y += ball.v * wait
            ball.angle += ball.spin * wait
        self.now += wait
        self.place()

    def meetings(self) -> Iterator[tuple[Body, Body, bool]]:
        """Each ball with each container (True if it is inside) and each later ball."""
        for i, ball in enumerate(self.balls):
            for k, box in enumerate(self.boxes):
                yield ball, box, (i, k) in self.inside
            for other in self.balls[i + 1 :]:
                yield ball, other, False

    def wait(self) -> float:
        """A time in which certainly nothing meets, or the shortest step."""
        wait = LONGEST
        for ball, other, inside in self.meetings():
            turning = abs(ball.spin) * ball.radius + abs(other.spin) * other.radius
            slack = turning + ball.drift + other.drift
            if inside:
                wait = min(wait, _safe_inside(ball, other, slack, wait))
            else:
                wait = min(wait, _safe_outside(ball, other, slack))
        return max(wait, SHORTEST)

    def collide(self) -> None:
        """Exchange momentum wherever shapes touch and approach."""
        for ball, other, inside in self.meetings():
            for _ in range(MAX_IMPULSES):
                near = (t for t in _touches(ball, other, inside) if t.gap < TOUCH)
                approaches = [(_closing(ball, other, touch), touch) for touch in near]
                closing, touch = max(approaches, key=lambda c: c[0], default=(0.0, None))
                if touch is None or closing <= _GRAZE:
                    break
                touch = _part(ball, other, touch)
                _impulse(ball, other, touch)


def _ball_body(ball: Ball, drift: float) -> Body:
    return Body(
        sides=ball.sides,
        radius=ball.radius,
        apothem=ball.radius * math.cos(math.pi / ball.sides),
        x=ball.position[0],
        y=ball.position[1],
        u=ball.velocity[0],
        v=ball.velocity[1],
        angle=0.0,
        spin=ball.spin,
        inverse_mass=1 / ball.mass,
        inverse_inertia=1 / ball.inertia,
        drift=2 * drift,
    )


def _box_body(box: Box) -> Body:
    sway = sum((2 * math.pi * f) ** 2 * abs(a) for a, f in zip(*box.path[:2], strict=True))
    turn = LONGEST * abs(box.spin_swing) * box.radius
    x, y = box.centre
    body = Body(
        sides=box.sides,
        radius=box.radius,
        apothem=box.apothem,
        x=x,
        y=y,
        u=0.0,
        v=0.0,
        angle=box.rotation,
        spin=box.spin,
        inverse_mass=0.0,
        inverse_inertia=0.0,
        drift=LONGEST * sway + turn,
    )
    body.shape()
    return body


def follow(box: Box, body: Body, time: float) -> None:
    """Move a container to where its path puts it at `time`."""
    (ax, ay), (fx, fy), (px, py) = box.path
    wx, wy = 2 * math.pi * fx, 2 * math.pi * fy
    body.x = box.centre[0] + ax * math.sin(wx * time + px)
    body.y = box.centre[1] + ay * math.sin(wy * time + py)
    body.u = ax * wx * math.cos(wx * time + px)
    body.v = ay * wy * math.cos(wy * time + py)
    swing = box.spin_swing
    body.angle = box.rotation + box.spin * time + swing * (1 - math.cos(time))
    body.spin = box.spin + swing * math.sin(time)
    if not box.still:
        body.shape()


def container_at(box: Box, time: float) -> Body:
    """A container as it is at `time` (s)."""
    body = _box_body(box)
    follow(box, body, time)
    return body


def _holds(box: Body, x: float, y: float) -> bool:
    return all(a * (x - box.x) + b * (y - box.y) < box.apothem for a, b in box.faces)


# Distances.


def _touches(ball: Body, other: Body, inside: bool) -> Iterable[Touch]:
    return _inside_touches(ball, other) if inside else _outside_touches(ball, other)


def _inside_touches(ball: Body, box: Body) -> Iterator[Touch]:
    """Every corner of the ball with every wall around it."""
    for a, b in box.faces:
        edge = box.apothem + a * box.x + b * box.y
        for x, y in ball.corners:
            yield Touch(edge - a * x - b * y, x, y, -a, -b)


def _safe_inside(ball: Body, box: Body, slack: float, limit: float) -> float:
    """A time in which no wall is reached."""
    for a, b in box.faces:
        nearest = max([a * x + b * y for x, y in ball.corners])
        gap = box.apothem + a * box.x + b * box.y - nearest
        closing = (ball.u - box.u) * a + (ball.v - box.v) * b + slack
        if closing > 0 and gap - CLEARANCE < closing * limit:
            limit = max(gap - CLEARANCE, 0.0) / closing
    return limit


def _separation(first: Body, second: Body) -> tuple[float, float, float, float]:
    """Over the faces of `first`: largest gap to `second`, the face's normal, closing speed."""
    best = (-math.inf, 0.0, 0.0, 0.0)
    for a, b in first.faces:
        edge = first.apothem + a * first.x + b * first.y
        gap = min([a * x + b * y for x, y in second.corners]) - edge
        if gap > best[0]:
            closing = (first.u - second.u) * a + (first.v - second.v) * b
            best = (gap, a, b, closing)
    return best


def _safe_outside(ball: Body, other: Body, slack: float) -> float:
    """A time in which two solid shapes do not meet: one axis stays between them."""
    distance = math.hypot(ball.x - other.x, ball.y - other.y) - ball.radius - other.radius
    speed = math.hypot(ball.u - other.u, ball.v - other.v) + slack
    if distance > speed * LONGEST:
        return LONGEST
    gap, _, _, closing = max(_separation(ball, other), _separation(other, ball))
    closing += slack
    return max(gap - CLEARANCE, 0.0) / closing if closing > 0 else LONGEST


def _outside_touches(ball: Body, other: Body) -> list[Touch]:
    """The corners that are nearest along the axis of largest separation."""
    if math.hypot(ball.x - other.x, ball.y - other.y) > ball.radius + other.radius + TOUCH:
        return []
    mine, theirs = _separation(ball, other), _separation(other, ball)
    if mine[0] > theirs[0]:
        first, second, (gap, a, b, _), sign = ball, other, mine, -1.0
    else:
        first, second, (gap, a, b, _), sign = other, ball, theirs, 1.0
    if gap >= TOUCH:
        return []
    edge = first.apothem + a * first.x + b * first.y
    depths = [(a * x + b * y - edge, x, y) for x, y in second.corners]
    return [Touch(d, x, y, sign * a, sign * b) for d, x, y in depths if d < max(gap, 0) + TOUCH]


# Momentum.


def _closing(ball: Body, other: Body, touch: Touch) -> float:
    """How fast the two approach at a point (m/s)."""
    au, av = ball.speed_at(touch.x, touch.y)
    bu, bv = other.speed_at(touch.x, touch.y)
    return -((au - bu) * touch.nx + (av - bv) * touch.ny)


def _arm(body: Body, touch: Touch) -> float:
    """Lever arm of a push along the normal about the body's centre."""
    return (touch.x - body.x) * touch.ny - (touch.y - body.y) * touch.nx


def _give(ball: Body, other: Body, touch: Touch) -> float:
    """The change in speed from an impulse of size 1 along the normal."""
    give = ball.inverse_mass + other.inverse_mass
    give += _arm(ball, touch) ** 2 * ball.inverse_inertia
    return give + _arm(other, touch) ** 2 * other.inverse_inertia


def _part(ball: Body, other: Body, touch: Touch) -> Touch:
    """Move two bodies apart at the point where they touch; returns the new point."""
    size = max(CLEARANCE + PART - touch.gap, 0.0) / _give(ball, other, touch)
    arms = _arm(ball, touch), _arm(other, touch)
    turn = size * arms[0] * ball.inverse_inertia
    x, y = touch.x - ball.x, touch.y - ball.y
    for body, arm, sign in ((ball, arms[0], 1), (other, arms[1], -1)):
        if body.inverse_mass:
            body.x += sign * size * touch.nx * body.inverse_mass
            body.y += sign * size * touch.ny * body.inverse_mass
            body.angle += sign * size * arm * body.inverse_inertia
            body.shape()
    x, y = x * math.cos(turn) - y * math.sin(turn), x * math.sin(turn) + y * math.cos(turn)
    return replace(touch, x=ball.x + x, y=ball.y + y)


def _impulse(ball: Body, other: Body, touch: Touch) -> None:
    """Turn the approach at a point into an equally fast departure."""
    size = 2 * _closing(ball, other, touch) / _give(ball, other, touch)
    for body, sign in ((ball, 1), (other, -1)):
        arm = _arm(body, touch)
        body.u += sign * size * touch.nx * body.inverse_mass
        body.v += sign * size * touch.ny * body.inverse_mass
        body.spin += sign * size * arm * body.inverse_inertia
