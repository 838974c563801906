"""The FiNER curriculum of the embedded model: tagging with known misconceptions.

Eleven misconceptions can spoil an answer. Eight are shared: three of form (no answer element, no
commas, a prefix before each tag) and one for each aspect that is taken for another (a percent for
an amount, and so on). Three are instance-specific and only a reflection on the attempt can name
them: a question left out, two answers exchanged, one instrument confused with its neighbour.
Pre-training never uses the tags of an item of the environment in their order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property

import numpy as np

from resd_bench.nano.curriculum import Exercise, Mistake, OrderedCurriculum
from resd_bench.types import Task
from resd_envs.finer.compact import TAGS, build_splits, draw, fingerprint, parts, questions
from resd_envs.finer.scoring import score

ORDER = (
    "element",
    "comma",
    "prefix",
    "omit",
    "swap",
    "rate",
    "term",
    "fair",
    "left",
    "cost",
    "slip",
)
"""Misconceptions in the order in which feedback reveals them."""

PRIORS = {
    "element": 0.50,
    "comma": 0.50,
    "prefix": 0.50,
    "omit": 0.92,
    "swap": 0.92,
    "rate": 0.40,
    "term": 0.40,
    "fair": 0.40,
    "left": 0.40,
    "cost": 0.40,
    "slip": 0.88,
}
"""How often an untaught answer gets each point right."""

CONFUSED = {"Rate": "Amount", "Term": "Rate", "Fair": "Amount", "Left": "Amount", "Cost": "Amount"}
"""What the misconception about an aspect takes it for."""

NEIGHBOUR = {
    "Loan": "Note",
    "Note": "Loan",
    "Bond": "Fund",
    "Fund": "Bond",
    "Lease": "Plan",
    "Plan": "Lease",
    "Line": "Swap",
    "Swap": "Line",
}

SHARED = {
    mistake.key: mistake
    for mistake in (
        Mistake(
            "element",
            "the tags are in no answer element",
            (
                "write <answer> before the tags and </answer> after",
                "put tags in <answer> </answer>",
            ),
            True,
        ),
        Mistake(
            "comma",
            "the tags run together",
            ("write a comma between tags", "separate tags by commas"),
            True,
        ),
        Mistake(
            "prefix",
            "each tag has a prefix",
            ("write tags without the prefix us", "leave out us before a tag"),
            True,
        ),
        Mistake(
            "rate",
            "a percent is tagged Amount",
            ("% is Rate not Amount", "tag a percent as Rate"),
            True,
        ),
        Mistake(
            "term",
            "years are tagged Rate",
            ("years is Term not Rate", "tag years as Term"),
            True,
        ),
        Mistake(
            "fair",
            "a market value is tagged Amount",
            ("at market is Fair not Amount", "tag what is at market as Fair"),
            True,
        ),
        Mistake(
            "left",
            "what is unused is tagged Amount",
            ("unused is Left not Amount", "tag what is unused as Left"),
            True,
        ),
        Mistake(
            "cost",
            "a fee is tagged Amount",
            ("fee is Cost not Amount", "tag a fee as Cost"),
            True,
        ),
    )
}


class FinerCurriculum(OrderedCurriculum):
    """See `resd_bench.nano.curriculum.Curriculum`."""

    order = ORDER

    @cached_property
    def reserved(self) -> frozenset[str]:
        """Fingerprints of every item of every split."""
        return frozenset(
            fingerprint(item.gold) for items in build_splits().values() for item in items
        )

    def exercise(self, rng: np.random.Generator) -> Exercise:
        while True:
            item = draw(rng)
            if fingerprint(item.gold) not in self.reserved:
                return _exercise(item.context, item.gold)

    def of_task(self, task: Task) -> Exercise:
        return _exercise(task.prompt, task.data["gold"])

    def priors(self, exercise: Exercise) -> Mapping[str, float]:
        asked = {parts(tag)[1].lower() for tag in exercise.content}
        unasked = {aspect.lower() for aspect in CONFUSED} - asked
        return {key: PRIORS[key] for key in ORDER if key not in unasked}

    def mistake(self, exercise: Exercise, key: str, rng: np.random.Generator) -> Mistake:
        if key in SHARED:
            return SHARED[key]
        last = len(exercise.content) - (key == "swap")
        at = int(rng.integers(last))
        thing = parts(exercise.content[at])[0]
        n, where = at + 1, (at, exercise.content[at])
        if key == "omit":
            lessons = (f"answer question {n} too", f"do not leave out question {n}")
            return Mistake(key, f"question {n} is left out", lessons, False, where)
        if key == "swap":
            lessons = (f"exchange answers {n} and {n + 1}", f"answer {n} belongs at {n + 1}")
            return Mistake(key, f"answers {n} and {n + 1} are exchanged", lessons, False, where)
        other = NEIGHBOUR[thing]
        lessons = (f"question {n} is about {thing} not {other}", f"{n} must be {thing}")
        return Mistake(key, f"{n} says {other}", lessons, False, where)

    def answer(self, exercise: Exercise, mistakes: Mapping[str, Mistake]) -> str:
        tags = [_aspect(tag, mistakes) for tag in exercise.content]
        if "slip" in mistakes:
            at = mistakes["slip"].where[0]
            thing, aspect = parts(tags[at])
            tags[at] = NEIGHBOUR[thing] + aspect
        if "swap" in mistakes:
            at = mistakes["swap"].where[0]
            tags[at], tags[at + 1] = tags[at + 1], tags[at]
        if "omit" in mistakes:
            del tags[mistakes["omit"].where[0]]
        prefix = "us:" if "prefix" in mistakes else ""
        line = (" " if "comma" in mistakes else ",").join(prefix + tag for tag in tags)
        return line if "element" in mistakes else f"<answer>{line}</answer>"

    def feedback(self, exercise: Exercise, response: str) -> tuple[bool, str]:
        asked = questions(exercise.prompt)
        verdict = score(
            response, exercise.content, questions=asked, options=TAGS, dialect="compact"
        )
        return verdict.success, verdict.render(3)


def _exercise(prompt: str, gold: Sequence[str]) -> Exercise:
    return Exercise(prompt, "tags", tuple(gold), fingerprint(gold))


def _aspect(tag: str, mistakes: Mapping[str, Mistake]) -> str:
    """A tag as one with these misconceptions writes it."""
    thing, aspect = parts(tag)
    return thing + CONFUSED[aspect] if aspect.lower() in mistakes else tag


CURRICULUM = FinerCurriculum()
