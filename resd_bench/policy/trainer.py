"""One optimiser step from examples: padding, micro-batches, the lean forward pass, AdamW.

Follows the optimiser of the paper's release (AdamW, gradient-norm clipping, steps with a
non-finite norm skipped, linear warm-up from 0, then constant). The model stays in evaluation mode,
so that it is the policy that sampled. Left out: distributed training, gradient checkpointing,
adapters. What a loss is, `Objective` says; nothing here knows a method.

Shapes: b sequences, T response tokens, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_

from resd_bench.policy.objective import Objective, TokenBatch

_BETAS = (0.9, 0.999)
"""Of AdamW, as in the paper's release."""
_RESCALED = ("final_logit_softcapping", "logit_scale", "logits_scaling")
"""Config fields of models whose logits are more than the output embedding of the last state."""


@dataclass(frozen=True, slots=True)
class Row:
    """One example in tokens."""

    prompt: Sequence[int]
    response: Sequence[int]
    """Not empty."""
    teacher_prompt: Sequence[int] | None
    behaviour_logprobs: Sequence[float]
    """Of the response, or empty where unknown."""
    advantage: float
    weight: float

    @property
    def student_tokens(self) -> int:
        return len(self.prompt) + len(self.response)

    @property
    def teacher_tokens(self) -> int:
        if self.teacher_prompt is None:
            return 0
        return len(self.teacher_prompt) + len(self.response)


@dataclass(frozen=True, slots=True)
class Limits:
    """What one micro-batch may hold; a single sequence always fits."""

    tokens: int
    """Padded tokens, student and teacher together."""
    logits: int
    """b T V, the size of one tensor of logits."""


@dataclass(frozen=True, slots=True)
class StepResult:
    """What one step did."""

    loss: float
    """Sum of the per-sequence losses over `batch_size`."""
    grad_norm: float
    """Before clipping."""
    stepped: bool
    """False where the norm was not finite and the weights were left alone."""
    micro_batches: int


def make_optimiser(model: Any, weight_decay: float) -> torch.optim.AdamW:
    """AdamW over all parameters; the learning rate is set at every step."""
    return torch.optim.AdamW(
        model.parameters(), lr=0.0, betas=_BETAS, weight_decay=weight_decay, fused=True
    )


def warmed_up(learning_rate: float, update: int, warmup: int, from_zero: bool) -> float:
    """Learning rate of update number `update` (from 0): linear over `warmup`, then constant.

    From zero, as in the paper's release, the first step has rate 0; otherwise rate / `warmup`.
    """
    done = update if from_zero else update + 1
    return learning_rate * min(1.0, done / warmup) if warmup > 0 else learning_rate


def micro_batches(rows: Sequence[Row], vocabulary: int, limits: Limits) -> Iterator[list[Row]]:
    """All rows, similar lengths together; rows with and without a teacher apart."""
    for taught in (True, False):
        chosen = [row for row in rows if (row.teacher_prompt is not None) == taught]
        batch: list[Row] = []
        for row in sorted(
            chosen, key=lambda r: (r.student_tokens + r.teacher_tokens, len(r.response))
        ):
            if batch and not _fits([*batch, row], vocabulary, limits):
                yield batch
                batch = []
            batch.append(row)
        if batch:
            yield batch


def _fits(batch: Sequence[Row], vocabulary: int, limits: Limits) -> bool:
    student = max(row.student_tokens for row in batch)
    teacher = max(row.teacher_tokens for row in batch)
    longest = max(len(row.response) for row in batch)
    return (
        len(batch) * (student + teacher) <= limits.tokens
        and len(batch) * longest * vocabulary <= limits.logits
    )


def response_logits(
    model: Any, prompts: Sequence[Sequence[int]], responses: Sequence[Sequence[int]]
) -> Tensor:
    """[b, T, V] float32: the logits that predict each response token; padding holds anything.

    Sequences are padded on the right, so causal attention needs no mask, and the vocabulary is
    only computed where a response token is predicted.
    """
    device = model.get_input_embeddings().weight.device
    rows = [[*p, *r[:-1]] for p, r in zip(prompts, responses, strict=True)]
    ids = _padded(rows, 0, torch.long, device)
    first = torch.tensor([len(p) - 1 for p in prompts], device=device)
    steps = torch.arange(max(map(len, responses)), device=device)
    at = (first[:, None] + steps).clamp_(max=ids.shape[1] - 1)
    each = torch.arange(len(rows), device=device)[:, None]
    if any(getattr(model.config, name, None) for name in _RESCALED):
        full: Tensor = model(input_ids=ids, use_cache=False).logits
        return full[each, at].float()
    states = model.base_model(input_ids=ids, use_cache=False).last_hidden_state
    logits: Tensor = model.get_output_embeddings()(states[each, at])
    return logits.float()


def _padded(
    rows: Sequence[Sequence[float]], fill: float, dtype: torch.dtype, device: torch.device
) -> Tensor:
    width = max(map(len, rows))
    return torch.tensor(
        [[*row, *[fill] * (width - len(row))] for row in rows], dtype=dtype, device=device
    )


def token_batch(model: Any, teacher: Any | None, rows: Sequence[Row]) -> TokenBatch:
    """Forward passes of one micro-batch: the student with gradient, the teacher without."""
    responses = [row.response for row in rows]
    student = response_logits(model, [row.prompt for row in rows], responses)
    contexts = [row.teacher_prompt for row in rows if row.teacher_prompt is not None]
    taught = None
    if contexts:
        if teacher is None:
            raise RuntimeError("an example has teacher_messages: call use_teacher() first")
        with torch.no_grad():
            taught = response_logits(teacher, contexts, responses)
    device, unknown = student.device, float("nan")
    known = [row.behaviour_logprobs or [unknown] * len(row.response) for row in rows]
    return TokenBatch(
        student_logits=student,
        teacher_logits=taught,
        token_ids=_padded(responses, 0, torch.long, device),
        mask=_padded([[1.0] * len(r) for r in responses], 0.0, torch.float32, device),
        behaviour_logprobs=_padded(known, 0.0, torch.float32, device),
        advantages=torch.tensor([row.advantage for row in rows], device=device),
        weights=torch.tensor([row.weight for row in rows], device=device),
    )


def accumulate(
    batches: Sequence[Sequence[Row]],
    forward: Callable[[Sequence[Row]], TokenBatch],
    objective: Objective,
    batch_size: int,
) -> float:
    """Add the gradient of the summed losses over `batch_size` to the parameters; the loss."""
    total = 0.0
    for rows in batches:
        losses = objective(forward(rows))
        if losses.shape != (len(rows),):
            raise ValueError(f"the objective gave shape {tuple(losses.shape)}, not ({len(rows)},)")
        loss = losses.sum() / batch_size
        if loss.requires_grad:
            loss.backward()  # type: ignore[no-untyped-call]
        total += float(loss.detach())
    return total


def train_step(
    model: Any,
    teacher: Any | None,
    optimiser: torch.optim.Optimizer,
    rows: Sequence[Row],
    objective: Objective,
    *,
    batch_size: int,
    learning_rate: float,
    grad_clip: float,
    limits: Limits,
    autocast: bool = False,
) -> StepResult:
    """One optimiser step on the sum of per-sequence losses over `batch_size`.

    `rows` is not empty. With `autocast`, matrix products run in bfloat16; weights stay as they are.
    """
    vocabulary = model.get_output_embeddings().weight.shape[0]
    batches = list(micro_batches(rows, vocabulary, limits))
    device = model.get_input_embeddings().weight.device

    def forward(batch: Sequence[Row]) -> TokenBatch:
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=autocast):
            return token_batch(model, teacher, batch)

    optimiser.zero_grad(set_to_none=True)
    loss = accumulate(batches, forward, objective, batch_size)
    norm = float(clip_grad_norm_(model.parameters(), grad_clip))
    stepped = math.isfinite(norm)
    if stepped:
        for group in optimiser.param_groups:
            group["lr"] = learning_rate
        optimiser.step()
    optimiser.zero_grad(set_to_none=True)
    return StepResult(loss, norm, stepped, len(batches))
