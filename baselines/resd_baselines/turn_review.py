"""The review of an interaction that is over: a diagnosis of each turn.

Text that cannot be read is counted and tolerated. Left out: several rounds of review, and a review
that judges entries of a playbook.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from resd_baselines.base import Attempt, share, shown
from resd_baselines.context_update import (
    ContextOptions,
    ContextUpdate,
    Generate,
    PromptRole,
    PromptWriter,
    update_context,
)
from resd_baselines.parse_replies import (
    NO_TAGS,
    Diagnoses,
    Reflection,
    parse_compact_diagnoses,
    parse_diagnoses,
)
from resd_baselines.playbook import Playbook
from resd_baselines.prompts import PACK, PromptPack
from resd_bench.types import Metrics, PromptDialect, Turn

_ENDED: Mapping[PromptDialect, tuple[str, str]] = {
    "full": ("The task was not solved.", "The task was solved."),
    "plain": ("The task was not solved.", "The task was solved."),
    "compact": ("not solved", "solved"),
}


def ended(attempt: Attempt, dialect: PromptDialect) -> str:
    """How an interaction ended, in words."""
    return _ENDED[dialect][attempt.success]


def said(turn: Turn, attempt: Attempt) -> str:
    """The answer given in a turn of `attempt`, as prompts show it."""
    return shown(turn.completion.text, attempt.show_unfinished)


def review(
    attempts: Sequence[Attempt],
    dialect: PromptDialect,
    generate: Callable[[list[str]], list[str]],
    pack: PromptPack = PACK,
) -> list[Diagnoses]:
    """One review of each attempt; a reply that cannot be read has no diagnoses."""
    read = parse_diagnoses if dialect == "full" else parse_compact_diagnoses
    replies = generate([_question(attempt, dialect, pack) for attempt in attempts])
    return [
        read(reply, len(attempt.turns)) for attempt, reply in zip(attempts, replies, strict=True)
    ]


def _question(attempt: Attempt, dialect: PromptDialect, pack: PromptPack) -> str:
    return pack.diagnose(
        dialect,
        prompt=attempt.prompt,
        actions=[said(turn, attempt) for turn in attempt.turns],
        observations=(*attempt.observations[:-1], attempt.unread),
        outcome="\n".join(filter(None, (ended(attempt, dialect), attempt.feedback))),
    )


@dataclass(frozen=True, slots=True)
class _FaultWriter(PromptWriter):
    """Takes the faults that a review found for the reflection on an attempt."""

    def read_reflection(self, text: str, playbook: Playbook) -> Reflection:
        return Reflection(text, text, NO_TAGS, bool(text))


def fault_text(found: Diagnoses, dialect: PromptDialect) -> str:
    """The faults that a review found, each once, as a curator reads them."""
    faults = dict.fromkeys(fault for fault in found.faulty if fault.text)
    if dialect != "full":
        return "\n".join(f"cause: {fault.verdict}\nlesson: {fault.text}" for fault in faults)
    return "\n".join(f"- {fault.shown}" for fault in faults)


def update_from_reviews(
    playbook: Playbook,
    attempts: Sequence[Attempt],
    reviews: Sequence[Diagnoses],
    *,
    dialect: PromptDialect,
    generate: Generate,
    options: ContextOptions,
    rng: np.random.Generator,
) -> ContextUpdate:
    """The context update of RESD, with the faults that reviews of failures found as reflections."""
    faults = [
        fault_text(found, dialect)
        for attempt, found in zip(attempts, reviews, strict=True)
        if not attempt.success
    ]

    def tell(role: PromptRole, prompts: Sequence[str]) -> list[str]:
        return faults if role == "reflect" else generate(role, prompts)

    writer = _FaultWriter(dialect)
    return update_context(
        playbook, attempts, writer=writer, generate=tell, options=options, rng=rng
    )


def review_record(
    reviews: Sequence[Diagnoses], attempts: Sequence[Attempt]
) -> list[dict[str, Any]]:
    """The reviews of an update as JSON; turns count from 1."""
    return [
        {
            "task": attempt.task_id,
            "text": found.raw,
            "turns": len(attempt.turns),
            "diagnoses": [
                {"turn": n + 1, **asdict(own)} for n, own in sorted(found.by_turn.items())
            ],
        }
        for attempt, found in zip(attempts, reviews, strict=True)
        if found.asked
    ]


def review_metrics(reviews: Sequence[Diagnoses], attempts: Sequence[Attempt]) -> Metrics:
    """What came of the reviews of an update.

    `turns/reviews` made, and `turns/unparsed_reviews` among them (nothing could be read; the
    attempt is learned from without it); `turns/diagnosed`: share of the reviewed turns with a
    diagnosis; `turns/faulty`: share of those that a diagnosis finds fault with.
    """
    made = [(r, len(a.turns)) for r, a in zip(reviews, attempts, strict=True) if r.asked]
    found = sum(len(r.by_turn) for r, _ in made)
    return {
        "turns/reviews": float(len(made)),
        "turns/unparsed_reviews": float(sum(not r.by_turn for r, _ in made)),
        "turns/diagnosed": share(found, sum(count for _, count in made)),
        "turns/faulty": share(sum(len(r.faulty) for r, _ in made), found),
    }
