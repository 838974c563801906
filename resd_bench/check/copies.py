"""Copies: whether a text has the words of an answer or a prompt, but for its wrapping.

Words count, and of marks only operators where answers have some: fences, tags, bullets, numbering,
arrows, commas and words such as `then` are how an answer is wrapped. A text is taken to be copied
where it has half of the n-grams by which an answer, or a prompt, is told from those of other tasks;
one of up to eight words, where it has all of it and not as a part of a longer list. What stands in
the attempts that a text is about is a quotation of these, and left out. Also left out: paraphrases,
and answers of under four words, which stand anywhere by chance.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from resd_bench.types import Split

CopyKind = Literal["gold answer", "task text"]
Gram = tuple[str, ...]
MOST_WORDS = 8
"""Length of an n-gram in words; a shorter text is one n-gram."""
FEWEST_WORDS = 4
FEWEST_CHARS = 16
"""A text shorter than either stands anywhere by chance."""
_COMMON = 0.2
"""An n-gram of so many tasks tells none of them."""
COPIED = 0.5
"""Share of its telling n-grams from which on an answer or a prompt counts as copied."""
_WRAPPING = re.compile(r"```\w*\n|```|</?[a-z]\w*>|->|=>|[\u2192\u21d2]")
_ITEM = re.compile(r"(?m)^[ \t]*(?:[-*+\u2022]|\(?\d{1,2}[.):])(?=\s)|(?<!\S)\(?\d{1,2}\)(?=\s)")
_WORD = re.compile(r"\d+\.\d+|\w+")
_OPERATOR = r"[-+*/%<>=]"
_WORD_OR_OPERATOR = re.compile(rf"{_WORD.pattern}|{_OPERATOR}")
_OPERATION = re.compile(rf"\w\s+{_OPERATOR}+\s+[\w(]")
_ANSWERS = (
    re.compile(r"<answer>(.*?)</answer>", re.DOTALL),
    re.compile(r"```\w*\n(.*?)```", re.DOTALL),
)
_JOINING = frozenset({"and", "then", "next", "first", "finally"})


def unwrapped(text: str) -> str:
    """A text without the marks of its wrapping, in lower case."""
    return _ITEM.sub(" ", _WRAPPING.sub(" ", f"{text.casefold()}\n"))


def bare_answer(text: str) -> str:
    """The answer alone where a solution says more around it, "" otherwise."""
    for answer in _ANSWERS:
        if found := answer.findall(text):
            return found[-1] if words_of(found[-1]) != words_of(text) else ""
    return ""


def words_of(text: str, operators: bool = False) -> list[str]:
    """The words of a text that count, operators among them if these do."""
    found = (_WORD_OR_OPERATOR if operators else _WORD).findall(unwrapped(text))
    return [word for word in found if word not in _JOINING]


def gaps_of(text: str, operators: bool = False) -> list[str]:
    """What stands before each of the words of a text, blanks apart: commas, a colon."""
    plain, gaps, end = unwrapped(text), list[str](), 0
    for match in (_WORD_OR_OPERATOR if operators else _WORD).finditer(plain):
        if match[0] not in _JOINING:
            gaps.append(plain[end : match.start()].strip(" "))
            end = match.end()
    return gaps


def grams(words: Sequence[str]) -> set[Gram]:
    """The n-grams of a text by which it can be told; none of one that is too short."""
    if len(words) < FEWEST_WORDS or len(" ".join(words)) < FEWEST_CHARS:
        return set()
    n = min(MOST_WORDS, len(words))
    return {tuple(words[i : i + n]) for i in range(len(words) - n + 1)}


@dataclass(frozen=True, slots=True, order=True)
class Owner:
    """What a secret text belongs to."""

    kind: CopyKind
    split: Split
    task: str
    env: str = ""
    """The environment if it is another than the run's."""
    bare: bool = False
    """Whether it is the answer alone, without what the solution says around it."""


Span = tuple[int, int, Owner, Gram]
"""Words of a text, from and to, that are all of an answer."""


@dataclass(frozen=True)
class Secrets:
    """N-grams that tell texts of one kind, of the tasks of one environment, from each other."""

    operators: bool = False
    """Whether operators count."""
    owners: Mapping[Gram, Sequence[Owner]] = field(default_factory=dict)
    telling: Mapping[Owner, frozenset[Gram]] = field(default_factory=dict)
    whole: Collection[Owner] = frozenset()
    """Those that are a single n-gram, all of which must be there."""
    listed: Collection[str] = frozenset()
    """The words of those: a list that goes on beyond an answer is another one, or all there is."""
    lengths: Sequence[int] = ()

    @classmethod
    def of(cls, texts: Mapping[Owner, str]) -> Secrets:
        """The secrets in these texts. Operators count if answers have some, as programs do."""
        answers = (unwrapped(text) for own, text in texts.items() if own.kind == "gold answer")
        operators = any(map(_OPERATION.search, answers))
        words = {owner: words_of(text, operators) for owner, text in texts.items()}
        own = {owner: grams(found) for owner, found in words.items()}
        counts = Counter(gram for few in own.values() for gram in few)
        most = max(1.0, _COMMON * len(texts))
        owners: dict[Gram, list[Owner]] = defaultdict(list)
        telling: dict[Owner, frozenset[Gram]] = {}
        for owner, few in own.items():
            if told := frozenset(gram for gram in few if counts[gram] <= most):
                telling[owner] = told
                for gram in told:
                    owners[gram].append(owner)
        whole = {owner for owner in telling if len(words[owner]) <= MOST_WORDS}
        listed = {word for owner in whole for word in words[owner]}
        lengths = sorted({len(gram) for gram in owners})
        return cls(operators, dict(owners), telling, whole, listed, lengths)

    def known_in(self, words: Sequence[str]) -> Iterator[tuple[int, Gram]]:
        """The telling n-grams among the words of a text, and where they begin."""
        for n in self.lengths:
            for start in range(len(words) - n + 1):
                if (gram := tuple(words[start : start + n])) in self.owners:
                    yield start, gram

    def found_in(self, text: str) -> dict[Owner, set[Gram]]:
        """The telling n-grams in a text, by what they are of."""
        words = words_of(text, self.operators)
        found: dict[Owner, set[Gram]] = defaultdict(set)
        spans: list[Span] = []
        for start, gram in self.known_in(words):
            for owner in self.owners[gram]:
                if owner in self.whole:
                    spans.append((start, start + len(gram), owner, gram))
                else:
                    found[owner].add(gram)
        for _, _, owner, gram in self._alone(spans, words, text) if spans else ():
            found[owner].add(gram)
        return found

    def _alone(self, spans: Sequence[Span], words: Sequence[str], text: str) -> Iterator[Span]:
        """The answers that are not part of a longer list, unless it is one of answers."""
        gaps = gaps_of(text, self.operators)
        starts, ends = {span[0] for span in spans}, {span[1] for span in spans}
        for span in spans:
            start, end = span[:2]
            inner = set(gaps[start + 1 : end])
            begins = start in ends or start == 0 or words[start - 1] not in self.listed
            stops = end in starts or end == len(words) or words[end] not in self.listed
            if (begins or gaps[start] not in inner) and (stops or gaps[end] not in inner):
                yield span


@dataclass(frozen=True, slots=True)
class Written:
    """A text that a method wrote or shows."""

    where: str
    """`playbook entry err-00001, update 3`."""
    text: str
    task: str = ""
    """The task it is about, "" for none."""
    update: int = 0
    """The update in which it was first there."""


@dataclass(frozen=True, slots=True)
class Copy:
    """A text that has `COPIED` or more of an answer or a prompt, wherever it has it from."""

    written: Written
    secrets: Secrets
    owner: Owner
    found: frozenset[Gram]
    """The telling n-grams that it has."""


def copies(written: Iterable[Written], several: Sequence[Secrets]) -> Iterator[Copy]:
    """All that the texts have copied, of similar tasks each."""
    for one in written:
        for secrets in several:
            for owner, found in secrets.found_in(one.text).items():
                if len(found) >= COPIED * len(secrets.telling[owner]):
                    yield Copy(one, secrets, owner, frozenset(found))


class Quotations:
    """The n-grams of copies that stand in attempts, at the tasks that the copies are of or about.

    An attempt that comes after a text does not explain it.
    """

    def __init__(self, several: Iterable[Copy], most: int) -> None:
        self._looked_for: dict[str, list[Secrets]] = defaultdict(list)
        for copy in several:
            for task in _tasks_of(copy):
                if not any(known is copy.secrets for known in self._looked_for[task]):
                    self._looked_for[task].append(copy.secrets)
        self._first: dict[tuple[str, int], dict[Gram, int]] = defaultdict(dict)
        self._room = most
        self.unread = 0
        """Attempts that there was no room for."""

    def see(self, task: str, attempt: str, update: int) -> None:
        """Note what stands in an attempt at a task."""
        if task not in self._looked_for:
            return
        if self._room == 0:
            self.unread += 1
            return
        self._room -= 1
        for secrets in self._looked_for[task]:
            known = self._first[task, id(secrets)]
            for _, gram in secrets.known_in(words_of(attempt, secrets.operators)):
                known[gram] = min(update, known.get(gram, update))

    def share(self, copy: Copy) -> float:
        """The share of a copy in what no attempt has of its answer; 0 if attempts have all."""
        seen = {
            gram
            for task in _tasks_of(copy)
            for gram, update in self._first[task, id(copy.secrets)].items()
            if update <= copy.written.update
        }
        left = copy.secrets.telling[copy.owner] - seen
        return len(copy.found & left) / len(left) if left else 0.0


def _tasks_of(copy: Copy) -> set[str]:
    """The tasks whose attempts a copy may quote: attempts are at tasks of the run's environment."""
    return {copy.written.task, *[copy.owner.task] * (copy.owner.env == "")} - {""}
