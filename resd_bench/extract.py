"""Find the answer in a model's response.

Two conventions: the last fenced code block, and the last `<answer>` element outside the reasoning.
Both read hostile text in linear time. What the answer means is the environment's business.
"""

from __future__ import annotations

import re

FENCE = "```"
_OPEN, _CLOSE = "<think>", "</think>"
_ANSWER_OPEN, _ANSWER_CLOSE = "<answer>", "</answer>"


def last_code_block(text: str, tag: str) -> str | None:
    """The last fenced block of `text`, stripped; None where no pair of fences is left.

    Fences are paired from left to right. `tag` right after an opening fence is dropped; any other
    word there belongs to the block, so a block of another language is taken as it stands.
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


def without_reasoning(text: str) -> str:
    """`text` without closed think elements, and without all before a closing tag left over.

    An element runs from an opening tag to the next closing tag and takes the whitespace after it
    along. Reasoning that is never closed stays.
    """
    kept: list[str] = []
    position = 0
    while True:
        begin = text.find(_OPEN, position)
        end = text.find(_CLOSE, begin + len(_OPEN)) if begin >= 0 else -1
        if end < 0:
            break
        kept.append(text[position:begin])
        position = _skip_whitespace(text, end + len(_CLOSE))
    rest = "".join([*kept, text[position:]])
    stray = rest.find(_CLOSE)
    return rest if stray < 0 else rest[stray + len(_CLOSE) :]


def last_answer_tag(text: str) -> str | None:
    """The content of the last `<answer>` element outside the reasoning, stripped; None without one.

    An element runs from an opening tag to the next closing tag; tags are case-sensitive.
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


_WHITESPACE = re.compile(r"\s*")


def _skip_whitespace(text: str, position: int) -> int:
    match = _WHITESPACE.match(text, position)
    assert match is not None
    return match.end()
