"""Held-out success, per task and sample. Never charged to the budget, never learned from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from resd_bench.budget import Ledger
from resd_bench.errors import UsageError
from resd_bench.records.recorder import SAID, told
from resd_bench.rollout.contract import commonest
from resd_bench.rollout.rollout import Act, EnvPool, roll_out
from resd_bench.seeds import derive
from resd_bench.types import Group, Sampling, Stop, Task


@dataclass(frozen=True)
class EvalSet:
    """The evaluated tasks and how they are sampled, equal at every checkpoint of every method."""

    tasks: Sequence[Task]
    samples: int
    """Samples per task."""
    sampling: Sampling
    seed: int
    """Seed of the run; environment and sampler streams are named by task and sample."""


def evaluate(act: Act, envs: EnvPool, eval_set: EvalSet, ledger: Ledger) -> list[Group]:
    """Attempt every task of the panel, with the same seeds in each call, so checkpoints are paired.

    UsageError if no attempt has a verdict: there is nothing to report.
    """
    groups = roll_out(
        act,
        envs,
        eval_set.tasks,
        n=eval_set.samples,
        sampling=eval_set.sampling,
        purpose="evaluation",
        ledger=ledger,
        seed=eval_set.seed,
        stream="eval",
    )
    errors = environment_errors(groups)
    if errors and len(errors) == sum(len(group.trajectories) for group in groups):
        raise UsageError(
            f"no sample of the evaluation got a verdict, from {eval_set.tasks[0].id!r} on. "
            f"{why_not(errors)}"
        )
    return groups


def environment_errors(groups: Sequence[Group]) -> list[str]:
    """The errors of attempts without a verdict, one for each."""
    return [a.error for group in groups for a in group.trajectories if a.stop is Stop.ERROR]


def why_not(errors: Sequence[str]) -> str:
    """The message if there are only errors: the most common one, and what to do."""
    return (
        f"The environment failed each time; its most common error: {commonest(errors)}. Fix the "
        "environment (see `envs check`)"
    )


def eval_sampling(seed: int, temperature: float, top_p: float, max_new_tokens: int) -> Sampling:
    """How evaluation samples: with its own stream, independent of the update."""
    return Sampling(temperature, top_p, max_new_tokens, derive(seed, "sampler", "eval"))


def eval_rows(groups: Sequence[Group], update: int, ledger: Ledger) -> list[dict[str, Any]]:
    """One row per task and sample, texts included; without a verdict, success is null, not zero."""
    rows = []
    for group in groups:
        for sample, attempt in enumerate(group.trajectories):
            scored, texts = attempt.stop is not Stop.ERROR, told(attempt)
            rows.append(
                {
                    "update": update,
                    "episodes": ledger.episodes,
                    "generated_tokens": ledger.generated_tokens,
                    "task": group.task.id,
                    "sample": sample,
                    "success": float(attempt.feedback.success) if scored else None,
                    "score": float(attempt.feedback.score) if scored else None,
                    "kind": attempt.feedback.kind,
                    "stop": attempt.stop.value,
                    "error": attempt.error,
                    "response_tokens": sum(t.completion.tokens for t in attempt.turns),
                    "metrics": dict(attempt.feedback.metrics),
                    **{name: texts[name] for name in SAID if name in texts},
                }
            )
    return rows
