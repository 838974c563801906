"""Pre-training documents: a curriculum written in the prompts that the methods use.

There are five roles, as in a run: answer a task; answer it with context (attempt, feedback,
reflection, playbook, solution in all combinations); reflect on a failure; tag what helped a
success; curate one lesson. Each document is a chat; it has several turns if its answer does, with
the context in the first of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, Protocol

import numpy as np

from resd_bench import plugins
from resd_bench.errors import UsageError
from resd_bench.nano.curriculum import Curriculum, Exercise, Mistake, TurnCurriculum
from resd_bench.nano.turn_documents import turn_document
from resd_bench.options import ABOVE_0, POSITIVE, SHARE, InRanges, coerce, field_help, field_types
from resd_bench.seeds import stream
from resd_bench.types import Turn

Share = Annotated[float, SHARE]


@dataclass(frozen=True)
class Dials(InRanges):
    """The embedded model's abilities, by construction."""

    odds: Annotated[float, ABOVE_0] = 1.0
    """Factor on the odds that an untaught answer gets a point right; below 1, success is rarer."""
    specific: Annotated[float, ABOVE_0] = 1.0
    """A further factor on these odds for mistakes of one instance, which no shared lesson cures."""
    raw: Share = 0.15
    """Repairs the visible mistake when it sees only raw feedback."""
    reflection: Share = 0.94
    """Repairs the mistake that a reflection names."""
    playbook: Share = 0.95
    """Follows a lesson of the playbook."""
    solution: Share = 0.97
    """Gets each point right when it sees a solution of the task."""
    keep: Share | Literal["prior"] = 0.95
    """Keeps what the attempt got right; prior: draws it anew, so that an attempt tells nothing."""
    keep_reflected: Annotated[float | None, SHARE] = None
    """The same where a reflection names true causes only, and also where the attempt is not shown
    then; none: a reflection makes no difference."""
    causes: Annotated[int, POSITIVE] = 1
    """Maximum number of causes that a reflection names, those that show first."""
    reflection_accuracy: Share = 0.9
    """A reflection names a cause that shows, and not some other."""
    shown_accuracy: Annotated[float | None, SHARE] = None
    """The same of reflections that an answer is shown; none: as the model's own."""
    unrelated: Share = 0.0
    """Share of the reflections shown that are on an attempt at another exercise."""
    wrong_lessons: Share = 0.0
    """Share of the lessons shown that say the opposite, and are followed as the right ones are."""
    curation_accuracy: Share = 0.97
    """A curator adds a shared lesson that is missing, and only that."""
    turns: Share = 0.0
    """Share of the documents that are about single turns, where there are several: reviews of an
    interaction, and turns answered with hindsight."""

    @classmethod
    def parse(cls, pairs: Sequence[str]) -> Dials:
        """Dials from `NAME=VALUE`, the others at their defaults; UsageError names what is wrong."""
        own: Any = cls
        hints, given = field_types(own), dict[str, Any]()
        for pair in pairs:
            name, equals, value = (part.strip() for part in pair.partition("="))
            if name not in hints or not equals:
                names = ", ".join(field_help(own))
                raise UsageError(f"--dial {pair!r}: give NAME=VALUE with a name out of {names}")
            if name in given:
                raise UsageError(f"--dial {name} is given twice: give it once")
            given[name] = coerce(f"--dial {name}", value, hints[name])
        return cls(**given)


@dataclass(frozen=True, slots=True)
class Document:
    """One chat."""

    turns: tuple[tuple[str, str], ...]
    """What the user says and what the model should reply, turn by turn."""
    final_only: bool = False
    """Only the last reply is to be learned; those before it are somebody's, with their mistakes."""

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
    def turn_teacher(self, dialect: str, **fields: str) -> str: ...
    def diagnose(
        self,
        dialect: str,
        *,
        prompt: str,
        actions: Sequence[str],
        observations: Sequence[str],
        outcome: str,
    ) -> str: ...


Mistakes = dict[str, Mistake]
NamedCauses = list[tuple[str, Mistake]]
"""Lessons as they are worded, and the mistake that each is about."""
_ATTEMPT_HIDDEN = 0.3
"""Share of answers with a reflection that `keep_reflected` teaches without their attempt."""


@dataclass(frozen=True, slots=True)
class Author:
    """Writes the documents of one curriculum with one prompt pack."""

    curriculum: Curriculum
    prompts: Prompts
    dials: Dials = Dials()
    _shared: dict[str, bool] = field(default_factory=dict)
    """Whether the mistakes of a key are shared, for the keys met so far."""

    def priors(self, exercise: Exercise) -> dict[str, float]:
        """Probability that an untaught answer is right, by misconception."""
        priors = {}
        for key, p in self.curriculum.priors(exercise).items():
            odds = self.dials.odds * (
                1.0 if self._is_shared(exercise, key) else self.dials.specific
            )
            priors[key] = p * odds / (1 - p + p * odds)
        return priors

    def _is_shared(self, exercise: Exercise, key: str) -> bool:
        if key not in self._shared:
            any_one = self.curriculum.mistake(exercise, key, np.random.default_rng(0))
            self._shared[key] = any_one.shared
        return self._shared[key]

    def document(self, rng: np.random.Generator) -> Document:
        """Draw a document of a random role."""
        exercise = self.curriculum.exercise(rng)
        curriculum, turns = self.curriculum, self.dials.turns
        if turns and isinstance(curriculum, TurnCurriculum) and rng.random() < turns:
            return Document(turn_document(self, curriculum, exercise, rng), final_only=True)
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

    def attempt(self, exercise: Exercise, rng: np.random.Generator) -> Mistakes:
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
            for text, mistake in lessons:
                if mistake.shared and mistake.key in p:
                    p[mistake.key] = _followed(priors[mistake.key], text, mistake, d.playbook)
        shows_attempt, shows_feedback = rng.random() < 0.7, rng.random() < 0.85
        if shows_attempt or (shows_feedback and rng.random() < 0.5):
            before = self.attempt(exercise, rng)
            response = self._answer(exercise, before)
            success, feedback = self.curriculum.feedback(exercise, response)
            seen = self.curriculum.visible(before)
            if shows_attempt:
                fields["previous_trial"] = response
            if shows_feedback and not success and seen is not None:
                fields["feedback"] = feedback
            told: NamedCauses = []
            if shows_attempt and not success and seen is not None and rng.random() < 0.6:
                told = self._shown_causes(exercise, before, rng)
                fields["reflection"] = reflection_text(told)
                if d.keep_reflected is not None and rng.random() < _ATTEMPT_HIDDEN:
                    fields["previous_trial"] = ""
            noticed = seen if fields["feedback"] else None
            p = self.hindsight(p, before, noticed, told, bool(fields["previous_trial"]))
            if success and shows_attempt and rng.random() < 0.5:
                solution = response
        if not solution and rng.random() < 0.2:
            solution = self._answer(exercise, {})
        if solution:
            p = dict.fromkeys(p, d.solution)
        text = self.prompts.teacher("compact", prompt=exercise.prompt, solution=solution, **fields)
        heard = d.keep != "prior" or bool(fields["reflection"])
        shown = before if fields["previous_trial"] and heard else {}
        return self._chat(exercise, text, self.draw(exercise, rng, p, shown))

    def hindsight(
        self,
        p: dict[str, float],
        before: Mistakes,
        seen: Mistake | None,
        told: NamedCauses,
        shown: bool = True,
    ) -> dict[str, float]:
        """`p` after an answer with mistakes `before`, itself `shown` or not.

        `seen` is the one that feedback on it shows, `told` are those that a reflection names.
        """
        if seen is not None:
            p[seen.key] = 1 - (1 - p[seen.key]) * (1 - self.dials.raw)
        keep = self._kept(shown, before, told)
        p |= {k: max(v, keep) for k, v in p.items() if k not in before}
        for text, named in told:
            if _is_made(named, before):
                right, rate = text in named.lessons, self.dials.reflection
                p[named.key] = max(p[named.key], rate) if right else 1 - rate
        return p

    def _kept(self, shown: bool, before: Mistakes, told: NamedCauses) -> float:
        """Least probability that what the attempt had right is right again; 0: as untaught."""
        d = self.dials
        if d.keep_reflected is not None and told and all(_is_made(m, before) for _, m in told):
            return d.keep_reflected
        return d.keep if shown and d.keep != "prior" else 0.0

    def _shown_causes(
        self, exercise: Exercise, made: Mistakes, rng: np.random.Generator
    ) -> NamedCauses:
        """What a reflection says that an answer is shown: on the attempt, or on some other."""
        d = self.dials
        if d.unrelated and rng.random() < d.unrelated:
            exercise = self.curriculum.exercise(rng)
            made = self.attempt(exercise, rng)
        accuracy = d.reflection_accuracy if d.shown_accuracy is None else d.shown_accuracy
        return self._told(exercise, made, accuracy, d.wrong_lessons, rng)

    def _told(
        self,
        exercise: Exercise,
        made: Mistakes,
        accuracy: float,
        wrong: float,
        rng: np.random.Generator,
    ) -> NamedCauses:
        """The lesson and the mistake of each cause that a reflection on an attempt names."""
        told = []
        for seen in self.visible_causes(exercise, made):
            named = self.named(exercise, seen, accuracy, rng)
            lessons = named.wrong if wrong and rng.random() < wrong else ()
            told.append((pick(lessons or named.lessons, rng), named))
        return told

    def visible_causes(self, exercise: Exercise, made: Mistakes) -> list[Mistake]:
        """The mistakes that a reflection on an attempt can name, those first that show first.

        Of several only such count as change the answer: one may hide another.
        """
        left, found = dict(made), list[Mistake]()
        several = self.dials.causes > 1
        while len(found) < self.dials.causes and (seen := self.curriculum.visible(left)):
            del left[seen.key]
            if not several or self._shows(exercise, made, seen.key):
                found.append(seen)
        return found

    def _shows(self, exercise: Exercise, made: Mistakes, key: str) -> bool:
        without = {k: m for k, m in made.items() if k != key}
        return self._answer(exercise, without) != self._answer(exercise, made)

    def named(
        self, exercise: Exercise, seen: Mistake, accuracy: float, rng: np.random.Generator
    ) -> Mistake:
        """The mistake that a reflection names: the one that is seen, or some other."""
        if rng.random() < accuracy:
            return seen
        keys = list(self.curriculum.priors(exercise))
        return self.curriculum.mistake(exercise, keys[int(rng.integers(len(keys)))], rng)

    def _lessons(self, exercise: Exercise, rng: np.random.Generator) -> NamedCauses:
        """Entries of a playbook in random order; wordings repeat, some belong elsewhere."""
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
        share = self.dials.wrong_lessons
        wrong = {m.key for m in entries if m.wrong and rng.random() < share} if share else set()
        return [
            (pick(m.wrong if m.key in wrong else m.lessons, rng), m)
            for m in (entries[int(i)] for i in order)
        ]

    def _reflection(self, exercise: Exercise, rng: np.random.Generator) -> Document:
        """A failed attempt, its feedback and a playbook; the cause, the lesson, the tags."""
        while True:
            mistakes = self.attempt(exercise, rng)
            response = self._answer(exercise, mistakes)
            success, feedback = self.curriculum.feedback(exercise, response)
            if not success and self.visible_causes(exercise, mistakes):
                break
        lessons = self._lessons(exercise, rng) if rng.random() < 0.7 else []
        told = self._told(exercise, mistakes, self.dials.reflection_accuracy, 0.0, rng)
        keys = {named.key for _, named in told}
        right = [m.shared and text in m.lessons for text, m in lessons]
        helpful = [i for i, (_, m) in enumerate(lessons, 1) if right[i - 1] and m.key in keys]
        harmful = [i for i, fits in enumerate(right, 1) if not fits]
        prompt = self.prompts.reflect(
            "compact",
            prompt=exercise.prompt,
            response=response,
            feedback=feedback,
            playbook=numbered([text for text, _ in lessons]),
        )
        reply = reflection_text(told)
        tags = tag_line("helpful", helpful) + tag_line("harmful", harmful)
        return Document(((prompt, reply + tags),))

    def _curation(self, rng: np.random.Generator) -> Document:
        """A playbook and a reflection; each lesson, if it is missing and serves other tasks."""
        exercise = self.curriculum.exercise(rng)
        told = self._some_causes(exercise, rng)
        lessons = self._lessons(exercise, rng) if rng.random() < 0.75 else []
        known = {m.key for text, m in lessons if text in m.lessons}
        texts: list[tuple[str, Mistake]] = []
        added = []
        for mistake in told:
            add = mistake.shared and mistake.key not in known
            if rng.random() >= self.dials.curation_accuracy:
                add = not add
            texts.append((pick(mistake.lessons, rng), mistake))
            added += [f"add: {texts[-1][0]}"] if add else []
        prompt = self.prompts.curate(
            "compact",
            reflection=reflection_text(texts),
            playbook=numbered([text for text, _ in lessons]),
        )
        return Document(((prompt, "\n".join(added) or "nothing"),))

    def _some_causes(self, exercise: Exercise, rng: np.random.Generator) -> list[Mistake]:
        """Causes as a reflection may name them: one drawn evenly, or those of an attempt."""
        if self.dials.causes > 1 and (
            several := self.visible_causes(exercise, self.attempt(exercise, rng))
        ):
            return several
        keys = list(self.curriculum.priors(exercise))
        return [self.curriculum.mistake(exercise, keys[int(rng.integers(len(keys)))], rng)]

    def _tags(self, exercise: Exercise, rng: np.random.Generator) -> Document:
        """A success and a playbook; the lessons that the success follows."""
        lessons = self._lessons(exercise, rng) if rng.random() < 0.85 else []
        priors = self.curriculum.priors(exercise)
        helpful = [
            i
            for i, (text, m) in enumerate(lessons, 1)
            if m.shared and m.key in priors and text in m.lessons
        ]
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


def reflection_text(told: NamedCauses) -> str:
    """A reflection in the compact dialect: a cause and its lesson, a line each."""
    return "\n".join(f"cause: {m.symptom}\nlesson: {text}" for text, m in told)


def _is_made(mistake: Mistake, made: Mapping[str, Mistake]) -> bool:
    """Whether an attempt makes just this mistake: of an instance-specific one, in its place."""
    return mistake.key in made and (mistake.shared or mistake == made[mistake.key])


def _followed(untaught: float, text: str, mistake: Mistake, rate: float) -> float:
    """Probability of being right after a lesson that is followed at `rate`, right or wrong."""
    return untaught * (1 - rate) if text in mistake.wrong else 1 - (1 - untaught) * (1 - rate)


def numbered(lessons: Sequence[str]) -> str:
    """A playbook in the compact dialect: one numbered line per entry."""
    return "\n".join(f"{i} {text}" for i, text in enumerate(lessons, 1))


def tag_line(name: str, numbers: Sequence[int]) -> str:
    """A line of a reflection that tags entries; "" if there are none."""
    return f"\n{name}: {' '.join(map(str, numbers))}" if numbers else ""
