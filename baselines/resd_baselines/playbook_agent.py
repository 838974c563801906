"""What methods have in common that write texts of their own, and that keep a playbook of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from resd_baselines.base import Attempt, PolicyAgent
from resd_baselines.context_update import (
    ContextUpdate,
    PromptWriter,
    WriterOptions,
    as_record,
    births_after,
)
from resd_baselines.playbook import Playbook
from resd_bench.agent import Policy, State
from resd_bench.seeds import derive
from resd_bench.types import Step


class WritingAgent(PolicyAgent):
    """Asks its policy for texts of its own: reflections, reviews, tags and curations."""

    config: WriterOptions

    def __init__(self, policy: Policy, config: WriterOptions) -> None:
        super().__init__(policy)
        self.config = config
        self.writer = PromptWriter(policy.dialect)

    def write(self, step: Step, role: str, prompts: Sequence[str]) -> list[str]:
        """One text for each prompt; in every update each role has a seed of its own."""
        sampling = self.config.writing(step.sampling, derive(step.seed, role))
        return self.ask(prompts, sampling, "reflection")

    def worded(self, playbook: Playbook) -> str:
        """A playbook as the policy reads it; "" for one without anything to show."""
        return "" if playbook.headers_only else self.writer.playbook(playbook)


class PlaybookAgent(WritingAgent):
    """Keeps a playbook, and the record of its last context update."""

    def __init__(self, policy: Policy, config: WriterOptions) -> None:
        super().__init__(policy, config)
        self.playbook = Playbook()
        self.births: dict[str, int] = {}
        """The update that added each entry of the playbook, from 0."""
        self.last: dict[str, Any] = {}
        """What the last context update wrote, as JSON."""

    def adopt(self, update: ContextUpdate, attempts: Sequence[Attempt], step: Step) -> None:
        """Go on with the playbook of a context update on `attempts`, and record it."""
        self.playbook = update.playbook
        self.births = births_after(self.births, update, step.update)
        self.last = as_record(update, attempts, self.births, step.update)

    def context(self) -> Mapping[str, Any]:
        """The last context update; entries of the playbook say which update added them."""
        return self.last

    def state_dict(self) -> State:
        """Policy, playbook and births."""
        own = {"playbook": self.playbook.to_state(), "births": dict(self.births)}
        return {**super().state_dict(), **own}

    def load_state_dict(self, state: State) -> None:
        """Resume from `state_dict`."""
        super().load_state_dict(state)
        self.playbook = Playbook.from_state(state["playbook"])
        self.births = dict(state["births"])
