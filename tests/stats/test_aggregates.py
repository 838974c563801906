"""Aggregates over environment x seed: golden values and simulated coverage."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats as scipy_stats

from resd_bench.stats import (
    Interval,
    Strata,
    aggregate,
    interquartile_mean,
    performance_profile,
    probability_of_improvement,
    stratified_bootstrap,
    stratified_error,
    stratified_mean,
    t_interval,
)


def draws(rng: np.random.Generator, seeds: int, envs: int) -> dict[str, list[float]]:
    """Values around 0 whose spread differs between environments."""
    return {str(e): rng.normal(0, 1 + e, size=seeds).tolist() for e in range(envs)}


def coverage(make: Callable[[Strata], Interval], seeds: int, envs: int, n: int = 500) -> float:
    rng = np.random.default_rng(1)
    intervals = [make(draws(rng, seeds, envs)) for _ in range(n)]
    return float(np.mean([i.low <= 0 <= i.high for i in intervals]))


def test_one_stratum_is_students_t() -> None:
    values = [0.1, 0.4, 0.35, 0.2, 0.3]
    a, b = stratified_mean({"e": values}), t_interval(values)
    assert (a.mean, a.low, a.high, a.n) == pytest.approx((b.mean, b.low, b.high, b.n))


def test_two_strata_have_welchs_error_and_degrees_of_freedom() -> None:
    x, y = [27.5, 21.0, 19.0, 23.6, 17.0, 17.9], [27.1, 22.0, 20.8, 23.4, 23.4, 23.5, 25.8]
    test = scipy_stats.ttest_ind(x, y, equal_var=False)
    error, df = stratified_error({"x": x, "y": [-v for v in y]})
    assert df == pytest.approx(test.df)
    assert (np.mean(x) - np.mean(y)) / 2 / error == pytest.approx(test.statistic)


@pytest.mark.parametrize(("seeds", "envs"), [(3, 1), (3, 4), (5, 4)])
def test_stratified_welch_t_covers_what_it_promises(seeds: int, envs: int) -> None:
    assert 0.93 <= coverage(stratified_mean, seeds, envs) <= 0.99


def test_the_stratified_bootstrap_covers_what_it_promises_at_ten_seeds() -> None:
    rng = np.random.default_rng(2)
    make: Callable[[Strata], Interval] = lambda v: stratified_bootstrap(v, rng, resamples=299)  # noqa: E731
    assert 0.90 <= coverage(make, 10, 3, n=250) <= 0.98


def test_the_bootstrap_is_scipys_bca_on_one_stratum() -> None:
    values = np.random.default_rng(0).exponential(size=12)
    expected = scipy_stats.bootstrap(
        (values,), np.mean, n_resamples=4999, rng=np.random.default_rng(3)
    ).confidence_interval
    found = stratified_bootstrap({"e": values.tolist()}, np.random.default_rng(3))
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_the_same_stream_gives_the_same_bootstrap() -> None:
    values = draws(np.random.default_rng(4), 10, 2)
    a, b = (stratified_bootstrap(values, np.random.default_rng(9), resamples=99) for _ in "ab")
    assert a == b


def test_up_to_nine_seeds_it_is_welch_and_from_ten_the_bootstrap() -> None:
    rng = np.random.default_rng
    few, many = draws(rng(1), 9, 2), draws(rng(1), 10, 2)
    assert aggregate(few, rng(0)) == stratified_mean(few)
    assert aggregate(many, rng(0)) == stratified_bootstrap(many, rng(0))


def test_no_spread_and_single_values_are_answered_honestly() -> None:
    rng = np.random.default_rng(0)
    assert stratified_bootstrap({"e": [0.5] * 10}, rng) == Interval(0.5, 0.5, 0.5, 10)
    assert math.isnan(stratified_mean({"e": [0.5], "f": [0.1, 0.2]}).low)
    assert math.isnan(stratified_bootstrap({"e": [0.5]}, rng).low)
    with pytest.raises(ValueError, match="at least one stratum"):
        stratified_mean({})


def test_limits_are_never_narrower_than_a_known_error() -> None:
    interval = stratified_mean({"e": [0.5, 0.5, 0.5]}, least_error=0.1)
    assert interval.high - interval.mean == pytest.approx(0.196, abs=1e-3)


def test_environments_count_alike_however_many_seeds_they_have() -> None:
    assert stratified_mean({"e": [0.0, 0.0], "f": [1.0] * 8}).mean == 0.5
    assert performance_profile({"e": [0.0, 0.0], "f": [1.0] * 8}, [0.5]) == [0.5]


def test_the_inter_quartile_mean_is_withheld_where_most_values_are_zero() -> None:
    assert math.isnan(interquartile_mean({"e": [0.0] * 31 + [1.0] * 9}))
    values = list(range(1, 13))
    expected = scipy_stats.trim_mean(values, 0.25)
    assert interquartile_mean({"e": values[:6], "f": values[6:]}) == pytest.approx(expected)


def test_the_performance_profile_is_the_share_strictly_above() -> None:
    values = {"e": [0.0, 0.2, 0.4], "f": [0.0, 0.0, 1.0]}
    expected = [(2 / 3 + 1 / 3) / 2, (1 / 3 + 1 / 3) / 2, (0 + 1 / 3) / 2, 0]
    assert performance_profile(values, [0, 0.2, 0.4, 1]) == pytest.approx(expected)


def test_the_probability_of_improvement_is_mann_whitneys_within_environments() -> None:
    x, y = [0.1, 0.5, 0.5, 0.9], [0.5, 0.2, 0.0, 0.3]
    u = scipy_stats.mannwhitneyu(x, y).statistic
    assert probability_of_improvement({"e": x}, {"e": y}).mean == pytest.approx(u / 16)
    easy, hard = [0.8, 0.9], [0.1, 0.2]
    pooled = probability_of_improvement({"easy": easy, "hard": hard}, {"easy": easy, "hard": hard})
    assert pooled.mean == 0.5
    assert probability_of_improvement({"e": [0.0] * 5}, {"e": [0.0] * 5}).mean == 0.5


def test_few_runs_that_all_win_are_not_certain_to_win() -> None:
    interval = probability_of_improvement({"e": [0.9, 0.8, 0.7]}, {"e": [0.1, 0.2, 0.3]})
    assert interval.mean == 1
    assert interval.low < 0.6


def test_the_probability_of_improvement_covers_what_it_promises() -> None:
    rng = np.random.default_rng(6)
    truth = float(scipy_stats.norm.cdf(0.7 / math.sqrt(2)))
    hits = 0
    for _ in range(500):
        a, b = rng.normal(0.7, 1, 6).tolist(), rng.normal(0, 1, 6).tolist()
        interval = probability_of_improvement({"e": a}, {"e": b})
        hits += interval.low <= truth <= interval.high
    assert 0.93 <= hits / 500 <= 1
