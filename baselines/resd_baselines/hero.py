"""HERO: self-distillation over many turns from hindsight about each of them.

After arXiv 2606.11559, of which only the abstract could be read; differences are in docs/paper.md.
After a rollout the model reviews the whole interaction and turns each observation into a short
diagnosis of the answer before it. The teacher of a turn sees the conversation up to there, the
observation that followed and the diagnosis; the student is trained towards it on the tokens that
it sampled. A playbook and a solution buffer, both of earlier updates only, are options.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from resd_baselines.base import (
    Attempt,
    count_turns,
    make_examples,
    scored_attempts,
    signal_metrics,
)
from resd_baselines.context_update import ContextOptions, ContextUpdate
from resd_baselines.parse_replies import NO_DIAGNOSES, NO_REFLECTION, Diagnoses
from resd_baselines.playbook_agent import PlaybookAgent
from resd_baselines.self_distillation import DistillationOptions
from resd_baselines.teacher_prompt import (
    ENTRY_TOKENS,
    FEEDBACK_TOKENS,
    TeacherOptions,
    find_solutions,
    remember_solutions,
    teacher_prompts,
)
from resd_baselines.turn_review import review, review_metrics, review_record, update_from_reviews
from resd_baselines.turn_teacher import TurnContext, TurnContextOptions, turn_examples
from resd_bench.agent import Load, MethodSpec, Policy, State
from resd_bench.seeds import stream
from resd_bench.types import Example, Group, Metrics, Step


@dataclass(frozen=True)
class HEROConfig(TurnContextOptions, ContextOptions, DistillationOptions):
    """Options of HERO."""

    turn_context: TurnContext = "both"
    """What the teacher of a turn sees: `both`: what followed the turn, and what a review of the
    interaction says of it; `observation` or `diagnosis`: one of them; `transcript`: the whole
    attempt and the feedback at its end, whichever turn it is."""
    use_playbook: bool = False
    """Keep a playbook of lessons from the reviews of failures, and show it to the teacher."""
    use_solution_buffer: bool = False
    """Remember the last success of each task, and show it to the teacher of a later failure."""
    distil_successes: bool = False
    """Learn from a success as RESD does, whatever the `turn_context`: the teacher of each of its
    turns sees the whole attempt as a solution. Otherwise turns of a success are like any other, and
    with `transcript` nothing is learned from it."""


class HEROAgent(PlaybookAgent):
    """Distils, turn by turn, what hindsight says about the turn."""

    config: HEROConfig

    def __init__(self, policy: Policy, config: HEROConfig) -> None:
        super().__init__(policy, config)
        self.solutions: dict[str, str] = {}
        policy.use_teacher(config.teacher, config.ema_rate)

    def learn(self, groups: Sequence[Group], step: Step) -> Metrics:
        """One update. `hero/entries` in the playbook, `hero/solutions` attempts with one to show;
        `turns/...` as in `resd_baselines.turn_review.review_metrics`."""
        attempts = scored_attempts(groups)
        reviews = self._review(attempts, step)
        solutions = self._solutions(attempts)
        weights = self.config.turn_weights([len(attempt.turns) for attempt in attempts])
        examples = [
            self._examples(*each)
            for each in zip(attempts, reviews, solutions, weights, strict=True)
        ]
        self._curate(attempts, reviews, step)
        learned = self.policy.update(
            [example for few in examples for example in few],
            self.config.objective(step),
            batch_size=count_turns(attempts),
        )
        return {
            **learned,
            **signal_metrics(attempts, sum(map(bool, examples))),
            **review_metrics(reviews, attempts),
            "hero/entries": float(len(self.playbook.entries)),
            "hero/solutions": float(sum(solution is not None for solution in solutions)),
        }

    def _review(self, attempts: Sequence[Attempt], step: Step) -> list[Diagnoses]:
        if not attempts or not (self.config.reads_diagnoses or self.config.use_playbook):
            return [NO_DIAGNOSES] * len(attempts)
        return review(attempts, self.policy.dialect, partial(self.write, step, "diagnose"))

    def _solutions(self, attempts: Sequence[Attempt]) -> list[str | None]:
        """For a failure a peer's success or an earlier one, for a success itself, if asked for."""
        distil, buffered = self.config.distil_successes, self.config.use_solution_buffer
        found = find_solutions(attempts, self.solutions, distil_successes=distil)
        if buffered:
            self.solutions = remember_solutions(self.solutions, attempts)
        shown = zip(attempts, found, strict=True)
        return [solution if attempt.success or buffered else None for attempt, solution in shown]

    def _examples(
        self, attempt: Attempt, reviewed: Diagnoses, solution: str | None, weight: float
    ) -> list[Example]:
        playbook, dialect = self.worded(self.playbook), self.policy.dialect
        if self.config.own_teachers and not (attempt.success and solution):
            return turn_examples(
                attempt,
                diagnoses=reviewed,
                playbook=playbook,
                solution=solution,
                options=self.config,
                weight=weight,
                dialect=dialect,
            )
        prompts = teacher_prompts(
            attempt,
            playbook=playbook,
            reflection="",
            solution=solution,
            options=TeacherOptions(),
            dialect=dialect,
        )
        return make_examples(attempt, teachers=prompts, weight=weight)

    def _curate(
        self, attempts: Sequence[Attempt], reviews: Sequence[Diagnoses], step: Step
    ) -> None:
        """Add to the playbook, for the next update, what reviews of failures found."""
        update = ContextUpdate(self.playbook, (NO_REFLECTION,) * len(attempts))
        if self.config.use_playbook:
            update = update_from_reviews(
                self.playbook,
                attempts,
                reviews,
                dialect=self.policy.dialect,
                generate=partial(self.write, step),
                options=self.config,
                rng=stream(step.seed, "concise"),
            )
        self.adopt(update, attempts, step)
        self.last |= {"reflections": [], "reviews": review_record(reviews, attempts)}

    def state_dict(self) -> State:
        """Policy, playbook, births and solution buffer."""
        return {**super().state_dict(), "solutions": dict(self.solutions)}

    def load_state_dict(self, state: State) -> None:
        """Resume from `state_dict`."""
        super().load_state_dict(state)
        self.solutions = dict(state["solutions"])


def _load(config: HEROConfig) -> Load:
    """A review, and a curation with a playbook; a teacher sees the turn, and a solution."""
    samples = (config.reads_diagnoses or config.use_playbook) + config.use_playbook
    entries = (config.max_entries or 0) * config.use_playbook
    shown = 1 + config.use_solution_buffer + config.reads_diagnoses
    return Load(
        samples, teacher=True, shown=shown, shown_tokens=entries * ENTRY_TOKENS + FEEDBACK_TOKENS
    )


HERO = MethodSpec(
    name="hero",
    summary="Distils, turn by turn, what a review of the interaction says about the turn.",
    config=HEROConfig,
    build=HEROAgent,
    load=_load,
)
