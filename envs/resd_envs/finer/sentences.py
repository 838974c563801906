"""The built-in set of FiNER-like items: sentences made from templates, with their tags.

The sentences are ours; the tags are names of US GAAP elements. A company belongs to one split and
every sentence names its company, so no sentence is in two splits. Left out: the ambiguity of real
filings, on whose gold tags two readers may disagree.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files

import numpy as np

from resd_bench.errors import UsageError
from resd_bench.seeds import stream
from resd_bench.types import SPLITS, Split
from resd_envs.finer.data import Item

_SIZES: Mapping[Split, int] = {"train": 240, "validation": 48, "test": 96}
_QUESTIONS = 4
"""Per item, as in the paper."""
FEW_TAGS = 4
"""To choose from in the tier for small models, for a single number."""

HEADS = (
    "Alder",
    "Brook",
    "Calder",
    "Dune",
    "Ember",
    "Falcon",
    "Granite",
    "Harbor",
    "Iron",
    "Juniper",
    "Keystone",
    "Larch",
    "Maple",
    "North",
    "Orchard",
    "Pioneer",
    "Quarry",
    "River",
    "Summit",
    "Timber",
    "Union",
    "Vale",
    "Willow",
    "Yarrow",
)
TAILS = ("Energy Corp .", "Foods Inc .", "Health Ltd .", "Holdings Inc .", "Software Corp .")
BANKS = ("the lead bank", "a group of banks", "the agent bank", "a regional lender")
MONTHS = (
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
)

_SLOT = re.compile(r"<(\w+):(\w+)>")
_FILLER = re.compile(r"\{(\w+)\}")


@cache
def templates() -> tuple[str, ...]:
    """Sentence templates, one per line of `sentences.txt`."""
    text = files("resd_envs.finer").joinpath("sentences.txt").read_text(encoding="utf-8")
    return tuple(line for line in text.splitlines() if line and not line.startswith("#"))


@cache
def tags() -> tuple[str, ...]:
    """The tags of all templates, in alphabetical order."""
    return tuple(sorted({tag for line in templates() for tag, _ in _SLOT.findall(line)}))


@cache
def builtin(split: Split) -> tuple[Item, ...]:
    """The items of `split`, the same on every machine."""
    rng = stream(0, "finer", split)
    companies = _companies()[split]
    items = [_item(companies, rng) for _ in range(2 * _SIZES[split])]
    return tuple({item.context: item for item in items}.values())[: _SIZES[split]]


def _companies() -> Mapping[Split, Sequence[str]]:
    """Companies by split, in proportion to its size."""
    names = [f"{head} {tail}" for head in HEADS for tail in TAILS]
    order = [names[int(i)] for i in stream(0, "finer", "companies").permutation(len(names))]
    found: dict[Split, Sequence[str]] = {}
    for split in SPLITS:
        share = len(names) * _SIZES[split] // sum(_SIZES.values())
        found[split], order = order[:share], order[share:]
    return found


@cache
def few_items(split: Split) -> tuple[Item, ...]:
    """Items of one question with `FEW_TAGS` tags to choose from."""
    rng = stream(0, "finer", "few", split)
    found: dict[str, Item] = {}
    while len(found) < _SIZES[split]:
        item = _few_item(_companies()[split], rng)
        found[item.context] = item
    return tuple(found.values())


def _few_item(companies: Sequence[str], rng: np.random.Generator) -> Item:
    ((entity, sentence, right),) = _asked(companies, rng, 1)
    others = [tag for tag in tags() if tag != right]
    chosen = rng.choice(len(others), size=FEW_TAGS - 1, replace=False)
    options = sorted([right, *(others[int(n)] for n in chosen)])
    return Item(
        f'Which tag fits the number {entity} in "{sentence}"?\n\nThe tags are: '
        f"{', '.join(options)}.",
        (right,),
        (f'"{entity}"',),
        tuple(options),
        (sentence,),
    )


def _asked(
    companies: Sequence[str], rng: np.random.Generator, questions: int
) -> list[tuple[str, str, str]]:
    """Numbers to tag, their sentences and tags, from as many sentences as necessary."""
    asked: list[tuple[str, str, str]] = []
    order = rng.permutation(len(templates()))
    for n in order:
        if len(asked) >= questions:
            break
        sentence, found = _fill(templates()[int(n)], companies, rng)
        asked += [(entity, sentence, tag) for entity, tag in found]
    return asked[:questions]


def _item(companies: Sequence[str], rng: np.random.Generator) -> Item:
    """Four questions from as many sentences as necessary."""
    asked = _asked(companies, rng, _QUESTIONS)
    lines = [
        f'{n}. Which tag fits the number "{entity}" in: "{sentence}"'
        for n, (entity, sentence, _) in enumerate(asked, 1)
    ]
    head = (
        f"Choose a US GAAP tag for each of {_QUESTIONS} numbers that occur in sentences of company "
        f"reports.\n\nThe tags are: {', '.join(tags())}.\n\n"
    )
    return Item(
        head + "\n".join(lines),
        tuple(tag for _, _, tag in asked),
        tuple(f'"{entity}"' for entity, _, _ in asked),
        tags(),
        tuple(sentence for _, sentence, _ in asked),
    )


def _fill(
    template: str, companies: Sequence[str], rng: np.random.Generator
) -> tuple[str, list[tuple[str, str]]]:
    """A sentence and its (number, tag) pairs; no number occurs twice in it."""
    found: dict[str, str] = {}

    def draw(match: re.Match[str]) -> str:
        while (entity := _number(match[2], rng)) in found:
            pass
        found[entity] = match[1]
        return entity

    sentence = _SLOT.sub(draw, template)
    fillers = {
        "company": _pick(companies, rng),
        "bank": _pick(BANKS, rng),
        "month": _pick(MONTHS, rng),
        "day": str(rng.integers(1, 29)),
        "year": str(rng.integers(2009, 2024)),
    }
    sentence = _FILLER.sub(lambda match: fillers[match[1]], sentence)
    return sentence[0].upper() + sentence[1:], list(found.items())


def _pick(choices: Sequence[str], rng: np.random.Generator) -> str:
    return choices[int(rng.integers(len(choices)))]


def _number(kind: str, rng: np.random.Generator) -> str:
    """A number as reports write it."""
    if kind == "money":
        return f"{rng.integers(11, 9000) / 10:.1f}"
    if kind == "percent":
        return f"{rng.integers(5, 390) / 20:.2f}"
    if kind == "price":
        return f"{rng.integers(10, 9000) / 100:.2f}"
    if kind == "shares":
        return f"{rng.integers(20, 90_000) * 1_000 + rng.integers(1_000):,}"
    if kind == "years":
        return str(rng.integers(2, 31))
    if kind == "number":
        return str(rng.integers(2, 9))
    raise UsageError(f"sentences.txt has a number of unknown kind {kind!r}")
