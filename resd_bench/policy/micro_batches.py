"""Tokenized examples, which prefixes they share, and how they are put into micro-batches.

Every turn of an episode is an example of its own, whose prompt is the whole episode before it. With
causal attention, what a model computes at a token depends only on the tokens before it; a sequence
that is the beginning of another is therefore never read by itself. An episode of ten turns is read
once, not ten times. If the tokens of a prompt are not those that were sampled (another tokenization
of the same text), nothing is shared and nothing goes wrong.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

_Tokens = Sequence[int]


@dataclass(frozen=True, slots=True)
class TokenizedExample:
    """One tokenized example."""

    prompt: _Tokens
    response: _Tokens
    """Not empty."""
    teacher_prompt: _Tokens | None
    behaviour_logprobs: Sequence[float]
    """Of the response; empty if unknown."""
    advantage: float
    weight: float
    token_advantages: Sequence[float] = ()
    """Of the response, in place of `advantage`; empty where all tokens have that one."""

    @property
    def advantages(self) -> Sequence[float]:
        """One for each token of the response."""
        return self.token_advantages or [self.advantage] * len(self.response)

    @property
    def student(self) -> tuple[int, ...]:
        """Everything the student reads."""
        return (*self.prompt, *self.response)

    @property
    def teacher(self) -> tuple[int, ...]:
        """Everything the teacher reads; empty without a teacher."""
        return () if self.teacher_prompt is None else (*self.teacher_prompt, *self.response)

    @property
    def student_tokens(self) -> int:
        return len(self.prompt) + len(self.response)

    @property
    def teacher_tokens(self) -> int:
        if self.teacher_prompt is None:
            return 0
        return len(self.teacher_prompt) + len(self.response)


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """Limits of one micro-batch; a single sequence always fits."""

    tokens: int
    """Padded tokens, student and teacher together."""
    logits: int
    """b T V, the size of one tensor of logits; of a chunk if one sequence alone is larger."""


@dataclass(frozen=True, slots=True)
class PrefixIndex:
    """Token sequences without those that are beginnings of others."""

    kept: list[int]
    """Ascending indices of the sequences that are not beginnings of others; of equal ones, one."""
    holder: list[int]
    """For every sequence, the index in `kept` of one that begins with it."""


def index_prefixes(sequences: Iterable[_Tokens]) -> PrefixIndex:
    """Find which sequences are beginnings of others."""
    found = [tuple(sequence) for sequence in sequences]
    order = sorted(range(len(found)), key=found.__getitem__, reverse=True)
    inside: dict[int, int] = {}
    last = -1
    # In this (descending) order, a sequence comes right after those that begin with it.
    for place in order:
        if last < 0 or found[last][: len(found[place])] != found[place]:
            last = place
        inside[place] = last
    kept = sorted(set(inside.values()))
    number = {place: at for at, place in enumerate(kept)}
    return PrefixIndex(kept, [number[inside[place]] for place in range(len(found))])


def tokens_read(rows: Sequence[TokenizedExample]) -> tuple[int, int]:
    """Number of tokens that student and teacher must read to score `rows`, each counted once."""
    student, teacher = [row.student for row in rows], [row.teacher for row in rows]
    return (
        sum(len(student[place]) for place in index_prefixes(student).kept),
        sum(len(teacher[place]) for place in index_prefixes(teacher).kept),
    )


def prefix_groups(rows: Sequence[TokenizedExample]) -> list[list[TokenizedExample]]:
    """Rows that are read together: the student's sequences are beginnings of the first row's."""
    holder = index_prefixes([row.student for row in rows]).holder
    found: dict[int, list[TokenizedExample]] = {}
    for row, at in zip(rows, holder, strict=True):
        found.setdefault(at, []).append(row)
    return [sorted(chain, key=lambda row: -row.student_tokens) for chain in found.values()]


def chain_size(chain: Sequence[TokenizedExample]) -> tuple[int, int]:
    """Length of the longest row and of its response: chains in one batch should be similar."""
    return chain[0].student_tokens + chain[0].teacher_tokens, len(chain[0].response)


def micro_batches(
    rows: Sequence[TokenizedExample], vocabulary: int, limits: BatchLimits
) -> Iterator[list[TokenizedExample]]:
    """All rows, with similar lengths together, and rows with and without a teacher separate."""
    for taught in (True, False):
        chosen = [row for row in rows if (row.teacher_prompt is not None) == taught]
        together = sorted(prefix_groups(chosen), key=chain_size)
        ordered = [row for chain in together for row in chain]
        student = [number for number, chain in enumerate(together) for _ in chain]
        teacher = index_prefixes([row.teacher for row in ordered]).holder
        start = 0
        for place in range(len(ordered)):
            several = slice(start, place + 1)
            sequences = len(set(student[several])), len(set(teacher[several]))
            if place > start and not _fits(ordered[several], sequences, vocabulary, limits):
                yield ordered[start:place]
                start = place
        if ordered:
            yield ordered[start:]


def _fits(
    batch: Sequence[TokenizedExample],
    sequences: tuple[int, int],
    vocabulary: int,
    limits: BatchLimits,
) -> bool:
    """Whether rows read in this many sequences of student and teacher fit together."""
    padded = sequences[0] * max(row.student_tokens for row in batch)
    padded += sequences[1] * max(row.teacher_tokens for row in batch)
    logits = len(batch) * max(len(row.response) for row in batch) * vocabulary
    return (padded <= limits.tokens or max(sequences) == 1) and logits <= limits.logits
