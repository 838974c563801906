"""Verdicts on placebos: against scipy's one-sided tests, and every word where it is due."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import ttest_1samp

from resd_bench.stats import Pair, Pairs, equivalence_p, judge_content


def cells(*values: list[float], variance: float = 0.0) -> Pairs:
    return {f"e{i}": [Pair(x, variance, 100) for x in own] for i, own in enumerate(values)}


def test_two_one_sided_tests_are_scipys() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        values = rng.normal(0.01, 0.03, size=6)
        below = ttest_1samp(values, 0.05, alternative="less").pvalue
        above = ttest_1samp(values, -0.05, alternative="greater").pvalue
        assert equivalence_p(cells(values.tolist()), 0.05) == pytest.approx(max(below, above))


def test_few_tasks_keep_a_difference_from_being_called_none() -> None:
    values = [0.001, -0.001, 0.0, 0.002, -0.002]
    assert equivalence_p(cells(values), 0.05) < 1e-4
    assert equivalence_p(cells(values, variance=0.05), 0.05) > 0.05
    assert equivalence_p(cells([0.0]), 0.05) == 1.0
    with pytest.raises(ValueError, match="a margin above 0"):
        equivalence_p(cells(values), 0.0)


SMALL = [0.02, 0.022, 0.021, 0.019, 0.018]
LARGE = [0.2, 0.22, 0.19, 0.21, 0.18]
NONE = [0.001, -0.002, 0.0, 0.002, -0.001]
WIDE = [0.3, -0.3, 0.1, -0.2, 0.15]


def words(*comparisons: list[float]) -> list[str]:
    return [
        own.word for own in judge_content([cells(values, values) for values in comparisons], 0.05)
    ]


def test_every_word_is_given_where_it_is_due() -> None:
    assert words(LARGE) == ["matters"]
    assert words(SMALL) == ["matters within the margin"]
    assert words(NONE) == ["does not matter"]
    assert words([-x for x in LARGE]) == ["harms"]
    assert words(WIDE) == ["open"]
    assert words(LARGE, SMALL, NONE, WIDE) == [
        *("matters", "matters within the margin", "does not matter", "open")
    ]


def test_equivalence_is_corrected_for_the_number_of_comparisons() -> None:
    nearly = [0.03, 0.01, 0.05, -0.01, 0.035]
    [alone] = judge_content([cells(nearly)], 0.06)
    among = judge_content([cells(nearly), *[cells(WIDE)] * 4], 0.06)
    assert among[0].p_equivalent == pytest.approx(min(1, 5 * alone.p_equivalent))


def test_equivalence_must_hold_with_failures_too() -> None:
    [found] = judge_content([cells(NONE)], 0.05, with_failures=[cells(WIDE)])
    assert found.word == "open"
