"""One evaluation of a run: all its rows, and what it took. The run charges none of it."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Any

from resd_bench.agent import Agent
from resd_bench.budget import Ledger
from resd_bench.evaluation.extra import ExtraEvaluations
from resd_bench.evaluation.held_out import EvalSet, eval_rows, evaluate
from resd_bench.rollout.rollout import EnvPool

Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Measured:
    """What an evaluation found."""

    update: int
    """Updates done before it."""
    rows: Rows
    """Of the reported evaluation; [] if it was not asked for."""
    extra: Rows
    """Of the extra ones on the same environment."""
    elsewhere: Rows | None
    """Of those on other environments; None if they were not asked for."""
    tokens: int
    """Sampled for it."""
    seconds: float


@dataclass(frozen=True)
class Evaluator:
    """What is evaluated, and on what."""

    agent: Agent
    ledger: Ledger
    """The agent's, in which tokens are counted."""
    envs: EnvPool
    eval_set: EvalSet
    extra: ExtraEvaluations

    def measure(self, update: int, spent: Ledger, *, reported: bool, elsewhere: bool) -> Measured:
        """Evaluate after `update` updates that have `spent` what rows are to say.

        `reported` asks for the reported evaluation and extra ones, `elsewhere` for other
        environments. Tokens are not in the ledger afterwards: the caller adds them.
        """
        start, before = time.perf_counter(), self.ledger.evaluation_tokens
        # A copy: the agent's own ledger may be further on.
        spent = replace(spent)
        rows: Rows = []
        extra: Rows = []
        if reported:
            groups = evaluate(self.agent.act, self.envs, self.eval_set, spent)
            rows = eval_rows(groups, update, spent)
            extra = self.extra.rows(self.agent, self.envs, self.eval_set, groups, update, spent)
        there = self.extra.rows_elsewhere(self.agent, update, spent) if elsewhere else None
        tokens = self.ledger.evaluation_tokens - before
        self.ledger.evaluation_tokens = before
        return Measured(update, rows, extra, there, tokens, time.perf_counter() - start)
