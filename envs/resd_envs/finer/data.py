"""FiNER items: reading files and Hugging Face datasets, and splitting one file in three.

An item is a JSON object with the fields `context` (the whole text of four questions) and `target`
(four tags joined by commas), as in the released data, which this package does not ship.
"""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from resd_bench.errors import UsageError, install_extra
from resd_bench.records.jsonl import read_objects
from resd_bench.types import SPLITS, Split

HUB = "hf:"
TRAIN_PERCENT, VALIDATION_PERCENT = 70, 10
SCHEMA = '{"context": "...", "target": "Tag,Tag,Tag,Tag"}'


@dataclass(frozen=True, slots=True)
class Item:
    """One problem: some questions, each with one right tag."""

    context: str
    gold: tuple[str, ...]
    questions: tuple[str, ...] = ()
    """What each tag is for, in a few words."""
    options: tuple[str, ...] = ()
    """The tags to choose from; empty if the text does not say."""
    sentences: tuple[str, ...] = ()
    """Items that share one belong to the same split."""


Splits = Mapping[Split, Sequence[Item]]

_ENTITY, _SENTENCE = 'entity "', '" in sentence: "'
_OPTIONS = re.compile(r"options:([\w\s,]+)\.")


def parse_item(row: Any, where: str) -> Item:
    """An item from one row of data; UsageError, naming `where`, if a field is missing."""
    context = row.get("context") if isinstance(row, Mapping) else None
    target = row.get("target") if isinstance(row, Mapping) else None
    if not (isinstance(context, str) and isinstance(target, str) and context and target):
        raise UsageError(f"{where} is not a FiNER item: expected an object like {SCHEMA}")
    found = [pair for line in context.split("\n") for pair in _question(line)]
    gold = tuple(tag.strip() for tag in target.split(","))
    if not all(gold):
        raise UsageError(f"{where}: 'target' {target[:60]!r} has an empty tag: give {SCHEMA}")
    options = _OPTIONS.search(context)
    return Item(
        context,
        gold,
        tuple(f'"{entity}"' for entity, _ in found) if len(found) == len(gold) else (),
        tuple(t.strip() for t in options[1].split(",") if t.strip()) if options else (),
        tuple(sentence for _, sentence in found),
    )


def _question(line: str) -> Iterator[tuple[str, str]]:
    """Entity and sentence of a line that ends in `entity "..." in sentence: "..."`."""
    start = line.find(_ENTITY)
    middle = line.find(_SENTENCE, start + len(_ENTITY))
    if start >= 0 <= middle and line.endswith('"', middle + len(_SENTENCE)):
        yield line[start + len(_ENTITY) : middle], line[middle + len(_SENTENCE) : -1]


def read_jsonl(path: Path) -> list[Item]:
    """The items of a JSONL file, which may be compressed by gzip."""
    expected = f"expected lines like {SCHEMA}"
    items = [parse_item(line.row, line.where) for line in read_objects(path, expected, strict=True)]
    if not items:
        raise UsageError(f"the FiNER file {str(path)!r} is empty: {expected}")
    return items


def load(source: str | Path) -> Splits:
    """Items of a JSONL file, of a folder of them or of a Hugging Face dataset, by split.

    `source` is a file (split here by sentence: about 70, 10 and 20 percent), a folder with
    `train`, `validation` and `test` as `.jsonl` or `.jsonl.gz` (validation may be absent), or
    "hf:owner/name" with splits of these names. No item is in two splits.
    """
    if str(source).startswith(HUB):
        return _distinct(_from_hub(str(source).removeprefix(HUB)), str(source))
    path = Path(source).expanduser()
    if path.is_dir():
        return _distinct(_from_folder(path), str(path))
    if not path.is_file():
        raise UsageError(
            f"no FiNER data at {str(source)!r}: give a .jsonl file, a folder with train.jsonl and "
            f'test.jsonl, or "{HUB}owner/name"'
        )
    return _distinct(split_by_sentence(read_jsonl(path)), str(path))


def _from_folder(folder: Path) -> dict[Split, Sequence[Item]]:
    found: dict[Split, Sequence[Item]] = {}
    for split in SPLITS:
        paths = [folder / f"{split}.jsonl", folder / f"{split}.jsonl.gz"]
        path = next((p for p in paths if p.is_file()), None)
        found[split] = read_jsonl(path) if path else []
    return found


def _from_hub(name: str) -> dict[Split, Sequence[Item]]:
    try:
        import datasets
    except ImportError as error:
        raise UsageError(
            f"reading the Hugging Face dataset {name!r} needs the package datasets: "
            f"{install_extra('datasets')}"
        ) from error
    try:
        loaded = datasets.load_dataset(name, trust_remote_code=False)
    except Exception as error:
        raise UsageError(
            f"the Hugging Face dataset {name!r} did not load: {error}. Check its name and the "
            "network, or give a local .jsonl file"
        ) from error
    found: dict[Split, Sequence[Item]] = {}
    for split in SPLITS:
        rows = loaded.get(split, [])
        found[split] = [parse_item(row, f"{name}:{split}:{n}") for n, row in enumerate(rows)]
    return found


def _distinct(splits: Splits, source: str) -> Splits:
    """The splits without repeated items; held-out items are not trained on."""
    seen: set[tuple[str, tuple[str, ...]]] = set()
    kept: dict[Split, Sequence[Item]] = {}
    for split in reversed(SPLITS):
        fresh = []
        for item in splits[split]:
            if (item.context, item.gold) not in seen:
                seen.add((item.context, item.gold))
                fresh.append(item)
        kept[split] = fresh
    for split in ("train", "test"):
        if not kept[split]:
            raise UsageError(
                f"the FiNER data of {source!r} has no {split} items: give a folder or dataset with "
                "the splits train and test, or one larger file"
            )
    return kept


def split_by_sentence(items: Sequence[Item]) -> Splits:
    """Three splits in which no sentence occurs twice, in the order of `items`."""
    group = _groups(items)
    splits: dict[Split, list[Item]] = {split: [] for split in SPLITS}
    for n, item in enumerate(items):
        bucket = int(hashlib.sha256(items[group[n]].context.encode()).hexdigest(), 16) % 100
        held_out: Split = "validation" if bucket < TRAIN_PERCENT + VALIDATION_PERCENT else "test"
        splits["train" if bucket < TRAIN_PERCENT else held_out].append(item)
    return splits


def _groups(items: Sequence[Item]) -> list[int]:
    """For each item, the first of those that it is linked to by shared sentences."""
    holders: dict[str, list[int]] = defaultdict(list)
    for n, item in enumerate(items):
        for sentence in item.sentences or (item.context,):
            holders[sentence].append(n)
    first: dict[int, int] = {}
    for n in range(len(items)):
        todo = [] if n in first else [n]
        while todo:
            at = todo.pop()
            if at not in first:
                first[at] = n
                todo += _neighbours(items[at], holders)
    return [first[n] for n in range(len(items))]


def _neighbours(item: Item, holders: Mapping[str, Iterable[int]]) -> list[int]:
    return [n for sentence in item.sentences or (item.context,) for n in holders[sentence]]
