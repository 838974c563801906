"""Whether what a placebo replaces matters: a difference, none worth the name, or an open question.

Declared before the runs: content *matters* where the real group is better by the verdict of
`judge`, and does *not matter* where two one-sided tests (Schuirmann 1987) put the difference within
a margin; both with Holm's correction over all comparisons. Left out: a choice of the margin.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from resd_bench.stats.aggregates import stratified_error
from resd_bench.stats.paired import holm
from resd_bench.stats.power import ALPHA
from resd_bench.stats.verdicts import Pairs, Verdict, judge, sampling_error

ContentWord = Literal["matters", "matters within the margin", "does not matter", "harms", "open"]


@dataclass(frozen=True, slots=True)
class ContentVerdict:
    """What a comparison of real content with a placebo came to."""

    word: ContentWord
    """`harms` where the placebo is better; `matters within the margin` where the real content is
    better, and surely by less than the margin."""
    verdict: Verdict
    """On the real group against the placebo."""
    p_equivalent: float
    """Of the two one-sided tests, Holm-corrected."""


def equivalence_p(pairs: Pairs, margin: float) -> float:
    """One-sided p that the mean difference is not within (-margin, margin); 1 where unknown.

    As for a verdict, the larger of what a t test over seeds and what the sampling of tasks alone
    say. Raises ValueError unless margin > 0.
    """
    from scipy.special import ndtr, stdtr

    if margin <= 0:
        raise ValueError(f"expected a margin above 0, got {margin}")
    values = {k: [pair.difference for pair in own] for k, own in pairs.items() if own}
    error, df = stratified_error(values)
    if math.isnan(error):
        return 1.0
    room = margin - abs(float(np.mean([np.mean(own) for own in values.values()])))
    sampling = sampling_error(pairs)
    return max(
        float(stdtr(df, -room / error)) if error else float(room <= 0),
        float(ndtr(-room / sampling)) if sampling else float(room <= 0),
    )


def judge_content(
    comparisons: Sequence[Pairs],
    margin: float,
    rng: np.random.Generator | None = None,
    *,
    with_failures: Sequence[Pairs] | None = None,
) -> list[ContentVerdict]:
    """A verdict on each comparison of real content (first) with a placebo, Holm over all.

    `margin` is in units of the outcome. `with_failures` as for `judge`; equivalence must hold with
    it as well. Raises ValueError for a comparison without pairs.
    """
    verdicts = judge(comparisons, rng, with_failures=with_failures)
    also = comparisons if with_failures is None else with_failures
    worst = [
        max(equivalence_p(own, margin), equivalence_p(other, margin))
        for own, other in zip(comparisons, also, strict=True)
    ]
    return [
        ContentVerdict(_word(verdict, p), verdict, p)
        for verdict, p in zip(verdicts, holm(worst), strict=True)
    ]


def _word(verdict: Verdict, p_equivalent: float) -> ContentWord:
    within = p_equivalent < ALPHA
    if verdict.word == "worse":
        return "harms"
    if verdict.word == "better":
        return "matters within the margin" if within else "matters"
    return "does not matter" if within else "open"
