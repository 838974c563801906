"""Unbiased pass@k, and how many training tasks were ever solved.

The plug-in estimate 1 - (1 - c/n)^k is biased low. Left out: bootstraps of best@k, which are biased
in the same way.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from resd_bench.stats.intervals import Interval, wilson


def pass_at_k(n: int, c: int, k: int) -> float:
    """Probability that one of k samples succeeds, from c successes of n; unbiased for k <= n.

    1 - C(n-c, k) / C(n, k) (Chen et al. 2021). Raises ValueError unless 0 <= c <= n and
    1 <= k <= n.
    """
    if not (0 <= c <= n and 1 <= k <= n):
        raise ValueError(f"expected 0 <= c <= n and 1 <= k <= n, got n={n}, c={c}, k={k}")
    return 1.0 - math.comb(n - c, k) / math.comb(n, k)


def pass_at_k_interval(
    outcomes_by_task: Sequence[Sequence[float]], k: int, *, level: float = 0.95
) -> Interval:
    """Mean of pass@k over tasks with at least k samples, each 0 or 1.

    Wilson limits on p(1-p) / Var_task(mean), clipped to [tasks, samples]. Raises ValueError if
    no task has k samples.
    """
    tasks = [task for task in outcomes_by_task if len(task) >= k]
    if not tasks:
        raise ValueError(f"no task has {k} samples: give a smaller k or more samples per task")
    values = np.array([pass_at_k(len(task), round(sum(task)), k) for task in tasks])
    p, m, samples = float(values.mean()), len(tasks), sum(map(len, tasks))
    variance = float(values.var(ddof=1)) / m if m > 1 else 0.0
    # Without spread between tasks, only the tasks are known to be independent.
    n = float(np.clip(p * (1 - p) / variance, m, samples)) if variance > 0 else float(m)
    low, high = wilson(min(p * n, n), n, level=level)
    return Interval(p, low, high, m)


def first_success(episodes: Iterable[Mapping[str, Any]]) -> int | None:
    """Number of the first successful training episode, from 1; None if none succeeded."""
    for number, row in enumerate(episodes, start=1):
        if row["success"]:
            return number
    return None


def discovery_curve(episodes: Iterable[Mapping[str, Any]]) -> list[tuple[int, int]]:
    """(episodes, unique training tasks solved by then) at each discovery and at the end.

    `episodes` are rows in the order they were played, with `task` and `success`.
    """
    solved: set[str] = set()
    curve, number = [(0, 0)], 0
    for number, row in enumerate(episodes, start=1):
        if row["success"] and str(row["task"]) not in solved:
            solved.add(str(row["task"]))
            curve.append((number, len(solved)))
    if curve[-1][0] != number:
        curve.append((number, len(solved)))
    return curve
