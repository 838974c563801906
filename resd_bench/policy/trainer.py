"""One optimiser step from examples: padding, the lean forward pass, AdamW.

Follows the optimiser of the paper's release (AdamW, gradient-norm clipping, steps with a
non-finite norm skipped, linear warm-up from 0, then constant). The model stays in evaluation mode,
so that it is the same policy that sampled. If the logits of one sequence exceed `Limits.logits` and
the objective is a sum over tokens, the loss is computed in chunks of tokens (`chunked_loss`). Left
out: several processes (`parallel`). The loss is defined by an `Objective`; nothing here knows about
methods.

Shapes: b sequences, T response tokens, V vocabulary.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from resd_bench.monitoring import activity
from resd_bench.objective import Objective, TokenBatch, TokenObjective
from resd_bench.policy.chunked_loss import Head, chunked_loss, head_of, hidden_states
from resd_bench.policy.micro_batches import (
    BatchLimits,
    TokenizedExample,
    index_prefixes,
    micro_batches,
)
from resd_bench.policy.parallel.dtensor import gather_full, in_main_memory, shard_like

_BETAS = (0.9, 0.999)
"""AdamW's betas, as in the paper's release."""


@dataclass(frozen=True, slots=True)
class UpdateResult:
    """The result of one step."""

    loss: float
    """Sum of the per-sequence losses over `batch_size`."""
    grad_norm: float
    """Before clipping."""
    stepped: bool
    """False if the norm was not finite and the weights were left unchanged."""
    micro_batches: int
    culprit: str = ""
    """The tensor that is not finite, if there was no step."""


SplitBatch = Callable[[Sequence[TokenizedExample]], Iterable[Sequence[TokenizedExample]]]
"""From rows to micro-batches."""
Summed = Callable[[Sequence[TokenizedExample]], Tensor]
"""From a micro-batch to the sum of its losses."""


class Passes(Protocol):
    """Which process computes which micro-batches of a step, and how gradients are combined."""

    keeps_casts: bool
    """Whether autocast keeps a bfloat16 copy of each weight until a micro-batch is done."""

    def share(
        self, rows: Sequence[TokenizedExample], split: SplitBatch
    ) -> list[Sequence[TokenizedExample]]:
        """This process's part of `rows`, in micro-batches."""
        ...

    def descend(
        self, batches: Sequence[Sequence[TokenizedExample]], summed: Summed, batch_size: int
    ) -> float:
        """Add the gradient of the summed losses over `batch_size` to the parameters; their sum.

        `batches` is what `share` returned. The sum includes other processes' losses.
        """
        ...


class Serial:
    """One process computes everything."""

    keeps_casts = True

    def share(
        self, rows: Sequence[TokenizedExample], split: SplitBatch
    ) -> list[Sequence[TokenizedExample]]:
        return list(split(rows))

    def descend(
        self, batches: Sequence[Sequence[TokenizedExample]], summed: Summed, batch_size: int
    ) -> float:
        total = 0.0
        for rows in batches:
            loss = summed(rows) / batch_size
            if loss.requires_grad:
                loss.backward()  # type: ignore[no-untyped-call]
            total += float(loss.detach())
            activity.sampled(len(rows), 0)
        return total


SERIAL = Serial()


def make_optimiser(model: Any, weight_decay: float) -> torch.optim.AdamW:
    """AdamW over all trained parameters; the learning rate is set at every step."""
    parameters = trained(model)
    # A model that only a server holds has parameters that are never used.
    fused = all(p.device.type != "meta" for p in parameters)
    return torch.optim.AdamW(
        parameters, lr=0.0, betas=_BETAS, weight_decay=weight_decay, fused=fused
    )


def optimiser_state(optimiser: torch.optim.Optimizer) -> dict[str, Any]:
    """A copy of an optimiser's whole state, with its moments in main memory."""
    whole = optimiser.state_dict()
    moments = {
        number: {name: in_main_memory(value) for name, value in of_one.items()}
        for number, of_one in whole["state"].items()
    }
    return {**copy.deepcopy({k: v for k, v in whole.items() if k != "state"}), "state": moments}


def restore_optimiser(optimiser: torch.optim.Optimizer, state: Mapping[str, Any]) -> None:
    """Restore an optimiser's whole state."""
    parameters = [p for group in optimiser.param_groups for p in group["params"]]
    taken = copy.deepcopy(dict(state))
    for number, moments in taken["state"].items():
        owner = parameters[number]
        for name, value in moments.items():
            if value.shape == owner.shape:
                moments[name] = shard_like(value, owner)
    optimiser.load_state_dict(taken)


def trained(model: Any) -> list[Tensor]:
    """The parameters that are trained, in the model's order."""
    return [p for p in model.parameters() if p.requires_grad]


def warmed_up(learning_rate: float, update: float, warmup: int, from_zero: bool) -> float:
    """Learning rate of update number `update` (from 0): linear over `warmup`, then constant.

    With `from_zero`, as in the paper's release, the first step has rate 0; otherwise rate /
    `warmup`.
    """
    done = update if from_zero else update + 1
    return learning_rate * min(1.0, done / warmup) if warmup > 0 else learning_rate


def response_logits(
    model: Any, prompts: Sequence[Sequence[int]], responses: Sequence[Sequence[int]]
) -> Tensor:
    """Logits [b, T, V], float32, that predict each response token; undefined at padding.

    Sequences are padded on the right, so causal attention needs no mask, and logits are computed
    only where a response token is predicted. A sequence that is the beginning of another one in the
    batch is read as part of that one.
    """
    head = head_of(model)
    if head is not None:
        return head(response_states(model, prompts, responses))
    ids, rows, at = _inputs(model, prompts, responses)
    full: Tensor = model(input_ids=ids, use_cache=False).logits
    return _picked(full, rows, at).float()


def response_states(
    model: Any, prompts: Sequence[Sequence[int]], responses: Sequence[Sequence[int]]
) -> Tensor:
    """Hidden states [b, T, d] that predict each response token; undefined at padding."""
    ids, rows, at = _inputs(model, prompts, responses)
    return _picked(hidden_states(model, ids), rows, at)


def _inputs(
    model: Any, prompts: Sequence[Sequence[int]], responses: Sequence[Sequence[int]]
) -> tuple[Tensor, Tensor, Tensor]:
    """Token ids [s, L] of s <= b sequences, and the positions where responses are predicted.

    The response of example i is predicted in row `rows[i]` ([b, 1]) at positions `at[i]` ([b, T]).
    """
    device = model.get_input_embeddings().weight.device
    whole = [(*p, *r[:-1]) for p, r in zip(prompts, responses, strict=True)]
    held = index_prefixes(whole)
    ids = _padded([whole[place] for place in held.kept], 0, torch.long, device)
    first = torch.tensor([len(p) - 1 for p in prompts], device=device)
    steps = torch.arange(max(map(len, responses)), device=device)
    at = (first[:, None] + steps).clamp_(max=ids.shape[1] - 1)
    return ids, torch.tensor(held.holder, device=device)[:, None], at


def _picked(values: Tensor, rows: Tensor, at: Tensor) -> Tensor:
    """Pick [b, T, ...] from [s, L, ...]."""
    return values[rows.to(values.device), at.to(values.device)]


def _padded(
    rows: Sequence[Sequence[float]], fill: float, dtype: torch.dtype, device: torch.device
) -> Tensor:
    width = max(map(len, rows))
    return torch.tensor(
        [[*row, *[fill] * (width - len(row))] for row in rows], dtype=dtype, device=device
    )


def scoring(teacher: Any | None) -> AbstractContextManager[Any]:
    """A context with the teacher's model for scoring: `teacher` itself, or its own `scoring`."""
    if teacher is None:
        raise RuntimeError("an example has teacher_messages: call use_teacher() first")
    own = getattr(teacher, "scoring", None)
    return nullcontext(teacher) if own is None else own()


def token_batch(model: Any, teacher: Any | None, rows: Sequence[TokenizedExample]) -> TokenBatch:
    """Forward passes of one micro-batch: the student with gradient, the teacher without."""
    responses = [row.response for row in rows]
    student = response_logits(model, [row.prompt for row in rows], responses)
    contexts = [row.teacher_prompt for row in rows if row.teacher_prompt is not None]
    taught = None
    if contexts:
        with torch.no_grad(), scoring(teacher) as scorer:
            taught = response_logits(scorer, contexts, responses).to(student.device)
    device, unknown = student.device, float("nan")
    known = [row.behaviour_logprobs or [unknown] * len(row.response) for row in rows]
    return TokenBatch(
        student_logits=student,
        teacher_logits=taught,
        token_ids=_padded(responses, 0, torch.long, device),
        mask=_padded([[1.0] * len(r) for r in responses], 0.0, torch.float32, device),
        behaviour_logprobs=_padded(known, 0.0, torch.float32, device),
        advantages=_advantages(rows, device),
        weights=torch.tensor([row.weight for row in rows], device=device),
    )


def _advantages(rows: Sequence[TokenizedExample], device: torch.device) -> Tensor:
    """[b], or [b, T] where a row has one for each token."""
    if not any(row.token_advantages for row in rows):
        return torch.tensor([row.advantage for row in rows], device=device)
    return _padded([row.advantages for row in rows], 0.0, torch.float32, device)


def loss_in_pieces(
    model: Any,
    teacher: Any | None,
    rows: Sequence[TokenizedExample],
    objective: TokenObjective,
    logits: int,
) -> Tensor:
    """The summed loss of one micro-batch, with at most `logits` logits held at a time."""
    head = head_of(model)
    assert head is not None
    responses = [row.response for row in rows]
    valid = _padded([[True] * len(r) for r in responses], False, torch.bool, _device(head))
    states = response_states(model, [row.prompt for row in rows], responses)
    states = states.to(valid.device)[valid]
    contexts = [row.teacher_prompt for row in rows if row.teacher_prompt is not None]
    tokens = _tokens(rows, valid.device)
    share = 1.0 if objective.aggregation == "sum" else 1.0 / tokens.length
    size = max(1, logits // head.linear.weight.shape[0])
    with _teacher_logits(teacher, contexts, responses, valid) as taught:

        def loss(student: Tensor, piece: slice) -> Tensor:
            batch = tokens.batch(student, taught(piece), piece)
            terms = objective.per_token(batch)[:, 0]
            return (terms * (share if isinstance(share, float) else share[piece])).sum()

        return chunked_loss(head, states, loss, size)


def _device(head: Head) -> torch.device:
    return head.linear.weight.device


@contextmanager
def _teacher_logits(
    teacher: Any | None,
    contexts: Sequence[Sequence[int]],
    responses: Sequence[Sequence[int]],
    valid: Tensor,
) -> Iterator[Callable[[slice], Tensor | None]]:
    """A function from a slice of the N valid tokens to the teacher's logits [n, 1, V] there."""
    if not contexts:
        yield lambda piece: None
        return
    with scoring(teacher) as scorer:
        head = head_of(scorer)
        assert head is not None
        with torch.no_grad():
            states = response_states(scorer, contexts, responses).to(_device(head))
            states = states[valid.to(states.device)]

        @torch.no_grad()
        def logits(piece: slice) -> Tensor:
            return head(states[piece])[:, None].to(valid.device)

        yield logits


@dataclass(frozen=True, slots=True)
class _Tokens:
    """The N scored tokens of a micro-batch, each as its own sequence; all fields are [N]."""

    ids: Tensor
    behaviour: Tensor
    advantages: Tensor
    weights: Tensor
    length: Tensor
    """Number of scored tokens in the sequence it belongs to."""

    def batch(self, student: Tensor, teacher: Tensor | None, piece: slice) -> TokenBatch:
        """The tokens in `piece`, with logits [n, V] and [n, 1, V]."""
        return TokenBatch(
            student_logits=student[:, None],
            teacher_logits=teacher,
            token_ids=self.ids[piece, None],
            mask=torch.ones_like(self.behaviour[piece, None]),
            behaviour_logprobs=self.behaviour[piece, None],
            advantages=self.advantages[piece],
            weights=self.weights[piece],
        )


def _tokens(rows: Sequence[TokenizedExample], device: torch.device) -> _Tokens:
    def flat(
        of: Callable[[TokenizedExample], Sequence[float]], dtype: torch.dtype = torch.float32
    ) -> Tensor:
        return torch.tensor([v for row in rows for v in of(row)], dtype=dtype, device=device)

    return _Tokens(
        ids=flat(lambda row: row.response, torch.long),
        behaviour=flat(lambda row: row.behaviour_logprobs or [math.nan] * len(row.response)),
        advantages=flat(lambda row: row.advantages),
        weights=flat(lambda row: [row.weight] * len(row.response)),
        length=flat(lambda row: [float(len(row.response))] * len(row.response)),
    )


def accumulate(
    batches: Sequence[Sequence[TokenizedExample]],
    forward: Callable[[Sequence[TokenizedExample]], TokenBatch],
    objective: Objective,
    batch_size: int,
    passes: Passes = SERIAL,
) -> float:
    """Add the gradient of the summed losses over `batch_size` to the parameters; the loss."""

    def summed(rows: Sequence[TokenizedExample]) -> Tensor:
        losses = objective(forward(rows))
        if losses.shape != (len(rows),):
            raise ValueError(f"the objective has shape {tuple(losses.shape)}, not ({len(rows)},)")
        return losses.sum()

    return passes.descend(batches, summed, batch_size)


def in_pieces(
    model: Any, rows: Sequence[TokenizedExample], objective: Objective, limits: BatchLimits
) -> bool:
    """Whether the loss must be chunked: a single sequence exceeds the limit of logits."""
    vocabulary = model.get_output_embeddings().weight.shape[0]
    longest = max(len(row.response) for row in rows)
    return (
        isinstance(objective, TokenObjective)
        and longest * vocabulary > limits.logits
        and head_of(model) is not None
    )


@contextmanager
def checkpointed(model: Any) -> Iterator[None]:
    """Within the context, layers with gradient checkpointing enabled recompute their activations.

    `transformers` checkpoints only layers in training mode; the modules inside them stay in
    evaluation mode, so that there is no dropout.
    """
    layers = [m for m in model.modules() if getattr(m, "gradient_checkpointing", False)]
    before = [layer.training for layer in layers]
    for layer in layers:
        layer.training = True
    try:
        yield
    finally:
        for layer, mode in zip(layers, before, strict=True):
            layer.training = mode


def train_step(
    model: Any,
    teacher: Any | None,
    optimiser: torch.optim.Optimizer,
    rows: Sequence[TokenizedExample],
    objective: Objective,
    *,
    batch_size: int,
    learning_rate: float,
    grad_clip: float,
    limits: BatchLimits,
    autocast: bool = False,
    passes: Passes = SERIAL,
) -> UpdateResult:
    """One optimiser step on the sum of per-sequence losses over `batch_size`.

    `rows` must not be empty; `teacher` is a model, or has a context `scoring` that yields one. With
    `autocast`, matrix products run in bfloat16; weights keep their precision.
    """
    optimiser.zero_grad(set_to_none=True)
    with checkpointed(model):
        loss, count = backward(
            model,
            teacher,
            rows,
            objective,
            batch_size=batch_size,
            limits=limits,
            autocast=autocast,
            passes=passes,
        )
    parameters = trained(model)
    total = get_total_norm([p.grad for p in parameters if p.grad is not None])
    norm = float(gather_full(total))
    stepped = math.isfinite(norm)
    culprit = "" if stepped else non_finite(model)
    if stepped:
        clip_grads_with_norm_(parameters, grad_clip, total)
        for group in optimiser.param_groups:
            group["lr"] = learning_rate
        optimiser.step()
    optimiser.zero_grad(set_to_none=True)
    return UpdateResult(loss, norm, stepped, count, culprit)


def non_finite(model: Any) -> str:
    """The first tensor that holds NaN or infinity, weights before gradients; "" for none.

    With FSDP, only this process's shards are searched.
    """
    named = list(model.named_parameters())
    for name, weight in named:
        if not _is_finite(weight):
            return f"the weight {name}"
    for name, weight in named:
        if weight.grad is not None and not _is_finite(weight.grad):
            return f"the gradient of {name}"
    return ""


def _is_finite(tensor: Tensor) -> bool:
    if tensor.device.type == "meta":
        return True
    own = getattr(tensor, "_local_tensor", tensor)
    # A sum preserves NaN and infinity and needs no second tensor, but it may overflow by itself.
    return bool(own.sum(dtype=torch.float32).isfinite()) or bool(own.isfinite().all())


def backward(
    model: Any,
    teacher: Any | None,
    rows: Sequence[TokenizedExample],
    objective: Objective,
    *,
    batch_size: int,
    limits: BatchLimits,
    autocast: bool = False,
    passes: Passes = SERIAL,
) -> tuple[float, int]:
    """Add a step's gradient to the parameters; returns the loss and the number of micro-batches.

    The loss is that of all processes, the number of micro-batches only of this one.
    """
    vocabulary = model.get_output_embeddings().weight.shape[0]
    device = model.get_input_embeddings().weight.device

    def cast() -> AbstractContextManager[Any]:
        return torch.autocast(
            device.type, torch.bfloat16, enabled=autocast, cache_enabled=passes.keeps_casts
        )

    if isinstance(objective, TokenObjective) and in_pieces(model, rows, objective, limits):
        batches = passes.share(rows, partial(micro_batches, vocabulary=0, limits=limits))

        def lean(batch: Sequence[TokenizedExample]) -> Tensor:
            with cast():
                return loss_in_pieces(model, teacher, batch, objective, limits.logits)

        return passes.descend(batches, lean, batch_size), len(batches)

    def forward(batch: Sequence[TokenizedExample]) -> TokenBatch:
        with cast():
            return token_batch(model, teacher, batch)

    batches = passes.share(rows, partial(micro_batches, vocabulary=vocabulary, limits=limits))
    return accumulate(batches, forward, objective, batch_size, passes), len(batches)
