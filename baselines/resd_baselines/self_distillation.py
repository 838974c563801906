"""Self-distillation policy optimisation: SDPO, and SDPO+ss that learns from successes too.

The teacher is the model itself, shown a solution or the environment's feedback; the student is
trained towards it on the tokens that it sampled. There is no reflection, no playbook and no memory
across steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from resd_baselines.base import (
    PER_TURN,
    Attempt,
    PolicyAgent,
    TurnOptions,
    count_turns,
    make_examples,
    replace_prompt,
    scored_attempts,
    share,
    signal_metrics,
)
from resd_baselines.losses import Divergence, distillation_objective
from resd_baselines.teacher_prompt import FEEDBACK_TOKENS, find_solutions, sdpo_teacher_prompts
from resd_bench.agent import Load, MethodSpec, Policy, TeacherKind
from resd_bench.objective import Aggregation, Objective
from resd_bench.options import ABOVE_0, NUCLEUS, POSITIVE, InRanges, Range
from resd_bench.types import Example, Group, Messages, Metrics, PromptDialect, Step


@dataclass(frozen=True)
class DistillationOptions(TurnOptions, InRanges):
    """Loss and teacher of self-distillation. Defaults follow the paper, else its release."""

    divergence: Divergence = "reverse_kl"
    """Divergence between student and teacher: `reverse_kl` for Manufactoria and
    BouncingSim-Medium, `jsd` for the others (appendix G)."""
    mixture: Annotated[float, Range(0, 1, without_low=True, without_high=True)] = 0.5
    """Weight of the teacher in the mixture of `jsd`; 0.5 is the Jensen-Shannon divergence."""
    top_k: Annotated[int | None, POSITIVE] = 100
    """Sum the divergence over the student's top-k tokens; none: over all tokens (Eq. 1)."""
    tail: bool = True
    """Add one bucket for all other tokens; without it both distributions are renormalised over
    the top k."""
    clip_low: Annotated[float | None, ABOVE_0] = 0.2
    """Lower bound on the teacher's probability relative to the student's (eps_min); none
    disables it."""
    clip_high: Annotated[float | None, ABOVE_0] = None
    """Upper bound on the same ratio (eps_max; 5 for Manufactoria in the paper, none in its
    release)."""
    teacher: TeacherKind = "ema"
    """Weights of the teacher: `ema`, a moving average that follows every update (section 3.3),
    or `frozen`, as in the release."""
    ema_rate: Annotated[float, NUCLEUS] = 1e-4
    """Rate of the moving average: the student's share in each step (appendix G). A high
    learning rate with few updates calls for a higher rate, such as 0.05 for the embedded model."""
    importance_cap: Annotated[float | None, ABOVE_0] = 2.0
    """Cap on the per-token importance weight, which corrects for sampling from another
    distribution than the one trained (release); none disables the correction."""
    loss_aggregation: Aggregation = "mean"
    """Aggregation of the loss over the tokens of a sequence: `mean` (release) or `sum` (Eq. 3)."""

    def objective(self, step: Step) -> Objective:
        """The loss at the temperature that the rollouts of `step` were sampled with."""
        return distillation_objective(
            divergence=self.divergence,
            mixture=self.mixture,
            top_k=self.top_k,
            tail=self.tail,
            clip_low=self.clip_low,
            clip_high=self.clip_high,
            importance_cap=self.importance_cap,
            aggregation=self.loss_aggregation,
            temperature=step.sampling.temperature or 1.0,
        )


@dataclass(frozen=True)
class SDPOConfig(DistillationOptions):
    """Options of SDPO."""

    distil_successes: bool = False
    """Also learn from successes, with their own answer as the solution (SDPO+ss)."""
    include_previous_attempt: bool = False
    """Show the teacher the failed attempt with its feedback (off in the paper)."""
    feedback_with_solution: bool = False
    """Keep the feedback when a solution is shown; SDPO shows one or the other."""
    strip_thinking: bool = True
    """Remove the thinking from solutions."""
    show_unfinished_thinking: bool = False
    """Keep thinking that was cut off when an answer is shown, as the release does."""


@dataclass(frozen=True)
class SDPOPlusConfig(SDPOConfig):
    """Options of SDPO+ss."""

    distil_successes: bool = True
    """Also learn from successes, with their own answer as the solution."""


class SelfDistillation(PolicyAgent):
    """SDPO and SDPO+ss."""

    def __init__(self, policy: Policy, config: SDPOConfig) -> None:
        super().__init__(policy)
        self.config = config
        policy.use_teacher(config.teacher, config.ema_rate)

    def learn(self, groups: Sequence[Group], step: Step) -> Metrics:
        """One update. `sdpo/solutions`: share of attempts that had a solution to show."""
        unfinished = self.config.show_unfinished_thinking
        attempts = scored_attempts(groups, show_unfinished=unfinished)
        distil = self.config.distil_successes
        solutions = find_solutions(attempts, {}, distil_successes=distil)
        weights = self.config.turn_weights([len(attempt.turns) for attempt in attempts])
        examples = [
            self._examples(*each) for each in zip(attempts, solutions, weights, strict=True)
        ]
        learned = self.policy.update(
            [example for few in examples for example in few],
            self.config.objective(step),
            batch_size=count_turns(attempts),
        )
        shown = sum(solution is not None for solution in solutions)
        return {
            **learned,
            **signal_metrics(attempts, sum(map(bool, examples))),
            "sdpo/solutions": share(shown, len(attempts)),
        }

    def _examples(self, attempt: Attempt, solution: str | None, weight: float) -> list[Example]:
        # A success that must not be distilled has neither a solution nor feedback.
        prompts = sdpo_teacher_prompts(
            attempt,
            solution=solution,
            dialect=self.policy.dialect,
            include_previous_attempt=self.config.include_previous_attempt,
            feedback_with_solution=self.config.feedback_with_solution,
            strip_thinking=self.config.strip_thinking,
            show_unfinished_thinking=self.config.show_unfinished_thinking,
        )
        return make_examples(attempt, teachers=prompts, weight=weight)


def with_hint(
    messages: Messages, attempt: Attempt, hint: Attempt, dialect: PromptDialect
) -> Messages:
    """A turn's messages, with another attempt shown as a solution of the task."""
    prompts = sdpo_teacher_prompts(attempt, solution=hint.response, dialect=dialect)
    return replace_prompt(messages, prompts[0])


def _load(config: SDPOConfig) -> Load:
    """A teacher sees a solution or feedback, and the attempt if that is asked for."""
    shown = 1 + config.include_previous_attempt
    return Load(teacher=True, shown=shown, shown_tokens=FEEDBACK_TOKENS)


_PRESETS = {"paper": {}, "release": {"teacher": "frozen", "show_unfinished_thinking": True}}

SDPO = MethodSpec(
    name="sdpo",
    summary="Self-distillation from a teacher that sees feedback or a peer's success.",
    config=SDPOConfig,
    build=SelfDistillation,
    presets=_PRESETS,
    load=_load,
    former=PER_TURN,
)
SDPO_SS = MethodSpec(
    name="sdpo+ss",
    summary="SDPO that also distils its own successes.",
    config=SDPOPlusConfig,
    build=SelfDistillation,
    presets=_PRESETS,
    load=_load,
    former=PER_TURN,
)
