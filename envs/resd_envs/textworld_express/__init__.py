"""The eight text games of TextWorldExpress; needs the extra `textworld-express`.

Importing this needs neither the package nor Java; making an environment does.
"""

from typing import Any

from resd_envs.textworld_express.env import TextWorldExpressEnv


def arithmetic(**options: Any) -> TextWorldExpressEnv:
    """Solve a problem, and put that many things into the box."""
    return TextWorldExpressEnv(**{"game": "arithmetic", "level": "medium"} | options)


def coin(**options: Any) -> TextWorldExpressEnv:
    """Coin collector: eleven rooms with doors."""
    return TextWorldExpressEnv(**{"game": "coin", "level": "medium"} | options)


def coin_easy(**options: Any) -> TextWorldExpressEnv:
    """Coin collector: seven rooms, no doors."""
    return TextWorldExpressEnv(**{"game": "coin", "level": "easy"} | options)


def cookingworld(**options: Any) -> TextWorldExpressEnv:
    """Cooking: three ingredients in eleven rooms with doors."""
    return TextWorldExpressEnv(**{"game": "cookingworld", "level": "medium"} | options)


def cookingworld_easy(**options: Any) -> TextWorldExpressEnv:
    """Cooking: one ingredient in three rooms."""
    return TextWorldExpressEnv(**{"game": "cookingworld", "level": "easy"} | options)


def mapreader(**options: Any) -> TextWorldExpressEnv:
    """A coin to fetch with a map: fifteen rooms, at most four moves apart."""
    return TextWorldExpressEnv(**{"game": "mapreader", "level": "medium"} | options)


def mapreader_easy(**options: Any) -> TextWorldExpressEnv:
    """A coin to fetch with a map: six rooms, at most two moves apart."""
    return TextWorldExpressEnv(**{"game": "mapreader", "level": "easy"} | options)


def mapreader_hard(**options: Any) -> TextWorldExpressEnv:
    """A coin to fetch with a map: thirty rooms, at most eight moves apart."""
    return TextWorldExpressEnv(**{"game": "mapreader", "level": "hard"} | options)


def peckingorder(**options: Any) -> TextWorldExpressEnv:
    """Follow the instructions in a book, one after the other."""
    return TextWorldExpressEnv(**{"game": "peckingorder", "level": "medium"} | options)


def simonsays(**options: Any) -> TextWorldExpressEnv:
    """Do what Simon says: five commands, one at a time."""
    return TextWorldExpressEnv(**{"game": "simonsays", "level": "medium"} | options)


def simonsays_easy(**options: Any) -> TextWorldExpressEnv:
    """Do what Simon says: three commands, one at a time."""
    return TextWorldExpressEnv(**{"game": "simonsays", "level": "easy"} | options)


def simonsays_hard(**options: Any) -> TextWorldExpressEnv:
    """Do what Simon said: ten commands, told at the beginning."""
    return TextWorldExpressEnv(**{"game": "simonsays", "level": "hard"} | options)


def sorting(**options: Any) -> TextWorldExpressEnv:
    """Put things into the box in the order of their quantity."""
    return TextWorldExpressEnv(**{"game": "sorting", "level": "medium"} | options)


def twc(**options: Any) -> TextWorldExpressEnv:
    """Put four things where they belong, in three rooms."""
    return TextWorldExpressEnv(**{"game": "twc", "level": "medium"} | options)


def twc_easy(**options: Any) -> TextWorldExpressEnv:
    """Put two things where they belong, in two rooms."""
    return TextWorldExpressEnv(**{"game": "twc", "level": "easy"} | options)


__all__ = [
    "TextWorldExpressEnv",
    "arithmetic",
    "coin",
    "coin_easy",
    "cookingworld",
    "cookingworld_easy",
    "mapreader",
    "mapreader_easy",
    "mapreader_hard",
    "peckingorder",
    "simonsays",
    "simonsays_easy",
    "simonsays_hard",
    "sorting",
    "twc",
    "twc_easy",
]
