"""Maps of the coin collector."""

from __future__ import annotations

from itertools import combinations

import pytest

from resd_bench.seeds import stream
from resd_envs.textworld.games import SIZES, TIERS, recipes
from resd_envs.textworld.maze import (
    OPPOSITE,
    SHARES,
    Layout,
    Maze,
    draw_maze,
    from_content,
    mazes,
    share_of,
)

LAYOUTS = [tier.layout for tier in TIERS.values() if tier.layout is not None]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_map_is_a_tree_with_a_route_of_the_asked_length(layout: Layout) -> None:
    rng = stream(0, "maps")
    for _ in range(100):
        maze = draw_maze(layout, rng)
        size = layout.route + 1 + layout.dead_ends
        assert len(maze.names) == len(set(maze.names)) == size
        assert len(maze.doors) == size - 1
        assert len(maze.route) == layout.route
        place = 0
        for direction in maze.route:
            place = maze.exits[place][direction]
        assert place == maze.coin
        for room, ways in enumerate(maze.exits):
            for direction, to in ways.items():
                assert maze.exits[to][OPPOSITE[direction]] == room


def test_content_and_map_are_the_same_thing() -> None:
    maze = draw_maze(Layout(4, 4), stream(1, "maps"))
    assert from_content(maze.content) == maze


def test_the_fingerprint_is_of_the_map_and_not_of_its_names() -> None:
    maze = draw_maze(Layout(3, 3), stream(2, "maps"))
    order = list(reversed(maze.doors))
    renamed = Maze(tuple(f"r{n}" for n in range(len(maze.names))), tuple(order), maze.coin)
    assert renamed.fingerprint == maze.fingerprint
    moved = Maze(maze.names, maze.doors, maze.coin - 1)
    assert moved.fingerprint != maze.fingerprint


@pytest.mark.parametrize("layout", LAYOUTS)
def test_no_two_games_of_a_tier_and_of_pretraining_have_one_map(layout: Layout) -> None:
    drawn = {share: mazes(layout, share, 32) for share in SHARES}
    assert all(share_of(maze) == share for share in SHARES for maze in drawn[share])
    prints = {share: {maze.fingerprint for maze in drawn[share]} for share in SHARES}
    assert all(len(found) == 32 for found in prints.values())
    assert all(not prints[a] & prints[b] for a, b in combinations(SHARES, 2))


def test_too_few_maps_are_an_error_and_not_an_endless_search() -> None:
    with pytest.raises(ValueError, match="larger maps"):
        mazes(Layout(1, 1), "validation", 20)


def test_recipes_are_distinct_and_no_split_shares_one() -> None:
    for tier in TIERS.values():
        names = [r.name for split in SIZES for r in recipes(tier, split)]
        assert len(names) == len(set(names)) == sum(SIZES.values())


def test_the_first_recipes_do_not_change() -> None:
    names = [recipes(tier, "train")[0].name[-8:] for tier in TIERS.values()]
    assert names == FIRST_NAMES


FIRST_NAMES = [
    *("9918d7fd", "75102e35", "bfaf486a"),
    *("eafdb2bb", "600b228b", "6a94f4ed"),
    *("39e8b597", "826dfb5b", "4c0d0d6b"),
]
"""Ends of the names of the first training game of each tier: new ones mean new games, and -v1."""
