"""Micro-batches, and sequences that are read as the beginning of others."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from resd_bench.objective import TokenBatch, TokenObjective
from resd_bench.policy import trainer
from resd_bench.policy.config import PolicyConfig
from resd_bench.policy.lm_policy import LMPolicy
from resd_bench.policy.micro_batches import (
    BatchLimits,
    TokenizedExample,
    index_prefixes,
    micro_batches,
    prefix_groups,
    tokens_read,
)
from resd_bench.types import Completion, Example, Message, user
from tests.policy import tiny

WIDE = BatchLimits(1 << 20, 1 << 30)
EPISODE = [(7, 3), (4, 5), (6, 2), (9, 4)]
"""Tokens observed and answered, by turn."""


def episode(
    seed: int, turns: Sequence[tuple[int, int]] = EPISODE, hint: int = 11
) -> list[TokenizedExample]:
    """A row per turn; the teacher's prompt begins with `hint` tokens more."""
    said = iter(tiny.prompts([n for turn in turns for n in turn] + [hint], seed=seed))
    pieces = [(next(said), next(said)) for _ in turns]
    before: list[int] = []
    more = next(said)
    made: list[TokenizedExample] = []
    for observed, answered in pieces:
        prompt = [*before, *observed]
        known = [-0.1 * i for i in range(len(answered))]
        made.append(
            TokenizedExample(prompt, answered, [*more, *prompt], known, 0.5 + seed, 1.0 + len(made))
        )
        before = [*prompt, *answered]
    return made


def alone(seed: int, shapes: Sequence[tuple[int, int]], taught: bool) -> list[TokenizedExample]:
    said = iter(tiny.prompts([n for shape in shapes for n in shape], seed=seed))
    rows = [(next(said), next(said)) for _ in shapes]
    return [TokenizedExample(p, r, [*r, *p] if taught else None, [], 0.5, 1.0) for p, r in rows]


def surprise(batch: TokenBatch) -> Tensor:
    """Per token: cross-entropy and a difference to the teacher, weighted."""
    logprobs = batch.student_logits.log_softmax(-1)
    chosen = logprobs.gather(-1, batch.token_ids[..., None])[..., 0]
    assert batch.teacher_logits is not None
    apart = (logprobs - batch.teacher_logits.log_softmax(-1)).square().mean(-1)
    return (batch.weights * batch.advantages)[:, None] * (apart - chosen)


OBJECTIVE = TokenObjective(surprise)


def begins(short: Sequence[int], long: Sequence[int]) -> bool:
    return list(long[: len(short)]) == list(short)


def test_a_sequence_is_held_by_one_that_begins_with_it() -> None:
    rng = random.Random(0)
    for _ in range(500):
        some = [
            [rng.randrange(2) for _ in range(rng.randrange(5))] for _ in range(rng.randrange(1, 9))
        ]
        held = index_prefixes(some)
        kept = [some[place] for place in held.kept]
        for sequence, at in zip(some, held.holder, strict=True):
            assert begins(sequence, kept[at])
        for i, one in enumerate(kept):
            assert not any(begins(one, other) for j, other in enumerate(kept) if i != j)
        assert held.kept == sorted(held.kept)


def test_sequences_that_share_nothing_are_kept_in_their_order() -> None:
    held = index_prefixes([[5, 6], [3], [5, 7], [4, 4, 4]])
    assert (held.kept, held.holder) == ([0, 1, 2, 3], [0, 1, 2, 3])


def test_an_episode_is_one_chain_and_read_once() -> None:
    rows = [*episode(1), *episode(2)]
    mixed = random.Random(3).sample(rows, len(rows))
    found = prefix_groups(mixed)
    assert sorted(map(len, found)) == [4, 4]
    for chain in found:
        tokens = [row.student_tokens for row in chain]
        assert tokens == sorted(tokens, reverse=True)
    assert tokens_read(mixed) == (2 * 40, 2 * (40 + 11))


def read_by(model: Any, rows: Sequence[TokenizedExample]) -> int:
    """Tokens that go into the model's first layer, padding included."""
    shapes: list[int] = []
    layer = model.get_input_embeddings()
    hook = layer.register_forward_hook(lambda _, args, __: shapes.append(args[0].numel()))
    try:
        trainer.response_logits(model, [r.prompt for r in rows], [r.response for r in rows])
    finally:
        hook.remove()
    return sum(shapes)


def test_the_model_reads_an_episode_once() -> None:
    model, rows = tiny.model(), episode(1)
    trainer.response_logits(model, [[5]], [[6]])
    assert read_by(model, rows) == rows[-1].student_tokens - 1
    assert sum(read_by(model, [row]) for row in rows) > 2 * rows[-1].student_tokens


@pytest.mark.parametrize("family", ["qwen3", "llama"])
@pytest.mark.parametrize("plain", [False, True], ids=["head", "whole"])
def test_turns_read_together_score_as_each_alone(family: str, plain: bool) -> None:
    model, teacher = tiny.model(family), tiny.model(family, seed=1)
    if plain:  # Logits of the whole model where its head is unknown.
        model.config.logit_scale = teacher.config.logit_scale = 3.0
    rows = [*episode(1), *alone(9, [(3, 4)], taught=True), *episode(2)]
    random.Random(0).shuffle(rows)
    together = trainer.token_batch(model, teacher, rows)
    for i, row in enumerate(rows):
        one, size = trainer.token_batch(model, teacher, [row]), len(row.response)
        assert one.teacher_logits is not None
        assert together.teacher_logits is not None
        for all_of, own in (
            (together.student_logits, one.student_logits),
            (together.teacher_logits, one.teacher_logits),
        ):
            torch.testing.assert_close(all_of[i, :size], own[0], atol=5e-5, rtol=1e-5)
        assert together.token_ids[i, :size].tolist() == list(row.response)
        assert int(together.mask[i].sum()) == size


def step_gradient(
    model: Any, teacher: Any, rows: Sequence[TokenizedExample], limits: BatchLimits
) -> Tensor:
    model.zero_grad()
    trainer.backward(model, teacher, rows, OBJECTIVE, batch_size=5, limits=limits)
    return torch.cat([p.grad.flatten() for p in model.parameters()])


@pytest.mark.parametrize(
    "limits",
    [WIDE, BatchLimits(60, 1 << 30), BatchLimits(150, 260 * 12), BatchLimits(1 << 20, 260 * 3)],
    ids=["wide", "few tokens", "few logits", "in pieces"],
)
def test_gradients_of_turns_read_together_are_those_of_each_alone(limits: BatchLimits) -> None:
    model = tiny.model(initializer_range=0.1).double()
    teacher = tiny.model(seed=1, initializer_range=0.1).double()
    rows = [*episode(1), *episode(2), *alone(9, [(3, 4), (8, 2)], taught=True)]
    expected = sum(step_gradient(model, teacher, [row], WIDE) for row in rows)
    torch.testing.assert_close(
        step_gradient(model, teacher, rows, limits), expected, atol=1e-6, rtol=1e-5
    )


def distinct(sequences: Sequence[Sequence[int]]) -> int:
    return len(index_prefixes(sequences).kept)


@pytest.mark.parametrize(
    "limits", [BatchLimits(120, 260 * 20), BatchLimits(200, 1 << 30), BatchLimits(1, 1)]
)
def test_micro_batches_hold_every_row_once_within_the_limits(limits: BatchLimits) -> None:
    mixed = [
        *alone(1, [(5, 3), (20, 1), (2, 17), (9, 9), (40, 6), (1, 1)], taught=True),
        *alone(2, [(4, 4), (90, 4), (5, 5)], taught=False),
        *episode(3),
        *episode(4),
    ]
    found = list(micro_batches(mixed, 260, limits))
    assert sorted(map(id, mixed)) == sorted(id(r) for batch in found for r in batch)
    for batch in found:
        assert len({r.teacher_prompt is None for r in batch}) == 1
        student = distinct([r.student for r in batch])
        padded = student * max(r.student_tokens for r in batch)
        padded += distinct([r.teacher for r in batch]) * max(r.teacher_tokens for r in batch)
        assert student == 1 or padded <= limits.tokens
        assert len(batch) == 1 or len(batch) * max(len(r.response) for r in batch) <= (
            limits.logits // 260
        )


def test_a_long_episode_stays_in_one_micro_batch() -> None:
    rows = episode(1)
    assert [len(batch) for batch in micro_batches(rows, 260, BatchLimits(10, 1 << 30))] == [4]


def test_the_turns_of_an_episode_are_charged_once() -> None:
    policy = LMPolicy(tiny.model(), tiny.tokenizer(), PolicyConfig())
    codec = policy.codec
    first = user("look")
    said = Completion("go", tuple(codec.tokenizer.encode("go<|end|>")))
    then = (*first, Message("assistant", "go"), Message("user", "a wall"))
    examples = [Example(first, said), Example(then, said)]
    told = policy.update(examples, lambda b: -b.student_logits.mean((1, 2)), batch_size=2)
    length = len(codec.prompt_ids(then)) + len(said.token_ids)
    assert told["policy/tokens"] == policy.ledger.trained_tokens == length
    assert policy.ledger.flops == 6.0 * policy.parameters * length
