"""The lessons of a curriculum as a file that methods can be given, right ones or wrong ones.

    python -m resd_bench nano lessons --env finer --wrong

For experiments: a reflector that lies, a playbook that starts with lessons. Shared lessons only,
since a wrong one about a single attempt contradicts nothing elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass

from resd_bench.errors import UsageError
from resd_bench.nano.curriculum import Curriculum, Mistake
from resd_bench.nano.documents import reflection_text
from resd_bench.seeds import stream

NO_CAUSE = "the rule is not kept"
"""Cause that comes with a wrong lesson: it says nothing, since any true cause would help."""
_EXERCISES = 200
"""Drawn to meet every shared mistake."""


@dataclass(frozen=True, slots=True)
class Lesson:
    """A line of the file."""

    lesson: str
    """As an entry of a playbook."""
    reflection: str
    """As a reflection in the compact dialect."""


def shared_mistakes(curriculum: Curriculum) -> list[Mistake]:
    """Every shared mistake of a curriculum, in the order in which exercises show them."""
    rng, found = stream(0, "lessons"), dict[str, Mistake]()
    for _ in range(_EXERCISES):
        exercise = curriculum.exercise(rng)
        for key in curriculum.priors(exercise):
            if key not in found:
                found[key] = curriculum.mistake(exercise, key, rng)
    return [mistake for mistake in found.values() if mistake.shared]


def lessons(curriculum: Curriculum, *, wrong: bool) -> list[Lesson]:
    """A lesson for each shared mistake: the right one, or its opposite.

    UsageError where the curriculum words no wrong lesson.
    """
    rows = []
    for mistake in shared_mistakes(curriculum):
        for text in mistake.wrong if wrong else mistake.lessons[:1]:
            said = reflection_text([(text, mistake)])
            rows.append(Lesson(text, f"cause: {NO_CAUSE}\nlesson: {text}" if wrong else said))
    if not rows:
        raise UsageError("the curriculum has no such lesson: word `Mistake.wrong` in it")
    return rows
