"""What a run says of itself: metrics of an update, and the summary at its end."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from resd_bench.budget import Ledger
from resd_bench.records.run_files import EVALS, RunFiles, check_evals
from resd_bench.stats import EvalPoint, area_under_curve, eval_points, mean_both, reported
from resd_bench.types import Group, Metrics, Stop, Trajectory


def train_metrics(groups: Sequence[Group]) -> Metrics:
    """Metrics of an update's rollouts: shares over scored attempts, tokens per attempt.

    `train/success_with_failures` and `train/score_with_failures` count attempts without a verdict
    as failures. Names under `env/` are means of further metrics of the environment.
    """
    attempts = [attempt for group in groups for attempt in group.trajectories]
    scored = [a for a in attempts if a.stop is not Stop.ERROR]
    errors = len(attempts) - len(scored)
    tokens = [turn.completion.tokens for a in attempts for turn in a.turns]
    success, least = mean_both([float(a.feedback.success) for a in scored], errors)
    score, least_score = mean_both([a.feedback.score for a in scored], errors)
    return {
        "train/success": success,
        "train/success_with_failures": least,
        "train/score": score,
        "train/score_with_failures": least_score,
        "train/truncated": _mean([float(a.stop is Stop.LENGTH) for a in scored]),
        "train/unanswered": _mean([float(a.unanswered) for a in scored]),
        "train/errors": float(errors),
        "train/response_tokens": sum(tokens) / len(attempts),
        **_turns_per_success(scored),
        **{f"env/{name}": value for name, value in mean_metrics(scored).items()},
    }


def _turns_per_success(scored: Sequence[Trajectory]) -> Metrics:
    """Turns of all scored attempts over their successes, in environments of several turns."""
    if not any("turns" in attempt.feedback.metrics for attempt in scored):
        return {}
    successes = sum(attempt.feedback.success for attempt in scored)
    turns = sum(len(attempt.turns) for attempt in scored)
    return {"train/turns_per_success": turns / successes if successes else math.nan}


def mean_metrics(attempts: Sequence[Trajectory]) -> Metrics:
    """The mean of each further metric of the environment, over attempts that have it."""
    found: dict[str, list[float]] = {}
    for attempt in attempts:
        for name, value in attempt.feedback.metrics.items():
            found.setdefault(name, []).append(value)
    return {name: _mean(values) for name, values in sorted(found.items())}


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else math.nan


def summarise(folder: Path, ledger: Ledger) -> Mapping[str, Any]:
    """The results: first and last evaluation with limits, area under the curve, the ledger."""
    rows = check_evals(RunFiles.at(folder).rows(EVALS), folder / EVALS)
    points = eval_points(reported(rows))
    counted = [point.with_failures() for point in points]
    areas = {"auc_success_over_episodes": _area(points)}
    if counted != points:
        areas["auc_success_over_episodes_with_failures"] = _area(counted)
    return {
        "first": _facts(points[0]),
        "last": _facts(points[-1]),
        **areas,
        "ledger": ledger.as_row(),
    }


def _area(points: Sequence[EvalPoint]) -> float:
    """Area under the curve of success over episodes; NaN for a run without training."""
    kept = {point.episodes: point for point in points}
    budget = float(points[-1].episodes)
    if budget <= 0:
        return math.nan
    return area_under_curve(list(kept), [p.mean for p in kept.values()], budget)


def _facts(point: EvalPoint) -> dict[str, Any]:
    """An evaluation; if attempts lack a verdict, also all rates that count them as failures."""
    facts = {"update": point.update, "episodes": point.episodes}
    facts |= {"samples": point.samples, "errors": point.errors} | _rates(point)
    return facts if not point.errors else facts | {"with_failures": _rates(point.with_failures())}


def _rates(point: EvalPoint) -> dict[str, Any]:
    interval = point.interval()
    return {"interval_95": [interval.low, interval.high], **point.metrics()}
