"""What an environment tells the embedded model about itself before any run: a curriculum.

A curriculum knows the mistakes an untaught answer makes, how likely each is, what each looks like
in feedback, and the lesson that cures it. `documents.py` turns it into pre-training text. Nothing
that runs a method may import a curriculum: methods see text and tokens only.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np

from resd_bench.types import Task


@dataclass(frozen=True, slots=True)
class Mistake:
    """One way in which an answer goes wrong."""

    key: str
    """Names the misconception; all mistakes of one key are cured by the same kind of lesson."""
    symptom: str
    """What a reflection calls the cause."""
    lessons: tuple[str, ...]
    """Wordings of the lesson, all of one meaning."""
    shared: bool
    """Whether the lesson helps on other tasks too; if not, only this attempt's reflection can."""
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
    """Content hash; never that of a task which runs use."""


class Curriculum(Protocol):
    """What a plugin of the group `resd_bench.curricula` offers."""

    def exercise(self, rng: np.random.Generator) -> Exercise:
        """Draw a problem that no run uses."""
        ...

    def of_task(self, task: Task) -> Exercise:
        """A task of the environment as an exercise; for probes, never for pre-training."""
        ...

    def priors(self, exercise: Exercise) -> Mapping[str, float]:
        """Probability that an untaught answer is right, by misconception, in deciding order."""
        ...

    def mistake(self, exercise: Exercise, key: str, rng: np.random.Generator) -> Mistake:
        """Draw a mistake of `key`: instance-specific ones have a place."""
        ...

    def answer(self, exercise: Exercise, mistakes: Mapping[str, Mistake]) -> str:
        """The response that makes exactly these mistakes; a transcript where there are turns."""
        ...

    def chat(self, exercise: Exercise, response: str) -> tuple[tuple[str, str], ...]:
        """A response as turns: what was observed, the prompt first, and what was said then."""
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
    """What curricula share whose misconceptions show in one order, whatever the exercise."""

    order: ClassVar[tuple[str, ...]]
    """All misconceptions, those first that feedback and attempt reveal first."""

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
