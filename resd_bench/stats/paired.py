"""Paired seeds: permutation tests, and the correction for several comparisons.

Seed s gives every method the same tasks, environment and sampler streams, so differences are taken
within (environment, seed). Left out: covariates.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from resd_bench.stats.aggregates import Strata

EXACT_PAIRS = 14
"""Up to this many pairs, all 2^n sign patterns are counted."""

_DRAWS = 20_000
"""Number of sign patterns drawn if there are more pairs."""


def sign_flip_p(differences: Strata, rng: np.random.Generator | None = None) -> float:
    """Two-sided p of the mean over strata of mean differences, by flipping signs within strata.

    Exact up to `EXACT_PAIRS` pairs, where it cannot be below 2^(1-n): five pairs never reach
    0.05. Beyond that, `DRAWS` patterns are drawn from `rng` (default: a fixed stream). Raises
    ValueError without a difference.
    """
    weighted = [np.asarray(own, dtype=float) / len(own) for own in differences.values() if len(own)]
    if not weighted:
        raise ValueError("no pair: there is no difference to test")
    terms = np.concatenate(weighted)
    edge = abs(terms.sum()) - 1e-12
    n = len(terms)
    if n <= EXACT_PAIRS:
        signs = 1 - 2 * ((np.arange(2**n)[:, None] >> np.arange(n)) & 1)
        return float(np.mean(np.abs(signs @ terms) >= edge))
    signs = 1 - 2 * (rng or np.random.default_rng(0)).integers(0, 2, size=(_DRAWS, n))
    return float((np.sum(np.abs(signs @ terms) >= edge) + 1) / (_DRAWS + 1))


def least_sign_flip_p(pairs: int) -> float:
    """The lowest p that a sign-flip test of `pairs` pairs can give."""
    return min(1.0, 2.0 ** (1 - pairs))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjusted p-values, in the given order. NaN counts as 1."""
    clean = [1.0 if np.isnan(p) else float(p) for p in p_values]
    adjusted, running = [1.0] * len(clean), 0.0
    for rank, index in enumerate(sorted(range(len(clean)), key=clean.__getitem__)):
        running = max(running, min(1.0, (len(clean) - rank) * clean[index]))
        adjusted[index] = running
    return adjusted
