"""Record what a method is about to train on: teacher contexts, and the loss of each token.

A `Tracer` sits between a method and its policy. Before an update it scores the examples that the
method made, with the weights and the objective of that update, and changes nothing. Left out:
choosing examples by content; the first ones of an update are taken.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from resd_bench.agent import Policy
from resd_bench.rollout.more_rollouts import Played
from resd_bench.types import Example, Group, Metrics

if TYPE_CHECKING:
    from resd_bench.config import RunConfig
    from resd_bench.objective import Objective

Look = Callable[[Policy, Sequence[Example], "Objective"], None]


class TracedPolicy:
    """A policy that shows its examples to `look` before it trains on them."""

    def __init__(self, policy: Policy, look: Look) -> None:
        self._policy = policy
        self._look = look

    def update(
        self, examples: Sequence[Example], objective: Objective, *, batch_size: int
    ) -> Metrics:
        """As in the policy itself."""
        self._look(self._policy, examples, objective)
        return self._policy.update(examples, objective, batch_size=batch_size)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._policy, name)


@dataclass
class Tracer:
    """Records examples of the last update."""

    limit: int
    """Number of examples to score in an update."""
    examples: list[tuple[Example, dict[str, Any]]] = field(default_factory=list)
    seconds: float = 0.0
    """Seconds spent on scoring."""

    def around(self, build: Callable[[RunConfig], Policy]) -> Callable[[RunConfig], Policy]:
        """`build`, with this tracer between the policy and whoever uses it."""
        return lambda config: cast(Policy, TracedPolicy(build(config), self.look))

    def look(self, policy: Policy, examples: Sequence[Example], objective: Objective) -> None:
        """Score the first examples of an update."""
        start = time.perf_counter()
        self.examples = [(e, _score(policy, e, objective)) for e in examples[: self.limit]]
        self.seconds = time.perf_counter() - start

    def take(self, played: Sequence[Played]) -> list[dict[str, Any]]:
        """The recorded examples, each with the task, attempt and turn that it is from."""
        places: dict[Any, list[dict[str, Any]]] = {}
        for own in played:
            _place(own.groups, own.first_attempt, places)
        seen, self.examples, self.seconds = self.examples, [], 0.0
        taken = []
        for example, told in seen:
            # A method may train on text of its own, which belongs to no episode.
            known = places.get((example.messages, example.completion), [])
            taken.append((known.pop(0) if known else {}) | told)
        return taken


def traced(update: int, examples: Sequence[Mapping[str, Any]], **weights: Any) -> dict[str, Any]:
    """A trace as JSON: the update, the weights it was scored with, and its examples."""
    return {
        "format": 1,
        "update": update,
        "weights": {"after_updates": update - 1, **weights},
        "examples": list(examples),
    }


def _place(
    groups: Sequence[Group], first_attempt: int, places: dict[Any, list[dict[str, Any]]]
) -> None:
    """Add where each turn of `groups` is from."""
    for group in groups:
        for j, attempt in enumerate(group.trajectories):
            for number, turn in enumerate(attempt.turns):
                place = {"task": group.task.id, "attempt": first_attempt + j, "turn": number}
                places.setdefault((turn.messages, turn.completion), []).append(place)


def _score(policy: Policy, example: Example, objective: Objective) -> dict[str, Any]:
    from resd_bench.policy.lm_policy import LMPolicy
    from resd_bench.tracing.token_losses import score_example

    if not isinstance(policy, LMPolicy):
        chat = example.teacher_messages
        said = None if chat is None else [{"role": m.role, "content": m.content} for m in chat]
        return {"teacher": said, "weight": example.weight, "advantage": example.advantage}
    return score_example(policy, example, objective)
