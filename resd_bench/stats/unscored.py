"""Attempts without a verdict: a mean that leaves them out never stands alone.

An attempt whose environment failed is no failure of the policy, so success rates are over attempts
with a verdict. But what is left out may be left out because of what was answered, and then the rate
is too high. So each rate comes twice: over the scored attempts, and over all of them with the
others as failures, which is the least it can be. A verdict that differs between the two is none.
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
    """A mean over attempts with a verdict, and over all of them with the others as failures."""

    scored: Interval
    """NaN throughout where no attempt has a verdict."""
    with_failures: Interval
    left_out: int
    """Attempts without a verdict."""


def as_failures(outcomes: Outcomes, unscored: Sequence[int]) -> tuple[tuple[float, ...], ...]:
    """The outcomes of each task with a 0 for each of its attempts without a verdict.

    `unscored` counts them, a number per task, or is empty where there are none.
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
    """The mean of `scored`, and that with `left_out` zeros more; NaN for a mean of nothing."""
    values = list(scored)
    total, all_of_them = sum(values), len(values) + left_out
    return (
        total / len(values) if values else math.nan,
        total / all_of_them if all_of_them else math.nan,
    )


def _interval(outcomes: Outcomes) -> Interval:
    return success_interval(outcomes) if any(map(len, outcomes)) else NO_RATE
