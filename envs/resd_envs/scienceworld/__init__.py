"""ScienceWorld, thirty tasks of elementary school science; needs the extra `scienceworld`.

Importing this needs neither the package nor Java; making an environment does.
"""

from typing import Any

from resd_envs.scienceworld.env import ScienceWorldEnv


def easy(**options: Any) -> ScienceWorldEnv:
    """Nine tasks of at most about 16 commands: find things, compare life spans."""
    return ScienceWorldEnv(**{"tasks": "easy"} | options)


def medium(**options: Any) -> ScienceWorldEnv:
    """Eleven tasks of up to 60 commands and more: chemistry, thermometers, circuits."""
    return ScienceWorldEnv(**{"tasks": "medium"} | options)


def hard(**options: Any) -> ScienceWorldEnv:
    """Ten tasks of up to 200 commands: states of matter, inclined planes, genetics."""
    return ScienceWorldEnv(**{"tasks": "hard"} | options)


__all__ = ["ScienceWorldEnv", "easy", "hard", "medium"]
