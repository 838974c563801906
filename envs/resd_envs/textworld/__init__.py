"""Text games made by TextWorld; needs the extra `textworld`.

Importing this does not need TextWorld; making an environment does.
"""

from typing import Any

from resd_envs.textworld.env import TextWorldEnv


def coin(**options: Any) -> TextWorldEnv:
    """Coin collector: three moves to the coin, three dead ends."""
    return TextWorldEnv(**{"family": "coin", "level": "medium"} | options)


def coin_easy(**options: Any) -> TextWorldEnv:
    """Coin collector: two moves to the coin, three dead ends."""
    return TextWorldEnv(**{"family": "coin", "level": "easy"} | options)


def coin_listed(**options: Any) -> TextWorldEnv:
    """Coin collector, easy, where every observation lists the possible commands."""
    tier: dict[str, Any] = {"family": "coin", "level": "easy", "admissible": True}
    return TextWorldEnv(**tier | options)


def coin_hard(**options: Any) -> TextWorldEnv:
    """Coin collector: six moves to the coin, eight rooms off the route."""
    return TextWorldEnv(**{"family": "coin", "level": "hard"} | options)


def treasure(**options: Any) -> TextWorldEnv:
    """Treasure hunter: ten rooms with doors and containers, a quest of four."""
    return TextWorldEnv(**{"family": "treasure", "level": "medium"} | options)


def treasure_easy(**options: Any) -> TextWorldEnv:
    """Treasure hunter: five rooms, nothing closed."""
    return TextWorldEnv(**{"family": "treasure", "level": "easy"} | options)


def treasure_hard(**options: Any) -> TextWorldEnv:
    """Treasure hunter: twenty rooms, some things are locked."""
    return TextWorldEnv(**{"family": "treasure", "level": "hard"} | options)


def cooking(**options: Any) -> TextWorldEnv:
    """Cooking: one ingredient to find in six rooms, cook and cut."""
    return TextWorldEnv(**{"family": "cooking", "level": "medium"} | options)


def cooking_easy(**options: Any) -> TextWorldEnv:
    """Cooking: one ingredient to cook, all in one kitchen."""
    return TextWorldEnv(**{"family": "cooking", "level": "easy"} | options)


def cooking_hard(**options: Any) -> TextWorldEnv:
    """Cooking: three ingredients in nine rooms."""
    return TextWorldEnv(**{"family": "cooking", "level": "hard"} | options)


__all__ = [
    "TextWorldEnv",
    "coin",
    "coin_easy",
    "coin_hard",
    "coin_listed",
    "cooking",
    "cooking_easy",
    "cooking_hard",
    "treasure",
    "treasure_easy",
    "treasure_hard",
]
