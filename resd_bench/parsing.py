"""Find the answer in a model's response.

`visible_answer` is the part of a response that is graded and shown: everything but the reasoning.
In it, the answer follows one of two conventions: the last fenced code block, or the last `<answer>`
element. All functions read hostile text in linear time. What the answer means is up to the
environment. Left out: reasoning marked by anything but `<think>`.
"""

from __future__ import annotations

import re
from typing import Literal

Grade = Literal["answer", "release"]
"""Which part of a response is graded: `answer`: the visible answer; `release`: what the paper's
released verifier of the task reads, if there is one."""

FENCE = "```"
_OPEN, _CLOSE = "<think>", "</think>"
_WHITESPACE = re.compile(r"\s*+")
_ANSWER_OPEN, _ANSWER_CLOSE = "<answer>", "</answer>"


def last_code_block(text: str, tag: str) -> str | None:
    """The last fenced block of `text`, stripped; None if there is no pair of fences.

    Fences are paired from left to right. `tag` right after an opening fence is dropped; any other
    word there belongs to the block, so a block in another language is taken as it is.
    """
    block: str | None = None
    opening = text.find(FENCE)
    while opening >= 0:
        begin = opening + len(FENCE)
        if text.startswith(tag, begin):
            begin += len(tag)
        end = text.find(FENCE, begin)
        if end < 0:
            break
        block = text[begin:end]
        opening = text.find(FENCE, end + len(FENCE))
    return None if block is None else block.strip()


def visible_answer(response: str) -> str:
    """`response` without its reasoning, finished or not: no thinking tag is left in it.

    Reasoning runs from `<think>` to the next `</think>`, or to the end if it is never closed. A
    `</think>` without an opening tag closes reasoning that began before the text. Whitespace after
    a closing tag is removed too. Applying this to its own result changes nothing.
    """
    while _OPEN in response or _CLOSE in response:
        rest = _without_elements(response)
        begin = _after(rest, rest.rfind(_CLOSE))
        end = rest.find(_OPEN, begin)
        # The text around a removed element may itself spell a tag, so this is repeated.
        response = rest[begin:] if end < 0 else rest[begin:end]
    return response


def without_reasoning(text: str) -> str:
    """`text` without finished reasoning, as the release removes it.

    Elements are removed, then everything before the first remaining closing tag. Unlike in
    `visible_answer`, reasoning that is never closed stays, and so does text before further closing
    tags.
    """
    rest = _without_elements(text)
    return rest[_after(rest, rest.find(_CLOSE)) :]


def _without_elements(text: str) -> str:
    """`text` without closed think elements and the whitespace after each."""
    kept: list[str] = []
    at = 0
    while (begin := text.find(_OPEN, at)) >= 0:
        end = text.find(_CLOSE, begin + len(_OPEN))
        if end < 0:
            break
        kept.append(text[at:begin])
        at = _after(text, end)
    return "".join([*kept, text[at:]])


def _after(text: str, tag: int) -> int:
    """The position after the closing tag at `tag` and whitespace; 0 if there is no tag (-1)."""
    if tag < 0:
        return 0
    match = _WHITESPACE.match(text, tag + len(_CLOSE))
    assert match is not None
    return match.end()


def last_answer_tag(text: str) -> str | None:
    """The content of the last `<answer>` element, stripped; None without one.

    An element runs from an opening tag to the next closing tag; tags are case-sensitive. Finished
    reasoning is ignored as in `without_reasoning`.
    """
    text = without_reasoning(text)
    answer: str | None = None
    begin = text.find(_ANSWER_OPEN)
    while begin >= 0:
        begin += len(_ANSWER_OPEN)
        end = text.find(_ANSWER_CLOSE, begin)
        if end < 0:
            break
        answer = text[begin:end]
        begin = text.find(_ANSWER_OPEN, end + len(_ANSWER_CLOSE))
    return None if answer is None else answer.strip()
