"""Waiting times against published values, scipy and simulated coverage."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import CensoredData, logrank

from resd_bench.stats import (
    CensoredTime,
    kaplan_meier,
    restricted_mean,
    stratified_logrank,
    time_to_threshold,
)

# Weeks of remission of leukaemia patients (Freireich et al. 1963), the textbook example.
TREATED = [
    *(CensoredTime(t, True) for t in (6, 6, 6, 7, 10, 13, 16, 22, 23)),
    *(CensoredTime(t, False) for t in (6, 9, 10, 11, 17, 19, 20, 25, 32, 32, 34, 35)),
]
PLACEBO = [
    CensoredTime(t, True)
    for t in (1, 1, 2, 2, 3, 4, 4, 5, 5, 8, 8, 8, 8, 11, 11, 12, 12, 15, 17, 22, 23)
]


def test_the_product_limit_curve_and_its_limits_are_the_published_ones() -> None:
    curve = kaplan_meier(TREATED)
    expected = {
        6: (0.857, 0.620, 0.952),
        7: (0.807, 0.563, 0.923),
        10: (0.753, 0.503, 0.889),
        13: (0.690, 0.432, 0.849),
        16: (0.627, 0.368, 0.805),
        22: (0.538, 0.268, 0.747),
        23: (0.448, 0.188, 0.680),
    }
    rows = zip(curve.times, curve.share, curve.low, curve.high, strict=True)
    found = {int(t): (s, low, high) for t, s, low, high in rows}
    for time, values in expected.items():
        assert found[time] == pytest.approx(values, abs=6e-4)
    assert (curve.median().mean, curve.median().low) == (23, 13)
    assert math.isinf(curve.median().high)


def test_a_median_that_was_not_reached_is_infinite() -> None:
    waits = [CensoredTime(100, True), *[CensoredTime(500, False)] * 4]
    median = kaplan_meier(waits).median()
    assert math.isinf(median.mean)
    assert kaplan_meier([CensoredTime(500, False)] * 3).share.tolist() == [1.0]
    everyone = kaplan_meier([CensoredTime(t, True) for t in (1, 2, 3)])
    assert everyone.share[-1] == pytest.approx(0)
    assert not np.isnan([everyone.low, everyone.high]).any()


def test_the_restricted_mean_is_the_published_one() -> None:
    upto_the_last_event = restricted_mean(TREATED, 23)
    assert upto_the_last_event.mean == pytest.approx(17.909, abs=5e-4)
    assert restricted_mean(TREATED, 35).mean == pytest.approx(23.287, abs=5e-3)


def test_with_one_common_budget_the_restricted_mean_is_the_mean_of_capped_times() -> None:
    waits = [
        CensoredTime(100, True),
        CensoredTime(300, True),
        CensoredTime(640, False),
        CensoredTime(640, False),
    ]
    assert restricted_mean(waits, 640).mean == pytest.approx((100 + 300 + 640 + 640) / 4)


def test_runs_that_never_got_there_are_not_left_out() -> None:
    reached, all_runs = (
        [CensoredTime(50, True)] * 2,
        [CensoredTime(50, True)] * 2 + [CensoredTime(640, False)] * 3,
    )
    assert restricted_mean(all_runs, 640).mean > 5 * restricted_mean(reached, 640).mean


def test_the_restricted_mean_covers_what_it_promises() -> None:
    rng = np.random.default_rng(5)
    truth = 100 * (1 - math.exp(-1.5))
    hits = 0
    for row in rng.exponential(100, size=(600, 10)):
        interval = restricted_mean([CensoredTime(min(t, 150.0), bool(t < 150)) for t in row], 150)
        hits += interval.low <= truth <= interval.high
    assert 0.91 <= hits / 600 <= 0.98


def test_the_log_rank_test_is_the_published_one_and_scipys() -> None:
    test = stratified_logrank({"": TREATED}, {"": PLACEBO})
    assert test.z**2 == pytest.approx(16.793, abs=1e-3)
    assert test.z > 0

    def data(waits: list[CensoredTime]) -> CensoredData:
        return CensoredData.right_censored([w.time for w in waits], [not w.reached for w in waits])

    expected = logrank(data(TREATED), data(PLACEBO))
    assert (-test.z, test.p) == pytest.approx((expected.statistic, expected.pvalue))
    assert test.p_exact < 0.001


def test_two_equal_strata_say_root_two_as_much_as_one() -> None:
    one = stratified_logrank({"a": TREATED}, {"a": PLACEBO})
    two = stratified_logrank({"a": TREATED, "b": TREATED}, {"a": PLACEBO, "b": PLACEBO})
    assert two.z == pytest.approx(math.sqrt(2) * one.z)
    with pytest.raises(ValueError, match="no stratum in common"):
        stratified_logrank({"a": TREATED}, {"b": PLACEBO})


def test_a_difference_between_environments_alone_is_none_between_methods() -> None:
    easy, hard = [CensoredTime(10, True)] * 5, [CensoredTime(90, True)] * 5
    test = stratified_logrank({"easy": easy, "hard": hard}, {"easy": easy, "hard": hard})
    assert (test.z, test.p_exact) == (0, 1)


def test_the_exact_p_of_three_against_three_is_never_below_a_tenth() -> None:
    early, late = (
        [CensoredTime(t, True) for t in (1, 2, 3)],
        [CensoredTime(t, True) for t in (7, 8, 9)],
    )
    test = stratified_logrank({"": early}, {"": late})
    assert test.p < 0.05
    assert test.p_exact == pytest.approx(0.1)


def test_the_exact_log_rank_test_keeps_its_level_at_five_seeds() -> None:
    rng = np.random.default_rng(11)
    false = 0
    for row in rng.integers(1, 12, size=(300, 10)):
        waits = [CensoredTime(min(t, 8), bool(t < 8)) for t in row.tolist()]
        false += stratified_logrank({"": waits[:5]}, {"": waits[5:]}).p_exact < 0.05
    assert false / 300 <= 0.07


def test_drawn_relabellings_agree_with_all_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    a = {"": [CensoredTime(t, True) for t in (1, 2, 4, 6, 9)]}
    b = {"": [CensoredTime(t, True) for t in (3, 5, 7, 8, 10)]}
    exact = stratified_logrank(a, b).p_exact
    monkeypatch.setattr("resd_bench.stats.survival.EXACT_ARRANGEMENTS", 250)
    drawn = stratified_logrank(a, b, np.random.default_rng(0)).p_exact
    assert drawn == pytest.approx(exact, abs=0.08)


def test_a_threshold_counts_from_the_first_of_two_evaluations() -> None:
    x = [0, 10, 20, 30, 40]
    assert time_to_threshold(x, [0, 0.6, 0.1, 0.5, 0.7], 0.5, 40) == CensoredTime(30, True)
    assert time_to_threshold(x, [0, 0.6, 0.1, 0.1, 0.7], 0.5, 40) == CensoredTime(40, False)
    assert time_to_threshold(x, [0, 0, 0.5, 0.5, 0.5], 0.5, 25) == CensoredTime(25, False)
    assert time_to_threshold(x, [0, 0, 0, 0, 0], 0.05, 100) == CensoredTime(40, False)
