"""Runs that take off or do not: how many did, and whether more of one method than of another.

Where success is rare, seeds can split in two: some runs learn, the others never start. A mean over
such seeds says neither how often a run starts nor what it reaches, and its t interval covers too
little: 67% for five seeds of which each takes off with probability 0.2. So what is counted is how
many runs took off, which needs no assumption. The thresholds are constants here, declared before
any run: they are not options, and no command can move them. Left out: runs that took off and fell
back, which count as what they ended as, like everywhere else.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal

from resd_bench.stats.intervals import Interval
from resd_bench.stats.paired import holm
from resd_bench.stats.power import ALPHA, problems_per_arm
from resd_bench.stats.verdicts import CONTESTED

TOOK_OFF = 0.5
"""A run took off if it ends above this success."""
NOT_STARTED = 0.1
"""A run did not start if it ends below this success."""
SATURATED = 0.99
"""Where every group of runs ends above this success, the environment does not rank them."""
MOST_RUNS = 1000
"""A verdict does not ask for more."""

Ends = Sequence[float]
"""Success at the end of each run, from 0 to 1; NaN of one whose end has no verdict, which did
neither take off nor not."""


def measured_ends(ends: Ends) -> list[float]:
    """Those with a verdict."""
    return [end for end in ends if not math.isnan(end)]


def splits_in_two(ends: Ends) -> bool:
    """Whether some of the runs took off and some did not start."""
    return any(end > TOOK_OFF for end in ends) and any(end < NOT_STARTED for end in ends)


def is_saturated(trained: Iterable[float], untrained: Iterable[float] = ()) -> bool:
    """Whether all of several groups end where nothing is left to tell apart.

    Where several were `trained`, the others have no say: a model that stays at 1% ranks nobody.
    """
    every = list(trained)
    if len(every) < 2:
        every += untrained
    return len(every) > 1 and all(mean > SATURATED for mean in every)


def clopper_pearson(successes: int, n: int, *, level: float = 0.95) -> tuple[float, float]:
    """Exact limits of a proportion, which cover at least `level` whatever it is.

    Raises ValueError unless 0 <= successes <= n and n > 0.
    """
    from scipy.special import betaincinv

    if not (n > 0 and 0 <= successes <= n):
        raise ValueError(f"expected 0 <= successes <= n and n > 0, got {successes} of {n}")
    out = (1 - level) / 2
    low = float(betaincinv(successes, n - successes + 1, out)) if successes else 0.0
    high = float(betaincinv(successes + 1, n - successes, 1 - out)) if successes < n else 1.0
    return low, high


def count_taken_off(ends: Ends) -> int:
    """How many of the runs took off."""
    return sum(end > TOOK_OFF for end in ends)


def taken_off(ends: Ends) -> Interval:
    """Share of the measured runs that took off, with exact limits. ValueError without any."""
    count, n = count_taken_off(ends), len(measured_ends(ends))
    low, high = clopper_pearson(count, n)
    return Interval(count / n, low, high, n)


@dataclass(frozen=True, slots=True)
class TakeOffVerdict:
    """Whether more runs of one group took off than of another."""

    word: Literal["better", "worse", "inconclusive"]
    difference: float
    """Of the shares, first minus second."""
    p: float
    """Boschloo's, two-sided, not corrected."""
    p_holm: float
    runs: float
    """Runs in each group that would find shares as different as these with 80% power; inf where
    over 1000, or where they are equal."""
    contested: bool = False
    """As of a `Verdict`."""

    def __str__(self) -> str:
        if self.contested:
            return CONTESTED
        if self.word != "inconclusive":
            return self.word
        if self.difference == 0:
            return "inconclusive (no difference seen)"
        return f"inconclusive (needs {'over 1000' if math.isinf(self.runs) else self.runs} runs)"


def judge_taken_off(
    comparisons: Sequence[tuple[Ends, Ends]],
    *,
    with_failures: Sequence[tuple[Ends, Ends]] | None = None,
) -> list[TakeOffVerdict]:
    """A verdict on each pair of groups by Boschloo's exact test, Holm over all of them.

    The test is unconditional: a group's number of runs is fixed, and how many take off is not. It
    takes runs as independent; a seed's start that helps both groups makes it cautious.
    `with_failures` as for `judge`. Raises ValueError for a group without measured runs.
    """
    verdicts = _judge(comparisons)
    if with_failures is None:
        return verdicts
    return [
        own if own.word == other.word else replace(own, word="inconclusive", contested=True)
        for own, other in zip(verdicts, _judge(with_failures), strict=True)
    ]


def _judge(comparisons: Sequence[tuple[Ends, Ends]]) -> list[TakeOffVerdict]:
    counts = [
        [(count_taken_off(ends), len(measured_ends(ends))) for ends in pair] for pair in comparisons
    ]
    p_values = [_boschloo(*own, *other) for own, other in counts]
    found = []
    for (own, other), p, p_holm in zip(counts, p_values, holm(p_values), strict=True):
        difference = own[0] / own[1] - other[0] / other[1]
        word: Literal["better", "worse", "inconclusive"] = "inconclusive"
        if p_holm < ALPHA:
            word = "better" if difference > 0 else "worse"
        runs = _runs_needed(own, other)
        found.append(TakeOffVerdict(word, difference, p, p_holm, runs))
    return found


@lru_cache(maxsize=4096)
def _boschloo(k: int, n: int, other_k: int, other_n: int) -> float:
    from scipy.stats import boschloo_exact

    if not (n and other_n):
        raise ValueError("no run: there is no share to compare")
    # Equal shares, all or none among them, cannot tell anything.
    if k * other_n == other_k * n:
        return 1.0
    return min(1.0, float(boschloo_exact([[k, other_k], [n - k, other_n - other_k]]).pvalue))


def _runs_needed(own: tuple[int, int], other: tuple[int, int]) -> float:
    """By Laplace's estimates of both shares, since 5 of 5 is not certainty."""
    if own[0] * other[1] == other[0] * own[1]:
        return math.inf
    shares = [(k + 1) / (n + 2) for k, n in (own, other)]
    if shares[0] == shares[1]:
        return math.inf
    needed = max(problems_per_arm(*shares), min(own[1], other[1]) + 1)
    return needed if needed <= MOST_RUNS else math.inf
