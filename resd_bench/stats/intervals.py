"""Intervals for success rates over clustered samples, and for means over few seeds.

A normal interval is useless at small p, and pooling the samples of a task as if they were
independent undercovers, so Wilson's interval is used with an effective number of samples. Over
seeds there are only a handful of values, so a t interval is used; a bootstrap would undercover.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate with its confidence limits; limits are NaN if the data do not allow any."""

    mean: float
    low: float
    high: float
    n: int
    """Number of values that the estimate is based on."""

    @property
    def excludes_zero(self) -> bool:
        """Whether the whole interval is on one side of zero."""
        return self.low > 0 or self.high < 0


def wilson(successes: float, n: float, *, level: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval of a proportion; both numbers may be fractional.

    Raises ValueError unless 0 <= successes <= n and n > 0.
    """
    if not (n > 0 and 0 <= successes <= n):
        raise ValueError(f"expected 0 <= successes <= n and n > 0, got {successes} of {n}")
    z = NormalDist().inv_cdf(0.5 + level / 2)
    p = successes / n
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    low = 0.0 if successes == 0 else max(0.0, centre - half)
    high = 1.0 if successes == n else min(1.0, centre + half)
    return low, high


def effective_samples(outcomes_by_task: Sequence[Sequence[float]]) -> float:
    """The effective number of independent samples of clustered ones: p(1-p) / Var_task(mean).

    Clipped to [tasks, samples]. Var_task is the between-task variance of the overall mean (ratio
    estimator, so tasks may have unequal numbers of samples). Without spread, all samples count.
    """
    tasks = [np.asarray(task, dtype=float) for task in outcomes_by_task if len(task)]
    sizes = np.array([len(task) for task in tasks], dtype=float)
    sums = np.array([task.sum() for task in tasks])
    m, n = len(tasks), float(sizes.sum())
    if m < 2:
        return n
    p = float(sums.sum() / n)
    variance = m / (m - 1) * float(np.sum((sums - p * sizes) ** 2)) / n**2
    if variance == 0:
        return n
    return float(np.clip(p * (1 - p) / variance, m, n))


def success_interval(
    outcomes_by_task: Sequence[Sequence[float]], *, level: float = 0.95
) -> Interval:
    """Success rate over tasks x samples (each 0 or 1), with Wilson limits on the effective n.

    Raises ValueError if there are no samples at all.
    """
    flat = [outcome for task in outcomes_by_task for outcome in task]
    if not flat:
        raise ValueError("no scored sample: there is no success rate to estimate")
    p = sum(flat) / len(flat)
    n_eff = effective_samples(outcomes_by_task)
    low, high = wilson(min(p * n_eff, n_eff), n_eff, level=level)
    return Interval(p, low, high, len(flat))


def t_interval(values: Sequence[float], *, level: float = 0.95) -> Interval:
    """Mean of independent values with Student's t limits; NaN limits for a single value."""
    if not values:
        raise ValueError("no value: there is no mean to estimate")
    data = np.asarray(values, dtype=float)
    mean, n = float(data.mean()), len(data)
    if n < 2:
        return Interval(mean, math.nan, math.nan, n)
    # scipy.stats takes over a second to import; this is its t quantile.
    from scipy.special import stdtrit

    half = float(stdtrit(n - 1, 0.5 + level / 2)) * float(data.std(ddof=1)) / math.sqrt(n)
    return Interval(mean, mean - half, mean + half, n)


def paired_difference(
    a: Mapping[int, float], b: Mapping[int, float], *, level: float = 0.95
) -> Interval:
    """Mean of a - b over the seeds both have, with t limits.

    Raises ValueError if they have no seed in common.
    """
    seeds = sorted(a.keys() & b.keys())
    if not seeds:
        raise ValueError(f"no seed in common: {sorted(a)} and {sorted(b)}")
    return t_interval([a[seed] - b[seed] for seed in seeds], level=level)
