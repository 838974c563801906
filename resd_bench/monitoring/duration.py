"""How long a run will take: said before it starts, and again after its first update.

The first estimate is an upper limit from a probe of a few seconds (`policy.speed`), the second is
what the first update and evaluation took. Left out: several processes, and engines other than
the trainer's own, for which there is no probe.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from resd_bench.agent import Policy
from resd_bench.config import RunConfig
from resd_bench.files.terminal import note
from resd_bench.planning.duration import (
    Duration,
    beyond_budget,
    estimate,
    evaluations_left,
    in_words,
)
from resd_bench.planning.memory import Lengths
from resd_bench.records.log_files import LogRow
from resd_bench.stats import EvalPoint
from resd_bench.types import Speed, Task

_PROMPTS = 16
"""Tasks whose prompts are measured."""
WORTH_SAYING = 30.0
"""Seconds below which nobody needs to be told."""


@runtime_checkable
class _Measured(Protocol):
    """A policy whose speed can be measured."""

    context_limit: int

    def speed(self, rows: int) -> Speed | None: ...

    def count_tokens(self, text: str) -> int: ...


class DurationEstimate:
    """A watcher that says how long the run will take."""

    def __init__(self, config: RunConfig) -> None:
        self._config = config
        self._before = (0.0, 0.0)
        """Seconds of training and of evaluation before this session."""
        self._evaluation = 0.0
        self._policy: Policy | None = None

    def starting(
        self, policy: Policy, train: Sequence[Task], held_out: int, turns: int, done: int
    ) -> None:
        """Probe the policy and say the estimate; nothing for a policy that cannot be probed."""
        self._policy, config = policy, self._config
        if not done and (told := beyond_budget(config)):
            note(told)
        self._before = (policy.ledger.seconds, policy.ledger.evaluation_seconds)
        if not isinstance(policy, _Measured):
            return
        speed = policy.speed(config.batch_size * (config.group_size or 1))
        if speed is None:
            return
        some = [policy.count_tokens(task.prompt) for task in train[:_PROMPTS]]
        lengths = Lengths(round(sum(some) / len(some)), config.max_new_tokens, max(1, turns))
        found = estimate(config, speed, lengths, held_out, policy.context_limit, done)
        if found is None:
            note(f"this run takes {config.budget} of training, and its evaluations")
        elif found.updates and found.seconds >= WORTH_SAYING:
            note(
                f"this run takes at most about {in_words(found.seconds)} here, were every answer "
                f"as long as it may be ({found.parts}); the first update will tell; "
                f"shorter with {found.shorter(config)}"
            )

    def evaluated(self, point: EvalPoint) -> None:
        """Note how long the first evaluation took."""
        if self._policy is not None and not self._evaluation:
            self._evaluation = self._policy.ledger.evaluation_seconds - self._before[1]

    def updated(self, row: LogRow) -> None:
        """After the first update, say how long the rest will take."""
        if self._policy is None:
            return
        self._policy, config, done = None, self._config, int(row["update"])
        update = float(row["seconds"]) - self._before[0]
        updates, budget = config.updates(), config.parsed_budget()
        if budget.unit == "tok":
            updates = done + round(
                max(0.0, budget.amount - float(row["generated_tokens"]))
                / max(1.0, float(row["generated_tokens"]) / done)
            )
        if updates is None or updates <= done:
            return
        evaluations = len(evaluations_left(updates, config.eval_every, done))
        left = Duration(
            updates - done, update, evaluations * bool(self._evaluation), self._evaluation
        )
        if left.seconds < WORTH_SAYING:
            return
        note(
            f"about {in_words(left.seconds)} left ({left.parts}); "
            f"shorter with {left.shorter(config)}"
        )
