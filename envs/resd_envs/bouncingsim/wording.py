"""How a scene is posed: the manual with every number, or one line per body for the embedded model.

The `released` wording does not mention contacts between balls, masses, rotation and how answers are
graded; `complete` adds them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Any, Literal, get_args

from resd_bench.errors import UsageError
from resd_envs.bouncingsim.scenes import Room
from resd_envs.bouncingsim.world import Scene

Wording = Literal["released", "complete"]
WORDINGS: tuple[Wording, ...] = get_args(Wording)

_FIELD = re.compile(r"\{([a-z]+)\}")


def full_prompt(scene: Scene, wording: Wording) -> str:
    """The manual and the scene in words."""
    balls: Sequence[Mapping[str, Any]] = scene["balls"]
    rules = ""
    if wording == "complete":
        turns = any(ball.get("rotation_affected") for ball in balls)
        rules = _fill("complete.md", turning=_TURNING[turns])
    count = len(balls)
    ellipsis = "" if count < 3 else "..., "
    pairs = "[[x1, y1]]" if count == 1 else f"[[x1, y1], {ellipsis}[x{count}, y{count}]]"
    return _fill(
        "full.md",
        rules=rules,
        containers="\n".join(
            f"{n}. {_box(box, scene.get('outer_rotation_profile') if n == 1 else None)}"
            for n, box in enumerate(scene["boxes"], 1)
        ),
        balls="\n".join(f"{n}. {_ball(ball)}" for n, ball in enumerate(balls, 1)),
        gravity=_gravity(scene.get("physics") or {}),
        motion=_motion(scene),
        shape=pairs,
        count="one pair" if count == 1 else f"{count} pairs, one a ball,",
    )


_TURNING = {
    False: "Balls never turn: whatever hits them, their orientation stays as it is.",
    True: "Balls are rigid bodies: a hit beside the centre changes how fast they turn.",
}


def compact_prompt(scene: Scene) -> str:
    """A line per body: sides, centre and radius of a box; sides, position, velocity of a ball."""
    lines = []
    for box in scene["boxes"]:
        (x, y), size = box["center"], box["diameter"] / 2
        lines.append(f"box {box['sides']} {x} {y} {size:g}{_compact_motion(box)}")
    for ball in scene["balls"]:
        (x, y), (u, v) = ball["position"], ball["velocity"]
        spin = f" spin {ball['angular_velocity']:g}" if ball.get("rotation_affected") else ""
        lines.append(f"ball {ball['sides']} {ball['radius']:g} {x} {y} {u:g} {v:g}{spin}")
    physics = scene.get("physics") or {}
    if physics.get("gravity_enabled"):
        lines.append(f"gravity {physics['gravity_x']:g} {physics['gravity_y']:g}")
    return "\n".join(lines)


def room_prompt(room: Room) -> str:
    """Two lines: the room, and the ball."""
    return (
        f"room {room.width} radius {room.radius} gravity {room.gravity}\n"
        f"ball {room.x} {room.y} speed {room.u} {room.v}"
    )


def _fill(name: str, **values: str) -> str:
    """A file of prompts with its fields filled; an error if fields and values do not agree."""
    text = _text(name)
    fields = set(_FIELD.findall(text))
    if fields != values.keys():
        wrong = sorted(fields ^ values.keys())
        raise UsageError(f"prompts/{name} and the code that fills it disagree about {wrong}")
    return _FIELD.sub(lambda match: values[match[1]], text)


@cache
def _text(name: str) -> str:
    folder = files("resd_envs.bouncingsim").joinpath("prompts")
    return folder.joinpath(name).read_text(encoding="utf-8")


# Wording of the parts of a scene.


def _box(box: Mapping[str, Any], profile: Mapping[str, Any] | None) -> str:
    x, y = box["center"]
    words = (
        f"regular polygon with {box['sides']} sides, centre ({x}, {y}), "
        f"{box['diameter'] / 2:.2f} from the centre to a vertex, "
        f"first vertex at angle {box.get('rotation', 0.0):.4g} rad; "
    )
    return words + f"{_turning(box, profile)}; {_moving(box.get('translation_path'))}."


def _turning(box: Mapping[str, Any], profile: Mapping[str, Any] | None) -> str:
    spin = box.get("rotation_speed", 0.0)
    if profile:
        swing = profile["amplitude"]
        return f"turns anticlockwise at {spin:g} + {swing:g} sin(t) rad/s"
    return f"turns anticlockwise at {spin:g} rad/s" if spin else "does not turn"


def _moving(path: Mapping[str, Any] | None) -> str:
    if not path:
        return "does not move"
    if path["type"] == "sin1d":
        size, rate, axis = path["amplitude"], path["freq"], path["axis"]
        return f"the {axis} of its centre is displaced by {size:g} sin(2 pi {rate:g} t)"
    return (
        f"its centre is displaced by ({path['ax']:g} sin(2 pi {path['fx']:g} t), "
        f"{path['ay']:g} sin(2 pi {path['fy']:g} t + pi/2))"
    )


def _ball(ball: Mapping[str, Any]) -> str:
    (x, y), (u, v) = ball["position"], ball["velocity"]
    shape = f"regular polygon with {ball['sides']} sides" if ball["sides"] > 2 else "circle"
    spin = f"{ball['angular_velocity']:g} rad/s" if ball.get("rotation_affected") else "none"
    return (
        f"{shape}, radius {ball['radius']:g}, at ({x}, {y}), velocity ({u:g}, {v:g}), "
        f"angular velocity {spin}."
    )


def _gravity(physics: Mapping[str, Any]) -> str:
    if not physics.get("gravity_enabled"):
        return "none."
    x, y = physics["gravity_x"], physics["gravity_y"]
    return f"constant acceleration ({x:g}, {y:g}) of every ball."


def _motion(scene: Scene) -> str:
    moves = [
        box for box in scene["boxes"] if box.get("rotation_speed") or box.get("translation_path")
    ]
    return "as given for the containers." if moves else "none."


def _compact_motion(box: Mapping[str, Any]) -> str:
    spin, path = box.get("rotation_speed"), box.get("translation_path")
    words = f" spin {spin:g}" if spin else ""
    if path:
        words += " path " + " ".join(f"{value}" for value in path.values())
    return words + (f" angle {box['rotation']:.4g}" if box.get("rotation") else "")


__all__ = ["WORDINGS", "Wording", "compact_prompt", "full_prompt", "room_prompt"]
