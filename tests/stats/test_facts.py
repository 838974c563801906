"""The facts that the rules of this package rest on, repeated."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats as scipy_stats

from resd_bench.stats import interquartile_mean, stratified_mean, wilson


def exact_coverage(limits: list[tuple[float, float]], p: float) -> float:
    n = len(limits) - 1
    weights = scipy_stats.binom.pmf(range(n + 1), n, p)
    covered = np.array([low <= p <= high for low, high in limits])
    return float(np.asarray(weights)[covered].sum())


def test_normal_intervals_are_useless_where_success_is_rare() -> None:
    n, p = 100, 0.01
    wald = []
    for k in range(n + 1):
        half = 1.96 * math.sqrt(k / n * (1 - k / n) / n)
        wald.append((k / n - half, k / n + half))
    exact = [scipy_stats.binomtest(k, n).proportion_ci(method="exact") for k in range(n + 1)]
    assert exact_coverage(wald, p) == pytest.approx(0.629, abs=0.005)
    assert exact_coverage([wilson(k, n) for k in range(n + 1)], p) == pytest.approx(0.92, abs=0.005)
    assert exact_coverage([(e.low, e.high) for e in exact], p) == pytest.approx(0.98, abs=0.005)


def test_pooling_or_resampling_few_tasks_covers_too_little() -> None:
    rng = np.random.default_rng(7)
    p_T = rng.beta(0.1, 4.9, size=(1500, 25))
    sums = rng.binomial(4, p_T)
    pooled = [wilson(float(k), 100) for k in sums.sum(axis=1)]
    assert 0.87 <= np.mean([low <= 0.02 <= high for low, high in pooled]) <= 0.92
    chosen = rng.integers(0, 25, size=(300, 25))
    means = sums[:500, chosen].sum(axis=2) / 100
    low, high = np.quantile(means, [0.025, 0.975], axis=1)
    assert 0.77 <= np.mean((low <= 0.02) & (high >= 0.02)) <= 0.85


@pytest.mark.parametrize(("seeds", "envs", "at_most"), [(3, 4, 0.87), (3, 1, 0.78), (5, 4, 0.92)])
def test_a_percentile_bootstrap_over_few_seeds_covers_too_little(
    seeds: int, envs: int, at_most: float
) -> None:
    rng = np.random.default_rng(3)
    data = rng.normal(size=(400, envs, seeds))
    chosen = rng.integers(0, seeds, size=(400, 300, envs, seeds))
    picked = np.take_along_axis(data[:, None], chosen, axis=-1).mean(axis=(2, 3))
    low, high = np.quantile(picked, [0.025, 0.975], axis=1)
    assert np.mean((low <= 0) & (high >= 0)) <= at_most
    welch = [stratified_mean({str(e): own for e, own in enumerate(row)}) for row in data.tolist()]
    assert 0.93 <= np.mean([i.low <= 0 <= i.high for i in welch]) <= 0.99


def test_the_inter_quartile_mean_is_blind_to_rare_success() -> None:
    for solved in (1, 9):
        cells = [1.0] * solved + [0.0] * (40 - solved)
        assert scipy_stats.trim_mean(cells, 0.25) == 0
        assert math.isnan(interquartile_mean({"all": cells}))


def test_the_best_of_twenty_evaluations_flatters() -> None:
    counts = np.random.default_rng(0).binomial(400, 0.02, size=(4000, 20))
    assert counts.max(axis=1).mean() / 400 == pytest.approx(0.034, abs=0.001)
