"""ACE: a playbook that the policy reads when it answers; no weight is trained.

After arXiv 2510.04618. The context update is RESD's; what differs is who reads the playbook: the
policy, in rollouts and in every evaluation. Left out: several rounds of reflection, merging by
similarity, and labels as feedback.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from resd_baselines.base import PromptedAgent, scored_attempts
from resd_baselines.context_update import ContextOptions, update_context, written_metrics
from resd_baselines.playbook_agent import PlaybookAgent
from resd_baselines.teacher_prompt import ENTRY_TOKENS
from resd_bench.agent import Load, MethodSpec
from resd_bench.seeds import stream
from resd_bench.types import Group, Metrics, Step


@dataclass(frozen=True)
class ACEConfig(ContextOptions):
    """Options of ACE: those of the context update."""


class ACEAgent(PromptedAgent, PlaybookAgent):
    """Learns what to tell itself."""

    config: ACEConfig

    def memory(self) -> str:
        """The playbook; nothing while it has no entries."""
        return self.worded(self.playbook)

    def learn(self, groups: Sequence[Group], step: Step) -> Metrics:
        """One context update.

        `ace/entries` in the playbook, of which `ace/entries_added` now; `ace/reflections` and
        `ace/curations` made, `ace/unparsed_reflections` and `ace/unparsed_curations` among them.
        """
        attempts = scored_attempts(groups)
        update = update_context(
            self.playbook,
            attempts,
            writer=self.writer,
            generate=partial(self.write, step),
            options=self.config,
            rng=stream(step.seed, "concise"),
        )
        self.adopt(update, attempts, step)
        return {
            **super().learn(groups, step),
            "ace/entries": float(len(self.playbook.entries)),
            "ace/entries_added": float(len(update.added)),
            **{f"ace/{name}": number for name, number in written_metrics(update).items()},
        }


ACE = MethodSpec(
    name="ace",
    summary="Keeps a playbook that the policy reads when it answers; trains no weights.",
    config=ACEConfig,
    build=ACEAgent,
    learns=False,
    load=lambda options: Load(2, memory_tokens=(options.max_entries or 0) * ENTRY_TOKENS),
)
