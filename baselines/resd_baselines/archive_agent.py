"""An agent that is shown one text out of an archive, in which a search keeps what it has tried.

In rollouts that is the text on trial, in evaluations the best one. How texts are found is up to a
method (`gepa`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from resd_baselines.base import PromptedAgent, mean_reward
from resd_baselines.context_update import WriterOptions
from resd_baselines.playbook import Playbook
from resd_baselines.playbook_agent import WritingAgent
from resd_bench.agent import MoreRollouts, Policy, State
from resd_bench.budget import Purpose
from resd_bench.seeds import stream
from resd_bench.types import Completion, Group, Messages, Metrics, Sampling, Step

NO_LESSONS = Playbook().render()
"""The text without a lesson."""


class NoRollouts(Exception):
    """The budget has no room for an evaluation; the iteration is void."""


@dataclass(frozen=True, slots=True)
class Archive:
    """The texts found so far."""

    state: str
    """The search's own state as JSON."""
    texts: tuple[str, ...]
    scores: tuple[float, ...]
    """Mean score of each text on the validation tasks."""
    best: int
    """The text of the highest mean."""
    parent: int
    """The text that the next iteration starts from, drawn from the Pareto front."""

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Archive:
        """The archive that `asdict` was called on."""
        return cls(**{**state, "texts": tuple(state["texts"]), "scores": tuple(state["scores"])})


class ArchiveAgent(PromptedAgent, WritingAgent):
    """Answers with a playbook of an archive."""

    def __init__(self, policy: Policy, config: WriterOptions) -> None:
        super().__init__(policy, config)
        self.archive: Archive | None = None
        self.validation: list[str] = []
        """Ids of the validation tasks, drawn in the first update."""
        self.parent = self._shown = NO_LESSONS

    @property
    def playbook(self) -> Playbook:
        """The best text so far."""
        return Playbook.parse(self.archive.texts[self.archive.best] if self.archive else NO_LESSONS)

    def memory(self) -> str:
        """The text that was last asked with; the best one unless a step is being rolled out."""
        return self.worded(Playbook.parse(self._shown))

    def draw_validation(self, count: int, step: Step, more: MoreRollouts) -> None:
        """Choose the validation tasks, unless they were chosen."""
        if not self.validation:
            order = stream(step.seed, "validation").permutation(len(more.tasks))
            self.validation = [more.tasks[i].id for i in order[:count]]

    def adopt(self, archive: Archive | None) -> None:
        """Go on from the parent that `archive` has chosen."""
        self.archive = archive
        self.parent = archive.texts[archive.parent] if archive else NO_LESSONS

    def try_out(self, text: str, ids: Sequence[str], more: MoreRollouts) -> list[float]:
        """Mean reward of `text` on each of some tasks, in rollouts of its own; `NoRollouts` if
        the budget has no room for them."""
        self.parent = text
        tasks = {task.id: task for task in more.tasks}
        played = more.play([tasks[name] for name in ids])
        if len(played) != len(ids):
            raise NoRollouts
        return [mean_reward(group) for group in played]

    def act(
        self, prompts: Sequence[Messages], *, n: int, sampling: Sampling, purpose: Purpose
    ) -> list[list[Completion]]:
        """Answer with the text on trial in rollouts, with the best one in evaluations."""
        self._shown = self.parent if purpose == "rollout" else self.playbook.render()
        return super().act(prompts, n=n, sampling=sampling, purpose=purpose)

    def learn(self, groups: Sequence[Group], step: Step) -> Metrics:
        """An update that trains nothing; from now on the best text is shown."""
        self._shown = self.playbook.render()
        return super().learn(groups, step)

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
        """Resume from `state_dict`."""
        super().load_state_dict(state)
        held = state["archive"]
        self.archive = None if held is None else Archive.from_state(held)
        self.validation, self.parent = list(state["validation"]), str(state["parent"])
        self._shown = self.playbook.render()
