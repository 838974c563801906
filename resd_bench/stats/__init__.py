"""Statistics that stay honest when success is rare: rates, times, aggregates, verdicts.

Values in, values out: nothing here reads a run folder or prints. Left out: Bayesian models.
"""

from resd_bench.stats.aggregates import (
    Strata,
    aggregate,
    interquartile_mean,
    performance_profile,
    probability_of_improvement,
    stratified_bootstrap,
    stratified_error,
    stratified_mean,
)
from resd_bench.stats.intervals import (
    Interval,
    effective_samples,
    paired_difference,
    success_interval,
    t_interval,
    wilson,
)
from resd_bench.stats.learning import (
    SignalDensity,
    dead_group_share,
    signal_density,
    take_off_rate,
)
from resd_bench.stats.paired import holm, least_sign_flip_p, sign_flip_p
from resd_bench.stats.passk import discovery_curve, first_success, pass_at_k, pass_at_k_interval
from resd_bench.stats.points import (
    AXES,
    Axis,
    EvalPoint,
    area_by_task,
    area_under_curve,
    chosen_on_validation,
    eval_points,
    learning_curve_of,
    success_at,
)
from resd_bench.stats.power import (
    detectable_difference,
    problems_per_arm,
    seeds_needed,
    tasks_needed,
)
from resd_bench.stats.selection import RANK_METRICS, best_at_k, mean_at_k, select_checkpoint_by_rank
from resd_bench.stats.survival import (
    LogRank,
    Survival,
    Wait,
    kaplan_meier,
    restricted_mean,
    stratified_logrank,
    time_to_threshold,
)
from resd_bench.stats.verdicts import (
    Pair,
    Pairs,
    TimeVerdict,
    Verdict,
    judge,
    judge_times,
    make_pair,
)

__all__ = [
    "AXES",
    "RANK_METRICS",
    "Axis",
    "EvalPoint",
    "Interval",
    "LogRank",
    "Pair",
    "Pairs",
    "SignalDensity",
    "Strata",
    "Survival",
    "TimeVerdict",
    "Verdict",
    "Wait",
    "aggregate",
    "area_by_task",
    "area_under_curve",
    "best_at_k",
    "chosen_on_validation",
    "dead_group_share",
    "detectable_difference",
    "discovery_curve",
    "effective_samples",
    "eval_points",
    "first_success",
    "holm",
    "interquartile_mean",
    "judge",
    "judge_times",
    "kaplan_meier",
    "learning_curve_of",
    "least_sign_flip_p",
    "make_pair",
    "mean_at_k",
    "paired_difference",
    "pass_at_k",
    "pass_at_k_interval",
    "performance_profile",
    "probability_of_improvement",
    "problems_per_arm",
    "restricted_mean",
    "seeds_needed",
    "select_checkpoint_by_rank",
    "sign_flip_p",
    "signal_density",
    "stratified_bootstrap",
    "stratified_error",
    "stratified_logrank",
    "stratified_mean",
    "success_at",
    "success_interval",
    "t_interval",
    "take_off_rate",
    "tasks_needed",
    "time_to_threshold",
    "wilson",
]
