"""GEPA: lessons evolve on a Pareto front of training tasks; no weight is trained.

After arXiv 2507.19457, with the optimiser of the package `gepa` (`gepa_search`). An update is one
iteration: the step's rollouts evaluate the parent; reflections on its failures become new lessons;
extra rollouts evaluate the child on the same tasks and, if it did better, on the validation tasks.
Evaluations show the best text. Left out: the package's own prompt for proposals, and merging.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Any

from resd_baselines.base import PromptedAgent, count_turns, scored_attempts, signal_metrics
from resd_baselines.context_update import (
    PromptRole,
    PromptWriter,
    WriterOptions,
    curate,
    new_lessons,
    reflect,
)
from resd_baselines.gepa_search import Archive, NoRollouts, iterate, package
from resd_baselines.losses import nll_objective
from resd_baselines.playbook import Playbook
from resd_baselines.teacher_prompt import ENTRY_TOKENS
from resd_bench.agent import Load, MethodSpec, MoreRollouts, Policy, State
from resd_bench.budget import Purpose
from resd_bench.options import POSITIVE
from resd_bench.seeds import derive, stream
from resd_bench.types import Completion, Group, Messages, Metrics, Sampling, Step

_START = Playbook().render()
"""The text without a lesson."""


@dataclass(frozen=True)
class GEPAConfig(WriterOptions):
    """Options of GEPA. What is evaluated in an iteration is the batch (`--batch-size`)."""

    validation_tasks: Annotated[int, POSITIVE] = 32
    """Training tasks on which every accepted text is evaluated (the Pareto set)."""
    reflected_failures: Annotated[int, POSITIVE] = 3
    """Failures, at most, that a proposal reflects on (the package's minibatch)."""
    max_entries: Annotated[int, POSITIVE] = 120
    """Maximum number of lessons in a text."""


class GEPAAgent(PromptedAgent):
    """Searches for what to tell itself."""

    def __init__(self, policy: Policy, config: GEPAConfig) -> None:
        super().__init__(policy)
        package()
        self.config, self.writer = config, PromptWriter(policy.dialect)
        self.archive: Archive | None = None
        self.validation: list[str] = []
        """Ids of the validation tasks, drawn in the first update."""
        self.parent = self._shown = _START

    @property
    def playbook(self) -> Playbook:
        """The best text so far."""
        return Playbook.parse(self.archive.texts[self.archive.best] if self.archive else _START)

    def memory(self) -> str:
        """The text that was last asked with; the best one unless a step is being rolled out."""
        book = Playbook.parse(self._shown)
        return "" if book.headers_only else self.writer.playbook(book)

    def act(
        self, prompts: Sequence[Messages], *, n: int, sampling: Sampling, purpose: Purpose
    ) -> list[list[Completion]]:
        """Answer with the text on trial in rollouts, with the best one in evaluations."""
        self._shown = self.parent if purpose == "rollout" else self.playbook.render()
        return super().act(prompts, n=n, sampling=sampling, purpose=purpose)

    def collect(self, groups: Sequence[Group], step: Step, more: MoreRollouts) -> Sequence[Group]:
        """One iteration; `groups` are what the parent did."""
        tasks = {task.id: task for task in more.tasks}
        order = stream(step.seed, "validation").permutation(len(tasks))
        drawn = [more.tasks[i].id for i in order[: self.config.validation_tasks]]
        self.validation = self.validation or drawn
        if not self.validation:
            return groups
        batch, parent = [group.task.id for group in groups], self.parent

        def evaluate(ids: Sequence[str], text: str) -> list[float]:
            if text == parent and list(ids) == batch:
                return [_score(group) for group in groups]
            self.parent = text
            found = more.play([tasks[name] for name in ids])
            if len(found) != len(ids):
                raise NoRollouts
            return [_score(group) for group in found]

        self.archive = iterate(
            self.archive,
            start=_START,
            batch=batch,
            validation=self.validation,
            evaluate=evaluate,
            propose=lambda text: self._propose(text, groups, step),
            seed=step.seed,
        )
        self.parent = self.archive.texts[self.archive.parent] if self.archive else _START
        return groups

    def _propose(self, text: str, groups: Sequence[Group], step: Step) -> str:
        """`text` with the lessons of some failures."""
        failures = [attempt for attempt in scored_attempts(groups) if not attempt.success]
        rng = stream(step.seed, "proposal")
        chosen = rng.permutation(len(failures))[: self.config.reflected_failures]
        failures = [failures[i] for i in chosen]

        def generate(role: PromptRole, prompts: Sequence[str]) -> list[str]:
            sampling = self.config.writing(step.sampling, derive(step.seed, role))
            return self.ask(prompts, sampling, "reflection")

        book = Playbook.parse(text)
        reflections = reflect(book, failures, self.writer, generate)
        curations = curate(book, failures, reflections, self.writer, generate)
        lessons = new_lessons(book, [one for c in curations for one in c.additions or ()])
        grown = book.extend(lessons) if lessons else book
        if len(grown.entries) > self.config.max_entries:
            grown = grown.concise("staleness", self.config.max_entries, rng)
        return grown.render()

    def learn(self, groups: Sequence[Group], step: Step) -> Metrics:
        """An update that trains nothing. `gepa/texts` in the archive, `gepa/score` of the best."""
        self._shown = self.playbook.render()
        attempts = scored_attempts(groups)
        learned = self.policy.update([], nll_objective, batch_size=count_turns(attempts))
        found = self.archive
        return {
            **learned,
            **signal_metrics(attempts, sum(not attempt.success for attempt in attempts)),
            "gepa/texts": float(len(found.texts) if found else 0),
            "gepa/score": found.scores[found.best] if found else 0.0,
        }

    def context(self) -> Mapping[str, Any]:
        """The lessons of the best text, and every text with its score."""
        if self.archive is None:
            return {}
        texts = zip(self.archive.texts, self.archive.scores, strict=True)
        return {
            "playbook": [asdict(entry) for entry in self.playbook.entries],
            "texts": [{"text": text, "score": score} for text, score in texts],
            "best": self.archive.best,
        }

    def state_dict(self) -> State:
        """Policy, archive, validation tasks and the next parent."""
        held = None if self.archive is None else asdict(self.archive)
        memory = {"archive": held, "validation": self.validation, "parent": self.parent}
        return {**super().state_dict(), **memory}

    def load_state_dict(self, state: State) -> None:
        """Go on from `state_dict`."""
        super().load_state_dict(state)
        held = state["archive"]
        if held is not None:
            kept = {**held, "texts": tuple(held["texts"]), "scores": tuple(held["scores"])}
            self.archive = Archive(**kept)
        self.validation, self.parent = list(state["validation"]), str(state["parent"])
        self._shown = self.playbook.render()


def _score(group: Group) -> float:
    """Mean reward of a task's attempts with a verdict, 0 without any."""
    rewards = [attempt.reward for attempt in scored_attempts([group])]
    return sum(rewards) / len(rewards) if rewards else 0.0


GEPA = MethodSpec(
    name="gepa",
    summary="Evolves lessons that the policy reads when it answers; trains no weights.",
    config=GEPAConfig,
    build=GEPAAgent,
    learns=False,
    load=lambda options: Load(2, memory_tokens=options.max_entries * ENTRY_TOKENS),
)
