"""Runs that take off or do not: what a t interval covers there, and exact tests instead."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from resd_bench.stats import (
    CONTESTED,
    clopper_pearson,
    is_saturated,
    judge_taken_off,
    splits_in_two,
    t_interval,
    taken_off,
)
from tests.stats.test_facts import exact_coverage

WON, LOST = 0.9, 0.0


def ends(won: int, n: int) -> list[float]:
    return [WON] * won + [LOST] * (n - won)


@pytest.mark.parametrize(
    ("rate", "covered"), [(0.1, 0.41), (0.2, 0.67), (0.3, 0.83), (0.5, 0.94), (0.8, 0.67)]
)
def test_a_t_interval_over_five_seeds_that_split_in_two_covers_too_little(
    rate: float, covered: float
) -> None:
    """All five seeds are often alike, and then the interval is a point."""
    limits = [(i.low, i.high) for i in (t_interval(ends(k, 5)) for k in range(6))]
    shares = [(low / WON, high / WON) for low, high in limits]
    assert exact_coverage(shares, rate) == pytest.approx(covered, abs=0.01)
    exact = [clopper_pearson(k, 5) for k in range(6)]
    assert exact_coverage(exact, rate) >= 0.95


@settings(max_examples=40)
@given(st.integers(1, 60), st.floats(0, 1))
def test_clopper_pearson_equals_scipy(n: int, share: float) -> None:
    k = round(share * n)
    expected = scipy_stats.binomtest(k, n).proportion_ci(method="exact")
    assert clopper_pearson(k, n) == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_the_exact_interval_covers_at_every_rate() -> None:
    for n in (3, 5, 20):
        limits = [clopper_pearson(k, n) for k in range(n + 1)]
        assert min(exact_coverage(limits, p) for p in np.linspace(0.001, 0.999, 200)) >= 0.95


def test_seeds_split_if_some_end_above_a_half_and_some_below_a_tenth() -> None:
    assert splits_in_two([0.02, 0.9, 0.3])
    for alike in ([0.6, 0.9], [0.1, 0.9], [0.0, 0.5], [0.02, 0.09], []):
        assert not splits_in_two(alike)
    share = taken_off([0.02, 0.9, 0.5, 0.51])
    assert (share.mean, share.n) == (0.5, 4)


def boschloo(k: int, n: int, m: int, size: int) -> float:
    """By its definition: the chance of a Fisher p as low, at the worst common rate, doubled."""
    rates = np.linspace(0, 1, 2001)[:, None]
    own = np.asarray(scipy_stats.binom.pmf(np.arange(n + 1), n, rates))
    other = np.asarray(scipy_stats.binom.pmf(np.arange(size + 1), size, rates))
    weight = own[:, :, None] * other[:, None, :]
    sides = []
    for low in (True, False):
        fisher = np.array(
            [
                [
                    scipy_stats.hypergeom.cdf(i, n + size, n, i + j)
                    if low
                    else scipy_stats.hypergeom.sf(i - 1, n + size, n, i + j)
                    for j in range(size + 1)
                ]
                for i in range(n + 1)
            ]
        )
        sides.append((weight * (fisher <= fisher[k, m] * (1 + 1e-9))).sum(axis=(1, 2)).max())
    return min(1.0, 2 * float(min(sides)))


@pytest.mark.parametrize(("k", "n", "m", "size"), [(1, 5, 5, 5), (2, 5, 5, 5), (3, 4, 1, 6)])
def test_the_test_is_boschloos(k: int, n: int, m: int, size: int) -> None:
    (found,) = judge_taken_off([(ends(k, n), ends(m, size))])
    assert found.p == pytest.approx(boschloo(k, n, m, size), rel=0.01)


def test_it_errs_in_one_of_twenty_cases_at_most_whatever_the_rate() -> None:
    """A paired t test of such seeds cannot promise that."""
    tables = [(i, j) for i in range(6) for j in range(i)]
    found = [judge_taken_off([(ends(i, 5), ends(j, 5))])[0].p for i, j in tables]
    wrong = [t for t, p in zip(tables, found, strict=True) if p < 0.05]
    wrong += [(j, i) for i, j in wrong]
    assert wrong
    for rate in np.linspace(0.01, 0.99, 50):
        pmf = np.asarray(scipy_stats.binom.pmf(range(6), 5, rate))
        assert sum(pmf[i] * pmf[j] for i, j in wrong) <= 0.05


def test_twenty_of_twenty_against_eleven_is_a_finding_and_five_against_three_is_not() -> None:
    (found,) = judge_taken_off([(ends(20, 20), ends(11, 20))])
    assert found.word == "better"
    assert found.difference == pytest.approx(0.45)
    (worse,) = judge_taken_off([(ends(11, 20), ends(20, 20))])
    assert worse.word == "worse"
    (few,) = judge_taken_off([(ends(5, 5), ends(3, 5))])
    assert (few.word, math.isfinite(few.runs)) == ("inconclusive", True)
    assert str(few) == f"inconclusive (needs {few.runs} runs)"
    (equal,) = judge_taken_off([(ends(2, 5), ends(4, 10))])
    assert (equal.p, str(equal)) == (1, "inconclusive (no difference seen)")


def test_the_more_that_is_compared_the_more_it_takes() -> None:
    pair = (ends(5, 5), ends(1, 5))
    assert judge_taken_off([pair])[0].word == "better"
    assert {found.word for found in judge_taken_off([pair] * 3)} == {"inconclusive"}


def test_attempts_without_a_verdict_can_contest_a_finding() -> None:
    (found,) = judge_taken_off([(ends(5, 5), ends(0, 5))], with_failures=[(ends(2, 5), ends(0, 5))])
    assert (found.word, str(found)) == ("inconclusive", CONTESTED)


def test_groups_of_which_all_end_above_99_percent_are_saturated() -> None:
    assert is_saturated([0.991, 1.0, 0.999])
    assert not is_saturated([1.0, 0.99])
    assert not is_saturated([1.0])
    assert is_saturated([1.0, 1.0], [0.01])
    assert is_saturated([1.0], [1.0])
    assert not is_saturated([1.0], [0.01])
