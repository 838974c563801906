"""ACE: a playbook that the policy reads when it answers; no weight is trained.

After arXiv 2510.04618. The context update is RESD's; what differs is who reads the playbook: the
policy, in rollouts and in every evaluation. Left out: several rounds of reflection, merging by
similarity, and labels as feedback.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from resd_baselines.base import PromptedAgent, count_turns, scored_attempts, signal_metrics
from resd_baselines.context_update import (
    ContextOptions,
    PromptRole,
    PromptWriter,
    as_record,
    births_after,
    update_context,
    written_metrics,
)
from resd_baselines.losses import nll_objective
from resd_baselines.playbook import Playbook
from resd_baselines.teacher_prompt import ENTRY_TOKENS
from resd_bench.agent import Load, MethodSpec, Policy, State
from resd_bench.seeds import derive, stream
from resd_bench.types import Group, Metrics, Step


@dataclass(frozen=True)
class ACEConfig(ContextOptions):
    """Options of ACE: those of the context update."""


class ACEAgent(PromptedAgent):
    """Learns what to tell itself."""

    def __init__(self, policy: Policy, config: ACEConfig) -> None:
        super().__init__(policy)
        self.config = config
        self.writer = PromptWriter(policy.dialect)
        self.playbook = Playbook()
        self.births: dict[str, int] = {}
        self._last: dict[str, Any] = {}

    def memory(self) -> str:
        """The playbook; nothing while it has no entries."""
        return "" if self.playbook.headers_only else self.writer.playbook(self.playbook)

    def learn(self, groups: Sequence[Group], step: Step) -> Metrics:
        """One context update.

        `ace/entries` in the playbook, of which `ace/entries_added` now; `ace/reflections` and
        `ace/curations` made, `ace/unparsed_reflections` and `ace/unparsed_curations` among them.
        """
        attempts = scored_attempts(groups)

        def generate(role: PromptRole, prompts: Sequence[str]) -> list[str]:
            seed = derive(step.seed, role)
            return self.ask(prompts, self.config.writing(step.sampling, seed), "reflection")

        update = update_context(
            self.playbook,
            attempts,
            writer=self.writer,
            generate=generate,
            options=self.config,
            rng=stream(step.seed, "concise"),
        )
        self.playbook = update.playbook
        self.births = births_after(self.births, update, step.update)
        self._last = as_record(update, attempts, self.births, step.update)
        return {
            **self.policy.update([], nll_objective, batch_size=count_turns(attempts)),
            **signal_metrics(attempts, sum(not attempt.success for attempt in attempts)),
            "ace/entries": float(len(self.playbook.entries)),
            "ace/entries_added": float(len(update.added)),
            **{f"ace/{name}": number for name, number in written_metrics(update).items()},
        }

    def context(self) -> Mapping[str, Any]:
        """The last context update; entries of the playbook say which update added them."""
        return self._last

    def state_dict(self) -> State:
        """Policy, playbook and births."""
        own = {"playbook": self.playbook.to_state(), "births": dict(self.births)}
        return {**super().state_dict(), **own}

    def load_state_dict(self, state: State) -> None:
        """Go on from `state_dict`."""
        super().load_state_dict(state)
        self.playbook = Playbook.from_state(state["playbook"])
        self.births = dict(state["births"])


ACE = MethodSpec(
    name="ace",
    summary="Keeps a playbook that the policy reads when it answers; trains no weights.",
    config=ACEConfig,
    build=ACEAgent,
    learns=False,
    load=lambda options: Load(2, memory_tokens=(options.max_entries or 0) * ENTRY_TOKENS),
)
