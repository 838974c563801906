"""How good the best of a number of tuning trials is expected to be.

Dodge et al. 2019, "Show Your Work: Improved Reporting of Experimental Results" (arXiv 1909.03004),
who draw with replacement; here trials are drawn without, so that the best of all of them is the
best that was found. Left out: which settings are best.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import comb

import numpy as np


def expected_best(values: Sequence[float]) -> list[float]:
    """Expected maximum of k of the n `values`, drawn without replacement, for k = 1 to n.

    The i-th smallest is the maximum of C(i - 1, k - 1) of the C(n, k) choices. Raises ValueError
    without values.
    """
    if not len(values):
        raise ValueError("no trial: there is no best one")
    n, ordered = len(values), sorted(map(float, values))
    return [
        sum(value * comb(i, k - 1) for i, value in enumerate(ordered)) / comb(n, k)
        for k in range(1, n + 1)
    ]


@dataclass(frozen=True, slots=True)
class BestOfTrials:
    """Expected best value by number of trials, with limits at each number."""

    mean: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]


def best_of_trials(
    values: Sequence[float],
    rng: np.random.Generator,
    *,
    level: float = 0.95,
    resamples: int = 2000,
) -> BestOfTrials:
    """`expected_best` with percentile limits over trials resampled with replacement.

    The limits say how much depends on which settings happened to be tried, not on seeds; a
    resample never has a better trial than the best, so that they end there. Raises ValueError
    without values.
    """
    mean = np.array(expected_best(values))
    drawn = np.sort(rng.choice(np.asarray(values, dtype=float), (resamples, len(values))), axis=1)
    n = len(values)
    weights = np.array([[comb(i, k) / comb(n, k + 1) for i in range(n)] for k in range(n)])
    low, high = np.quantile(drawn @ weights.T, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return BestOfTrials(tuple(mean.tolist()), tuple(low.tolist()), tuple(high.tolist()))
