"""Curricula: what an environment teaches the embedded model about itself before any run.

A curriculum knows the mistakes an untaught answer makes, how likely each is, what each looks like
in feedback, and the lesson that cures it. `documents.py` turns it into pre-training text. Nothing
that runs a method may import a curriculum: methods see text and tokens only.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol, runtime_checkable

import numpy as np

from resd_bench.types import Task, TurnKind


@dataclass(frozen=True, slots=True)
class Mistake:
    """One way in which an answer goes wrong."""

    key: str
    """Names the misconception; all mistakes of one key are cured by the same kind of lesson."""
    symptom: str
    """The cause that a reflection names."""
    lessons: tuple[str, ...]
    """Wordings of the lesson, all with the same meaning."""
    shared: bool
    """Whether the lesson helps on other tasks too; if not, only this attempt's reflection helps."""
    where: tuple[int, str] = (-1, "")
    """Position and symbol of an instance-specific mistake."""
    wrong: tuple[str, ...] = ()
    """Wordings of the opposite of the lesson, where there are any: it teaches the mistake."""


@dataclass(frozen=True, slots=True)
class Exercise:
    """One pre-training problem."""

    prompt: str
    """Exactly what the environment shows for such a problem, in the compact dialect."""
    family: str
    content: tuple[str, ...]
    fingerprint: str
    """Content hash; never that of a task that runs use."""


TurnVerdict = Literal["right", "needless", "invalid", "wrong"]


@dataclass(frozen=True, slots=True)
class CheckedTurn:
    """A turn of a simulated episode, and what hindsight says of it."""

    asked: str
    """The observation that it answers; the first is the prompt."""
    said: str
    right: str
    """The answer in the same place without any mistake."""
    fault: Mistake | None = None
    verdict: TurnVerdict = "right"
    note: str = ""
    """What the environment says of the turn besides the observation that follows, at level 3."""


@runtime_checkable
class TurnCurriculum(Protocol):
    """A curriculum of an environment of several turns that says of each what is wrong with it."""

    def checked(
        self, exercise: Exercise, mistakes: Mapping[str, Mistake]
    ) -> tuple[CheckedTurn, ...]:
        """The turns of the answer that makes exactly these mistakes."""
        ...

    def instead(
        self, exercise: Exercise, said: Sequence[str], mistakes: Mapping[str, Mistake]
    ) -> str:
        """What one who makes these mistakes says after others' answers `said`."""
        ...


class Curriculum(Protocol):
    """The interface of a plugin of the group `resd_bench.curricula`."""

    def exercise(self, rng: np.random.Generator) -> Exercise:
        """Draw a problem that no run uses."""
        ...

    def of_task(self, task: Task) -> Exercise:
        """A task of the environment as an exercise; for probes, never for pre-training."""
        ...

    def priors(self, exercise: Exercise) -> Mapping[str, float]:
        """Probability that an untaught answer is right, by misconception, in order of decision."""
        ...

    def mistake(self, exercise: Exercise, key: str, rng: np.random.Generator) -> Mistake:
        """Draw a mistake of `key`; instance-specific ones have a place."""
        ...

    def answer(self, exercise: Exercise, mistakes: Mapping[str, Mistake]) -> str:
        """The response that makes exactly these mistakes; a transcript if there are more turns."""
        ...

    def chat(self, exercise: Exercise, response: str) -> tuple[tuple[str, str], ...]:
        """A response as turns (observation, reply); the first observation is the prompt."""
        ...

    def feedback(self, exercise: Exercise, response: str) -> tuple[bool, str]:
        """Whether the response succeeds, and the environment's compact feedback (level 3)."""
        ...

    def visible(self, mistakes: Mapping[str, Mistake]) -> Mistake | None:
        """The mistake that a diligent reader of attempt and feedback would name first."""
        ...

    def distractor(self, rng: np.random.Generator) -> Mistake:
        """A mistake of some other exercise, for lessons that do not apply here."""
        ...


class OrderedCurriculum(ABC):
    """A curriculum whose misconceptions show in the same order in every exercise."""

    order: ClassVar[tuple[str, ...]]
    """All misconceptions, in the order in which feedback and attempt reveal them."""

    @abstractmethod
    def exercise(self, rng: np.random.Generator) -> Exercise: ...

    @abstractmethod
    def mistake(self, exercise: Exercise, key: str, rng: np.random.Generator) -> Mistake: ...

    def chat(self, exercise: Exercise, response: str) -> tuple[tuple[str, str], ...]:
        """One turn."""
        return ((exercise.prompt, response),)

    def visible(self, mistakes: Mapping[str, Mistake]) -> Mistake | None:
        """See `Curriculum`."""
        return next((mistakes[key] for key in self.order if key in mistakes), None)

    def distractor(self, rng: np.random.Generator) -> Mistake:
        """See `Curriculum`."""
        key = self.order[int(rng.integers(len(self.order)))]
        return self.mistake(self.exercise(rng), key, rng)


def blamed(
    order: Sequence[str],
    mistakes: Mapping[str, Mistake],
    answer: Callable[[Mapping[str, Mistake]], str],
) -> tuple[str, str, Mistake | None]:
    """What is said in some place, what is right there, and the mistake to blame if they differ.

    `answer` gives what is said there with some mistakes. The one to blame is the first without
    which the answer is right; else the first without which it is another; where several hide each
    other, the first of all.
    """
    said, right = answer(mistakes), answer({})
    if said == right:
        return said, right, None
    made = [key for key in order if key in mistakes]
    without = {key: answer({k: m for k, m in mistakes.items() if k != key}) for key in made}
    cured = [key for key in made if without[key] == right]
    changed = [key for key in made if without[key] != said]
    return said, right, mistakes[(cured or changed or made)[0]]


def verdict_on(kind: TurnKind, fault: Mistake | None) -> TurnVerdict:
    """A reviewer's verdict on a turn of which the environment says `kind`."""
    if fault is None:
        return "right"
    return {"invalid": "invalid", "wasted": "needless", "changed": "wrong"}[kind]  # type: ignore[return-value]
