"""Maps of the coin collector: a route to a coin, and dead ends off the route.

The layout is that of TextWorld's coin collector (Yuan et al. 2018, arXiv 1806.11525): a chain of
rooms with the coin in the last one, and further rooms that lead nowhere. Maps are drawn here, not
by TextWorld, so that splits are disjoint by content and pre-training has its own maps. TextWorld is
not imported; as there, a map has no geometry.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Literal

import numpy as np

from resd_bench.seeds import stream

DIRECTIONS = ("north", "east", "south", "west")
OPPOSITE = {"north": "south", "south": "north", "east": "west", "west": "east"}
ROOMS = (
    *("attic", "balcony", "bar", "bathroom", "bedroom", "cellar", "chapel", "closet"),
    *("corridor", "courtyard", "den", "foyer", "gallery", "garage", "garden", "gym"),
    *("hall", "kitchen", "laboratory", "library", "lounge", "nursery", "office", "pantry"),
    *("parlor", "porch", "sauna", "shed", "stable", "studio", "study", "vault"),
)
"""Names of rooms; more than the largest map has."""

MOST_DRAWS = 1000
"""Maps drawn per requested one before concluding that there are too few."""

Share = Literal["train", "validation", "test", "pretraining"]
SHARES: dict[Share, tuple[int, int]] = {
    "train": (0, 50),
    "validation": (50, 60),
    "test": (60, 80),
    "pretraining": (80, 100),
}
"""Percentiles of the content hash; no map is in two of them."""


@dataclass(frozen=True, slots=True)
class Layout:
    """How large a map is."""

    route: int
    """Moves from the start to the coin."""
    dead_ends: int
    """Rooms off the route."""
    deep: bool = False
    """Whether dead ends may branch off other dead ends, and not only off the route."""

    @property
    def longest_search(self) -> int:
        """Maximum number of commands of a systematic search: every wrong room costs two."""
        return self.route + 2 * self.dead_ends + 1


@dataclass(frozen=True)
class Maze:
    """A tree of rooms; room 0 is the start."""

    names: tuple[str, ...]
    doors: tuple[tuple[int, str, int], ...]
    """(a, direction, b): from room a the direction leads to b, and the opposite one back."""
    coin: int
    """Room of the coin."""

    @cached_property
    def exits(self) -> tuple[dict[str, int], ...]:
        """By room, where each direction leads; in the order of `DIRECTIONS`."""
        found: list[dict[str, int]] = [{} for _ in self.names]
        for a, direction, b in self.doors:
            found[a][direction] = b
            found[b][OPPOSITE[direction]] = a
        return tuple({d: ways[d] for d in DIRECTIONS if d in ways} for ways in found)

    @cached_property
    def route(self) -> tuple[str, ...]:
        """Directions from the start to the coin."""
        paths: dict[int, tuple[str, ...]] = {0: ()}
        queue = [0]
        for room in queue:
            for direction, to in self.exits[room].items():
                if to not in paths:
                    paths[to] = (*paths[room], direction)
                    queue.append(to)
        return paths[self.coin]

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the map, independent of the names and the order of its rooms."""
        order = [0]
        for room in order:
            order += [to for to in self.exits[room].values() if to not in order]
        number = {room: place for place, room in enumerate(order)}
        lines = [f"{d}{number[to]}" for room in order for d, to in self.exits[room].items()]
        text = " ".join([*lines, str(number[self.coin])])
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def content(self) -> tuple[str, ...]:
        """The map as strings; see `from_content`."""
        doors = (f"{a} {direction} {b}" for a, direction, b in self.doors)
        return (" ".join(self.names), str(self.coin), *doors)


def from_content(content: Sequence[str]) -> Maze:
    """The map that has this `content`."""
    doors = [line.split() for line in content[2:]]
    return Maze(
        tuple(content[0].split()),
        tuple((int(a), direction, int(b)) for a, direction, b in doors),
        int(content[1]),
    )


def draw_maze(layout: Layout, rng: np.random.Generator) -> Maze:
    """Draw a map."""
    size = layout.route + 1 + layout.dead_ends
    names = tuple(ROOMS[i] for i in rng.permutation(len(ROOMS))[:size])
    free = [list(DIRECTIONS) for _ in names]
    doors: list[tuple[int, str, int]] = []

    def connect(a: int, b: int) -> None:
        direction = free[a].pop(int(rng.integers(len(free[a]))))
        free[b].remove(OPPOSITE[direction])
        doors.append((a, direction, b))

    for room in range(layout.route):
        connect(room, room + 1)
    for room in range(layout.route + 1, size):
        sources = [r for r in range(room if layout.deep else layout.route) if r != layout.route]
        sources = [r for r in sources if free[r]]
        connect(sources[int(rng.integers(len(sources)))], room)
    return Maze(names, tuple(doors), layout.route)


def share_of(maze: Maze) -> Share:
    """Which split a map belongs to, by its content."""
    percentile = int(maze.fingerprint[:8], 16) % 100
    return next(share for share, (low, high) in SHARES.items() if low <= percentile < high)


@cache
def mazes(layout: Layout, share: Share, count: int) -> tuple[Maze, ...]:
    """The first `count` different maps of a split, the same on every machine.

    ValueError if that many cannot be found.
    """
    sizes = (layout.route, layout.dead_ends, int(layout.deep))
    rng = stream(0, "textworld-coin", *sizes, share)
    found: dict[str, Maze] = {}
    for _ in range(MOST_DRAWS * count):
        maze = draw_maze(layout, rng)
        if share_of(maze) == share:
            found.setdefault(maze.fingerprint, maze)
        if len(found) == count:
            return tuple(found.values())
    raise ValueError(f"{layout} has fewer than {count} maps for {share}: ask for larger maps")
