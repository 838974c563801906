"""mean@k, best@k, and the paper's choice of a checkpoint by rank.

best@k is the exact any-of-k over the k available samples, as in the paper's Table 2; the released
code logs a bootstrap of it with replacement, which is biased low. The choice by rank uses the
reported tasks themselves and is here for reproduction only: with 20 evaluations it turns a true
2.0% into 3.4%.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

RANK_METRICS = (
    "per_task_mean@4",
    "per_task_best@4",
    "per_test_case_mean@4",
    "per_test_case_best@4",
)
"""The metrics that the paper ranks checkpoints by."""


def mean_at_k(values: ArrayLike, k: int | None = None) -> float:
    """Mean over samples, then over tasks.

    `values` is [k] for one task or [tasks, k]; with `k` given, the first k samples count.
    Raises ValueError if there are fewer than k samples, or none.
    """
    return float(_first(values, k).mean())


def best_at_k(values: ArrayLike, k: int | None = None) -> float:
    """Maximum over samples, then mean over tasks; arguments as in `mean_at_k`."""
    return float(_first(values, k).max(axis=-1).mean())


def _first(values: ArrayLike, k: int | None) -> NDArray[np.float64]:
    samples = np.atleast_1d(np.asarray(values, dtype=float))
    k = samples.shape[-1] if k is None else k
    if samples.size == 0 or not 0 < k <= samples.shape[-1]:
        raise ValueError(f"expected at least {max(k, 1)} samples, got shape {samples.shape}")
    return samples[..., :k]


def select_checkpoint_by_rank(
    rows: Sequence[Mapping[str, Any]], metrics: Sequence[str] | None = None
) -> int:
    """The `step` of the row with the highest sum of ranks over `metrics`.

    A higher metric has a higher rank, ties share the average rank, and among equal sums the
    earliest step wins. `metrics` defaults to `RANK_METRICS` if the rows have them, else to every
    key except `step`. Raises ValueError without rows, KeyError if a row lacks a metric.
    """
    if not rows:
        raise ValueError("no rows: there is no checkpoint to select")
    if metrics is None:
        known = all(metric in rows[0] for metric in RANK_METRICS)
        metrics = RANK_METRICS if known else [key for key in rows[0] if key != "step"]
    totals = sum(_average_ranks([float(row[metric]) for row in rows]) for metric in metrics)
    steps = [int(row["step"]) for row in rows]
    best = float(np.max(totals))
    return min(
        step for step, total in zip(steps, np.atleast_1d(totals), strict=True) if total == best
    )


def _average_ranks(values: Sequence[float]) -> NDArray[np.float64]:
    """Ranks from 1 for the lowest; equal values share the mean of their ranks (exact halves)."""
    data = np.asarray(values, dtype=float)
    below = (data[None, :] < data[:, None]).sum(axis=1)
    equal = (data[None, :] == data[:, None]).sum(axis=1)
    return np.asarray(below + (equal + 1) / 2, dtype=np.float64)
