"""How rare success is, from samples by task."""

from __future__ import annotations

import math
from types import ModuleType

import numpy as np
import pytest

from resd_bench.cli import main
from resd_bench.errors import UsageError
from resd_bench.jobs.difficulty import alike, all_tiers, calibrate, dead_groups, nearest, rarity
from resd_bench.stats import Interval

Capture = pytest.CaptureFixture[str]


def _draw(rates: list[float], samples: int, seed: int = 0) -> list[list[float]]:
    draw = np.random.default_rng(seed)
    return [(draw.random(samples) < rate).astype(float).tolist() for rate in rates]


def test_dead_groups_of_equal_tasks_follow_the_binomial() -> None:
    assert alike(0.5, 8) == pytest.approx(2 / 256)
    assert alike(0.0) == alike(1.0) == 1
    assert dead_groups([[1.0], [0.0]]) == alike(0.5)


@pytest.mark.parametrize(("samples", "tolerance"), [(16, 0.01), (4, 0.02)])
def test_dead_groups_of_unequal_tasks_are_estimated_without_bias(
    samples: int, tolerance: float
) -> None:
    rates = np.random.default_rng(1).beta(0.5, 4.5, size=4000).tolist()
    truth = float(np.mean([alike(rate) for rate in rates]))
    found = dead_groups(_draw(rates, samples))
    assert found == pytest.approx(truth, abs=tolerance)
    assert found > alike(float(np.mean(rates))) + 0.1


def test_subsets_are_counted_exactly() -> None:
    assert dead_groups([[1.0] * 1 + [0.0] * 9]) == pytest.approx(math.comb(9, 8) / math.comb(10, 8))


def test_tasks_that_are_always_or_never_solved_make_dead_groups_only() -> None:
    assert dead_groups([[1.0, 1.0], [0.0, 0.0]]) == 1
    assert dead_groups([[1.0] * 8, [0.0] * 8]) == 1


def test_expected_episodes_are_the_inverse_of_the_success_rate() -> None:
    found = rarity("toy", [[1.0, 0.0, 0.0, 0.0]] * 5)
    mean, low, high = found.episodes
    assert mean == 4
    assert low < 4 < high
    assert low == 1 / found.p0.high


def test_without_a_success_only_a_lower_limit_of_episodes_is_known() -> None:
    mean, low, high = rarity("toy", [[0.0] * 100]).episodes
    assert math.isinf(mean)
    assert math.isinf(high)
    assert low == pytest.approx(1 / 0.0370, rel=0.01)


def test_no_verdict_at_all_is_an_error_and_not_a_rate_of_zero() -> None:
    with pytest.raises(UsageError, match="none of 7 samples got a verdict"):
        rarity("toy", [], 7)


def test_the_nearest_tier_is_nearest_in_factors() -> None:
    all_tiers = [rarity(str(k), [[1.0] * k + [0.0] * (1000 - k)]) for k in (1, 8, 300)]
    assert nearest(all_tiers, 0.01).env == "8"
    assert nearest(all_tiers, 0.5).env == "300"
    never = rarity("never", [[0.0] * 1000])
    assert nearest([never, all_tiers[2]], 0.002).env == "never"
    assert never.p0 == Interval(0.0, 0.0, never.p0.high, 1000)


def test_tiers_are_registrations_of_one_class() -> None:
    assert all_tiers("guess-number") == ["guess-number"]
    found = all_tiers("manufactoria-has-l2")
    assert {"manufactoria-has", "manufactoria-has-l2", "manufactoria-has-l5"} <= set(found)


def test_a_scripted_model_is_calibrated_with_its_errors_counted_apart(toy: ModuleType) -> None:
    flags = {"model": "scripted", "eval_split": "train", "eval_samples": 20, "max_new_tokens": 9}
    (found,) = calibrate(["toy-say"], flags, policy=toy.policy)
    assert 0 < found.p0.mean < 0.1
    assert (found.p0.n, found.errors) == (200, 0)
    (crashing,) = calibrate(["toy-crash"], flags, policy=toy.policy)
    assert (crashing.p0.n, crashing.errors) == (100, 100)


def test_the_command_names_the_nearest_tier(toy: ModuleType, capsys: Capture) -> None:
    small = ["--model", "scripted", "--samples", "4", "--max-new-tokens", "9"]
    assert main(["envs", "calibrate", "toy-say", *small, "--target", "0.01"]) == 0
    printed = capsys.readouterr().out
    assert "zero-variance" in printed
    assert "nearest to 0.01: toy-say" in printed
    assert main(["envs", "calibrate", "toy-say", *small, "--target", "2"]) == 2
    assert "between 0 and 1" in capsys.readouterr().err
