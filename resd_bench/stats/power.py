"""How small a difference would have been found, and how much more data would find this one."""

from __future__ import annotations

import math
from bisect import bisect_left
from statistics import NormalDist

POWER = 0.8
ALPHA = 0.05

MOST_SEEDS = 1000
"""Larger numbers count as infinite."""


def noncentrality(df: float, *, alpha: float = ALPHA, power: float = POWER) -> float:
    """How many standard errors a true mean must be from 0 for a two-sided t test to find it.

    Solves power = P(T > t_crit) for the noncentral t; the other tail is negligible. NaN
    for df < 1; the normal distribution for infinite df.
    """
    from scipy.special import nctdtrinc, stdtrit

    if math.isinf(df):
        return NormalDist().inv_cdf(1 - alpha / 2) + NormalDist().inv_cdf(power)
    if not df >= 1:
        return math.nan
    return float(nctdtrinc(df, 1 - power, stdtrit(df, 1 - alpha / 2)))


def detectable_difference(
    error: float, df: float, *, alpha: float = ALPHA, power: float = POWER
) -> float:
    """The smallest true difference that a t test with this standard error finds with `power`."""
    return noncentrality(df, alpha=alpha, power=power) * error


def seeds_needed(
    difference: float, spread: float, strata: int = 1, *, alpha: float = ALPHA
) -> float:
    """Paired seeds per stratum for a t test to find `difference` with 80% power; inf over 1000.

    `spread` is the standard deviation over seeds of the mean over strata of paired differences.
    """

    def enough(n: int) -> bool:
        error = spread / math.sqrt(n)
        return detectable_difference(error, strata * (n - 1), alpha=alpha) <= abs(difference)

    if difference == 0 or not enough(MOST_SEEDS):
        return math.inf
    # The detectable difference falls with n.
    return 2 + bisect_left(range(2, MOST_SEEDS), True, key=enough)


def tasks_needed(
    difference: float,
    spread: float,
    sampling: float,
    seeds: int,
    tasks: int,
    strata: int = 1,
    *,
    alpha: float = ALPHA,
) -> float:
    """Evaluation tasks for the same with the current `seeds`; inf if no number is enough.

    `sampling` is the part of `spread` (also a standard deviation) that comes from having `tasks`
    tasks; it falls with the root of their number, while the rest comes from the seeds and stays.
    """
    own = max(0.0, spread**2 - sampling**2)
    target = seeds * (abs(difference) / noncentrality(strata * (seeds - 1), alpha=alpha)) ** 2
    # NaN if there are too few seeds for a t test.
    if not target > own or sampling == 0:
        return math.inf
    return math.ceil(tasks * sampling**2 / (target - own))


def problems_per_arm(p: float, q: float, *, alpha: float = ALPHA, power: float = POWER) -> int:
    """Independent problems per arm to distinguish success rates p and q, two-sided.

    Raises ValueError if they are equal or not probabilities.
    """
    if p == q or not (0 <= p <= 1 and 0 <= q <= 1):
        raise ValueError(f"expected two different probabilities, got {p} and {q}")
    z = NormalDist().inv_cdf(1 - alpha / 2) + NormalDist().inv_cdf(power)
    return math.ceil(z * z * (p * (1 - p) + q * (1 - q)) / (p - q) ** 2)
