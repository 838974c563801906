"""Pre-training documents: a curriculum written in the prompts that the methods use.

There are five roles, as in a run: answer a task; answer it with context (attempt, feedback,
reflection, playbook, solution in all combinations); reflect on a failure; tag what helped a
success; curate one lesson. Each document is a chat; it has several turns if its answer does, with
the context in the first of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from resd_bench import plugins
from resd_bench.nano.curriculum import Curriculum, Exercise, Mistake
from resd_bench.seeds import stream
from resd_bench.types import Turn


@dataclass(frozen=True, slots=True)
class Dials:
    """The embedded model's abilities, by construction. All except `odds` are probabilities."""

    odds: float = 1.0
    """Factor on the odds that an untaught answer gets a point right; below 1, success is rarer."""
    raw: float = 0.15
    """Repairs the visible mistake when it sees only raw feedback."""
    reflection: float = 0.94
    """Repairs the mistake that a reflection names."""
    playbook: float = 0.95
    """Follows a lesson of the playbook."""
    solution: float = 0.97
    """Gets each point right when it sees a solution of the task."""
    keep: float = 0.95
    """Keeps what the attempt got right."""
    reflection_accuracy: float = 0.9
    """A reflection names the first visible cause and not some other."""
    curation_accuracy: float = 0.97
    """A curator adds a shared lesson that is missing, and only that."""


@dataclass(frozen=True, slots=True)
class Document:
    """One chat."""

    turns: tuple[tuple[str, str], ...]
    """What the user says and what the model should reply, turn by turn."""

    @property
    def prompt(self) -> str:
        """The user's first message."""
        return self.turns[0][0]

    @property
    def reply(self) -> str:
        """The reply that the model should give to it."""
        return self.turns[0][1]


class Prompts(Protocol):
    """The part of a prompt pack that documents and probes need."""

    def attempt(self, turns: Sequence[Turn]) -> str: ...
    def reflect(self, dialect: str, **fields: str) -> str: ...
    def tag(self, dialect: str, **fields: str) -> str: ...
    def curate(self, dialect: str, **fields: str) -> str: ...
    def teacher(self, dialect: str, **fields: str) -> str: ...


Mistakes = dict[str, Mistake]


@dataclass(frozen=True, slots=True)
class Author:
    """Writes the documents of one curriculum with one prompt pack."""

    curriculum: Curriculum
    prompts: Prompts
    dials: Dials = Dials()

    def priors(self, exercise: Exercise) -> dict[str, float]:
        """Probability that an untaught answer is right, by misconception."""
        odds, found = self.dials.odds, self.curriculum.priors(exercise)
        return {key: p * odds / (1 - p + p * odds) for key, p in found.items()}

    def document(self, rng: np.random.Generator) -> Document:
        """Draw a document of a random role."""
        exercise = self.curriculum.exercise(rng)
        role = rng.random()
        if role < 0.22:
            return self._chat(exercise, exercise.prompt, self.draw(exercise, rng))
        if role < 0.68:
            return self._informed_answer(exercise, rng)
        if role < 0.86:
            return self._reflection(exercise, rng)
        if role < 0.95:
            return self._curation(rng)
        return self._tags(exercise, rng)

    def _answer(self, exercise: Exercise, mistakes: Mapping[str, Mistake]) -> str:
        return self.curriculum.answer(exercise, mistakes)

    def _chat(self, exercise: Exercise, prompt: str, mistakes: Mapping[str, Mistake]) -> Document:
        """An answer to `prompt`, which poses the exercise."""
        turns = self.curriculum.chat(exercise, self._answer(exercise, mistakes))
        return Document(((prompt, turns[0][1]), *turns[1:]))

    def draw(
        self,
        exercise: Exercise,
        rng: np.random.Generator,
        right: Mapping[str, float] | None = None,
        before: Mapping[str, Mistake] | None = None,
    ) -> Mistakes:
        """Mistakes of an answer that gets each point right with probability `right`."""
        right = right or self.priors(exercise)
        wrong = [key for key, p in right.items() if rng.random() >= p]
        again = before or {}
        return {k: again.get(k) or self.curriculum.mistake(exercise, k, rng) for k in wrong}

    def _attempt(self, exercise: Exercise, rng: np.random.Generator) -> Mistakes:
        """Mistakes of a previous attempt, by a beginner or by one who has learned some lessons."""
        learned = float(rng.choice([0.0, 0.5, 0.9], p=[0.4, 0.3, 0.3]))
        priors = self.priors(exercise)
        return self.draw(exercise, rng, {k: max(p, learned * (p < 0.8)) for k, p in priors.items()})

    def _informed_answer(self, exercise: Exercise, rng: np.random.Generator) -> Document:
        """An answer that follows its context, each part of it with its own reliability."""
        d, priors = self.dials, self.priors(exercise)
        p = dict(priors)
        fields = dict.fromkeys(("playbook", "previous_trial", "feedback", "reflection"), "")
        before: Mistakes = {}
        solution = ""
        if rng.random() < 0.62:
            lessons = self._lessons(exercise, rng)
            fields["playbook"] = numbered([text for text, _ in lessons])
            for _, mistake in lessons:
                if mistake.shared and mistake.key in p:
                    p[mistake.key] = 1 - (1 - priors[mistake.key]) * (1 - d.playbook)
        shows_attempt, shows_feedback = rng.random() < 0.7, rng.random() < 0.85
        if shows_attempt or (shows_feedback and rng.random() < 0.5):
            before = self._attempt(exercise, rng)
            response = self._answer(exercise, before)
            success, feedback = self.curriculum.feedback(exercise, response)
            seen = self.curriculum.visible(before)
            if shows_attempt:
                fields["previous_trial"] = response
                p |= {k: max(v, d.keep) for k, v in p.items() if k not in before}
            if shows_feedback and not success and seen is not None:
                fields["feedback"] = feedback
                p[seen.key] = 1 - (1 - p[seen.key]) * (1 - d.raw)
            if shows_attempt and not success and seen is not None and rng.random() < 0.6:
                named = self._named(exercise, seen, rng)
                fields["reflection"] = self._reflection_text(named, rng)
                if named.key in before and (named.shared or named == before[named.key]):
                    p[named.key] = max(p[named.key], d.reflection)
            if success and shows_attempt and rng.random() < 0.5:
                solution = response
        if not solution and rng.random() < 0.2:
            solution = self._answer(exercise, {})
        if solution:
            p = dict.fromkeys(p, d.solution)
        text = self.prompts.teacher("compact", prompt=exercise.prompt, solution=solution, **fields)
        shown = before if fields["previous_trial"] else {}
        return self._chat(exercise, text, self.draw(exercise, rng, p, shown))

    def _named(self, exercise: Exercise, seen: Mistake, rng: np.random.Generator) -> Mistake:
        """The mistake that a reflection names: the visible one, or some other."""
        if rng.random() < self.dials.reflection_accuracy:
            return seen
        keys = list(self.curriculum.priors(exercise))
        return self.curriculum.mistake(exercise, keys[int(rng.integers(len(keys)))], rng)

    def _reflection_text(self, mistake: Mistake, rng: np.random.Generator) -> str:
        return f"cause: {mistake.symptom}\nlesson: {pick(mistake.lessons, rng)}"

    def _lessons(self, exercise: Exercise, rng: np.random.Generator) -> list[tuple[str, Mistake]]:
        """Entries of a playbook in random order; wordings repeat, and some apply elsewhere."""
        keys = list(self.curriculum.priors(exercise))
        shared = [m for k in keys if (m := self.curriculum.mistake(exercise, k, rng)).shared]
        if rng.random() < 0.6:
            shared = [m for m in shared if rng.random() < 0.6]
        strays = int(rng.choice([0, 1, 2, 4], p=[0.3, 0.35, 0.25, 0.1]))
        entries = shared + [self.curriculum.distractor(rng) for _ in range(strays)]
        if entries and rng.random() < 0.35:
            copies = int(rng.choice([2, 4, 8, 16], p=[0.4, 0.3, 0.2, 0.1]))
            entries += [entries[int(i)] for i in rng.integers(len(entries), size=copies)]
        order = rng.permutation(len(entries))
        return [(pick(entries[int(i)].lessons, rng), entries[int(i)]) for i in order]

    def _reflection(self, exercise: Exercise, rng: np.random.Generator) -> Document:
        """A failed attempt, its feedback and a playbook; the cause, the lesson, the tags."""
        while True:
            mistakes = self._attempt(exercise, rng)
            response = self._answer(exercise, mistakes)
            success, feedback = self.curriculum.feedback(exercise, response)
            seen = self.curriculum.visible(mistakes)
            if not success and seen is not None:
                break
        lessons = self._lessons(exercise, rng) if rng.random() < 0.7 else []
        named = self._named(exercise, seen, rng)
        helpful = [i for i, (_, m) in enumerate(lessons, 1) if m.shared and m.key == named.key]
        harmful = [i for i, (_, m) in enumerate(lessons, 1) if not m.shared]
        prompt = self.prompts.reflect(
            "compact",
            prompt=exercise.prompt,
            response=response,
            feedback=feedback,
            playbook=numbered([text for text, _ in lessons]),
        )
        reply = self._reflection_text(named, rng)
        tags = tag_line("helpful", helpful) + tag_line("harmful", harmful)
        return Document(((prompt, reply + tags),))

    def _curation(self, rng: np.random.Generator) -> Document:
        """A playbook and a reflection; the lesson, if it is missing and helps on other tasks."""
        exercise = self.curriculum.exercise(rng)
        keys = list(self.curriculum.priors(exercise))
        mistake = self.curriculum.mistake(exercise, keys[int(rng.integers(len(keys)))], rng)
        lessons = self._lessons(exercise, rng) if rng.random() < 0.75 else []
        known = any(m.key == mistake.key for _, m in lessons)
        add = mistake.shared and not known
        if rng.random() >= self.dials.curation_accuracy:
            add = not add
        reflection = self._reflection_text(mistake, rng)
        lesson = reflection.split("lesson: ")[1]
        prompt = self.prompts.curate(
            "compact", reflection=reflection, playbook=numbered([text for text, _ in lessons])
        )
        return Document(((prompt, f"add: {lesson}" if add else "nothing"),))

    def _tags(self, exercise: Exercise, rng: np.random.Generator) -> Document:
        """A success and a playbook; the lessons that the success follows."""
        lessons = self._lessons(exercise, rng) if rng.random() < 0.85 else []
        priors = self.curriculum.priors(exercise)
        helpful = [i for i, (_, m) in enumerate(lessons, 1) if m.shared and m.key in priors]
        prompt = self.prompts.tag(
            "compact",
            prompt=exercise.prompt,
            response=self._answer(exercise, {}),
            playbook=numbered([text for text, _ in lessons]),
        )
        return Document(((prompt, tag_line("helpful", helpful).lstrip("\n") or "helpful: none"),))


@dataclass(frozen=True, slots=True)
class Recipe:
    """A block of documents, before it is written."""

    environments: tuple[str, ...]
    """Environments whose curricula take turns; one that is named twice gets two turns."""
    dials: Dials
    seed: int
    block: int
    """Its number; every block has its own seed stream."""
    count: int
    """Documents."""

    def write(self) -> list[Document]:
        """The documents."""
        prompts = plugins.find("resd_bench.prompts", "prompt pack", "resd")
        authors = [
            Author(plugins.find("resd_bench.curricula", "curriculum", name), prompts, self.dials)
            for name in self.environments
        ]
        rng = stream(self.seed, "documents", self.block)
        return [authors[n % len(authors)].document(rng) for n in range(self.count)]


def pick(choices: Sequence[str], rng: np.random.Generator) -> str:
    """One of `choices`."""
    return choices[int(rng.integers(len(choices)))]


def numbered(lessons: Sequence[str]) -> str:
    """A playbook in the compact dialect: one numbered line per entry."""
    return "\n".join(f"{i} {text}" for i, text in enumerate(lessons, 1))


def tag_line(name: str, numbers: Sequence[int]) -> str:
    """A line of a reflection that tags entries; "" if there are none."""
    return f"\n{name}: {' '.join(map(str, numbers))}" if numbers else ""
