"""The FiNER-like set of the compact dialect: phrases of a few tokens, tags of two parts.

A tag is an instrument and an aspect that the number gives: "5 % bond" is `BondRate`, "$ 40 bond
unused" is `BondLeft`. There are 48 tags and four questions per item. Items are drawn by seed; no
sequence of tags is in sequence of tags is in two splits.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import cache

import numpy as np

from resd_bench.seeds import stream
from resd_bench.types import Split
from resd_envs.finer.data import Item

_SIZES: Mapping[Split, int] = {"train": 640, "validation": 64, "test": 128}
_QUESTIONS = 4
HEAD, BETWEEN = "tag : ", " ; "

THINGS = ("Loan", "Bond", "Lease", "Note", "Line", "Plan", "Swap", "Fund")
PHRASES: Mapping[str, str] = {
    "Amount": "$ {n} {thing}",
    "Rate": "{n} % {thing}",
    "Term": "{n} years {thing}",
    "Fair": "$ {n} {thing} at market",
    "Left": "$ {n} {thing} unused",
    "Cost": "$ {n} fee for {thing}",
}
"""The aspects of an instrument that a number may give, and their wording."""

TAGS = tuple(thing + aspect for thing in THINGS for aspect in PHRASES)


def parts(tag: str) -> tuple[str, str]:
    """Instrument and aspect of a tag: "BondRate" is "Bond" and "Rate"."""
    thing = next(thing for thing in THINGS if tag.startswith(thing))
    return thing, tag.removeprefix(thing)


def fingerprint(gold: Sequence[str]) -> str:
    """SHA-256 of the tags in order; items that differ only in their numbers share it."""
    return hashlib.sha256("\x1f".join(gold).encode()).hexdigest()


def draw(rng: np.random.Generator) -> Item:
    """An item with four different tags, and never the same kind of question four times."""
    while True:
        gold = tuple(TAGS[int(i)] for i in rng.choice(len(TAGS), size=_QUESTIONS, replace=False))
        if len({parts(tag)[1] for tag in gold}) > 1:
            break
    phrases = []
    for tag in gold:
        thing, aspect = parts(tag)
        phrases.append(PHRASES[aspect].format(n=rng.integers(2, 10), thing=thing.lower()))
    return Item(HEAD + BETWEEN.join(phrases), gold, tuple(phrases), TAGS)


def questions(prompt: str) -> tuple[str, ...]:
    """The phrases of a prompt."""
    return tuple(prompt.removeprefix(HEAD).split(BETWEEN))


@cache
def build_splits() -> Mapping[Split, Sequence[Item]]:
    """All items of the environment, by split."""
    rng, seen = stream(0, "finer", "compact"), set()
    items: list[Item] = []
    while len(items) < sum(_SIZES.values()):
        item = draw(rng)
        if fingerprint(item.gold) not in seen:
            seen.add(fingerprint(item.gold))
            items.append(item)
    found: dict[Split, Sequence[Item]] = {}
    for split, size in _SIZES.items():
        found[split], items = tuple(items[:size]), items[size:]
    return found
