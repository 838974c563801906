"""Factorial designs: what each of several factors does, and whether they need each other.

Every factor is on or off, and every combination (a cell) has been run with the same seeds. The
effect of a set of factors is a difference of differences: for one factor, the mean over all cells
in which it is on minus that of the others; for two, what one of them adds where the other is on
minus what it adds where the other is off; and so on. These are the coefficients of a regression
on all products of the factors, coded -1/2 and +1/2. A seed gives one value of each, so their
spread over seeds is all that an interval needs: cells may differ in variance, and the runs of one
seed in what they share. Left out: designs with missing cells, and factors with more than two
levels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations, product

import numpy as np

from resd_bench.stats.verdicts import Pair

FactorCell = tuple[bool, ...]
"""Which factors are on, in their order."""
Effect = tuple[int, ...]
"""Positions of the factors that an effect is of: one for a main effect, several for an
interaction."""


def effects_of(factors: int) -> list[Effect]:
    """All effects of so many factors: main effects, two-way interactions, and so on."""
    return [own for size in range(1, factors + 1) for own in combinations(range(factors), size)]


def contrast_weights(effect: Effect, factors: int) -> dict[FactorCell, float]:
    """What each cell counts in an effect; half of the cells count positively."""
    scale = 2 ** len(effect) / 2**factors
    cells = product((False, True), repeat=factors)
    return {cell: scale * (-1) ** sum(not cell[i] for i in effect) for cell in cells}


def contrast(cells: Mapping[FactorCell, Mapping[str, Sequence[float]]], effect: Effect) -> Pair:
    """An effect in one seed, from the outcomes of each task in each cell.

    The variance is that of the tasks' own effects over their number, and for outcomes that are all
    0 or 1 the Laplace term of `make_pair`, by the square of each cell's weight. Raises ValueError
    where a cell is missing or has no outcome.
    """
    weights = contrast_weights(effect, len(next(iter(cells)))) if cells else {}
    flat = {cell: [x for own in cells.get(cell, {}).values() for x in own] for cell in weights}
    if not cells or not all(flat.values()):
        raise ValueError("expected an outcome in every cell: the design is not complete")
    difference = sum(weight * _mean(flat[cell]) for cell, weight in weights.items())
    tasks = sorted(set.intersection(*({t for t, own in c.items() if own} for c in cells.values())))
    means_CT = np.array([[_mean(cells[cell][task]) for task in tasks] for cell in weights])
    each_T = np.array(list(weights.values())) @ means_CT
    variance = float(np.var(each_T, ddof=1)) / len(tasks) if len(tasks) > 1 else 0.0
    if all(x in (0, 1) for own in flat.values() for x in own):
        variance += sum(w**2 / (len(flat[c]) + 2) ** 2 for c, w in weights.items())
    return Pair(difference, variance, len(tasks))


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
