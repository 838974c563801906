"""The games of TextWorldExpress: tiers, turns, and the seeds of each split.

The package has a thousand seeds for each of its folds; in some games, objects and recipes differ
between folds. A seed is left out (`LEFT_OUT`) if another seed gives the same game, so that no game
is in two splits, or if the game's own agent does not win it. Nothing is played here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import count, islice
from typing import Literal

from resd_bench.types import Split

GameName = Literal[
    "arithmetic",
    "coin",
    "cookingworld",
    "mapreader",
    "peckingorder",
    "simonsays",
    "sorting",
    "twc",
]
Level = Literal["easy", "medium", "hard"]
SIZES: Mapping[Split, int] = {"train": 256, "validation": 64, "test": 128}
FOLDS: Mapping[Split, tuple[str, int]] = {
    "train": ("train", 0),
    "validation": ("dev", 10_000),
    "test": ("test", 20_000),
}
"""The package's names of the splits, and the first seed of each."""


@dataclass(frozen=True, slots=True)
class Tier:
    """One difficulty of one game."""

    game: GameName
    level: Level
    turns: int
    """Maximum number of commands."""
    parameters: str = ""
    """Options of the game's generator; all others have the package's defaults."""

    @property
    def name(self) -> str:
        """Short name."""
        return f"textworld-express-{self.game}" + (
            "" if self.level == "medium" else f"-{self.level}"
        )


TIERS: Mapping[tuple[GameName, Level], Tier] = {
    (tier.game, tier.level): tier
    for tier in (
        Tier("arithmetic", "medium", 10),
        Tier("coin", "easy", 15, "numLocations=7,includeDoors=0"),
        Tier("coin", "medium", 30),
        Tier(
            "cookingworld",
            "easy",
            30,
            "numLocations=3,numIngredients=1,numDistractorItems=2,includeDoors=0",
        ),
        Tier("cookingworld", "medium", 60),
        Tier(
            "mapreader",
            "easy",
            15,
            "numLocations=6,maxDistanceApart=2,maxDistractorItemsPerLocation=0",
        ),
        Tier("mapreader", "medium", 25),
        Tier("mapreader", "hard", 40, "numLocations=30,maxDistanceApart=8"),
        Tier("peckingorder", "medium", 15),
        Tier("simonsays", "easy", 6, "gameLength=3"),
        Tier("simonsays", "medium", 10),
        Tier("simonsays", "hard", 20, "gameLength=10,numDistractors=5,memorization=1"),
        Tier("sorting", "medium", 20),
        Tier("twc", "easy", 12, "numLocations=2,numItemsToPutAway=2"),
        Tier("twc", "medium", 30),
    )
}


@dataclass(frozen=True, slots=True)
class Game:
    """Everything that determines a game."""

    game: GameName
    parameters: str
    fold: str
    seed: int

    def __str__(self) -> str:
        return f"{self.game} {self.seed} ({self.parameters or 'as the package has it'})"


LEFT_OUT: Mapping[str, frozenset[int]] = {
    "textworld-express-coin": frozenset({118, 10011}),
    "textworld-express-coin-easy": frozenset(
        {49, 127, 172, 179, 190, 214, 218, 229, 238, 254, 10003, 10010, 10012, 10058, 20103}
    ),
    "textworld-express-cookingworld-easy": frozenset({224, 20085}),
    "textworld-express-peckingorder": frozenset({10022, 10042, 10063, 10064}),
}
"""By tier, seeds whose game another seed has too, or which the game's agent does not win."""


def games(tier: Tier, split: Split) -> tuple[Game, ...]:
    """The games of a split, the same on every machine."""
    fold, first = FOLDS[split]
    left_out = LEFT_OUT.get(tier.name, frozenset())
    seeds = (seed for seed in count(first) if seed not in left_out)
    return tuple(
        Game(tier.game, tier.parameters, fold, seed) for seed in islice(seeds, SIZES[split])
    )
