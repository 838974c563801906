"""The games, and where they are on disk.

A game is made once, by TextWorld in a separate process, and kept in a cache; it depends only on its
recipe. `RESD_BENCH_CACHE` names another cache folder. Several processes may make the same game at
once: each writes all of it under a name of its own and then renames it. TextWorld is not imported
here.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

import numpy as np

from resd_bench.errors import UsageError, install_extra
from resd_bench.files.cache import CACHE_VARIABLE, cache_root
from resd_bench.seeds import derive
from resd_bench.types import Split
from resd_envs.textworld.maker import ask
from resd_envs.textworld.maze import Layout, mazes

Family = Literal["coin", "treasure", "cooking"]
Level = Literal["easy", "medium", "hard"]

SEALED = re.compile(rb'\{"sha256": "([0-9a-f]{64})", ')
"""The beginning of a game's JSON, with the hash of what follows."""
SIZES: Mapping[Split, int] = {"train": 128, "validation": 32, "test": 64}
FOOD_SPLITS: Mapping[Split, str] = {"train": "train", "validation": "valid", "test": "test"}
"""TextWorld's names for sets of foods and preparations, which differ between splits."""


@dataclass(frozen=True, slots=True)
class Tier:
    """One difficulty of one family of games."""

    family: Family
    level: Level
    turns: int
    """Maximum number of commands."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Options of TextWorld's generator of the family."""
    layout: Layout | None = None
    """The layout of coin collectors."""


def _coin(level: Level, layout: Layout) -> Tier:
    return Tier("coin", level, layout.longest_search + 2, layout=layout)


def _cooking(level: Level, turns: int, **skills: Any) -> Tier:
    return Tier("cooking", level, turns, {"drop": False, "recipe_seed": 0, **skills})


TIERS: Mapping[tuple[Family, Level], Tier] = {
    (tier.family, tier.level): tier
    for tier in (
        _coin("easy", Layout(2, 3, deep=True)),
        _coin("medium", Layout(3, 3)),
        _coin("hard", Layout(6, 8, deep=True)),
        Tier("treasure", "easy", 15, {"level": 7}),
        Tier("treasure", "medium", 30, {"level": 14}),
        Tier("treasure", "hard", 60, {"level": 22}),
        _cooking("easy", 20, recipe=1, take=1, go=1, open=True, cook=True, cut=False),
        _cooking("medium", 35, recipe=1, take=1, go=6, open=True, cook=True, cut=True),
        _cooking("hard", 60, recipe=3, take=3, go=9, open=True, cook=True, cut=True),
    )
}


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything that determines a game; as JSON, it also determines the file name."""

    family: Family
    seed: int
    settings: Mapping[str, Any]
    maze: Sequence[str] = ()
    """The map of a coin collector, see `Maze.content`."""

    @property
    def order(self) -> dict[str, Any]:
        """The recipe as JSON."""
        return {
            "family": self.family,
            "seed": self.seed,
            "settings": dict(self.settings),
            "maze": list(self.maze),
        }

    @property
    def name(self) -> str:
        """File name without suffix."""
        text = json.dumps(self.order, sort_keys=True)
        return f"{self.family}-{hashlib.sha256(text.encode()).hexdigest()[:24]}"

    @property
    def state_file(self) -> Path:
        """The definition of the game."""
        return cache_folder() / f"{self.name}.json"

    @property
    def story_file(self) -> Path:
        """The compiled game, which narrates it in words."""
        return cache_folder() / f"{self.name}.z8"


def recipes(tier: Tier, split: Split) -> tuple[Recipe, ...]:
    """The games of a split, the same on every machine.

    Coin collectors are disjoint by their maps, cooking games by foods and preparations; treasure
    hunts have maps of ten rooms and more and differ by their seeds.
    """
    count, where = SIZES[split], ("textworld", tier.family, tier.level, split)
    seeds = [derive(0, *where, number) % 2**31 for number in range(count)]
    if tier.layout is not None:
        drawn = mazes(tier.layout, split, count)
        return tuple(Recipe("coin", s, {}, m.content) for s, m in zip(seeds, drawn, strict=True))
    settings = dict(tier.settings)
    if tier.family == "cooking":
        settings["split"] = FOOD_SPLITS[split]
    return tuple(Recipe(tier.family, seed, settings) for seed in seeds)


def require_textworld() -> None:
    """UsageError if TextWorld is not installed."""
    if importlib.util.find_spec("textworld") is None:
        raise UsageError(
            "these games are made by the package textworld, which is not installed: "
            f"{install_extra('textworld')}"
        )


def cache_folder() -> Path:
    """The folder for games of the installed version of TextWorld."""
    try:
        made_by = f"textworld-{version('textworld')}"
    except PackageNotFoundError:
        made_by = "textworld"
    return cache_root() / made_by


def read_walkthrough(recipe: Recipe) -> tuple[str, ...]:
    """Commands that win a game that is in the cache."""
    return tuple(read_state(recipe.state_file)["metadata"]["walkthrough"])


def sealed(state: bytes) -> bytes:
    """A game's JSON with the SHA-256 of the rest in front; TextWorld ignores it."""
    rest = state.strip().removeprefix(b"{")
    return b'{"sha256": "%s", %s' % (hashlib.sha256(rest).hexdigest().encode(), rest)


def read_state(path: Path) -> dict[str, Any]:
    """The definition of a game; UsageError if the file is not what was written."""
    try:
        text = path.read_bytes()
        state = json.loads(text)
        named = SEALED.match(text)
        # Games made by early versions have no hash.
        if not isinstance(state, dict) or ("sha256" in state and named is None):
            raise ValueError("it is not a game")
        if named and hashlib.sha256(text[named.end() :]).hexdigest().encode() != named[1]:
            raise ValueError("its SHA-256 is wrong")
    except (OSError, ValueError, RecursionError) as error:
        raise damaged(path, error) from None
    return state


def check_story(path: Path) -> None:
    """UsageError if a compiled game does not match its header."""
    try:
        told = np.frombuffer(path.read_bytes(), np.uint8)
    except OSError as error:
        raise damaged(path, error) from None
    # Length (in units of 8 bytes) and sum, as in every Z-machine game.
    length, total = (
        int(told[at]) * 256 + int(told[at + 1]) if len(told) > 64 else -1 for at in (26, 28)
    )
    if not 64 < 8 * length <= len(told) or int(told[64 : 8 * length].sum()) % 2**16 != total:
        raise damaged(path, "its checksum is wrong")


def damaged(path: Path, why: object) -> UsageError:
    """The error for a game that cannot be trusted."""
    return UsageError(f"{path} is damaged ({why}): delete it, and the game is made again")


def make_games(wanted: Sequence[Recipe], *, story: bool) -> None:
    """Make the games that are not in the cache yet, with their compiled story if asked for.

    UsageError without TextWorld or a writable folder, RuntimeError if making a game fails.
    """
    missing = [r for r in wanted if not (r.story_file if story else r.state_file).exists()]
    if not missing:
        return
    require_textworld()
    folder = cache_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"games cannot be kept in {folder} ({error}): "
            f"set {CACHE_VARIABLE} to a folder that can be written"
        ) from None
    orders = [{**recipe.order, "name": recipe.name} for recipe in missing]
    failed = ask({"folder": str(folder), "story": story, "orders": orders})
    if failed:
        raise RuntimeError(f"TextWorld could not make {len(missing)} games in {folder}: {failed}")
