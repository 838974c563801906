"""Statistics that stay honest when success is rare: means, intervals, paired differences.

Left out: censored times, take-off rates, stratified aggregates and verdicts.
"""

from resd_bench.stats.intervals import (
    Interval,
    effective_samples,
    paired_difference,
    success_interval,
    t_interval,
    wilson,
)
from resd_bench.stats.points import EvalPoint, area_under_curve, eval_points, success_at
from resd_bench.stats.selection import RANK_METRICS, best_at_k, mean_at_k, select_checkpoint_by_rank

__all__ = [
    "RANK_METRICS",
    "EvalPoint",
    "Interval",
    "area_under_curve",
    "best_at_k",
    "effective_samples",
    "eval_points",
    "mean_at_k",
    "paired_difference",
    "select_checkpoint_by_rank",
    "success_at",
    "success_interval",
    "t_interval",
    "wilson",
]
