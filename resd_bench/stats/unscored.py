"""Attempts without a verdict: a mean that leaves them out is never reported alone.

An attempt whose environment failed is not a failure of the policy, so success rates are over
attempts with a verdict. But an attempt may lack a verdict because of its answer, and then the rate
is too high. So each rate is given twice: over the scored attempts, and over all attempts with the
others as failures, which is its lower bound. A verdict that differs between the two does not count.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from resd_bench.stats.intervals import Interval, success_interval

Outcomes = Sequence[Sequence[float]]
"""Per task, per sample: success from 0 to 1, or the fraction of cases passed."""

NO_RATE = Interval(math.nan, math.nan, math.nan, 0)


@dataclass(frozen=True, slots=True)
class Rate:
    """A mean over attempts with a verdict, and over all attempts with the others as failures."""

    scored: Interval
    """All NaN if no attempt has a verdict."""
    with_failures: Interval
    left_out: int
    """Attempts without a verdict."""


def as_failures(outcomes: Outcomes, unscored: Sequence[int]) -> tuple[tuple[float, ...], ...]:
    """The outcomes of each task with a 0 for each of its attempts without a verdict.

    `unscored` counts them, one number per task; it is empty if there are none.
    """
    counts = unscored or (0,) * len(outcomes)
    return tuple((*own, *(0.0,) * count) for own, count in zip(outcomes, counts, strict=True))


def rate(outcomes: Outcomes, unscored: Sequence[int] = ()) -> Rate:
    """The success rate both ways, with Wilson limits; arguments as in `as_failures`."""
    scored = _interval(outcomes)
    if not sum(unscored):
        return Rate(scored, scored, 0)
    return Rate(scored, _interval(as_failures(outcomes, unscored)), sum(unscored))


def mean_both(scored: Iterable[float], left_out: int) -> tuple[float, float]:
    """The mean of `scored`, and the mean with `left_out` additional zeros; NaN without values."""
    values = list(scored)
    total, all_of_them = sum(values), len(values) + left_out
    return (
        total / len(values) if values else math.nan,
        total / all_of_them if all_of_them else math.nan,
    )


def _interval(outcomes: Outcomes) -> Interval:
    return success_interval(outcomes) if any(map(len, outcomes)) else NO_RATE
