"""Placebo contexts: what RESD's teacher is shown is another's, or says nothing.

Only the teacher's prompts of an update change: reflections are made, the playbook is curated and
both are recorded as ever. *Shuffled* reflections are those on other tasks of the update, each used
once; they keep the distribution of reflections and destroy what they say about this attempt. A
run has no second playbook, so the lessons of a *shuffled* one have the words of all lessons, at
random: that keeps its words, the number of lessons and their lengths, and destroys what any of
them says. *Blank* ones are filler of as many tokens. Left out: what the reflector, the curator and
an evaluation with the playbook in the prompt are shown, which stays real.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from resd_baselines.parse_replies import Reflection
from resd_baselines.playbook import Entry, Playbook
from resd_bench.rollout.placebo import Length, TextAbout, blank, exchange, manipulation
from resd_bench.types import Content, Metrics


@dataclass(frozen=True)
class ShownOptions:
    """What the teacher's reflections and playbook say; for experiments, not part of the method."""

    reflections_shown: Content = "real"
    """Reflections in the teacher's prompt: `real`; `shuffled`, those on other tasks of the update;
    or `blank`, filler of equal length. The playbook is curated from the real ones in any case."""
    playbook_shown: Content = "real"
    """Playbook in the teacher's prompt: `real`; `shuffled`, the words of all lessons permuted; or
    `blank`, filler of equal length. Reflector and curator read the real one in any case."""


def show_reflections(
    reflections: Sequence[Reflection],
    tasks: Sequence[str],
    content: Content,
    rng: np.random.Generator,
    length: Length,
) -> tuple[Sequence[Reflection], Metrics]:
    """The reflections (one per attempt, with its task) that the teacher is shown, and the check.

    One that no other task's can replace is blank, see `resd/reflections_shown/blank`, their share;
    for the other metrics see `manipulation`.
    """
    if content == "real":
        return reflections, {}
    made = [i for i, reflection in enumerate(reflections) if reflection.text.strip()]
    texts = [reflections[i].text for i in made]
    others: list[int | None] = [None] * len(made)
    if content == "shuffled" and made:
        told = [TextAbout(tasks[i], text) for i, text in zip(made, texts, strict=True)]
        others = exchange(told, rng)
    said = [
        blank(own, length) if j is None else texts[j] for own, j in zip(texts, others, strict=True)
    ]
    shown = list(reflections)
    for i, text in zip(made, said, strict=True):
        shown[i] = replace(reflections[i], text=text)
    area = "resd/reflections_shown"
    share = others.count(None) / max(1, len(others))
    pairs = list(zip(texts, said, strict=True))
    return shown, {f"{area}/blank": share, **manipulation(area, pairs, length)}


def show_playbook(
    playbook: Playbook, content: Content, rng: np.random.Generator, length: Length
) -> tuple[Playbook, Metrics]:
    """The playbook that the teacher is shown, and the check of its lessons, see `manipulation`."""
    if content == "real":
        return playbook, {}
    real = [entry.content for entry in playbook.entries]
    said = permuted(real, rng) if content == "shuffled" else [blank(text, length) for text in real]
    left = iter(said)
    lines = tuple(
        replace(line, content=next(left)) if isinstance(line, Entry) else line
        for line in playbook.lines
    )
    pairs = list(zip(real, said, strict=True))
    return replace(playbook, lines=lines), manipulation("resd/playbook_shown", pairs, length)


def permuted(texts: Sequence[str], rng: np.random.Generator) -> list[str]:
    """Texts of as many words each, with the words of all of them in random order."""
    words = [word for text in texts for word in text.split()]
    mixed = [words[i] for i in rng.permutation(len(words))]
    ends = np.cumsum([len(text.split()) for text in texts]).tolist()
    return [" ".join(mixed[end - len(t.split()) : end]) for end, t in zip(ends, texts, strict=True)]
