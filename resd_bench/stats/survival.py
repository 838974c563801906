"""Times to a first success or a threshold, which many runs never reach within the budget.

A run that did not reach it is right-censored at its budget, not dropped: a mean over the runs that
reached it is a mean of the lucky ones. Left out: covariates, and interval censoring, although a
time is known only up to the interval between two evaluations.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resd_bench.stats.intervals import Interval

Floats = NDArray[np.float64]

EXACT_ARRANGEMENTS = 20_000
"""Up to this many relabellings, all are counted; if there are more, this many are drawn."""


@dataclass(frozen=True, slots=True)
class CensoredTime:
    """How long one run took, on any budget axis; if not `reached`, it took at least this long."""

    time: float
    reached: bool


@dataclass(frozen=True)
class Survival:
    """Share of runs not there yet, from each of `times` on; `low` and `high` are limits."""

    times: Floats
    share: Floats
    low: Floats
    high: Floats

    def median(self) -> Interval:
        """When half of the runs are there, with Brookmeyer-Crowley limits; inf if never."""
        return Interval(
            self._first(self.share), self._first(self.low), self._first(self.high), len(self.times)
        )

    def _first(self, curve: Floats) -> float:
        below = np.flatnonzero(curve <= 0.5)
        return float(self.times[below[0]]) if below.size else math.inf


@dataclass(frozen=True, slots=True)
class LogRank:
    """A comparison of waiting times."""

    z: float
    """Positive if the first group takes longer; 0 if the data say nothing."""
    p: float
    """Two-sided, from the normal distribution: too small with few runs."""
    p_exact: float
    """Two-sided, by relabelling runs within strata."""


def time_to_threshold(
    x: Sequence[float], y: Sequence[float], threshold: float, budget: float
) -> CensoredTime:
    """When y was first at or above `threshold` in two consecutive evaluations, within `budget`.

    The time is that of the first of the two. A single last evaluation does not count. Censored at
    `budget`, or at the last evaluation if that came earlier.
    """
    inside = [(a, b) for a, b in zip(x, y, strict=True) if a <= budget]
    for (time, before), (_, after) in pairwise(inside):
        if before >= threshold and after >= threshold:
            return CensoredTime(float(time), True)
    return CensoredTime(min(float(budget), float(x[-1])) if len(x) else 0.0, False)


def kaplan_meier(waits: Sequence[CensoredTime], *, level: float = 0.95) -> Survival:
    """The product-limit curve with limits on the log-minus-log scale.

    Before the first and after the last event that scale has no limits: they equal the curve where
    it is 1, and are 0 and 1 where it is 0. Raises ValueError without runs.
    """
    from scipy.stats import CensoredData, ecdf

    if not waits:
        raise ValueError("no waiting time: there is no curve to estimate")
    reached = [wait.time for wait in waits if wait.reached]
    censored = [wait.time for wait in waits if not wait.reached]
    curve = ecdf(CensoredData(uncensored=reached, right=censored)).sf
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore", RuntimeWarning)
        limits: Any = curve.confidence_interval(level, method="log-log")
    share = np.asarray(curve.probabilities, dtype=float)
    sides = ((limits.low.probabilities, 0.0), (limits.high.probabilities, 1.0))
    low, high = (np.where(share == 1, 1.0, np.nan_to_num(s, nan=fallback)) for s, fallback in sides)
    return Survival(np.asarray(curve.quantiles, dtype=float), share, low, high)


def restricted_mean(
    waits: Sequence[CensoredTime], horizon: float | None = None, *, level: float = 0.95
) -> Interval:
    """Mean of min(time, horizon): the area under the Kaplan-Meier curve, with t limits.

    `horizon` defaults to the longest time. The variance is Greenwood's with the factor m / (m - 1)
    for m events; NaN limits for fewer than two. Raises ValueError without runs.
    """
    from scipy.special import stdtrit

    if not waits:
        raise ValueError("no waiting time: there is no mean to estimate")
    end = max(wait.time for wait in waits) if horizon is None else float(horizon)
    events = sorted({w.time for w in waits if w.reached and w.time <= end})
    at_risk = np.array([sum(w.time >= t for w in waits) for t in events], dtype=float)
    happened = np.array([sum(w.reached and w.time == t for w in waits) for t in events])
    share = np.concatenate([[1.0], np.cumprod(1 - happened / at_risk)])
    areas = share * np.diff([0.0, *events, end])
    mean, m, n = float(areas.sum()), int(happened.sum()), len(waits)
    if m < 2:
        return Interval(mean, math.nan, math.nan, n)
    beyond = areas[::-1].cumsum()[::-1][1:]
    left = np.where(at_risk > happened, at_risk * (at_risk - happened), np.inf)
    error = math.sqrt(m / (m - 1) * float(np.sum(beyond**2 * happened / left)))
    half = float(stdtrit(n - 1, 0.5 + level / 2)) * error
    return Interval(mean, mean - half, mean + half, n)


def stratified_logrank(
    a: Mapping[str, Sequence[CensoredTime]],
    b: Mapping[str, Sequence[CensoredTime]],
    rng: np.random.Generator | None = None,
) -> LogRank:
    """Whether `a` takes as long as `b`, compared within each common stratum (environment).

    `p_exact` counts all relabellings up to `EXACT_ARRANGEMENTS`, otherwise it draws that many with
    `rng` (default: a fixed stream). It exists because the normal p of three runs against three is
    0.02 when 1 in 10 relabellings is as extreme. Raises ValueError without a common stratum.
    """
    strata = sorted(stratum for stratum in a.keys() & b.keys() if a[stratum] and b[stratum])
    if not strata:
        raise ValueError(f"no stratum in common: {sorted(a)} and {sorted(b)}")
    pooled = [[*a[s], *b[s]] for s in strata]
    sizes = [len(a[s]) for s in strata]
    scores = [_scores(waits) for waits in pooled]
    observed = sum(float(s[:k].sum()) for s, k in zip(scores, sizes, strict=True))
    variance = sum(_variance(waits, k) for waits, k in zip(pooled, sizes, strict=True))
    if variance <= 0:
        return LogRank(0.0, 1.0, 1.0)
    z = -observed / math.sqrt(variance)
    return LogRank(z, math.erfc(abs(z) / math.sqrt(2)), _relabel(scores, sizes, observed, rng))


def _scores(waits: Sequence[CensoredTime]) -> Floats:
    """Each run's event minus its expectation; a group's sum is its observed minus expected."""
    times = np.array([wait.time for wait in waits])
    reached = np.array([wait.reached for wait in waits])
    scores = reached.astype(float)
    for time in np.unique(times[reached]):
        at_risk = times >= time
        scores[at_risk] -= float((reached & (times == time)).sum() / at_risk.sum())
    return scores


def _variance(waits: Sequence[CensoredTime], k: int) -> float:
    """Hypergeometric variance of the observed minus expected events of the first k waits."""
    total = 0.0
    for time in sorted({wait.time for wait in waits if wait.reached}):
        n = sum(wait.time >= time for wait in waits)
        own = sum(wait.time >= time for wait in waits[:k])
        d = sum(wait.reached and wait.time == time for wait in waits)
        if n > 1:
            total += d * own / n * (1 - own / n) * (n - d) / (n - 1)
    return total


def _relabel(
    scores: Sequence[Floats],
    sizes: Sequence[int],
    observed: float,
    rng: np.random.Generator | None,
) -> float:
    """Share of relabellings whose sum of scores is at least as far from 0 as `observed`."""
    counts = [math.comb(len(s), k) for s, k in zip(scores, sizes, strict=True)]
    edge = abs(observed) - 1e-9
    if math.prod(counts) <= EXACT_ARRANGEMENTS:
        sums = np.zeros(1)
        for s, k in zip(scores, sizes, strict=True):
            own = np.array([s[list(chosen)].sum() for chosen in combinations(range(len(s)), k)])
            sums = (sums[:, None] + own[None, :]).ravel()
        return float(np.mean(np.abs(sums) >= edge))
    rng = rng or np.random.default_rng(0)
    sums = np.zeros(EXACT_ARRANGEMENTS)
    for s, k in zip(scores, sizes, strict=True):
        sums += rng.permuted(np.tile(s, (EXACT_ARRANGEMENTS, 1)), axis=1)[:, :k].sum(axis=1)
    return float((np.sum(np.abs(sums) >= edge) + 1) / (EXACT_ARRANGEMENTS + 1))
