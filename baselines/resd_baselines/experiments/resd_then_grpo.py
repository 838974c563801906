"""RESD first, GRPO once success is no longer rare: an experiment, not a method of the paper.

Both parts see the same groups of rollouts, so that only the learning signal changes at the
handover: batches, group sizes and the optimiser with its moments continue. It is RESD until the
mean training success of the last `window` updates reaches `switch_at`, and GRPO from then on. Left
out: switching back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from resd_baselines.base import scored_attempts, share
from resd_baselines.grpo import GRPOAgent, GRPOConfig
from resd_baselines.resd import RESD, RESDAgent, RESDConfig
from resd_bench.agent import MethodSpec, Policy, State
from resd_bench.options import NOT_NEGATIVE, POSITIVE
from resd_bench.types import Group, Metrics, Step


@dataclass(frozen=True)
class HandoverConfig(RESDConfig):
    """Options of RESD, and when GRPO takes over with its defaults."""

    switch_at: Annotated[float, NOT_NEGATIVE] = 0.3
    """Training success rate, from 0 to 1, at which GRPO takes over; above 1: never."""
    window: Annotated[int, POSITIVE] = 4
    """Number of updates that the success rate is averaged over: one batch with the paper's K =
    4."""


class HandoverAgent(RESDAgent):
    """RESD that hands over to GRPO."""

    def __init__(self, policy: Policy, config: HandoverConfig) -> None:
        super().__init__(policy, config)
        self.grpo = GRPOAgent(policy, GRPOConfig(turn_weighting=config.turn_weighting))
        self.switch_at, self.window = config.switch_at, config.window
        self.recent: list[float] = []
        """Training success of the last updates, as long as RESD is in charge."""
        self.handed_over = False

    def learn(self, groups: Sequence[Group], step: Step) -> Metrics:
        """One update by the method in charge. `handover/grpo`: 1 if that was GRPO."""
        if self.handed_over:
            return {**self.grpo.learn(groups, step), "handover/grpo": 1.0}
        learned = super().learn(groups, step)
        attempts = scored_attempts(groups)
        rate = share(sum(attempt.success for attempt in attempts), len(attempts))
        self.recent = [*self.recent, rate][-self.window :]
        full = len(self.recent) == self.window
        self.handed_over = full and sum(self.recent) / self.window >= self.switch_at
        return {**learned, "handover/grpo": 0.0}

    def context(self) -> Mapping[str, Any]:
        """RESD's last context; empty once GRPO is in charge."""
        return {} if self.handed_over else super().context()

    def state_dict(self) -> State:
        """RESD's state, and how close the handover is."""
        handover = {"recent": list(self.recent), "handed_over": self.handed_over}
        return {**super().state_dict(), "handover": handover}

    def load_state_dict(self, state: State) -> None:
        """Resume from `state_dict`."""
        super().load_state_dict(state)
        self.recent = list(state["handover"]["recent"])
        self.handed_over = bool(state["handover"]["handed_over"])


RESD_THEN_GRPO = MethodSpec(
    name="resd-then-grpo",
    summary="RESD until success is no longer rare, then GRPO (an experiment).",
    config=HandoverConfig,
    build=HandoverAgent,
    group_size=8,
    load=RESD.load,
    former=RESD.former,
)
