"""The expected best of a number of trials, against every choice there is."""

from __future__ import annotations

from itertools import combinations, pairwise
from statistics import fmean

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resd_bench.stats import best_of_trials, expected_best

VALUES = st.lists(st.floats(0, 1), min_size=1, max_size=7)


@given(VALUES)
def test_it_is_the_mean_of_the_best_over_all_choices(values: list[float]) -> None:
    expected = [
        fmean(max(chosen) for chosen in combinations(values, k)) for k in range(1, len(values) + 1)
    ]
    assert expected_best(values) == pytest.approx(expected)


@given(VALUES)
def test_it_rises_from_the_mean_to_the_maximum(values: list[float]) -> None:
    found = expected_best(values)
    assert found[0] == pytest.approx(fmean(values))
    assert found[-1] == max(values)
    assert all(b >= a - 1e-12 for a, b in pairwise(found))


def test_the_limits_are_those_of_resampled_trials() -> None:
    values = [0.0, 0.1, 0.4, 0.9]
    found = best_of_trials(values, np.random.default_rng(3), resamples=50)
    drawn = np.random.default_rng(3).choice(values, (50, 4))
    each = np.array([expected_best(own.tolist()) for own in drawn])
    assert found.mean == pytest.approx(expected_best(values))
    assert found.low == pytest.approx(np.quantile(each, 0.025, axis=0))
    assert found.high == pytest.approx(np.quantile(each, 0.975, axis=0))
    assert max(found.high) <= 0.9


def test_without_a_trial_there_is_no_best_one() -> None:
    with pytest.raises(ValueError, match="no trial"):
        expected_best([])
