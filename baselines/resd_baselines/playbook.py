"""The playbook: lessons that outlive a step (paper section 3.2, appendix D).

A `Playbook` is a value: every operation returns a new one. Its text form is that of the paper's
release, so that playbooks can be exchanged, blank lines and stray lines included. Left out: the
release's `reset` method and its UPDATE, MERGE and DELETE operations, which do nothing there either.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

ConciseMethod = Literal["staleness", "prioritized"]

_SECTIONS = (
    "STRATEGIES & INSIGHTS",
    "FORMULAS & CALCULATIONS",
    "CODE SNIPPETS & TEMPLATES",
    "COMMON MISTAKES TO AVOID",
    "PROBLEM-SOLVING HEURISTICS",
    "CONTEXT CLUES & INDICATORS",
    "OTHERS",
)
MISTAKES = _SECTIONS[3]
OTHERS = "others"
NO_SECTION = "general"
"""Section of everything before the first header; new entries for it go to the top of OTHERS."""

EMPTY_TEXT = "\n\n".join(f"## {name}" for name in _SECTIONS)

_SLUGS = {
    "financial_strategies_and_insights": "fin",
    "formulas_and_calculations": "calc",
    "code_snippets_and_templates": "code",
    "common_mistakes_to_avoid": "err",
    "problem_solving_heuristics": "prob",
    "context_clues_and_indicators": "ctx",
    "others": "misc",
    "meta_strategies": "meta",
}
_ENTRY = re.compile(r"\[([^\]]+)\]\s*helpful=([0-9]{1,9})\s*harmful=([0-9]{1,9})\s*::\s*(.*)")
_NUMBER = re.compile(r"-([0-9]{1,9})$")
_FRESH_UPDATES = 1
"""An unused entry is safe in the update that made it and this many updates after (appendix D)."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One lesson and how often it helped or harmed."""

    id: str
    """`<slug>-<number>`, unique and never reused."""
    section: str
    """Its section's header, as written."""
    content: str
    """One line."""
    helpful: int = 0
    harmful: int = 0
    last_used: int = 0
    """Update of its last helpful or harmful tag, else the one that added it; 0 if unknown."""

    @property
    def line(self) -> str:
        """The entry as a line of the playbook."""
        return f"[{self.id}] helpful={self.helpful} harmful={self.harmful} :: {self.content}"

    @property
    def unused(self) -> bool:
        """Whether it was never tagged helpful or harmful."""
        return self.helpful + self.harmful == 0

    @property
    def net_harmful(self) -> bool:
        """Whether it was tagged, at least as often harmful as helpful."""
        return self.harmful > 0 and self.harmful >= self.helpful


_Line = Entry | str


@dataclass(frozen=True, slots=True)
class Trigger:
    """Which of the two conditions for CONCISE hold (appendix D)."""

    frequency: bool
    limit: bool

    def __bool__(self) -> bool:
        return self.frequency or self.limit


@dataclass(frozen=True, slots=True)
class Playbook:
    """Entries under section headers, when they were last used, and two counters."""

    lines: tuple[_Line, ...] = tuple(EMPTY_TEXT.split("\n"))
    """Headers, blank and stray lines as text, entries as values, in the order of the text."""
    used: Mapping[str, int] = field(default_factory=dict)
    """Update of the last tag, by id, including ids that the model made up."""
    next_id: int = 1
    """Number of the next entry."""
    step: int = 0
    """Number of completed context updates, with which tags and additions are dated."""

    @classmethod
    def parse(
        cls,
        text: str,
        *,
        last_used: Mapping[str, int] | None = None,
        step: int = 0,
        next_id: int | None = None,
    ) -> Playbook:
        """Read the text form; `next_id` follows the largest number in it unless given."""
        used = dict(last_used or {})
        lines: list[_Line] = [_read(raw) or raw for raw in text.split("\n")]
        if next_id is None:
            numbers = (_NUMBER.search(line.id) for line in lines if isinstance(line, Entry))
            next_id = 1 + max((int(number[1]) for number in numbers if number), default=0)
        return cls(_stamped(lines, used), used, next_id, step)

    def render(self) -> str:
        """The text form; `parse` reads it back."""
        return "\n".join(line.line if isinstance(line, Entry) else line for line in self.lines)

    @property
    def entries(self) -> tuple[Entry, ...]:
        """The entries in the order of the text."""
        return tuple(line for line in self.lines if isinstance(line, Entry))

    @property
    def headers_only(self) -> bool:
        """Whether the text is that of a new playbook, which prompts should not show."""
        return self.render().strip() == EMPTY_TEXT

    def render_compact(self) -> str:
        """One numbered line per entry, from 1; "" without entries."""
        return "\n".join(f"{i} {entry.content}" for i, entry in enumerate(self.entries, 1))

    def numbers(self) -> dict[int, str]:
        """Entry id by its number in `render_compact`."""
        return {i: entry.id for i, entry in enumerate(self.entries, 1)}

    def tag(self, tags: Mapping[str, str], *, used: Iterable[str] = ()) -> Playbook:
        """Count one sample's judgement of each entry; tags other than the two do not count.

        For ids that no entry has, only the date is kept. `used` holds further ids to date: those
        whose helpful or harmful tag was overridden by a later tag of the same sample.
        """
        if not tags:
            return self
        dated = dict.fromkeys(used, self.step)
        dated |= {name: self.step for name, tag in tags.items() if tag in ("helpful", "harmful")}
        records = {**self.used, **dated}
        lines: list[_Line] = []
        for line in _stripped(self.lines):
            if isinstance(line, Entry):
                tag = tags.get(line.id)
                won, lost = line.helpful + (tag == "helpful"), line.harmful + (tag == "harmful")
                lines.append(replace(line, helpful=won, harmful=lost))
            elif not line.strip() or line.strip().startswith("#"):
                lines.append(line)
        return replace(self, lines=_stamped(lines, records), used=records)

    def add(self, section: str, content: str) -> Playbook:
        """Append one new entry to a section; unknown sections become OTHERS."""
        return self.extend([(section, content)])

    def extend(self, additions: Sequence[tuple[str, str]]) -> Playbook:
        """Append new entries, each a section and a content, numbered in this order.

        Stray lines are dropped. An entry goes to the end of its section, after the blank line;
        those without a section (`general`) go to the top of OTHERS.
        """
        kept = [line for line in _stripped(self.lines) if _belongs(line)]
        known = {_normal(header) for line in kept if (header := _header(line))}
        new: dict[str, list[Entry]] = {}
        for number, (wanted, content) in enumerate(additions, self.next_id):
            key = _normal(wanted)
            key = key if key in known or key == NO_SECTION else OTHERS
            entry = Entry(f"{slug(key)}-{number:05d}", key, " ".join(content.splitlines()).strip())
            new.setdefault(key, []).append(entry)
        lines = _placed(kept, new)
        undated = {line.id: self.step for line in lines if isinstance(line, Entry)}
        # The date of an id that the model once made up stays, as in the release.
        used = {**undated, **self.used}
        next_id = self.next_id + len(additions)
        return replace(self, lines=_stamped(lines, used), used=used, next_id=next_id)

    def due(self, frequency: int | None, limit: int | None) -> Trigger:
        """Whether CONCISE must run before this update: every `frequency` updates, or over `limit`.

        A budget is binding only because of the limit.
        """
        return Trigger(
            frequency=bool(frequency) and self.step > 0 and self.step % (frequency or 1) == 0,
            limit=bool(limit) and len(self.entries) > (limit or 0),
        )

    def concise(
        self,
        method: ConciseMethod = "staleness",
        budget: int | None = None,
        rng: np.random.Generator | None = None,
    ) -> Playbook:
        """CONCISE (appendix D): drop net harmful entries, old unused ones, then down to `budget`.

        `prioritized` drops every unused entry, then random helpful ones. `staleness` drops
        entries unused since before the last update, then the least recently used, ties at random.
        Without `rng`, the first in the text is dropped first. With `budget` None nothing further is
        dropped.
        """
        if method not in ("staleness", "prioritized"):
            raise ValueError(f"concise method {method!r} is not 'staleness' or 'prioritized'")
        gone = {e.id for e in self.entries if e.net_harmful}
        for entry in self.entries:
            age = self.step - self.used.get(entry.id, 0)
            if entry.unused and (method == "prioritized" or age > _FRESH_UPDATES):
                gone.add(entry.id)
        rest = [e for e in self.entries if e.id not in gone]
        over = 0 if budget is None else max(0, len(rest) - budget)
        if over and rng is not None:
            rng.shuffle(rest)
        if method == "staleness":
            rest.sort(key=lambda e: self.used.get(e.id, 0))
        gone |= {e.id for e in rest[:over]}
        lines = _single_spaced(
            line
            for line in _stripped(self.lines)
            if not (isinstance(line, Entry) and line.id in gone)
        )
        left = {line.id for line in lines if isinstance(line, Entry)}
        used = {name: at for name, at in self.used.items() if name in left}
        return replace(self, lines=lines, used=used)

    def stats(self) -> dict[str, Any]:
        """Statistics for the curator: totals, classes, and counts by section."""
        by_section: dict[str, dict[str, int]] = {}
        for e in self.entries:
            counts = by_section.setdefault(e.section, {"count": 0, "helpful": 0, "harmful": 0})
            counts["count"] += 1
            counts["helpful"] += e.helpful
            counts["harmful"] += e.harmful
        return {
            "total_bullets": len(self.entries),
            "high_performing": sum(e.helpful > 5 and e.harmful < 2 for e in self.entries),
            "problematic": sum(e.net_harmful for e in self.entries),
            "unused": sum(e.unused for e in self.entries),
            "by_section": by_section,
        }

    def to_state(self) -> dict[str, Any]:
        """Plain values that `from_state` restores exactly."""
        used = dict(self.used)
        return {"text": self.render(), "used": used, "next_id": self.next_id, "step": self.step}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Playbook:
        """The playbook that `to_state` was called on."""
        return cls.parse(
            state["text"],
            last_used=state["used"],
            step=int(state["step"]),
            next_id=int(state["next_id"]),
        )


def slug(section: str) -> str:
    """Short name of a section, the first part of its entries' ids."""
    name = _normal(section.strip())
    if name in _SLUGS:
        return _SLUGS[name]
    words = name.split("_")
    return words[0][:4] if len(words) == 1 else "".join(word[:1] for word in words[:5])


def _normal(section: str) -> str:
    return section.lower().replace(" ", "_").replace("&", "and")


def _read(line: str) -> Entry | None:
    match = _ENTRY.match(line.strip())
    if match is None:
        return None
    name, helpful, harmful, content = match.groups()
    return Entry(name, NO_SECTION, content, int(helpful), int(harmful))


def _header(line: _Line) -> str:
    """The section that a line opens; "" if it is not a header."""
    if isinstance(line, Entry) or not line.strip().startswith("##"):
        return ""
    return line.strip()[2:].strip()


def _belongs(line: _Line) -> bool:
    return isinstance(line, Entry) or not line.strip() or line.strip().startswith("##")


def _stripped(lines: Sequence[_Line]) -> list[_Line]:
    """The lines without blank ones at both ends."""
    solid = [i for i, line in enumerate(lines) if isinstance(line, Entry) or line.strip()]
    return list(lines[solid[0] : solid[-1] + 1]) if solid else [""]


def _single_spaced(lines: Iterable[_Line]) -> tuple[_Line, ...]:
    """The lines with runs of blank ones collapsed to one."""
    kept: list[_Line] = []
    blank = False
    for line in lines:
        was, blank = blank, isinstance(line, str) and not line.strip()
        if not (was and blank):
            kept.append(line)
    return tuple(kept)


def _placed(lines: Sequence[_Line], new: Mapping[str, Sequence[Entry]]) -> list[_Line]:
    """`lines` with the new entries of each section at its end, the rest at the top of OTHERS."""
    waiting = dict(new)
    placed: list[_Line] = []
    current = ""
    for line in lines:
        if header := _header(line):
            placed += waiting.pop(current, ())
            current = _normal(header)
        placed.append(line)
    placed += waiting.pop(current, ())
    homeless = sorted((e for group in waiting.values() for e in group), key=_number)
    top = next((i for i, line in enumerate(placed) if _header(line) == "OTHERS"), None)
    at = len(placed) if top is None else top + 1
    return [*placed[:at], *homeless, *placed[at:]]


def _number(entry: Entry) -> int:
    return int(entry.id.rpartition("-")[2])


def _stamped(lines: Iterable[_Line], used: Mapping[str, int]) -> tuple[_Line, ...]:
    """`lines` with each entry's section (from its position) and date filled in."""
    stamped: list[_Line] = []
    section = NO_SECTION
    for line in lines:
        section = _header(line) or section
        if isinstance(line, Entry):
            line = replace(line, section=section, last_used=used.get(line.id, 0))
        stamped.append(line)
    return tuple(stamped)
