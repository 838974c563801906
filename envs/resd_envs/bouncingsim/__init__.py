"""BouncingSim: programs that predict where bouncing polygons are.

`verify` marks an answer; `easy` and its siblings make the environments. The physics, the scenes
and the verifier do not depend on Gymnasium.
"""

from typing import Any

from resd_envs.bouncingsim.env import BouncingSimEnv
from resd_envs.bouncingsim.physics import simulate
from resd_envs.bouncingsim.scenes import Room, generate
from resd_envs.bouncingsim.verifier import verify


def basic(**options: Any) -> BouncingSimEnv:
    """Two slow balls; one ball in a square room in the compact dialect."""
    return BouncingSimEnv(**{"difficulty": "basic", **options})


def easy(**options: Any) -> BouncingSimEnv:
    """The paper's BouncingSim-Easy: three balls."""
    return BouncingSimEnv(**{"difficulty": "easy", **options})


def medium(**options: Any) -> BouncingSimEnv:
    """The paper's BouncingSim-Medium: four or five balls."""
    return BouncingSimEnv(**{"difficulty": "medium", **options})


def hard(**options: Any) -> BouncingSimEnv:
    """Five or six balls."""
    return BouncingSimEnv(**{"difficulty": "hard", **options})


def extreme(**options: Any) -> BouncingSimEnv:
    """Seven to nine balls."""
    return BouncingSimEnv(**{"difficulty": "extreme", **options})


__all__ = [
    "BouncingSimEnv",
    "Room",
    "basic",
    "easy",
    "extreme",
    "generate",
    "hard",
    "medium",
    "simulate",
    "verify",
]
