"""pass@k, discoveries, take-off and signal density."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from resd_bench.stats import (
    Interval,
    dead_group_share,
    discovery_curve,
    first_success,
    pass_at_k,
    pass_at_k_interval,
    signal_density,
    take_off_rate,
)


def test_pass_at_k_is_the_share_of_choices_that_hold_a_success() -> None:
    for n, c, k in [(5, 2, 3), (4, 0, 2), (6, 5, 2), (4, 4, 1)]:
        outcomes = [1] * c + [0] * (n - c)
        choices = [any(chosen) for chosen in itertools.combinations(outcomes, k)]
        assert pass_at_k(n, c, k) == pytest.approx(np.mean(choices))
    # Chen et al. (2021): 1 - C(90, 10) / C(100, 10).
    assert pass_at_k(100, 10, 10) == pytest.approx(0.66952, abs=1e-5)


def test_pass_at_k_of_more_samples_than_there_are_is_refused() -> None:
    with pytest.raises(ValueError, match="1 <= k <= n"):
        pass_at_k(4, 1, 8)
    with pytest.raises(ValueError, match="no task has 8 samples"):
        pass_at_k_interval([[0, 1, 0, 0]], 8)


def test_pass_at_k_is_unbiased_and_the_plug_in_estimate_is_low() -> None:
    n, p, k = 8, 0.1, 4
    pmf = [math.comb(n, c) * p**c * (1 - p) ** (n - c) for c in range(n + 1)]
    truth = 1 - (1 - p) ** k
    mean = sum(w * pass_at_k(n, c, k) for c, w in enumerate(pmf))
    plug_in = sum(w * (1 - (1 - c / n) ** k) for c, w in enumerate(pmf))
    assert mean == pytest.approx(truth)
    assert plug_in < truth - 0.03


def test_pass_at_k_limits_cover_what_they_promise() -> None:
    rng = np.random.default_rng(8)
    p_T = rng.beta(0.3, 3, size=(400, 60))
    wins: list[list[int]] = rng.binomial(8, p_T).tolist()
    truth = 1 - math.prod((3 + i) / (3.3 + i) for i in range(4))
    hits = 0
    for counts in wins:
        interval = pass_at_k_interval([[1.0] * c + [0.0] * (8 - c) for c in counts], 4)
        hits += interval.low <= truth <= interval.high
    assert 0.92 <= hits / 400 <= 1


EPISODES = [
    {"task": task, "success": success}
    for task, success in [("a", 0), ("b", 1), ("a", 0), ("b", 1), ("a", 1), ("c", 0)]
]


def test_a_task_is_discovered_once() -> None:
    assert discovery_curve(EPISODES) == [(0, 0), (2, 1), (5, 2), (6, 2)]
    assert discovery_curve([]) == [(0, 0)]
    assert first_success(EPISODES) == 2
    assert first_success(EPISODES[:1]) is None


def test_a_run_took_off_where_its_interval_lies_above_the_base_models() -> None:
    base, higher, overlapping = (
        Interval(0.01, 0.0, 0.02, 400),
        Interval(0.1, 0.07, 0.13, 400),
        Interval(0.02, 0.015, 0.04, 400),
    )
    rate = take_off_rate([(base, higher), (base, overlapping), (base, base), (base, base)])
    assert (rate.mean, rate.n) == (0.25, 4)
    assert rate.low < 0.1 < 0.6 < rate.high


def test_updates_without_examples_have_no_signal() -> None:
    rows = [
        {
            "policy/examples": examples,
            "signal/examples": share,
            "signal/attempts": 8,
            "train/response_tokens": length,
        }
        for examples, share, length in [(0, 0.0, 100), (4, 0.5, 100), (8, 1.0, 200)]
    ]
    density = signal_density(rows)
    assert density.updates == pytest.approx(2 / 3)
    assert density.tokens == pytest.approx((50 + 200) / 400)
    assert math.isnan(signal_density([{"update": 1}]).updates)


def test_a_buffer_that_still_trains_gives_an_update_a_signal_but_its_rollouts_none() -> None:
    row = {"policy/examples": 3, "signal/examples": 0.0, "signal/attempts": 4}
    density = signal_density([row | {"train/response_tokens": 10}])
    assert (density.updates, density.tokens) == (1, 0)


def test_most_groups_of_eight_are_dead_when_success_is_rare() -> None:
    assert dead_group_share(0.01, 8) == pytest.approx(0.923, abs=5e-4)
    assert 1 / (1 - dead_group_share(0.01, 8)) == pytest.approx(13, abs=0.1)
    assert dead_group_share(0.5, 1) == 1
