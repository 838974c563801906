"""Factorial effects against a regression, and how often their intervals hold the truth."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from resd_bench.stats import (
    FactorCell,
    contrast,
    contrast_weights,
    effects_of,
    judge,
    make_pair,
    stratified_mean,
)

CELLS = list(product((False, True), repeat=4))


def regression(y: np.ndarray) -> dict[tuple[int, ...], float]:
    """Least squares on all products of the factors, coded -1/2 and +1/2; y [cells]."""
    factors = np.array(CELLS) - 0.5
    columns = [np.prod(factors[:, list(effect)], axis=1) for effect in effects_of(4)]
    found = np.linalg.lstsq(np.column_stack([np.ones(16), *columns]), y, rcond=None)[0]
    return dict(zip(effects_of(4), found[1:].tolist(), strict=True))


def test_there_are_four_main_effects_and_eleven_interactions() -> None:
    sizes = [len(effect) for effect in effects_of(4)]
    assert sizes == [1] * 4 + [2] * 6 + [3] * 4 + [4]
    assert effects_of(2) == [(0,), (1,), (0, 1)]


def test_effects_are_the_coefficients_of_a_regression() -> None:
    """Over the means of seeds, and over all runs with a term for each seed: the design is even."""
    rng = np.random.default_rng(0)
    y_SC = rng.uniform(size=(5, 16))
    expected = regression(y_SC.mean(axis=0))
    for effect in effects_of(4):
        seeds = [
            contrast({c: {"t": [v]} for c, v in zip(CELLS, y, strict=True)}, effect).difference
            for y in y_SC
        ]
        assert np.mean(seeds) == pytest.approx(expected[effect], abs=1e-12)


def test_an_interaction_is_a_difference_of_differences() -> None:
    outcomes = {(False, False): 0.1, (True, False): 0.4, (False, True): 0.3, (True, True): 0.9}
    cells: dict[FactorCell, dict[str, list[float]]] = {c: {"t": [v]} for c, v in outcomes.items()}
    assert contrast(cells, (0, 1)).difference == pytest.approx((0.9 - 0.3) - (0.4 - 0.1))
    assert contrast(cells, (0,)).difference == pytest.approx((0.4 + 0.9) / 2 - (0.1 + 0.3) / 2)


def test_effects_do_not_mix() -> None:
    """Every effect's weights are orthogonal to every other's, and to a constant."""
    table = np.array([[contrast_weights(e, 4)[c] for c in CELLS] for e in effects_of(4)])
    gram = table @ table.T
    assert np.count_nonzero(gram - np.diag(np.diag(gram))) == 0
    assert not table.sum(axis=1).any()


def test_a_single_factor_is_a_pair_of_runs() -> None:
    rng = np.random.default_rng(1)
    off, on = ({f"t{i}": rng.integers(0, 2, 4).tolist() for i in range(30)} for _ in range(2))
    assert contrast({(False,): off, (True,): on}, (0,)) == pytest.approx(make_pair(on, off))


def test_a_missing_cell_is_refused() -> None:
    cells = {cell: {"t": [0.5]} for cell in CELLS}
    for broken in ({}, {c: cells[c] for c in CELLS[1:]}, cells | {CELLS[0]: {"t": []}}):
        with pytest.raises(ValueError, match="every cell"):
            contrast(broken, (0,))


def test_the_sampling_of_tasks_alone_gives_the_variance_that_is_stated() -> None:
    """Runs without any effect, whose tasks differ: the spread over repetitions is as foretold."""
    rng = np.random.default_rng(2)
    found = []
    for _ in range(120):
        p_T = rng.beta(2, 2, size=20)
        cells = {
            c: {str(t): rng.binomial(1, p, 4).tolist() for t, p in enumerate(p_T)} for c in CELLS
        }
        found.append(contrast(cells, (0, 1)))
    spread = np.var([pair.difference for pair in found])
    assert np.mean([pair.variance for pair in found]) == pytest.approx(spread, rel=0.3)


@pytest.mark.parametrize(
    ("lotteries", "covered"), [(0, (0.93, 0.97)), (16, (0.93, 0.98)), (1, (0.55, 0.75))]
)
def test_intervals_of_effects_cover_unless_a_single_cell_is_a_lottery(
    lotteries: int, covered: tuple[float, float]
) -> None:
    """Five seeds; in a lottery a run ends at 90% with probability 0.2, else at 0.

    Over many cells such draws average out. One of them among cells that hardly vary makes the
    whole effect a lottery: then the interval holds the truth about as seldom as the cell's own.
    """
    rng = np.random.default_rng(3)
    draws, weights = 1500, np.array(list(contrast_weights((0,), 4).values()))
    y = 0.5 + rng.normal(0, 0.02, size=(draws, 5, 16))
    y[..., :lotteries] = 0.9 * rng.binomial(1, 0.2, size=(draws, 5, lotteries))
    truth = weights @ np.where(np.arange(16) < lotteries, 0.18, 0.5)
    limits = [stratified_mean({"e": own}) for own in (y @ weights).tolist()]
    rate = np.mean([i.low <= truth <= i.high for i in limits])
    assert covered[0] <= rate <= covered[1]


def test_an_effect_is_judged_like_any_paired_difference() -> None:
    rng = np.random.default_rng(4)
    pairs = []
    for _ in range(5):
        cells = {
            c: {str(t): rng.binomial(1, 0.7 if c[0] else 0.3, 4).tolist() for t in range(32)}
            for c in CELLS
        }
        pairs.append([contrast(cells, effect) for effect in ((0,), (1,))])
    real, none = judge([{"e": list(own)} for own in zip(*pairs, strict=True)])
    assert (real.word, none.word) == ("better", "inconclusive")
    assert real.difference.low < 0.4 < real.difference.high
