"""SFT on success: imitate one's own successful attempts.

A buffer keeps the latest success of each task; every update lowers its negative log-likelihood.
Without any success there is nothing to imitate, and the update does not train. Of several turns all
are imitated, or those alone that the environment does not call wasted or invalid (`turn_credit`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Annotated, Any

from resd_baselines.base import (
    PER_TURN,
    CreditOptions,
    PolicyAgent,
    make_examples,
    scored_attempts,
    signal_metrics,
)
from resd_baselines.losses import nll_objective
from resd_bench.agent import MethodSpec, Policy, State
from resd_bench.options import POSITIVE, InRanges
from resd_bench.types import Completion, Example, Group, Message, Metrics, Step, Stop


@dataclass(frozen=True)
class SFTConfig(CreditOptions, InRanges):
    """Options of SFT on success."""

    buffer_size: Annotated[int, POSITIVE] = 64
    """Number of tasks whose latest success is kept, the most recent ones: two batches of the
    paper's 32."""


class SFTAgent(PolicyAgent):
    """Imitates its own successes."""

    def __init__(self, policy: Policy, config: SFTConfig) -> None:
        super().__init__(policy)
        self.config = config
        self.successes: dict[str, list[Example]] = {}
        """Examples of the latest success by task id; the most recent one is last."""

    def learn(self, groups: Sequence[Group], step: Step) -> Metrics:
        """One update on the whole buffer. `sft/buffer`: tasks in it."""
        attempts = scored_attempts(groups)
        for attempt in attempts:
            few = [
                example
                for example, turn in zip(make_examples(attempt), attempt.turns, strict=True)
                if self.config.earns(turn)
            ]
            # A success of turns in vain alone has nothing to imitate.
            if attempt.success and few:
                self.successes.pop(attempt.task_id, None)
                self.successes[attempt.task_id] = few
        for task_id in list(self.successes)[: -self.config.buffer_size]:
            del self.successes[task_id]
        kept = list(self.successes.values())
        weights = self.config.turn_weights([len(few) for few in kept])
        examples = [
            replace(example, weight=weight)
            for few, weight in zip(kept, weights, strict=True)
            for example in few
        ]
        learned = self.policy.update(examples, nll_objective, batch_size=max(1, len(examples)))
        signal = signal_metrics(attempts, sum(attempt.success for attempt in attempts))
        return {**learned, **signal, "sft/buffer": float(len(self.successes))}

    def state_dict(self) -> State:
        """Policy and buffer."""
        buffer = [
            (task_id, [_to_state(example) for example in few])
            for task_id, few in self.successes.items()
        ]
        return {**super().state_dict(), "successes": buffer}

    def load_state_dict(self, state: State) -> None:
        """Resume from `state_dict`."""
        super().load_state_dict(state)
        self.successes = {
            task_id: [_from_state(example) for example in few]
            for task_id, few in state["successes"]
        }


def _to_state(example: Example) -> dict[str, Any]:
    completion = asdict(example.completion) | {"stop": example.completion.stop.value}
    return {"messages": [(m.role, m.content) for m in example.messages], "completion": completion}


def _from_state(state: dict[str, Any]) -> Example:
    messages = tuple(Message(role, content) for role, content in state["messages"])
    fields = state["completion"]
    ids, logprobs = tuple(fields["token_ids"]), tuple(fields["logprobs"])
    return Example(messages, Completion(fields["text"], ids, logprobs, Stop(fields["stop"])))


SFT = MethodSpec(
    name="sft",
    summary="Imitates its own successes; learns nothing while there are none.",
    config=SFTConfig,
    build=SFTAgent,
    former=PER_TURN,
)
