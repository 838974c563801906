"""The context update: CONCISE, REFLECT, tag, CURATE (paper section 3, Algorithm 1, appendix D).

It is a function of a playbook, attempts and something that generates text; it neither samples nor
trains by itself. Text in the wrong format is counted and tolerated. Left out: playbooks per task,
and student prompts that show the playbook, which the paper's release has but never uses.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Annotated, Any, Literal

import numpy as np

from resd_baselines.base import Attempt
from resd_baselines.parse_replies import (
    NO_REFLECTION,
    NO_TAGS,
    Reflection,
    Tags,
    collapse_tags,
    parse_bullet_tags,
    parse_compact_curation,
    parse_compact_reflection,
    parse_compact_tags,
    parse_curator,
    parse_reflection,
)
from resd_baselines.playbook import ConciseMethod, Playbook
from resd_baselines.prompts import PACK, PromptPack
from resd_bench.options import NOT_NEGATIVE, POSITIVE, InRanges
from resd_bench.types import PromptDialect, Sampling

log = logging.getLogger(__name__)

PromptRole = Literal["reflect", "tag", "curate"]
Generate = Callable[[PromptRole, Sequence[str]], list[str]]
"""From prompts of one role to one answer each."""
Addition = tuple[str, str]
"""Section and content of a new entry."""
_CUT_OFF: Mapping[PromptDialect, str] = {
    "full": "[Here the attempt was cut off at the length limit.]",
    "compact": "( cut off )",
    "plain": "(cut off here)",
}
"""Put at the end of an attempt that was cut off, in the prompt for its reflection."""


@dataclass(frozen=True)
class WriterOptions(InRanges):
    """How a method samples what it writes itself."""

    writer_temperature: Annotated[float | None, NOT_NEGATIVE] = None
    """Sampling temperature of reflections, reviews, tags and curations (default: that of the
    rollouts)."""

    def writing(self, sampling: Sampling, seed: int) -> Sampling:
        """`sampling` as the method's own texts are sampled, with a seed of their own."""
        own = self.writer_temperature
        return replace(
            sampling, temperature=sampling.temperature if own is None else own, seed=seed
        )


@dataclass(frozen=True)
class ContextOptions(WriterOptions):
    """Options of the context update. Defaults follow the paper, else its release."""

    use_playbook: bool = True
    """Keep a playbook across steps; without it nothing is tagged or curated (ablation)."""
    tag_successes: bool = True
    """For each success, ask the model which playbook entries helped (appendix G)."""
    concise_method: ConciseMethod = "staleness"
    """How CONCISE chooses the entries to drop (appendix D: staleness in all runs of table 2)."""
    concise_frequency: Annotated[int | None, POSITIVE] = 4
    """Number of updates between two runs of CONCISE (F = K in appendix D); none: never run it."""
    max_entries: Annotated[int | None, POSITIVE] = 120
    """Maximum number of entries; CONCISE prunes back to it (M_max, appendix G); none: no limit."""
    concise_after_curation: bool = False
    """Run CONCISE again if curation exceeds the maximum (as in the release, not in the paper)."""
    drop_duplicate_lessons: bool = True
    """Drop additions that repeat an entry except for case and blanks (the paper asks for
    non-redundant additions in section 3.2; its release does not check)."""


@dataclass(frozen=True, slots=True)
class Curated:
    """One curator's answer."""

    task_id: str
    raw: str
    additions: tuple[Addition, ...] | None
    """None if the answer was discarded as invalid."""


@dataclass(frozen=True, slots=True)
class ContextUpdate:
    """The result of one context update."""

    playbook: Playbook
    reflections: tuple[Reflection, ...]
    """One per attempt; empty for successes."""
    curations: tuple[Curated, ...] = ()
    added: tuple[str, ...] = ()
    """Ids of new entries, including evicted ones."""
    evicted: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PromptWriter:
    """Writes prompts in a dialect, and parses the replies."""

    dialect: PromptDialect
    pack: PromptPack = PACK

    def playbook(self, playbook: Playbook) -> str:
        """The playbook as this dialect shows it."""
        return playbook.render() if self.dialect == "full" else playbook.render_compact()

    def reflect(self, attempt: Attempt, playbook: Playbook) -> str:
        """Prompt for a reflection."""
        return self.pack.reflect(
            self.dialect,
            prompt=attempt.prompt,
            response=self._ended(attempt),
            feedback=attempt.feedback,
            playbook=self.playbook(playbook),
        )

    def _ended(self, attempt: Attempt) -> str:
        """The answer, with a note if it was cut off."""
        return f"{attempt.shown}\n{_CUT_OFF[self.dialect]}" if attempt.cut_off else attempt.shown

    def read_reflection(self, text: str, playbook: Playbook) -> Reflection:
        """The answer to `reflect`."""
        if self.dialect != "full":
            return parse_compact_reflection(text, playbook.numbers())
        return parse_reflection(text)

    def tag(self, attempt: Attempt, playbook: Playbook) -> str:
        """Prompt for a success's tags."""
        return self.pack.tag(
            self.dialect,
            prompt=attempt.prompt,
            response=attempt.shown,
            playbook=self.playbook(playbook),
        )

    def read_tags(self, text: str, playbook: Playbook) -> Tags:
        """The answer to `tag`; no tags if it has none."""
        if self.dialect != "full":
            return parse_compact_tags(text, playbook.numbers()) or NO_TAGS
        return collapse_tags(parse_bullet_tags(text))

    def curate(self, attempt: Attempt, reflection: Reflection, playbook: Playbook) -> str:
        """Prompt for additions."""
        return self.pack.curate(
            self.dialect,
            prompt=attempt.prompt,
            reflection=reflection.text,
            playbook=self.playbook(playbook),
            stats=json.dumps(playbook.stats(), indent=2),
        )

    def read_curation(self, text: str) -> tuple[Addition, ...] | None:
        """The answer to `curate`; None if it is invalid."""
        if self.dialect != "full":
            return parse_compact_curation(text)
        try:
            return parse_curator(text).additions
        except ValueError as error:
            log.info("curation discarded: %s", error)
            return None


def written_metrics(update: ContextUpdate) -> dict[str, float]:
    """How many reflections and curations were made, and `unparsed_...` among them."""
    reflections = [r for r in update.reflections if r != NO_REFLECTION]
    return {
        "reflections": float(len(reflections)),
        "unparsed_reflections": float(sum(not r.parsed for r in reflections)),
        "curations": float(len(update.curations)),
        "unparsed_curations": float(sum(c.additions is None for c in update.curations)),
    }


def births_after(births: Mapping[str, int], update: ContextUpdate, number: int) -> dict[str, int]:
    """The update that added each entry of the playbook, once `update` was update `number`."""
    known = {**births, **dict.fromkeys(update.added, number)}
    return {e.id: known.get(e.id, number) for e in update.playbook.entries}


def as_record(
    update: ContextUpdate, attempts: Sequence[Attempt], births: Mapping[str, int], number: int
) -> dict[str, Any]:
    """A context update as JSON, for `Agent.context`; `births` are updates that added entries."""
    entries = [{**asdict(e), "born": births[e.id]} for e in update.playbook.entries]
    reflections = [
        {"task": a.task_id, "text": r.text, "parsed": r.parsed, "tags": dict(r.tags.by_id)}
        for a, r in zip(attempts, update.reflections, strict=True)
        if not a.success and r != NO_REFLECTION
    ]
    curations = [
        {
            "task": c.task_id,
            "text": c.raw,
            "parsed": c.additions is not None,
            "additions": [
                {"section": section, "content": content} for section, content in c.additions or ()
            ],
        }
        for c in update.curations
    ]
    return {
        "update": number,
        "playbook": entries,
        "added": list(update.added),
        "evicted": list(update.evicted),
        "reflections": reflections,
        "curations": curations,
    }


def update_context(
    playbook: Playbook,
    attempts: Sequence[Attempt],
    *,
    writer: PromptWriter,
    generate: Generate,
    options: ContextOptions,
    rng: np.random.Generator,
) -> ContextUpdate:
    """One context update, in the order of the paper's release."""
    if not options.use_playbook:
        return ContextUpdate(playbook, reflect(playbook, attempts, writer, generate))
    before = playbook
    due = playbook.due(options.concise_frequency, options.max_entries)
    if due:
        budget = options.max_entries if due.limit else None
        playbook = playbook.concise(options.concise_method, budget, rng)
    reflections = reflect(playbook, attempts, writer, generate)
    playbook = _apply_tags(playbook, (reflection.tags for reflection in reflections))
    if options.tag_successes:
        playbook = tag_successes(playbook, attempts, writer, generate)
    curations = curate(playbook, attempts, reflections, writer, generate)
    full = with_lessons(playbook, curations, drop_duplicates=options.drop_duplicate_lessons)
    playbook = full
    if options.concise_after_curation and full.due(None, options.max_entries):
        playbook = full.concise(options.concise_method, options.max_entries, rng)
    old = {entry.id for entry in before.entries}
    left = {entry.id for entry in playbook.entries}
    added = tuple(entry.id for entry in full.entries if entry.id not in old)
    evicted = tuple(name for name in dict.fromkeys((*sorted(old), *added)) if name not in left)
    playbook = replace(playbook, step=playbook.step + 1)
    return ContextUpdate(playbook, reflections, curations, added, evicted)


def reflect(
    playbook: Playbook, attempts: Sequence[Attempt], writer: PromptWriter, generate: Generate
) -> tuple[Reflection, ...]:
    """A reflection on every failure, an empty one for every success."""
    failures = [i for i, attempt in enumerate(attempts) if not attempt.success]
    answers = _ask(generate, "reflect", [writer.reflect(attempts[i], playbook) for i in failures])
    reflections = [NO_REFLECTION] * len(attempts)
    for i, answer in zip(failures, answers, strict=True):
        reflections[i] = writer.read_reflection(answer, playbook)
    return tuple(reflections)


def tag_successes(
    playbook: Playbook, attempts: Sequence[Attempt], writer: PromptWriter, generate: Generate
) -> Playbook:
    """The playbook after tagging the entries that fit the first success of each task."""
    asked = [attempts[i] for i in _first_by_task(attempts, success=True)]
    answers = _ask(generate, "tag", [writer.tag(attempt, playbook) for attempt in asked])
    return _apply_tags(playbook, [writer.read_tags(answer, playbook) for answer in answers])


def curate(
    playbook: Playbook,
    attempts: Sequence[Attempt],
    reflections: Sequence[Reflection],
    writer: PromptWriter,
    generate: Generate,
) -> tuple[Curated, ...]:
    """The additions from the first failure of each task, all to the same playbook."""
    failures = _first_by_task(attempts, success=False)
    prompts = [writer.curate(attempts[i], reflections[i], playbook) for i in failures]
    answers = _ask(generate, "curate", prompts)
    return tuple(
        Curated(attempts[i].task_id, answer, writer.read_curation(answer))
        for i, answer in zip(failures, answers, strict=True)
    )


def with_lessons(
    playbook: Playbook, curations: Sequence[Curated], *, drop_duplicates: bool = True
) -> Playbook:
    """The playbook with what curators add, without repetitions unless they are wanted."""
    additions = [one for curated in curations for one in curated.additions or ()]
    if drop_duplicates:
        additions = new_lessons(playbook, additions)
    return playbook.extend(additions) if additions else playbook


def new_lessons(playbook: Playbook, additions: Iterable[Addition]) -> list[Addition]:
    """The additions that repeat neither an entry nor an earlier addition."""
    known = {"", *(_words(entry.content) for entry in playbook.entries)}
    fresh: list[Addition] = []
    for section, content in additions:
        if _words(content) not in known:
            known.add(_words(content))
            fresh.append((section, content))
    return fresh


def _words(content: str) -> str:
    return " ".join(content.casefold().split())


def _ask(generate: Generate, role: PromptRole, prompts: Sequence[str]) -> list[str]:
    return generate(role, prompts) if prompts else []


def _apply_tags(playbook: Playbook, samples: Iterable[Tags]) -> Playbook:
    for tags in samples:
        playbook = playbook.tag(tags.by_id, used=tags.used)
    return playbook


def _first_by_task(attempts: Sequence[Attempt], *, success: bool) -> list[int]:
    first: dict[str, int] = {}
    for i, attempt in enumerate(attempts):
        if attempt.success == success:
            first.setdefault(attempt.task_id, i)
    return list(first.values())
