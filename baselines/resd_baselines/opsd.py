"""OPSD: distil a teacher that sees a reference solution of the task; an upper bound.

After arXiv 2601.18734 and 2601.19897. No method that is compared fairly may see what this one
sees: `MethodSpec.sees_reference` says so in every list, card, record and table. A task without a
reference is skipped and counted. Left out: rationalising the solution before it is shown, and
clipping the divergence of single tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from resd_baselines.base import (
    Attempt,
    PolicyAgent,
    count_turns,
    make_examples,
    scored_attempts,
    share,
    signal_metrics,
)
from resd_baselines.losses import Divergence
from resd_baselines.self_distillation import DistillationOptions
from resd_baselines.teacher_prompt import sdpo_teacher_prompts
from resd_bench.agent import SEES_REFERENCE, Load, MethodSpec, Policy, TeacherKind
from resd_bench.types import Example, Group, Metrics, Step, Task


@dataclass(frozen=True)
class OPSDConfig(DistillationOptions):
    """Options of OPSD."""

    divergence: Divergence = "forward_kl"
    """Divergence between student and teacher: `forward_kl`, `reverse_kl` or `jsd`."""
    teacher: TeacherKind = "frozen"
    """Weights of the teacher: `frozen`, those before training (OPSD), or `ema`, a moving average
    of the student's (SDFT)."""


class OPSDAgent(PolicyAgent):
    """Distils what the model can do with the solution before it."""

    def __init__(self, policy: Policy, config: OPSDConfig) -> None:
        super().__init__(policy)
        self.config = config
        self._reference: Callable[[Task], str] = lambda task: ""
        policy.use_teacher(config.teacher, config.ema_rate)

    def use_references(self, reference: Callable[[Task], str]) -> None:
        """Take reference solutions from `reference`; "" where a task has none."""
        self._reference = reference

    def learn(self, groups: Sequence[Group], step: Step) -> Metrics:
        """One update. `opsd/references`: share of the attempts whose task has a reference."""
        attempts = scored_attempts(groups)
        references = {group.task.id: self._reference(group.task) for group in groups}
        known = [attempt for attempt in attempts if references[attempt.task_id].strip()]
        weights = self.config.turn_weights([len(attempt.turns) for attempt in attempts])
        examples = [
            example
            for attempt, weight in zip(attempts, weights, strict=True)
            if references[attempt.task_id].strip()
            for example in self._examples(attempt, references[attempt.task_id], weight)
        ]
        learned = self.policy.update(
            examples,
            self.config.objective(step),
            batch_size=count_turns(attempts),
        )
        signal = signal_metrics(attempts, len(known))
        return {**learned, **signal, "opsd/references": share(len(known), len(attempts))}

    def _examples(self, attempt: Attempt, reference: str, weight: float) -> list[Example]:
        prompts = sdpo_teacher_prompts(attempt, solution=reference, dialect=self.policy.dialect)
        return make_examples(attempt, teachers=prompts, weight=weight)


OPSD = MethodSpec(
    name="opsd",
    summary=f"Distils a teacher that {SEES_REFERENCE}: an upper bound, not a fair method.",
    config=OPSDConfig,
    build=OPSDAgent,
    load=lambda options: Load(teacher=True, shown=1),
    sees_reference=True,
)
