"""Reading model output: the official rules, and hostile text."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resd_baselines.parse_replies import (
    collapse_tags,
    parse_bullet_tags,
    parse_compact_curation,
    parse_compact_reflection,
    parse_compact_tags,
    parse_curator,
    parse_reflection,
)
from resd_baselines.playbook import MISTAKES
from resd_bench.parsing import without_reasoning

NUMBERS = {1: "err-00004", 2: "misc-00009"}


def load(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def test_thinking_is_removed_as_in_the_reference(fixtures: Path) -> None:
    for case in load(fixtures / "playbook_ops" / "strip_thinking.json"):
        assert without_reasoning(case["text"]) == case["stripped"]


def test_tags_are_read_as_in_the_reference(fixtures: Path) -> None:
    for case in load(fixtures / "playbook_ops" / "parse_bullet_tags.json"):
        assert case["result"]["ok"]
        assert parse_bullet_tags(case["response"]) == case["result"]["value"]


def test_curations_are_read_or_refused_as_in_the_reference(fixtures: Path) -> None:
    for case in load(fixtures / "playbook_ops" / "parse_curator.json"):
        if case["result"]["ok"]:
            curation = parse_curator(case["response"])
            expected = case["result"]["value"]
            assert curation.reasoning == expected["reasoning"]
            assert list(curation.operations) == expected["operations"]
        else:
            with pytest.raises(ValueError, match=r"."):
                parse_curator(case["response"])


def test_tags_that_are_none_are_passed_over() -> None:
    odd = [None, 3, {}, {"id": 7, "tag": "helpful"}, {"id": "a", "tag": ["helpful"]}, "b"]
    assert dict(collapse_tags(odd).by_id) == {"a": "neutral"}
    for value in (None, {"a": "helpful"}, "helpful", 3):
        assert collapse_tags(value) == collapse_tags([])


def test_additions_that_are_not_text_are_passed_over() -> None:
    operations = [
        {"type": "ADD", "section": ["others"], "content": "x"},
        {"type": "ADD", "section": "others", "content": {"x": 1}},
        {"type": "ADD", "section": "others", "content": "kept"},
        {"type": ["ADD"]},
    ]
    text = json.dumps({"reasoning": "", "operations": operations})
    assert parse_curator(text).additions == (("others", "kept"),)


def test_a_reflection_without_json_is_used_and_called_unparsed() -> None:
    reflection = parse_reflection("hm</think> I misread the task.")
    assert (reflection.text, reflection.parsed) == ("I misread the task.", False)
    assert parse_reflection('{"key_insight": "read"}').parsed


def test_a_compact_reflection_loses_its_tag_lines_and_keeps_the_rest() -> None:
    text = "cause: off by one\nlesson: count from 0\nhelpful: 1\nharmful: 2, 9"
    reflection = parse_compact_reflection(text, NUMBERS)
    assert reflection.parsed
    assert reflection.text == "cause: off by one\nlesson: count from 0"
    assert dict(reflection.tags.by_id) == {"err-00004": "helpful", "misc-00009": "harmful"}


@pytest.mark.parametrize("text", ["", "it failed", "lesson: x", "cause: x\nhelpful: 1"])
def test_a_compact_reflection_needs_a_cause_and_a_lesson(text: str) -> None:
    reflection = parse_compact_reflection(text, NUMBERS)
    assert not reflection.parsed
    assert reflection.raw == text


def test_compact_tags_know_none_from_nothing() -> None:
    tags = parse_compact_tags("helpful: none", NUMBERS)
    assert tags is not None
    assert not tags.by_id
    assert parse_compact_tags("well", NUMBERS) is None


def test_compact_curations_add_lines_or_nothing() -> None:
    assert parse_compact_curation("add: a\n Add : b") == ((MISTAKES, "a"), (MISTAKES, "b"))
    assert parse_compact_curation(" nothing.") == ()
    for text in ("", "add:", "nothing new here", "the playbook is fine"):
        assert parse_compact_curation(text) is None


MEGA = 1_000_000
HOSTILE = {
    "deep arrays": "[" * MEGA,
    "deep objects": '{"a":' * (MEGA // 5),
    "closed deep objects": '{"a":' * 100_000 + "1" + "}" * 100_000,
    "open braces": "{" * MEGA,
    "pairs of braces": "{}x" * (MEGA // 3),
    "quotes": '{"' * (MEGA // 2),
    "backslashes": '{"' + "\\" * MEGA,
    "fences": "```json " * (MEGA // 8),
    "one fence and blanks": "```json" + " " * MEGA,
    "openers": "<think>" * (MEGA // 7),
    "blocks": "<think>x</think> " * (MEGA // 17),
    "blanks after a tag": "</think>" + " " * MEGA,
    "ids and blanks": '"id" : ' + ' "abc-00001" ,' + " " * MEGA,
    "many ids": '"id"' * (MEGA // 4),
    "letters": '"id":"' + "a" * MEGA,
    "huge number": '{"a": ' + "9" * MEGA + "}",
    "numbers": "helpful: " + "1 " * (MEGA // 2),
    "one number": "helpful: " + "9" * MEGA,
    "stars": "*" * MEGA + "\n" + "- " * (MEGA // 2),
    "surrogates": "\ud800{\ud800}" * 1000,
    "nulls": "\x00" * MEGA,
}
READERS: list[Callable[[str], object]] = [
    without_reasoning,
    parse_bullet_tags,
    parse_reflection,
    lambda text: parse_compact_reflection(text, NUMBERS),
    lambda text: parse_compact_tags(text, NUMBERS),
    parse_compact_curation,
]


@pytest.mark.slow
@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_text_of_a_megabyte_is_survived_in_seconds(name: str) -> None:
    started = time.process_time()
    for read in READERS:
        read(HOSTILE[name])
    with contextlib.suppress(ValueError):
        parse_curator(HOSTILE[name])
    assert time.process_time() - started < 8


@pytest.mark.slow
@given(st.text(alphabet='{}[]":,\\ \n`abjnosthink</>0-9'))
def test_any_text_is_survived(text: str) -> None:
    for read in READERS:
        read(text)
    with contextlib.suppress(ValueError):
        parse_curator(text)
