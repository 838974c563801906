"""Paired tests, power and verdicts: golden values, and what is found and not found."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats as scipy_stats
from scipy.special import expit

from resd_bench.stats import (
    LogRank,
    Pair,
    Verdict,
    detectable_difference,
    holm,
    judge,
    judge_times,
    least_sign_flip_p,
    make_pair,
    problems_per_arm,
    seeds_needed,
    sign_flip_p,
    tasks_needed,
)
from resd_bench.stats.power import noncentrality


def test_the_sign_flip_test_is_scipys() -> None:
    values = [0.3, -0.1, 0.2, 0.5, 0.4, 0.05]
    expected = scipy_stats.permutation_test(
        (values, np.zeros(6)),
        lambda a, b, axis=-1: np.mean(a - b, axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=10_000,
    )
    assert sign_flip_p({"e": values}) == pytest.approx(expected.pvalue)


def test_five_pairs_on_one_environment_never_reach_five_percent() -> None:
    for n in range(2, 9):
        assert sign_flip_p({"e": [1.0] * n}) == least_sign_flip_p(n) == 2 ** (1 - n)
    assert least_sign_flip_p(5) > 0.05


def test_pairs_of_several_environments_count_together() -> None:
    assert sign_flip_p({"e": [0.1] * 3, "f": [0.2] * 3}) == 2**-5


def test_drawn_signs_agree_with_all_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    values = {"e": np.random.default_rng(0).normal(0.4, 1, 12).tolist()}
    exact = sign_flip_p(values)
    monkeypatch.setattr("resd_bench.stats.paired.EXACT_PAIRS", 5)
    assert sign_flip_p(values, np.random.default_rng(1)) == pytest.approx(exact, abs=0.01)
    assert sign_flip_p(values) == sign_flip_p(values)


def test_holms_adjustment_is_the_textbook_one() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.01, math.nan]) == [0.02, 1.0]
    assert holm([]) == []


def test_the_power_of_the_t_test_is_the_tabulated_one() -> None:
    # Cohen's table for paired t, 80% power: effect sizes 0.2, 0.5 and 0.8 need 199, 34 and 15.
    assert [seeds_needed(d, 1.0) for d in (0.2, 0.5, 0.8)] == [199, 34, 15]
    assert seeds_needed(0.01, 1.0) == math.inf
    for df, alpha in [(2, 0.05), (4, 0.05), (4, 0.01), (30, 0.05)]:
        critical = scipy_stats.t.ppf(1 - alpha / 2, df)
        power = scipy_stats.nct.sf(critical, df, noncentrality(df, alpha=alpha))
        assert power == pytest.approx(0.8, abs=1e-6)


def test_the_detectable_difference_is_found_in_four_of_five_repetitions() -> None:
    rng = np.random.default_rng(3)
    shift = detectable_difference(1 / math.sqrt(5), 4)
    found = scipy_stats.ttest_1samp(rng.normal(shift, 1, size=(4000, 5)), 0, axis=1).pvalue < 0.05
    assert np.mean(found) == pytest.approx(0.8, abs=0.02)


def test_one_percent_against_four_needs_422_problems_per_arm() -> None:
    assert problems_per_arm(0.01, 0.04) == 422
    with pytest.raises(ValueError, match="two different probabilities"):
        problems_per_arm(0.1, 0.1)


def test_more_tasks_help_only_against_the_noise_of_tasks() -> None:
    seeds, tasks = 5, 100
    needed = tasks_needed(0.05, 0.06, 0.06, seeds, tasks)
    error = 0.06 * math.sqrt(tasks / needed / seeds)
    assert detectable_difference(error, seeds - 1) == pytest.approx(0.05, abs=5e-4)
    assert tasks_needed(0.05, 0.5, 0.06, seeds, tasks) == math.inf


def outcomes(successes: int, tasks: int) -> dict[str, list[float]]:
    return {str(t): [float(t < successes)] for t in range(tasks)}


def test_nothing_solved_on_either_side_is_not_known_exactly() -> None:
    pair = make_pair(outcomes(0, 400), outcomes(0, 400))
    (verdict,) = judge([{"e": [pair] * 5}])
    assert (verdict.word, str(verdict)) == ("inconclusive", "inconclusive (no difference seen)")
    assert 0.002 < verdict.detectable < 0.01


def test_the_paired_error_is_bonett_and_prices() -> None:
    a, b = outcomes(30, 100), outcomes(12, 100)
    n, won, lost = 100, 18, 0
    p, q = (won + 1) / (n + 2), (lost + 1) / (n + 2)
    expected = (p + q - (p - q) ** 2) / (n + 2)
    assert make_pair(a, b).variance == pytest.approx(expected, rel=0.1)
    assert make_pair(a, b).difference == pytest.approx(0.18)


def test_seeds_that_happen_to_agree_do_not_make_certainty() -> None:
    # One more of 100 in each of three seeds: no spread, and yet no evidence.
    pairs = [make_pair(outcomes(2, 100), outcomes(1, 100)) for _ in range(3)]
    (verdict,) = judge([{"e": pairs}])
    assert verdict.word == "inconclusive"
    assert verdict.difference.low < 0 < verdict.difference.high


def test_one_pair_is_no_verdict() -> None:
    (verdict,) = judge([{"e": [Pair(0.5, 0.001, 100)]}])
    assert str(verdict) == "inconclusive (needs 3 seeds or more)"
    assert math.isnan(verdict.detectable)


def test_a_difference_that_is_one_alone_may_be_none_among_many() -> None:
    values = [Pair(d, 1e-6, 100) for d in (0.08, 0.1, 0.2, 0.12, 0.02)]
    null = [Pair(d, 1e-6, 100) for d in (0.1, -0.1, 0.05, -0.06, 0.01)]
    assert judge([{"e": values}])[0].word == "better"
    assert judge([{"e": values}, *[{"e": null}] * 4])[0].word == "inconclusive"


def test_an_inconclusive_verdict_says_what_would_settle_it() -> None:
    pairs = [Pair(d, 0.0016, 100) for d in (0.1, -0.02, 0.06, 0.03, -0.01)]
    (verdict,) = judge([{"e": pairs}])
    assert verdict.word == "inconclusive"
    assert 6 <= verdict.seeds < 40
    assert "needs about" in str(verdict)
    assert verdict.tasks > 100
    assert str(replace(verdict, tasks=700.0)).endswith(" or 700 tasks)")
    assert "tasks" not in str(replace(verdict, tasks=3e6))


SEEDS_NULL, TASKS, SAMPLES = 5, 100, 4


def simulated(
    rng: np.random.Generator, seeds: int, p: float, planted: float, seed_noise: float
) -> Verdict:
    """Two methods on the same tasks; `planted` is what the second adds to the success rate."""
    difficulty = rng.normal(0, 1, TASKS)
    shift = [_shift_to(difficulty, rate) for rate in (p, p + planted)]
    pairs = []
    for _ in range(seeds):
        a, b = (
            rng.random((TASKS, SAMPLES))
            < expit(difficulty + at + rng.normal(0, seed_noise))[:, None]
            for at in shift
        )
        pairs.append(make_pair(_by_task(b), _by_task(a)))
    return judge([{"e": pairs}])[0]


def _by_task(outcomes: np.ndarray) -> dict[str, list[float]]:
    return {str(t): own for t, own in enumerate(outcomes.astype(float).tolist())}


def _shift_to(difficulty: np.ndarray, rate: float) -> float:
    grid = np.linspace(-9, 9, 1801)
    means = expit(difficulty[:, None] + grid[None, :]).mean(axis=0)
    return float(grid[np.argmin(np.abs(means - rate))])


@pytest.mark.slow
@pytest.mark.parametrize(("p", "seed_noise"), [(0.01, 0.0), (0.3, 0.0), (0.3, 0.3), (0.1, 1.5)])
def test_the_same_method_under_two_names_is_inconclusive(p: float, seed_noise: float) -> None:
    rng = np.random.default_rng(17)
    words = [simulated(rng, 5, p, 0.0, seed_noise).word for _ in range(100)]
    assert words.count("inconclusive") >= 94


@pytest.mark.slow
@pytest.mark.parametrize("p", [0.02, 0.3])
def test_a_planted_difference_of_twenty_points_is_found_at_three_seeds(p: float) -> None:
    rng = np.random.default_rng(18)
    words = [simulated(rng, 3, p, 0.2, 0.02).word for _ in range(100)]
    assert words.count("better") >= 90
    assert words.count("worse") == 0


def test_getting_there_sooner_is_better() -> None:
    sooner, later = LogRank(-3.1, 0.002, 0.008), LogRank(3.1, 0.002, 0.008)
    unclear = LogRank(1.0, 0.3, 0.4)
    first, second, third = judge_times([sooner, later, unclear], [5, 5, 5])
    assert (first.word, second.word) == ("better", "worse")
    assert str(third) == "inconclusive (needs about 40 seeds)"
    assert judge_times([LogRank(0, 1, 1)], [3])[0].seeds == math.inf
