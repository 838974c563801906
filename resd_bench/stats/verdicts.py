"""Verdicts: whether one group of runs is better than another, and if unknown, what would settle it.

A difference is *better* or *worse* if the paired t interval excludes zero after Holm's correction
and nothing contradicts it: neither the sampling error of the tasks alone, nor a sign-flip test, as
far as so few pairs allow. If attempts without a verdict were left out, the result must also be the
same with them as failures. Left out: proofs that two methods are equal, see `equivalence`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from resd_bench.stats.aggregates import stratified_error, stratified_mean
from resd_bench.stats.intervals import Interval
from resd_bench.stats.paired import holm, least_sign_flip_p, sign_flip_p
from resd_bench.stats.power import ALPHA, detectable_difference, seeds_needed, tasks_needed
from resd_bench.stats.survival import LogRank

Word = Literal["better", "worse", "inconclusive"]
_MOST_TASKS = 100_000
"""A verdict does not ask for more tasks than this."""
CONTESTED = "inconclusive (attempts without a verdict decide it)"
"""The text of a verdict that changes if such attempts count as failures."""


@dataclass(frozen=True, slots=True)
class Pair:
    """Two runs of one seed on one environment."""

    difference: float
    """First minus second."""
    variance: float
    """Variance of the difference, from the sampling of tasks and outcomes alone."""
    tasks: int
    """Number of tasks that both have."""


Pairs = Mapping[str, Sequence[Pair]]
"""Pairs by environment, one per seed."""


def make_pair(a: Mapping[str, Sequence[float]], b: Mapping[str, Sequence[float]]) -> Pair:
    """Pair two runs by their outcomes per task.

    The variance is that of per-task differences over their number, and for outcomes that are all
    0 or 1 a Laplace term 2 / (n + 2)^2 (Bonett and Price 2012: one win and one loss are added),
    without which 0 of 400 against 0 of 400 would have no uncertainty. Raises ValueError if one
    has no outcome.
    """
    flat_a, flat_b = ([x for own in side.values() for x in own] for side in (a, b))
    if not flat_a or not flat_b:
        raise ValueError("no scored sample: there is no difference to estimate")
    difference = _mean(flat_a) - _mean(flat_b)
    common = sorted(task for task in a.keys() & b.keys() if len(a[task]) and len(b[task]))
    d = [_mean(a[task]) - _mean(b[task]) for task in common]
    variance = float(np.var(d, ddof=1)) / len(d) if len(d) > 1 else 0.0
    if all(x in (0, 1) for x in (*flat_a, *flat_b)):
        variance += 2 / (min(len(flat_a), len(flat_b)) + 2) ** 2
    return Pair(difference, variance, len(common))


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


@dataclass(frozen=True, slots=True)
class Verdict:
    """The result of a comparison."""

    word: Word
    difference: Interval
    """Mean over environments of mean paired differences; limits are not corrected."""
    p: float
    """Two-sided, not corrected; NaN if there is no interval."""
    p_holm: float
    sign_flip: float
    """Two-sided p of the sign-flip permutation test, not corrected."""
    detectable: float
    """Smallest true difference that would be found with 80% power; NaN if unknown."""
    seeds: float
    """Paired seeds needed to find a difference of this size; inf if over 1000."""
    tasks: float
    """Evaluation tasks needed to find it with the current seeds; inf if no number is enough."""
    contested: bool = False
    """Whether it would change if attempts without a verdict counted as failures: `word` is
    `inconclusive` then."""

    def __str__(self) -> str:
        if self.contested:
            return CONTESTED
        if self.word != "inconclusive":
            return self.word
        if math.isnan(self.p):
            return "inconclusive (needs 3 seeds or more)"
        if self.difference.mean == 0:
            return "inconclusive (no difference seen)"
        return f"inconclusive (needs {_needs(self.seeds, self.tasks)})"


def _needs(seeds: float, tasks: float) -> str:
    text = "over 1000 seeds" if math.isinf(seeds) else f"about {seeds:.0f} seeds"
    return text if tasks > _MOST_TASKS else f"{text} or {tasks:.0f} tasks"


@dataclass(frozen=True, slots=True)
class _Evidence:
    """A comparison before the correction for the others."""

    difference: Interval
    error: float
    df: float
    sampling: float
    """Standard error from the sampling of tasks alone."""
    p: float
    sign_flip: float
    pairs: int

    @property
    def agrees(self) -> bool:
        """Whether the permutation test agrees, as far as so few pairs allow."""
        return self.sign_flip <= max(ALPHA, least_sign_flip_p(self.pairs)) + 1e-12


def judge(
    comparisons: Sequence[Pairs],
    rng: np.random.Generator | None = None,
    *,
    with_failures: Sequence[Pairs] | None = None,
) -> list[Verdict]:
    """A verdict for each comparison, with Holm's correction over all of them.

    `rng` draws sign flips if there are too many pairs to count all. `with_failures` holds the same
    comparisons with attempts without a verdict as failures: if they would get another word, the
    verdict is `inconclusive` and contested. Raises ValueError for a comparison without pairs.
    """
    verdicts = _judge(comparisons, rng)
    if with_failures is None or list(with_failures) == list(comparisons):
        return verdicts
    others = _judge(with_failures, rng)
    return [
        own if own.word == other.word else replace(own, word="inconclusive", contested=True)
        for own, other in zip(verdicts, others, strict=True)
    ]


def _judge(comparisons: Sequence[Pairs], rng: np.random.Generator | None) -> list[Verdict]:
    evidence = [_weigh(pairs, rng) for pairs in comparisons]
    corrected = holm([found.p for found in evidence])
    alpha = ALPHA / max(1, len(evidence))
    return [
        _verdict(pairs, found, p, alpha)
        for pairs, found, p in zip(comparisons, evidence, corrected, strict=True)
    ]


def sampling_error(pairs: Pairs) -> float:
    """Standard error of the mean over strata from the sampling of tasks and outcomes alone."""
    parts = [sum(p.variance for p in own) / len(own) ** 2 for own in pairs.values() if own]
    return math.sqrt(sum(parts)) / max(1, len(parts))


def _weigh(pairs: Pairs, rng: np.random.Generator | None) -> _Evidence:
    from scipy.special import ndtr, stdtr

    pairs = {stratum: own for stratum, own in pairs.items() if own}
    values = {stratum: [pair.difference for pair in own] for stratum, own in pairs.items()}
    sampling = sampling_error(pairs)
    difference = stratified_mean(values, least_error=sampling)
    error, df = stratified_error(values)
    far, p = abs(difference.mean), math.nan
    if not math.isnan(error):
        p = max(
            2 * float(stdtr(df, -far / error)) if error else float(far == 0),
            2 * float(ndtr(-far / sampling)) if sampling else float(far == 0),
        )
    return _Evidence(difference, error, df, sampling, p, sign_flip_p(values, rng), difference.n)


def _verdict(pairs: Pairs, found: _Evidence, p_holm: float, alpha: float) -> Verdict:
    d = found.difference
    sure = d.excludes_zero and p_holm < ALPHA and found.agrees
    word: Word = "inconclusive" if not sure else "better" if d.mean > 0 else "worse"
    detectable = math.nan
    seeds = tasks = math.inf
    if not math.isnan(found.error):
        detectable = max(
            detectable_difference(found.error, found.df, alpha=alpha),
            detectable_difference(found.sampling, math.inf, alpha=alpha),
        )
        seeds, tasks = _what_would_do(pairs, found, alpha)
    return Verdict(word, d, found.p, p_holm, found.sign_flip, detectable, seeds, tasks)


def _what_would_do(pairs: Pairs, found: _Evidence, alpha: float) -> tuple[float, float]:
    """Seeds or tasks per environment that would find a difference of this size."""
    counts = [len(own) for own in pairs.values() if own]
    now, strata = sum(counts) / len(counts), len(counts)
    spread = max(found.error, found.sampling) * math.sqrt(now)
    sampling = min(found.sampling * math.sqrt(now), spread)
    held = max(pair.tasks for own in pairs.values() for pair in own)
    far = found.difference.mean
    seeds = seeds_needed(far, spread, strata, alpha=alpha)
    tasks = tasks_needed(far, spread, sampling, round(now), held, strata, alpha=alpha)
    # Power is about new data; the present data were not enough.
    return max(seeds, round(now) + 1), max(tasks, held + 1)


@dataclass(frozen=True, slots=True)
class TimeVerdict:
    """The result of a comparison of waiting times."""

    word: Word
    test: LogRank
    p_holm: float
    """Corrected from the exact p."""
    seeds: float
    """Seeds needed to find a difference of this size, by the present z; inf if over 1000."""
    contested: bool = False
    """As in `Verdict`."""

    def __str__(self) -> str:
        if self.contested:
            return CONTESTED
        if self.word != "inconclusive":
            return self.word
        if self.test.z == 0:
            return "inconclusive (no difference seen)"
        return f"inconclusive (needs {_needs(self.seeds, math.inf)})"


FEWEST_SEEDS = 4
"""With 3 against 3 no relabelling is rarer than 1 in 10."""


def judge_times(
    tests: Sequence[LogRank],
    seeds: Sequence[int],
    *,
    with_failures: Sequence[LogRank] | None = None,
) -> list[TimeVerdict]:
    """A verdict for each log-rank test (`better`: sooner), Holm over all; `seeds` are its runs.

    `with_failures` is as for `judge`.
    """
    verdicts = _judge_times(tests, seeds)
    if with_failures is None:
        return verdicts
    return [
        own if own.word == other.word else replace(own, word="inconclusive", contested=True)
        for own, other in zip(verdicts, _judge_times(with_failures, seeds), strict=True)
    ]


def _judge_times(tests: Sequence[LogRank], seeds: Sequence[int]) -> list[TimeVerdict]:
    corrected = holm([test.p_exact for test in tests])
    verdicts = []
    for test, p_holm, n in zip(tests, corrected, seeds, strict=True):
        word: Word = "inconclusive"
        if p_holm < ALPHA:
            word = "better" if test.z < 0 else "worse"
        # 1.96 + 0.84: the z needed for 80% power; z grows with the root of the number of seeds.
        needed = n * (2.8 / test.z) ** 2 if test.z else math.inf
        needed = max(FEWEST_SEEDS, n + 1, math.ceil(needed)) if needed <= 1000 else math.inf
        verdicts.append(TimeVerdict(word, test, p_holm, needed))
    return verdicts
