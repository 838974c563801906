"""The tasks of ScienceWorld: tiers, turns, and the variations of each split.

The package numbers the variations of a task and gives the first half to training, and a quarter
each to validation and test; the lists are computed again here, so that no task has to be loaded to
be listed. At most `SIZES` are taken of each task, evenly spread, since neighbours are similar;
those that the game's own solution does not solve within the turns are left out (`LEFT_OUT`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from itertools import chain, zip_longest

from resd_bench.errors import UsageError, near_miss
from resd_bench.types import Split

SIZES: Mapping[Split, int] = {"train": 32, "validation": 8, "test": 16}
"""Maximum number of variations of each task."""
EASY = "easy"
SIMPLIFICATIONS = (
    "noElectricalAction",
    "openContainers",
    "openDoors",
    "selfWateringFlowerPots",
    "teleportAction",
)


@dataclass(frozen=True, slots=True)
class Tier:
    """Tasks of one difficulty."""

    turns: int
    """Maximum number of commands."""
    tasks: Mapping[str, int]
    """The number of variations, by name."""


TIERS: Mapping[str, Tier] = {
    "easy": Tier(
        30,
        {
            "find-animal": 300,
            "find-living-thing": 300,
            "find-non-living-thing": 300,
            "find-plant": 300,
            "identify-life-stages-2": 10,
            "lifespan-longest-lived": 125,
            "lifespan-longest-lived-then-shortest-lived": 125,
            "lifespan-shortest-lived": 125,
            "power-component": 20,
        },
    ),
    "medium": Tier(
        100,
        {
            "chemistry-mix": 32,
            "chemistry-mix-paint-secondary-color": 36,
            "chemistry-mix-paint-tertiary-color": 36,
            "grow-plant": 126,
            "identify-life-stages-1": 14,
            "measure-melting-point-known-substance": 436,
            "measure-melting-point-unknown-substance": 300,
            "power-component-renewable-vs-nonrenewable-energy": 20,
            "test-conductivity": 900,
            "test-conductivity-of-unknown-substances": 600,
            "use-thermometer": 540,
        },
    ),
    "hard": Tier(
        200,
        {
            "boil": 30,
            "change-the-state-of-matter-of": 30,
            "freeze": 30,
            "grow-fruit": 126,
            "inclined-plane-determine-angle": 168,
            "inclined-plane-friction-named-surfaces": 1386,
            "inclined-plane-friction-unnamed-surfaces": 162,
            "melt": 30,
            "mendelian-genetics-known-plant": 120,
            "mendelian-genetics-unknown-plant": 480,
        },
    ),
}
COUNTS: Mapping[str, int] = {name: n for tier in TIERS.values() for name, n in tier.tasks.items()}
ALL = "all"
LEFT_OUT: Mapping[str, frozenset[int]] = {
    "freeze": frozenset({11, 19}),
    "inclined-plane-friction-named-surfaces": frozenset(
        {43, 64, 259, 281, 302, 475, 497, 1081, 1103, 1125, 1190, 1212}
    ),
    "inclined-plane-friction-unnamed-surfaces": frozenset({7, 40, 50, 60, 62, 70, 85}),
    "measure-melting-point-known-substance": frozenset({211}),
    "measure-melting-point-unknown-substance": frozenset({60}),
}
"""By task, variations for which the game's own solution needs more than the turns of the tier, or
which it does not solve."""


@dataclass(frozen=True, slots=True)
class Variation:
    """Everything that determines a task."""

    task: str
    number: int
    simplifications: str

    def __str__(self) -> str:
        return f"{self.task} {self.number}"


def find_tasks(chosen: str) -> tuple[str, ...]:
    """The tasks of a tier, all of them, or the one of that name; UsageError where there is none."""
    if chosen == ALL:
        return tuple(sorted(COUNTS))
    if chosen in TIERS:
        return tuple(TIERS[chosen].tasks)
    if chosen in COUNTS:
        return (chosen,)
    raise near_miss("task of ScienceWorld", chosen, [*TIERS, ALL, *COUNTS])


def turns_of(tasks: tuple[str, ...]) -> int:
    """Maximum number of commands for these tasks: as many as the longest of them needs."""
    return max(tier.turns for tier in TIERS.values() if set(tasks) & set(tier.tasks))


def read_simplifications(given: str) -> str:
    """The names in `given`, without blanks; UsageError with the nearest name for an unknown one."""
    names = [name.strip() for name in given.split(",") if name.strip()]
    for name in names:
        if name not in SIMPLIFICATIONS and names != [EASY]:
            raise near_miss("simplification of ScienceWorld", name, [*SIMPLIFICATIONS, EASY])
    if len(set(names)) < len(names):
        raise UsageError(f"a simplification of ScienceWorld is given twice: {given!r}")
    return ",".join(names)


@cache
def variations(tasks: tuple[str, ...], simplifications: str, split: Split) -> tuple[Variation, ...]:
    """The variations of a split, the same on every machine, the tasks in turn."""
    columns = [
        [Variation(task, number, simplifications) for number in _numbers(task, split)]
        for task in tasks
    ]
    return tuple(one for one in chain.from_iterable(zip_longest(*columns)) if one is not None)


def _numbers(task: str, split: Split) -> list[int]:
    """Numbers of the variations that are used of a task."""
    numbers = split_numbers(COUNTS[task])[split]
    taken = min(SIZES[split], len(numbers))
    spread = (numbers[place * len(numbers) // taken] for place in range(taken))
    return [number for number in spread if number not in LEFT_OUT.get(task, ())]


def split_numbers(count: int) -> Mapping[Split, range]:
    """The package's splits of `count` variations, which are at least five.

    Groups of a quarter each, of which the first two are for training; any remainder at the end
    belongs to the test split.
    """
    quarter = count // 4
    return {
        "train": range(2 * quarter),
        "validation": range(2 * quarter, 3 * quarter),
        # The package makes groups of a quarter and takes the fourth and the fifth.
        "test": range(3 * quarter, min(count, 5 * quarter)),
    }
