"""Answers are found in responses as the released graders find them."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resd_bench.parsing import last_answer_tag, last_code_block, visible_answer, without_reasoning


def test_answers_are_extracted_as_in_the_reference(fixtures: Path) -> None:
    for line in (fixtures / "envs/extraction.jsonl").read_text(encoding="utf-8").splitlines():
        record = json.loads(line)
        if "answer_tag" in record:
            assert last_answer_tag(record["text"]) == record["answer_tag"], record
        else:
            for tag in ("manufactoria", "python"):
                assert last_code_block(record["text"], tag) == record[tag], record


@pytest.mark.parametrize(
    ("text", "block"),
    [
        ("no fence", None),
        ("```one fence", None),
        ("``````", ""),
        ("```dsl\na\n```", "a"),
        ("```python\na\n```", "python\na"),
        ("```dsl\na\n``` and ```\nb\n```", "b"),
        ("```dsl\na\n``` and ```dsl\nb", "a"),
    ],
)
def test_the_last_pair_of_fences_holds_the_block(text: str, block: str | None) -> None:
    assert last_code_block(text, "dsl") == block


@given(st.text(st.sampled_from("`dsl\n "), max_size=40))
def test_a_block_never_holds_a_fence(text: str) -> None:
    block = last_code_block(text, "dsl")
    assert block is None or "```" not in block


@given(st.lists(st.sampled_from(["<think>", "</think>", "<answer>", "</answer>", "a", " "])))
def test_text_without_reasoning_is_a_subsequence(parts: list[str]) -> None:
    symbols = iter("".join(parts))
    assert all(symbol in symbols for symbol in without_reasoning("".join(parts)))


@pytest.mark.parametrize(
    "piece", ["`", "```", "```dsl", "``", "<think>", "</think>", "<answer>", "<", "</answer>", " "]
)
@pytest.mark.parametrize("extract", [lambda t: last_code_block(t, "dsl"), last_answer_tag])
def test_a_megabyte_takes_no_longer_than_a_second(
    piece: str, extract: Callable[[str], str | None]
) -> None:
    begin = time.process_time()
    extract("<think>" + piece * (1_000_000 // len(piece)))
    assert time.process_time() - begin < 1


TAGS = ("<think>", "</think>", "<thi", "nk>", "</thi", "a", " ", "\n", "```", "<answer>")


@pytest.mark.slow
@settings(max_examples=400)
@given(st.lists(st.sampled_from(TAGS), max_size=16))
def test_a_visible_answer_has_no_tag_left_and_is_its_own_visible_answer(parts: list[str]) -> None:
    answer = visible_answer("".join(parts))
    assert "<think>" not in answer
    assert "</think>" not in answer
    assert visible_answer(answer) == answer


@given(st.text(st.sampled_from("<think/> \n")))
def test_text_without_a_tag_is_all_visible(text: str) -> None:
    if "<think>" not in text and "</think>" not in text:
        assert visible_answer(text) == without_reasoning(text) == text


@settings(max_examples=300)
@given(
    st.lists(st.sampled_from(["<think>plan</think>\n", "words ", "\n"]), max_size=8), st.booleans()
)
def test_of_finished_reasoning_the_release_leaves_the_same(parts: list[str], opened: bool) -> None:
    text = ("" if opened else "plan</think> ") + "".join(parts)
    assert visible_answer(text) == without_reasoning(text)


def test_unfinished_reasoning_is_not_visible_and_the_release_keeps_it() -> None:
    assert visible_answer("a <think>b") == "a "
    assert without_reasoning("a <think>b") == "a <think>b"
    assert visible_answer("a</think> b</think> c") == "c"
    assert without_reasoning("a</think> b</think> c") == "b</think> c"


@pytest.mark.parametrize(
    "unit", ["<think>", "</think>", "<think>a</think>", "</thi<think></think>nk>"]
)
def test_a_visible_answer_takes_linear_time(unit: str) -> None:
    begin = time.process_time()
    visible_answer(unit * (1_000_000 // len(unit)))
    assert time.process_time() - begin < 2
