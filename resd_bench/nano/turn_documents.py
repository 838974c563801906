"""Pre-training documents about single turns: reviews, and turns answered with hindsight.

A review says of every turn of an interaction whether it was right, and gives the lesson where it
was not. A turn with hindsight is answered after its message shows the answer that was given, what
followed it and its diagnosis. It repairs, keeps and draws anew by the rates of documents that show
a whole attempt, its feedback and a reflection: neither form of hindsight is read better than the
other by construction.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from resd_bench.nano.curriculum import CheckedTurn, Exercise, Mistake, TurnCurriculum

if TYPE_CHECKING:
    from resd_bench.nano.documents import Author

_REVIEWS = 0.45
"""Share of reviews among these documents."""
_SHOWN = {"observation": 0.3, "diagnosis": 0.2, "both": 0.5}
"""What hindsight shows, and how often."""
_ENDED = ("not solved", "solved")

Chat = tuple[tuple[str, str], ...]
"""What the user says and what the model should reply, turn by turn."""


def turn_document(
    author: Author, curriculum: TurnCurriculum, exercise: Exercise, rng: np.random.Generator
) -> Chat:
    """Draw a document about single turns."""
    if rng.random() < _REVIEWS:
        return _review(author, curriculum, exercise, rng)
    return _hindsight(author, curriculum, exercise, rng)


def _review(
    author: Author, curriculum: TurnCurriculum, exercise: Exercise, rng: np.random.Generator
) -> Chat:
    mistakes = author.attempt(exercise, rng)
    turns = curriculum.checked(exercise, mistakes)
    success, feedback = _end(author, exercise, turns)
    prompt = author.prompts.diagnose(
        "compact",
        prompt=exercise.prompt,
        actions=[turn.said for turn in turns],
        observations=[*(turn.asked for turn in turns[1:]), ""],
        outcome="\n".join(filter(None, (_ENDED[success], feedback))),
    )
    said = [_worded(turn, _named(author, exercise, turn, rng)) for turn in turns]
    return ((prompt, "\n".join(f"{n} {text}" for n, text in enumerate(said, 1))),)


def _hindsight(
    author: Author, curriculum: TurnCurriculum, exercise: Exercise, rng: np.random.Generator
) -> Chat:
    made = author.attempt(exercise, rng)
    turns = curriculum.checked(exercise, made)
    at = int(rng.integers(len(turns)))
    turn, last = turns[at], at == len(turns) - 1
    success, feedback = _end(author, exercise, turns)
    shown = str(rng.choice(list(_SHOWN), p=list(_SHOWN.values())))
    followed = (_ENDED[1] if success else feedback) if last else turns[at + 1].asked
    followed = "\n".join(dict.fromkeys(filter(None, (followed, turn.note))))
    named = _named(author, exercise, turn, rng)
    prompt = author.prompts.turn_teacher(
        "compact",
        prompt=turn.asked,
        playbook="",
        previous_trial=turn.said,
        feedback="" if shown == "diagnosis" else followed,
        reflection="" if shown == "observation" else _worded(turn, named),
        solution="",
    )
    seen = turn.fault if shown != "diagnosis" else None
    told = [named] if named and shown != "observation" else []
    rates = author.hindsight(author.priors(exercise), made, seen, told)
    again = author.draw(exercise, rng, rates, made)
    reply = curriculum.instead(exercise, [own.said for own in turns[:at]], again)
    praised = turn.fault is None and shown != "observation"
    if praised and rng.random() < author.dials.reflection:
        reply = turn.said
    return (*((own.asked, own.said) for own in turns[:at]), (prompt, reply))


def _named(
    author: Author, exercise: Exercise, turn: CheckedTurn, rng: np.random.Generator
) -> tuple[str, Mistake] | None:
    """A lesson about the fault of a turn, now and then about another, and which it is about."""
    if turn.fault is None:
        return None
    named = author.named(exercise, turn.fault, author.dials.reflection_accuracy, rng)
    return named.lessons[int(rng.integers(len(named.lessons)))], named


def _worded(turn: CheckedTurn, named: tuple[str, Mistake] | None) -> str:
    """A verdict and, of a turn with a fault, a lesson."""
    return turn.verdict if named is None else f"{turn.verdict}: {named[0]}"


def _end(author: Author, exercise: Exercise, turns: Sequence[CheckedTurn]) -> tuple[bool, str]:
    """Whether the interaction succeeded, and the feedback at its end."""
    lines = [f"> {turns[0].said}"]
    for turn in turns[1:]:
        lines += [turn.asked, f"> {turn.said}"]
    return author.curriculum.feedback(exercise, "\n".join(lines))
