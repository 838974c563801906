"""The environment's prompts: the 100 of the probe, and our own to train on.

The 100 prompts are part of the published data (see data/NOTICE). Our own are a request and one to
three instructions that do not contradict each other, worded by us and drawn by seed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np

from resd_bench.seeds import stream
from resd_bench.types import Split

SIZES: Mapping[Split, int] = {"train": 160, "validation": 40}

KINDS = ("a letter", "a short story", "a report", "a speech", "an advertisement", "a guide")
TOPICS = (
    "a lost umbrella",
    "a library at night",
    "repairing a bicycle",
    "the first day at work",
    "a garden on a roof",
    "a train that is late",
    "learning to swim",
    "an old map",
    "the price of bread",
    "a neighbour who sings",
)
KEYWORDS = ("lantern", "harvest", "signal", "copper", "bridge", "winter", "ticket", "pepper")
BANNED = ("very", "really", "good", "nice", "always", "never")
PHRASES = ("That is all I know.", "Thank you for reading.", "Now it is your turn.")


@dataclass(frozen=True, slots=True)
class Item:
    """One prompt and the instructions in it."""

    id: str
    prompt: str
    instruction_ids: tuple[str, ...]
    kwargs: tuple[Mapping[str, Any], ...]


@cache
def probe() -> tuple[Item, ...]:
    """The 100 prompts of Table 5 of arXiv 2605.12741."""
    text = files("resd_envs.ifeval").joinpath("data/ifeval_100.jsonl").read_text(encoding="utf-8")
    rows = [json.loads(line) for line in text.splitlines()]
    return tuple(
        Item(
            str(row["index"]),
            row["prompt"],
            tuple(row["instruction_ids"]),
            tuple({k: v for k, v in given.items() if v is not None} for given in row["kwargs"]),
        )
        for row in rows
    )


@cache
def own(split: Split) -> tuple[Item, ...]:
    """Our prompts of `split`, train or validation; no set of instructions is in two splits."""
    rng, seen = stream(0, "ifeval"), {_key(item) for item in probe()}
    found: list[Item] = []
    while len(found) < sum(SIZES.values()):
        item = _compose(f"{len(found):03d}", rng)
        if _key(item) not in seen:
            seen.add(_key(item))
            found.append(item)
    begin = 0 if split == "train" else SIZES["train"]
    return tuple(found[begin : begin + SIZES[split]])


ONE_SIZES: Mapping[Split, int] = {"train": 128, "validation": 32, "test": 64}
ONE_TOPICS: Mapping[Split, tuple[str, ...]] = {
    "train": TOPICS[:6],
    "validation": TOPICS[6:7],
    "test": TOPICS[7:],
}
"""No topic is in two splits."""


@cache
def one_instruction(split: Split) -> tuple[Item, ...]:
    """Short requests with a single instruction, which one or two sentences can follow."""
    rng = stream(0, "ifeval", "one", split)
    found: dict[str, Item] = {}
    for _ in range(100 * ONE_SIZES[split]):
        made = _ONE[int(rng.integers(len(_ONE)))](rng)
        text = f"Write two sentences about {_pick(ONE_TOPICS[split], rng)}. {made.words}"
        found.setdefault(text, Item(f"{len(found):03d}", text, (made.id,), (made.kwargs,)))
        if len(found) == ONE_SIZES[split]:
            break
    return tuple(found.values())


def _key(item: Item) -> str:
    """The instructions as text, in a canonical order."""
    pairs = zip(item.instruction_ids, item.kwargs, strict=True)
    return json.dumps(sorted([name, json.dumps(given, sort_keys=True)] for name, given in pairs))


@dataclass(frozen=True, slots=True)
class _Instruction:
    id: str
    kwargs: Mapping[str, Any]
    words: str


def _pick(choices: tuple[str, ...], rng: np.random.Generator) -> str:
    return choices[int(rng.integers(len(choices)))]


def _number(low: int, high: int, rng: np.random.Generator) -> int:
    return int(rng.integers(low, high + 1))


def _words(rng: np.random.Generator) -> _Instruction:
    n = 25 * _number(2, 12, rng)
    given = {"num_words": n, "relation": "at least"}
    return _Instruction("length_constraints:number_words", given, f"Write {n} words or more.")


def _sentences(rng: np.random.Generator) -> _Instruction:
    n = _number(3, 12, rng)
    given = {"num_sentences": n, "relation": "less than"}
    text = f"Use fewer than {n} sentences."
    return _Instruction("length_constraints:number_sentences", given, text)


def _paragraphs(rng: np.random.Generator) -> _Instruction:
    n = _number(2, 5, rng)
    text = f"Divide it into exactly {n} paragraphs and put a line with *** between them."
    return _Instruction("length_constraints:number_paragraphs", {"num_paragraphs": n}, text)


def _existence(rng: np.random.Generator) -> _Instruction:
    words = [KEYWORDS[int(i)] for i in rng.choice(len(KEYWORDS), size=2, replace=False)]
    text = f'The words "{words[0]}" and "{words[1]}" must occur.'
    return _Instruction("keywords:existence", {"keywords": words}, text)


def _frequency(rng: np.random.Generator) -> _Instruction:
    word, n = _pick(KEYWORDS, rng), _number(2, 6, rng)
    given = {"keyword": word, "frequency": n, "relation": "at least"}
    return _Instruction("keywords:frequency", given, f'Use the word "{word}" {n} times or more.')


def _banned(rng: np.random.Generator) -> _Instruction:
    words = [BANNED[int(i)] for i in rng.choice(len(BANNED), size=2, replace=False)]
    text = f'Avoid the words "{words[0]}" and "{words[1]}".'
    return _Instruction("keywords:forbidden_words", {"forbidden_words": words}, text)


def _letters(rng: np.random.Generator) -> _Instruction:
    letter, n = _pick(tuple("jkqvxz"), rng), _number(2, 8, rng)
    given = {"letter": letter, "let_frequency": n, "let_relation": "at least"}
    text = f"The letter {letter} must occur {n} times or more."
    return _Instruction("keywords:letter_frequency", given, text)


def _placeholders(rng: np.random.Generator) -> _Instruction:
    n = _number(2, 8, rng)
    text = f"Leave {n} or more placeholders in square brackets such as [date]."
    return _Instruction("detectable_content:number_placeholders", {"num_placeholders": n}, text)


def _postscript(rng: np.random.Generator) -> _Instruction:
    text = "Close with a postscript that begins with P.S."
    return _Instruction("detectable_content:postscript", {"postscript_marker": "P.S."}, text)


def _title(rng: np.random.Generator) -> _Instruction:
    text = "Give it a title in double angular brackets such as <<title>>."
    return _Instruction("detectable_format:title", {}, text)


def _highlights(rng: np.random.Generator) -> _Instruction:
    n = _number(2, 6, rng)
    text = f"Highlight {n} passages or more *like this*."
    given = {"num_highlights": n}
    return _Instruction("detectable_format:number_highlighted_sections", given, text)


def _bullets(rng: np.random.Generator) -> _Instruction:
    n = _number(2, 8, rng)
    text = f'It must have exactly {n} bullet points that begin with "* ".'
    return _Instruction("detectable_format:number_bullet_lists", {"num_bullets": n}, text)


def _sections(rng: np.random.Generator) -> _Instruction:
    n = _number(2, 5, rng)
    text = f"Make {n} sections and begin them with Section 1 and so on."
    given = {"section_spliter": "Section", "num_sections": n}
    return _Instruction("detectable_format:multiple_sections", given, text)


def _json(rng: np.random.Generator) -> _Instruction:
    return _Instruction("detectable_format:json_format", {}, "The whole response must be JSON.")


def _lower(rng: np.random.Generator) -> _Instruction:
    return _Instruction("change_case:english_lowercase", {}, "Use no capital letters.")


def _upper(rng: np.random.Generator) -> _Instruction:
    return _Instruction("change_case:english_capital", {}, "Use capital letters only.")


def _capitals(rng: np.random.Generator) -> _Instruction:
    n = _number(2, 6, rng)
    given = {"capital_frequency": n, "capital_relation": "at least"}
    text = f"Write {n} words or more in capital letters."
    return _Instruction("change_case:capital_word_frequency", given, text)


def _end(rng: np.random.Generator) -> _Instruction:
    phrase = _pick(PHRASES, rng)
    text = f'The last words must be "{phrase}"'
    return _Instruction("startend:end_checker", {"end_phrase": phrase}, text)


def _quotes(rng: np.random.Generator) -> _Instruction:
    text = "Put double quotation marks around the whole response."
    return _Instruction("startend:quotation", {}, text)


def _two(rng: np.random.Generator) -> _Instruction:
    text = "Give two different versions and put ****** between them."
    return _Instruction("combination:two_responses", {}, text)


def _comma(rng: np.random.Generator) -> _Instruction:
    return _Instruction("punctuation:no_comma", {}, "Use no commas.")


_Maker = Callable[[np.random.Generator], _Instruction]
_GROUPS: tuple[tuple[_Maker, ...], ...] = (
    (_words, _sentences, _paragraphs, _two, _end),
    (_existence, _frequency, _banned, _letters),
    (_placeholders, _title, _highlights, _bullets),
    (_lower, _upper, _comma, _capitals),
    (_quotes, _postscript, _sections, _json),
)
"""Instructions of one group are never combined; the last group only with the second."""


_ONE: tuple[_Maker, ...] = (
    *(_frequency, _placeholders, _title, _highlights, _bullets),
    *(_upper, _capitals, _end, _quotes, _postscript),
)
"""Instructions that two sentences can follow. Left out: small letters, the worked example in the
prompts of methods for small models."""


def _compose(number: str, rng: np.random.Generator) -> Item:
    """A request with instructions of different groups."""
    request = f"Write {_pick(KINDS, rng)} about {_pick(TOPICS, rng)}."
    if rng.random() < 0.25:
        groups = [1, 4] if rng.random() < 0.5 else [4]
    else:
        groups = sorted(rng.choice(4, size=_number(1, 3, rng), replace=False).tolist())
    chosen = [_GROUPS[g][int(rng.integers(len(_GROUPS[g])))] for g in groups]
    if _json in chosen:
        chosen = [_json]
    made = [make(rng) for make in chosen]
    prompt = " ".join([request, *(instruction.words for instruction in made)])
    ids = tuple(instruction.id for instruction in made)
    return Item(number, prompt, ids, tuple(instruction.kwargs for instruction in made))
