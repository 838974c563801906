"""A teacher of its own for every turn.

It sees the conversation up to the turn, then, in the message that the turn answers, the answer that
was given, the observation that followed it, and its diagnosis: nothing of later turns unless an
option says so. A turn about which nothing is known gives no example. Left out: skipping turns that
a review finds no fault with.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from resd_baselines.base import Attempt, shown
from resd_baselines.parse_replies import Diagnoses
from resd_baselines.prompts import PACK, PromptPack
from resd_baselines.teacher_prompt import Section, shorter
from resd_baselines.turn_review import ended, said
from resd_bench.types import Example, Message, PromptDialect

TurnContext = Literal["transcript", "observation", "diagnosis", "both"]
TURN_SHED: tuple[Section, ...] = ("playbook", "solution", "previous_trial", "feedback")
"""What is dropped first if the prompt of a turn's teacher is too long: what is about other attempts
before what is about this turn."""


@dataclass(frozen=True)
class TurnContextOptions:
    """What the teacher of a turn sees of the attempt."""

    turn_context: TurnContext = "transcript"
    """What the teacher of a turn sees: `transcript`: the whole attempt and the feedback at its end,
    whichever turn it is; `observation`: what followed the turn, with what the environment says of
    it; `diagnosis`: what a review of the interaction says of the turn; `both`: the last two."""
    show_later_turns: bool = False
    """Unless the context is `transcript`: also show what happened after the turn, the whole attempt
    and the feedback at its end (ablation)."""

    @property
    def own_teachers(self) -> bool:
        """Whether every turn has a teacher of its own."""
        return self.turn_context != "transcript"

    @property
    def reads_diagnoses(self) -> bool:
        """Whether a teacher reads diagnoses."""
        return self.turn_context in ("diagnosis", "both")


def turn_examples(
    attempt: Attempt,
    *,
    diagnoses: Diagnoses,
    playbook: str,
    solution: str | None,
    options: TurnContextOptions,
    weight: float,
    dialect: PromptDialect,
    pack: PromptPack = PACK,
) -> list[Example]:
    """One example for each turn about which something is known.

    `solution` is another attempt's. Neither it nor `playbook` is a reason to learn from a turn.
    """
    examples = []
    for number, turn in enumerate(attempt.turns):
        seen = _seen(attempt, number, diagnoses, options, dialect)
        if not (seen["feedback"].strip() or seen["reflection"].strip()):
            continue
        sections = {**seen, "playbook": playbook, "solution": shown(solution or "")}
        *before, asked = turn.messages
        prompts = [
            (*before, Message(asked.role, text))
            for kept in shorter(sections, TURN_SHED)
            for text in [pack.turn_teacher(dialect, prompt=asked.content, **kept)]
        ]
        longest, *less = prompts
        examples.append(
            Example(
                turn.messages,
                turn.completion,
                longest,
                weight=weight,
                shorter_teachers=tuple(less),
            )
        )
    return examples


def _seen(
    attempt: Attempt,
    number: int,
    diagnoses: Diagnoses,
    options: TurnContextOptions,
    dialect: PromptDialect,
) -> dict[Section, str]:
    """What is shown of the attempt at turn `number`."""
    last = number == len(attempt.turns) - 1
    told = [ended(attempt, dialect) if last and attempt.success else attempt.observations[number]]
    told += [note.text for note in [attempt.turns[number].feedback] if note]
    found = diagnoses.by_turn.get(number) if options.reads_diagnoses else None
    answer = said(attempt.turns[number], attempt)
    if options.turn_context == "diagnosis":
        told = []
    if options.show_later_turns:
        answer, told = attempt.shown, [*told, attempt.feedback]
    return {
        "previous_trial": answer,
        "feedback": "\n".join(dict.fromkeys(filter(None, told))),
        "reflection": found.shown if found else "",
    }
