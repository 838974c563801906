"""RESD: reflection-enhanced self-distillation (arXiv 2605.12741), Algorithm 1.

`RESDAgent.learn` is one inner step in the paper's order: concise, reflect, tag, curate, remember
solutions, enrich the teacher's prompt, distil. Differences from the paper and of the paper from its
release are options; the presets `paper` and `release` set them. Left out: what is per task in the
paper's table of hyper-parameters (divergence, clip, entries, learning rate), which runs set.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated

import torch

from resd_baselines.base import (
    PER_TURN,
    Attempt,
    count_turns,
    make_examples,
    scored_attempts,
    signal_metrics,
)
from resd_baselines.context_update import (
    ContextOptions,
    ContextUpdate,
    PromptRole,
    reflect,
    update_context,
    written_metrics,
)
from resd_baselines.experiments.context_dials import ContextDials, DialOptions
from resd_baselines.experiments.given_lessons import GIVEN
from resd_baselines.losses import success_rate_weights
from resd_baselines.parse_replies import NO_DIAGNOSES, NO_REFLECTION, Diagnoses, Reflection
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
from resd_baselines.turn_review import review, review_metrics, review_record
from resd_baselines.turn_teacher import TurnContextOptions, turn_examples
from resd_bench.agent import Load, MethodSpec, Policy, State
from resd_bench.options import NOT_NEGATIVE
from resd_bench.rollout.placebo import length_of
from resd_bench.seeds import derive, stream
from resd_bench.types import Example, Group, Metrics, Sampling, Step


@dataclass(frozen=True)
class RESDConfig(
    TurnContextOptions, DialOptions, ContextOptions, TeacherOptions, DistillationOptions
):
    """Options of RESD. Defaults are the preset `paper`.

    With a `turn_context` other than `transcript` the teacher of a turn reads a diagnosis of it in
    place of the reflection, which then serves the playbook alone, no success of its own, and the
    playbook of before this update, whose new lessons may tell what came later.
    """

    use_reflection: bool = True
    """Show the teacher a reflection on the attempt (ablation). The playbook needs reflections
    in any case."""
    use_solution_buffer: bool = True
    """Remember the last success of each task for later inner steps (ablation)."""
    success_rate_weighting: bool = True
    """Rebalance successes and failures by the success rate s of the batch (Eq. 2)."""
    success_exponent: Annotated[float, NOT_NEGATIVE] = 1.0
    """Exponent alpha of 1 - s, the weight of a success (Eq. 2)."""
    failure_exponent: Annotated[float, NOT_NEGATIVE] = 1.0
    """Exponent beta of s, the weight of a failure (Eq. 2)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, used in (("reflection", "reflections_shown"), ("playbook", "playbook_shown")):
            if getattr(self, used) != "real" and not getattr(self, f"use_{name}"):
                raise ValueError(f"{used}={getattr(self, used)} needs use_{name}=true")
        # A dial that nothing reads would measure the method as it is, under another name.
        shown = self.use_reflection and not self.own_teachers
        if self.reflections_shown != "real" and not shown:
            raise ValueError(
                f"reflections_shown={self.reflections_shown} needs turn_context=transcript: with "
                f"{self.turn_context} no teacher is shown a reflection"
            )
        turned = next(
            (dial for dial in ("lies", "misplaced_reflections") if getattr(self, dial)), ""
        )
        if turned and not (shown or self.use_playbook):
            raise ValueError(
                f"{turned}: nothing reads a reflection without use_playbook=true, or "
                "use_reflection=true with turn_context=transcript"
            )


class RESDAgent(PlaybookAgent):
    """Distils what the model can do with hindsight into what it does without it."""

    config: RESDConfig

    def __init__(self, policy: Policy, config: RESDConfig) -> None:
        super().__init__(policy, config)
        self.dials = ContextDials(config, length_of(policy))
        self.playbook = self.dials.playbook()
        self.births = dict.fromkeys((entry.id for entry in self.playbook.entries), GIVEN)
        self.solutions: dict[str, str] = {}
        policy.use_teacher(config.teacher, config.ema_rate)

    def learn(self, groups: Sequence[Group], step: Step) -> Metrics:
        """One inner step of Algorithm 1; see `_metrics` for what is logged."""
        attempts, before = self._attempts(groups), self.playbook
        update = self._update_context(attempts, step)
        reviews = self._review(attempts, step)
        if self.config.use_solution_buffer:
            self.solutions = remember_solutions(self.solutions, attempts)
        distil = self.config.distil_successes
        solutions = find_solutions(attempts, self.solutions, distil_successes=distil)
        weights = self._weights(attempts)
        tasks = [attempt.task_id for attempt in attempts]
        book = before if self.config.own_teachers else self.playbook
        shown = self.dials.show(update.reflections, tasks, book, step.seed)
        worded = self.worded(shown.playbook)
        examples = [
            self._examples(*each, playbook=worded)
            for each in zip(attempts, shown.reflections, reviews, solutions, weights, strict=True)
        ]
        learned = self.policy.update(
            [example for few in examples for example in few],
            self.config.objective(step),
            batch_size=count_turns(attempts),
        )
        self.dials.annotate(self.last["reflections"], attempts, update.reflections, shown)
        turns = {}
        if self.config.reads_diagnoses:
            self.last["reviews"] = review_record(reviews, attempts)
            turns = review_metrics(reviews, attempts)
        signal = signal_metrics(attempts, sum(map(bool, examples)))
        return {**learned, **signal, **self._metrics(update, solutions), **turns, **shown.check}

    def _attempts(self, groups: Sequence[Group]) -> list[Attempt]:
        return scored_attempts(groups, show_unfinished=self.config.show_unfinished_thinking)

    def _update_context(self, attempts: Sequence[Attempt], step: Step) -> ContextUpdate:
        """CONCISE, REFLECT, tag and CURATE with the weights before this update."""
        self.dials.reset()

        def generate(role: PromptRole, prompts: Sequence[str]) -> list[str]:
            texts = self.write(step, role, prompts)
            if role != "reflect":
                return texts
            failed = [attempt.task_id for attempt in attempts if not attempt.success]
            return self.dials.exchange(texts, failed, step.seed)

        update = ContextUpdate(self.playbook, (NO_REFLECTION,) * len(attempts))
        if self.config.use_reflection or self.config.use_playbook:
            update = update_context(
                self.playbook,
                attempts,
                writer=self.writer,
                generate=generate,
                options=self.config,
                rng=stream(step.seed, "concise"),
            )
        self.adopt(update, attempts, step)
        return update

    def _review(self, attempts: Sequence[Attempt], step: Step) -> Sequence[Diagnoses]:
        """A diagnosis of each turn, if the teachers of turns read them."""
        if not (attempts and self.config.reads_diagnoses):
            return (NO_DIAGNOSES,) * len(attempts)
        return review(attempts, self.policy.dialect, partial(self.write, step, "diagnose"))

    def _weights(self, attempts: Sequence[Attempt]) -> list[float]:
        """Of each attempt's turns: success-rate rebalancing over all attempts, even those without
        an example (Eq. 2), shared by an attempt's turns."""
        shares = self.config.turn_weights([len(attempt.turns) for attempt in attempts])
        if not self.config.success_rate_weighting:
            return shares
        success = torch.tensor([attempt.success for attempt in attempts], dtype=torch.bool)
        alpha, beta = self.config.success_exponent, self.config.failure_exponent
        weights: list[float] = success_rate_weights(success, alpha=alpha, beta=beta).tolist()
        return [weight * share for weight, share in zip(weights, shares, strict=True)]

    def _examples(
        self,
        attempt: Attempt,
        reflection: Reflection,
        diagnoses: Diagnoses,
        solution: str | None,
        weight: float,
        *,
        playbook: str,
    ) -> list[Example]:
        if self.config.own_teachers:
            return turn_examples(
                attempt,
                diagnoses=diagnoses,
                playbook=playbook,
                solution=None if attempt.success or not self.config.use_solution else solution,
                options=self.config,
                weight=weight,
                dialect=self.policy.dialect,
            )
        prompts = self._teacher_prompts(attempt, reflection, solution, playbook)
        return make_examples(attempt, teachers=prompts, weight=weight)

    def _teacher_prompts(
        self, attempt: Attempt, reflection: Reflection, solution: str | None, playbook: str
    ) -> list[str]:
        return teacher_prompts(
            attempt,
            playbook=playbook,
            reflection=reflection.text if self.config.use_reflection else "",
            solution=solution,
            options=self.config,
            dialect=self.policy.dialect,
            pack=self.writer.pack,
        )

    def contexts(
        self, groups: Sequence[Group], sampling: Sampling
    ) -> Mapping[str, Mapping[str, str]]:
        """`playbook`: the question with only the playbook; `teacher`: the teacher's prompt after
        the first attempt of each task, read with the student's weights."""
        attempts = list({a.task_id: a for a in reversed(self._attempts(groups))}.values())
        none = dict.fromkeys(("previous_trial", "feedback", "reflection", "solution"), "")
        found: dict[str, Mapping[str, str]] = {"teacher": self._hindsight(attempts, sampling)}
        if self.config.use_playbook and not self.playbook.headers_only:
            playbook, dialect = self.writer.playbook(self.playbook), self.policy.dialect
            found["playbook"] = {
                a.prompt: self.writer.pack.teacher(
                    dialect, prompt=a.prompt, playbook=playbook, **none
                )
                for a in attempts
            }
        return found

    def _hindsight(self, attempts: Sequence[Attempt], sampling: Sampling) -> dict[str, str]:
        """The teacher's prompt for each attempt that has one; reflections are made for it."""

        def generate(role: PromptRole, prompts: Sequence[str]) -> list[str]:
            seed = derive(sampling.seed, "contexts", role)
            return self.ask(prompts, self.config.writing(sampling, seed), "evaluation")

        reflections: Sequence[Reflection] = (NO_REFLECTION,) * len(attempts)
        if self.config.use_reflection:
            reflections = reflect(self.playbook, attempts, self.writer, generate)
        distil = self.config.distil_successes
        solutions = find_solutions(attempts, {}, distil_successes=distil)
        playbook = self.worded(self.playbook)
        found = {
            attempt.prompt: self._teacher_prompts(attempt, reflection, solution, playbook)[:1]
            for attempt, reflection, solution in zip(attempts, reflections, solutions, strict=True)
        }
        return {prompt: longest for prompt, few in found.items() for longest in few}

    def _metrics(self, update: ContextUpdate, solutions: Sequence[str | None]) -> Metrics:
        """Metrics of the context update.

        `resd/entries` in the playbook, of which `resd/entries_added` and, since the last update,
        `resd/entries_evicted`; `resd/reflections` made and `resd/unparsed_reflections` among them
        (used all the same); `resd/curations` made and `resd/unparsed_curations` among them
        (discarded); `resd/solutions` attempts with a solution to show; `resd/solution_buffer` its
        size.
        """
        return {
            "resd/entries": float(len(self.playbook.entries)),
            "resd/entries_added": float(len(update.added)),
            "resd/entries_evicted": float(len(update.evicted)),
            **{f"resd/{name}": number for name, number in written_metrics(update).items()},
            "resd/solutions": float(sum(solution is not None for solution in solutions)),
            "resd/solution_buffer": float(len(self.solutions)),
            **self.dials.metrics(self.births),
        }

    def state_dict(self) -> State:
        """Policy, playbook, births and solution buffer."""
        return {**super().state_dict(), "solutions": dict(self.solutions)}

    def load_state_dict(self, state: State) -> None:
        """Resume from `state_dict`."""
        super().load_state_dict(state)
        self.solutions = dict(state["solutions"])


def _load(config: RESDConfig) -> Load:
    """A failure is reflected on and curated; a teacher sees attempt, reflection and solution."""
    samples = config.use_playbook + (config.use_playbook or config.use_reflection)
    samples += config.reads_diagnoses
    shown = config.use_previous_trial + config.use_reflection + config.use_solution
    entries = (config.max_entries or 0) * config.use_playbook
    tokens = entries * ENTRY_TOKENS + FEEDBACK_TOKENS * config.use_feedback
    return Load(samples, teacher=True, shown=shown, shown_tokens=tokens)


RESD = MethodSpec(
    name="resd",
    summary="Reflects on failures, keeps a playbook, and distils a teacher that sees both.",
    config=RESDConfig,
    build=RESDAgent,
    load=_load,
    former=PER_TURN,
    presets={
        "paper": {},
        "release": {
            "teacher": "frozen",
            "feedback_with_solution": False,
            "concise_after_curation": True,
            "drop_duplicate_lessons": False,
            "show_unfinished_thinking": True,
        },
    },
)
