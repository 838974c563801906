"""Parse what a model wrote: reflections, tags and curations, in all dialects.

The `full` dialect follows the paper's release: JSON somewhere in the text. Those of small models,
`plain` and `compact`, consist of `key: value` lines. Unfinished thinking stays, as in the release
(`without_reasoning`). All parsers are tolerant, take linear time, and survive hostile text (deep
nesting, huge numbers, unclosed quotes): what cannot be parsed is None or a ValueError, never a
crash.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from resd_baselines.playbook import MISTAKES
from resd_bench.parsing import without_reasoning

_FENCE = re.compile(r"```json", re.IGNORECASE | re.ASCII)
_MARK = re.compile(r'[{}"]')
_STRING_END = re.compile(r'(?:[^"\\]++|\\.)*+"', re.DOTALL)
# Ids of the two-letter section do not match, as in the release.
_ID = r'"([a-z]{3,}-[0-9]{5})"'
_ID_TAG = re.compile(rf'"id"\s*+:\s*+{_ID}\s*+,\s*+"tag"\s*+:\s*+"(\w+)"')
_TAG_ID = re.compile(rf'"tag"\s*+:\s*+"(\w+)"\s*+,\s*+"id"\s*+:\s*+{_ID}')
_KEY_LINE = re.compile(r"[ \t>*-]*+(cause|lesson|helpful|harmful|add)[ \t*]*+:(.*)", re.IGNORECASE)
_ENTRY_NUMBER = re.compile(r"[0-9]+")
VERDICTS = ("right", "needless", "invalid", "wrong")
"""Verdicts on a turn: it helped; it changed nothing or was not needed; it could not be carried out;
it led away from the goal."""
_TURN_LINE = re.compile(
    rf"[ \t>*-]*+(?:turn[ \t]++)?([0-9]{{1,6}})[ \t.):]++({'|'.join(VERDICTS)})\b[ \t]*+:?(.*)",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Tags:
    """One sample's judgements of playbook entries."""

    by_id: Mapping[str, str]
    """The last tag of each id."""
    used: tuple[str, ...] = ()
    """Every id tagged helpful or harmful in the text, even if a later tag overrode it."""


NO_TAGS = Tags({})


@dataclass(frozen=True, slots=True)
class Reflection:
    """A reflection on a failed attempt."""

    raw: str = ""
    """As sampled; "" for an attempt that was not reflected on."""
    text: str = ""
    """What the curator and the teacher read: no thinking, and no tag lines if compact."""
    tags: Tags = NO_TAGS
    parsed: bool = True
    """False if the text is not in the requested format; it is used nevertheless."""


NO_REFLECTION = Reflection()
"""Placeholder for attempts without a reflection."""


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What a review says of one turn."""

    verdict: str
    """One of `VERDICTS`."""
    text: str = ""
    """Why, and what to do instead; "" if there is nothing to say."""

    @property
    def shown(self) -> str:
        """The diagnosis as a teacher reads it."""
        return f"{self.verdict}: {self.text}" if self.text else self.verdict


@dataclass(frozen=True, slots=True)
class Diagnoses:
    """A review of an interaction, turn by turn."""

    raw: str = ""
    """As sampled."""
    asked: bool = True
    """False for an attempt that was not reviewed."""
    by_turn: Mapping[int, Diagnosis] = field(default_factory=dict)
    """By number of the turn, from 0; of two for a turn, the later one."""

    @property
    def faulty(self) -> list[Diagnosis]:
        """Those that find fault, in the order of the turns."""
        return [found for _, found in sorted(self.by_turn.items()) if found.verdict != "right"]


NO_DIAGNOSES = Diagnoses(asked=False)
"""Placeholder for attempts that were not reviewed."""


@dataclass(frozen=True, slots=True)
class Curation:
    """A valid answer of a curator."""

    reasoning: str
    operations: tuple[Mapping[str, Any], ...]

    @property
    def additions(self) -> tuple[tuple[str, str], ...]:
        """Section and content of each ADD; the other operations do nothing."""
        return tuple(
            (op["section"], op["content"])
            for op in self.operations
            if op["type"] == "ADD"
            and isinstance(op["section"], str)
            and isinstance(op["content"], str)
        )


def extract_json(text: str) -> Any:
    """The first JSON found: the whole text, a fenced block, or a balanced object; else None."""
    for candidate in _candidates(text):
        try:
            value = json.loads(candidate)
        except (ValueError, RecursionError):
            continue
        return value
    return None


def _candidates(text: str) -> Iterator[str]:
    yield text.strip()
    at = 0
    while (opening := _FENCE.search(text, at)) and (end := text.find("```", opening.end())) >= 0:
        yield text[opening.end() : end].strip()
        at = end + 3
    yield from _balanced_objects(text)


def _balanced_objects(text: str) -> Iterator[str]:
    """Outermost `{...}`, left to right; braces in strings do not count. One that never closes
    swallows the rest of the text."""
    start = text.find("{")
    while start >= 0:
        depth, at = 1, start + 1
        while depth:
            mark = _MARK.search(text, at)
            if mark is None:
                return
            at = mark.end()
            if mark[0] != '"':
                depth += 1 if mark[0] == "{" else -1
                continue
            string = _STRING_END.match(text, at)
            if string is None:
                return
            at = string.end()
        yield text[start:at]
        start = text.find("{", at)


def parse_bullet_tags(response: str) -> Any:
    """The `bullet_tags` value of a reflection, unchecked; [] if there is none.

    Text without a JSON object is searched for adjacent `"id"` and `"tag"` pairs.
    """
    response = without_reasoning(response)
    value = extract_json(response)
    if isinstance(value, dict):
        return value.get("bullet_tags", [])
    pairs = _ID_TAG.findall(response) or [(name, tag) for tag, name in _TAG_ID.findall(response)]
    return [{"id": name, "tag": tag} for name, tag in pairs]


def collapse_tags(bullet_tags: Any) -> Tags:
    """One tag per id from the result of `parse_bullet_tags`; what is not a tag is skipped."""
    by_id: dict[str, str] = {}
    used: list[str] = []
    for item in bullet_tags if isinstance(bullet_tags, list) else ():
        if not isinstance(item, dict):
            continue
        name, tag = item.get("id") or item.get("bullet"), item.get("tag", "neutral")
        if not isinstance(name, str) or not name:
            continue
        by_id[name] = tag if isinstance(tag, str) else "neutral"
        if tag in ("helpful", "harmful"):
            used.append(name)
    return Tags(by_id, tuple(dict.fromkeys(used)))


def parse_reflection(response: str) -> Reflection:
    """A reflection in the full dialect: the whole text after the thinking, and its tags."""
    text = without_reasoning(response)
    parsed = isinstance(extract_json(text), dict)
    return Reflection(response, text, collapse_tags(parse_bullet_tags(response)), parsed)


def parse_diagnoses(response: str, turns: int) -> Diagnoses:
    """A review in the full dialect, of an interaction with so many `turns`.

    An entry without a known verdict or about a turn that there was not is left out.
    """
    value = extract_json(without_reasoning(response))
    entries = value.get("diagnoses") if isinstance(value, dict) else value
    found: dict[int, Diagnosis] = {}
    for entry in entries if isinstance(entries, list) else ():
        if not isinstance(entry, dict):
            continue
        number, verdict, text = (entry.get(name) for name in ("turn", "verdict", "diagnosis"))
        verdict = verdict.strip().lower() if isinstance(verdict, str) else ""
        if type(number) is int and 1 <= number <= turns and verdict in VERDICTS:
            words = text if isinstance(text, str) else ""
            found[number - 1] = Diagnosis(verdict, " ".join(words.split()))
    return Diagnoses(response, by_turn=found)


def parse_compact_diagnoses(response: str, turns: int) -> Diagnoses:
    """The same in the compact dialect: a line `NUMBER VERDICT: TEXT` for each turn."""
    lines = map(_TURN_LINE.match, without_reasoning(response).splitlines())
    return Diagnoses(
        response,
        by_turn={
            int(line[1]) - 1: Diagnosis(line[2].lower(), line[3].strip())
            for line in lines
            if line and 1 <= int(line[1]) <= turns
        },
    )


def parse_curator(response: str) -> Curation:
    """A curation in the full dialect; ValueError says why the whole answer is discarded."""
    info = extract_json(without_reasoning(response))
    if not isinstance(info, dict) or not info:
        raise ValueError("no JSON object was found")
    reasoning, operations = info.get("reasoning"), info.get("operations")
    if not isinstance(reasoning, str):
        raise ValueError("'reasoning' is missing or not a string")
    if not isinstance(operations, list):
        raise ValueError("'operations' is missing or not a list")
    for number, op in enumerate(operations):
        if not isinstance(op, dict) or "type" not in op:
            raise ValueError(f"operation {number} is not an object with a 'type'")
        if op["type"] == "ADD" and not {"section", "content"} <= op.keys():
            raise ValueError(f"operation {number} adds without 'section' and 'content'")
    return Curation(reasoning, tuple(operations))


def parse_compact_reflection(response: str, numbers: Mapping[int, str]) -> Reflection:
    """A compact reflection: `cause:` and `lesson:` lines, optional `helpful:` and `harmful:` ones.

    `numbers` maps the numbers shown to entry ids (`Playbook.numbers`).
    """
    text = without_reasoning(response)
    found = [(line, *_key_value(line)) for line in text.splitlines()]
    words = "\n".join(line for line, key, _ in found if key not in ("helpful", "harmful")).strip()
    keys = {key for _, key, _ in found}
    tags = _compact_tags([(key, value) for _, key, value in found], numbers)
    return Reflection(response, words, tags, {"cause", "lesson"} <= keys)


def parse_compact_tags(response: str, numbers: Mapping[int, str]) -> Tags | None:
    """Compact `helpful:` and `harmful:` lines with entry numbers or `none`; None without any."""
    found = [_key_value(line) for line in without_reasoning(response).splitlines()]
    if not any(key in ("helpful", "harmful") for key, _ in found):
        return None
    return _compact_tags(found, numbers)


def parse_compact_curation(response: str) -> tuple[tuple[str, str], ...] | None:
    """Section and content of each `add:` line; () for `nothing`; None for anything else."""
    lines = without_reasoning(response).splitlines()
    added = [value for line in lines for key, value in [_key_value(line)] if key == "add" and value]
    if added:
        return tuple((MISTAKES, content) for content in added)
    said_nothing = any(line.strip().rstrip(".").lower() == "nothing" for line in lines)
    return () if said_nothing else None


def _key_value(line: str) -> tuple[str, str]:
    match = _KEY_LINE.match(line)
    return (match[1].lower(), match[2].strip()) if match else ("", line)


def _compact_tags(found: list[tuple[str, str]], numbers: Mapping[int, str]) -> Tags:
    by_id: dict[str, str] = {}
    for key, value in found:
        if key not in ("helpful", "harmful"):
            continue
        for digits in _ENTRY_NUMBER.findall(value):
            name = numbers.get(int(digits)) if len(digits) < 7 else None
            if name is not None:
                by_id[name] = key
    return Tags(by_id, tuple(by_id))
