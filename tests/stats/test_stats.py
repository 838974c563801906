"""Statistics against golden values, the reference cases and simulated coverage."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from resd_bench.stats import (
    RANK_METRICS,
    area_under_curve,
    best_at_k,
    effective_samples,
    eval_points,
    mean_at_k,
    paired_difference,
    select_checkpoint_by_rank,
    success_interval,
    t_interval,
    wilson,
)


def test_mean_and_best_at_k_equal_the_reference(fixtures: Path) -> None:
    for case in json.loads((fixtures / "validation/mean_best_at4.json").read_text())["cases"]:
        assert mean_at_k(case["values"]) == pytest.approx(case["plain_mean"], abs=1e-12)
        assert best_at_k(case["values"]) == case["plain_max"]


def test_mean_and_best_at_k_average_over_tasks() -> None:
    values = [[1, 0, 0, 0], [0, 0, 0, 0]]
    assert mean_at_k(values) == 0.125
    assert best_at_k(values) == 0.5
    assert best_at_k([[0, 1], [0, 1]], k=1) == 0


def test_too_few_samples_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 4 samples"):
        best_at_k([1, 0], k=4)
    with pytest.raises(ValueError, match="samples"):
        mean_at_k([])


def test_checkpoint_selection_equals_the_reference(fixtures: Path) -> None:
    cases = json.loads((fixtures / "rank_selection/paper_rule_cases.json").read_text())["cases"]
    assert cases
    for case in cases:
        rows = [
            {"step": step, **dict(zip(case["metrics"], values, strict=True))}
            for step, values in zip(case["steps"], case["values"], strict=True)
        ]
        expected = min(case["by_tie_convention"]["average"]["best_steps"])
        assert select_checkpoint_by_rank(rows) == expected, case["name"]


def test_the_earliest_of_equal_checkpoints_is_selected_whatever_their_order() -> None:
    rows = [{"step": step, **dict.fromkeys(RANK_METRICS, 0.5)} for step in (8, 0, 4)]
    assert select_checkpoint_by_rank(rows) == 0


@given(st.integers(1, 400), st.floats(0, 1))
def test_wilson_equals_scipy(n: int, share: float) -> None:
    k = round(share * n)
    expected = scipy_stats.binomtest(k, n).proportion_ci(method="wilson")
    assert wilson(k, n) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_no_success_in_400_is_at_most_095_percent() -> None:
    interval = success_interval([[0, 0, 0, 0]] * 100)
    assert (interval.mean, interval.low) == (0, 0)
    assert interval.high == pytest.approx(0.0095, abs=5e-5)


def test_effective_samples_lie_between_tasks_and_samples() -> None:
    all_alike = [[1, 1, 1, 1]] * 5 + [[0, 0, 0, 0]] * 5
    spread = [[1, 0, 1, 0]] * 10
    assert effective_samples(all_alike) == 10
    assert effective_samples(spread) == 40
    assert effective_samples([[0, 0]] * 3) == 6


def _coverage(tasks: int, samples: int, draws: int) -> float:
    """Share of intervals that hold the true 2% where tasks differ as Beta(0.1, 4.9)."""
    rng = np.random.default_rng(7)
    hit = 0
    for _ in range(draws):
        p_T = rng.beta(0.1, 4.9, size=tasks)
        interval = success_interval(
            (rng.random((tasks, samples)) < p_T[:, None]).astype(float).tolist()
        )
        hit += interval.low <= 0.02 <= interval.high
    return hit / draws


def test_clustered_wilson_covers_what_it_promises() -> None:
    assert 0.94 <= _coverage(tasks=25, samples=4, draws=1500) <= 0.985


def test_t_interval_equals_scipy() -> None:
    values = [0.1, 0.4, 0.35, 0.2, 0.3]
    result = scipy_stats.ttest_1samp(values, 0).confidence_interval(0.95)
    interval = t_interval(values)
    assert (interval.low, interval.high) == pytest.approx((result.low, result.high))


def test_one_value_has_no_interval() -> None:
    interval = t_interval([0.5])
    assert interval.mean == 0.5
    assert math.isnan(interval.low)
    assert not interval.excludes_zero


def test_t_interval_covers_what_it_promises() -> None:
    data = np.random.default_rng(3).normal(size=(2000, 5))
    hits = [(i := t_interval(list(row))).low <= 0 <= i.high for row in data]
    assert 0.935 <= np.mean(hits) <= 0.965


def test_paired_difference_uses_common_seeds_only() -> None:
    a, b = {0: 0.5, 1: 0.6, 2: 0.9}, {0: 0.4, 1: 0.3, 7: 0.0}
    difference = paired_difference(a, b)
    assert difference.n == 2
    assert difference.mean == pytest.approx(0.2)
    with pytest.raises(ValueError, match="no seed in common"):
        paired_difference({0: 1.0}, {1: 1.0})


def test_area_under_curve_is_a_mean_over_the_budget() -> None:
    assert area_under_curve([0, 100], [0, 1], 100) == pytest.approx(0.5)
    assert area_under_curve([0, 100], [0, 1], 200) == pytest.approx(0.75)
    assert area_under_curve([0, 100], [0, 1], 50) == pytest.approx(0.25)
    assert area_under_curve([0], [0.3], 10) == pytest.approx(0.3)


def test_unscored_samples_are_not_failures() -> None:
    rows = [
        {"update": 0, "episodes": 0, "generated_tokens": 0, "task": "a", "success": s, "score": s}
        for s in (1.0, None)
    ]
    (point,) = eval_points(rows)
    assert (point.mean, point.errors, point.samples) == (1.0, 1, 1)
