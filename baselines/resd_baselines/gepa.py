"""GEPA: lessons evolve on a Pareto front of training tasks; no weight is trained.

After arXiv 2507.19457, with the optimiser of the package `gepa` (`gepa_search`). In an update the
step's rollouts evaluate the parent; reflections on its failures become new lessons; extra rollouts
evaluate the child on the same tasks and, if it did better, on the validation tasks. Evaluations
show the best text. Left out: the package's own prompt for proposals, and merging.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated

from resd_baselines.archive_agent import NO_LESSONS, ArchiveAgent
from resd_baselines.base import mean_reward, scored_attempts
from resd_baselines.context_update import WriterOptions, curate, reflect, with_lessons
from resd_baselines.gepa_search import iterate
from resd_baselines.gepa_state import package
from resd_baselines.playbook import Playbook
from resd_baselines.teacher_prompt import ENTRY_TOKENS
from resd_bench.agent import Load, MethodSpec, MoreRollouts, Policy
from resd_bench.options import POSITIVE
from resd_bench.seeds import stream
from resd_bench.types import Group, Metrics, Step


@dataclass(frozen=True)
class GEPAConfig(WriterOptions):
    """Options of GEPA. What is evaluated in an iteration is the batch (`--batch-size`)."""

    validation_tasks: Annotated[int, POSITIVE] = 32
    """Training tasks on which every accepted text is evaluated (the Pareto set)."""
    reflected_failures: Annotated[int, POSITIVE] = 3
    """Failures, at most, that a proposal reflects on (the package's minibatch)."""
    max_entries: Annotated[int, POSITIVE] = 120
    """Maximum number of lessons in a text."""


class GEPAAgent(ArchiveAgent):
    """Searches for what to tell itself."""

    config: GEPAConfig

    def __init__(self, policy: Policy, config: GEPAConfig) -> None:
        super().__init__(policy, config)
        package()

    def collect(self, groups: Sequence[Group], step: Step, more: MoreRollouts) -> Sequence[Group]:
        """One iteration; `groups` are what the parent did, and what `learn` gets."""
        self.draw_validation(self.config.validation_tasks, step, more)
        batch, parent = [group.task.id for group in groups], self.parent

        def evaluate(ids: Sequence[str], text: str) -> list[float]:
            if text == parent and list(ids) == batch:
                return [mean_reward(group) for group in groups]
            return self.try_out(text, ids, more)

        archive = iterate(
            self.archive,
            start=NO_LESSONS,
            batch=batch,
            validation=self.validation,
            evaluate=evaluate,
            propose=partial(self._propose, groups, step),
            seed=step.seed,
        )
        self.adopt(archive)
        return groups

    def learn(self, groups: Sequence[Group], step: Step) -> Metrics:
        """An update that trains nothing. `gepa/texts` in the archive, `gepa/score` of the best."""
        texts, scores = (self.archive.texts, self.archive.scores) if self.archive else ((), ())
        own = {"gepa/texts": float(len(texts)), "gepa/score": max(scores, default=0.0)}
        return super().learn(groups, step) | own

    def _propose(self, groups: Sequence[Group], step: Step, text: str) -> str:
        """`text` with the lessons of some failures."""
        failures = [attempt for attempt in scored_attempts(groups) if not attempt.success]
        rng, most = stream(step.seed, "proposal"), self.config.max_entries
        chosen = rng.permutation(len(failures))[: self.config.reflected_failures]
        failures, generate = [failures[i] for i in chosen], partial(self.write, step)
        book = Playbook.parse(text)
        reflections = reflect(book, failures, self.writer, generate)
        book = with_lessons(book, curate(book, failures, reflections, self.writer, generate))
        return (book.concise("staleness", most, rng) if book.due(None, most) else book).render()


GEPA = MethodSpec(
    name="gepa",
    summary="Evolves lessons that the policy reads when it answers; trains no weights.",
    config=GEPAConfig,
    build=GEPAAgent,
    learns=False,
    load=lambda options: Load(2, memory_tokens=options.max_entries * ENTRY_TOKENS),
    check_installed=package,
)
