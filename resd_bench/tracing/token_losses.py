"""The loss of each token of an example, with the current weights.

For readers, not for training: nothing here computes a gradient. Logits are made a few tokens at a
time, because vocabularies can have 150 thousand entries. Left out: per-token losses of an objective
that is not a sum over tokens; for those, only log-probabilities are given.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from resd_bench.objective import Objective, TokenBatch, TokenObjective
from resd_bench.policy.chunked_loss import head_of
from resd_bench.policy.lm_policy import LMPolicy
from resd_bench.policy.micro_batches import TokenizedExample
from resd_bench.policy.trainer import response_logits, response_states, scoring
from resd_bench.types import Example

MAX_TOKENS = 2048
"""Tokens of a response that are recorded; the rest are only counted."""
ALTERNATIVES = 5
"""Most likely tokens recorded for student and teacher each."""
_LEAST = 0.001
"""Least probability of a recorded alternative."""
_PIECE = 128
"""Tokens whose logits are held at a time."""
_CONTEXT = 8
"""Number of preceding tokens that a token's text may depend on."""

Logits = Callable[[slice], Tensor]
"""From a slice of the T response tokens to logits [1, n, V] float32."""


@torch.no_grad()
def score_example(policy: LMPolicy, example: Example, objective: Objective) -> dict[str, Any]:
    """The example as `policy` would train on it now, one row per token, as JSON.

    `teacher` holds the messages the teacher sees (null without a teacher), after `shed` sections
    were dropped to fit its context. Per token: `loss` as the objective weights it (null where it
    has none), log-probabilities in nats of `student` and `teacher` at temperature 1 and of the
    sampler at its own temperature (`sampled`), and the most likely tokens of both sides with their
    probabilities.
    """
    row, shed = policy.row(example)
    teachers = [example.teacher_messages, *example.shorter_teachers]
    taught = teachers[shed] if row.teacher_prompt is not None else None
    told = {
        "teacher": None if taught is None else [asdict(message) for message in taught],
        "shed": shed,
        "weight": example.weight,
        "advantage": example.advantage,
        "left_out": max(0, len(row.response) - MAX_TOKENS),
        "tokens": [],
    }
    if row.response and policy.fits(row):
        told["tokens"] = _tokens(policy, row, objective)
    return told


def _tokens(policy: LMPolicy, row: TokenizedExample, objective: Objective) -> list[dict[str, Any]]:
    response = row.response[:MAX_TOKENS]
    device = policy.model.get_input_embeddings().weight.device
    taught = row.teacher_prompt is not None
    cast = torch.autocast(device.type, dtype=torch.bfloat16, enabled=policy.config.autocast)
    at_work = policy.teacher.at_work() if taught and policy.teacher else nullcontext()
    rows: list[dict[str, Any]] = []
    with at_work, cast:
        student = _logits(policy.model, row.prompt, response)
        with scoring(policy.teacher) if taught else nullcontext() as scorer:
            teacher = _logits(scorer, row.teacher_prompt or (), response) if taught else None
            for start in range(0, len(response), _PIECE):
                piece = slice(start, start + _PIECE)
                z = student(piece)
                y = None if teacher is None else teacher(piece).to(z.device)
                rows += _piece(policy, row, response[piece], piece, z, y, objective)
    for one, text in zip(rows, _texts(policy, response), strict=True):
        one["text"] = text
    return rows


def _logits(model: Any, prompt: Sequence[int], response: Sequence[int]) -> Logits:
    head = head_of(model)
    if head is None:
        full = response_logits(model, [prompt], [response])
        return lambda piece: full[:, piece]
    states = response_states(model, [prompt], [response])
    return lambda piece: head(states[:, piece])


def _advantages(row: TokenizedExample, piece: slice) -> list[Any]:
    """[1], or [1, n] where tokens have their own."""
    return [list(row.token_advantages[piece])] if row.token_advantages else [row.advantage]


def _piece(
    policy: LMPolicy,
    row: TokenizedExample,
    ids: Sequence[int],
    piece: slice,
    student: Tensor,
    teacher: Tensor | None,
    objective: Objective,
) -> list[dict[str, Any]]:
    chosen = torch.tensor([ids], device=student.device)
    sampled = list(row.behaviour_logprobs[piece]) or [float("nan")] * len(ids)
    losses: Sequence[float | None] = [None] * len(ids)
    if isinstance(objective, TokenObjective):
        batch = TokenBatch(
            student_logits=student,
            teacher_logits=teacher,
            token_ids=chosen,
            mask=torch.ones(chosen.shape, device=student.device),
            behaviour_logprobs=torch.tensor([sampled], device=student.device),
            advantages=torch.tensor(_advantages(row, piece), device=student.device),
            weights=torch.tensor([row.weight], device=student.device),
        )
        losses = [round(x, 5) for x in objective.per_token(batch)[0].float().tolist()]
    mine, mine_top = _side(policy, student, chosen)
    theirs: list[Any] = [None] * len(ids)
    theirs_top: list[Any] = [[]] * len(ids)
    if teacher is not None:
        theirs, theirs_top = _side(policy, teacher, chosen)
    return [
        {
            "id": ids[i],
            "loss": losses[i],
            "student": mine[i],
            "teacher": theirs[i],
            "sampled": round(sampled[i], 4),
            "student_top": mine_top[i],
            "teacher_top": theirs_top[i],
        }
        for i in range(len(ids))
    ]


def _side(policy: LMPolicy, logits: Tensor, chosen: Tensor) -> tuple[list[Any], list[Any]]:
    """Log-probability of each chosen token, and the most likely tokens with their probabilities."""
    logprobs = logits[0].float().log_softmax(-1)
    own = logprobs.gather(-1, chosen[0][:, None])[:, 0].tolist()
    best = logprobs.topk(min(ALTERNATIVES, logprobs.shape[-1]), dim=-1)
    top = [
        [[_name(policy, i), round(p, 4)] for i, p in zip(ids, ps, strict=True) if p >= _LEAST]
        for ids, ps in zip(best.indices.tolist(), best.values.exp().tolist(), strict=True)
    ]
    return [round(x, 4) for x in own], top


def _texts(policy: LMPolicy, ids: Sequence[int]) -> list[str]:
    """What each token adds to the text; its name if it adds nothing by itself."""
    texts: list[str] = []
    for i in range(len(ids)):
        before = policy.codec.decode(ids[max(0, i - _CONTEXT) : i])
        text = policy.codec.decode(ids[max(0, i - _CONTEXT) : i + 1])
        added = text[len(before) :] if text.startswith(before) else ""
        texts.append(added or _name(policy, ids[i]))
    return texts


def _name(policy: LMPolicy, token: int) -> str:
    """One token as text; special tokens, which decode to nothing, by their name."""
    text = policy.codec.decode([token])
    return text or str(policy.codec.tokenizer.convert_ids_to_tokens(token) or f"#{token}")
