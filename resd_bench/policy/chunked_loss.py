"""A model's output layer separated from its body, and losses computed in chunks of a few tokens.

With a vocabulary of 150 thousand, the float32 logits of one response of 2,048 tokens take 1.2 GB,
and a distillation loss holds several tensors of that size. `chunked_loss` never makes them: for a
few tokens at a time it projects the hidden states, computes the loss and immediately its gradient
with respect to the hidden states and the output weights, and frees the logits. Nothing is kept for
the backward pass and nothing is computed twice. Value and gradient equal those of the whole loss.
Left out: output layers other than one linear map, for which `head_of` returns None.

Shapes: N tokens, n of them in a chunk, d hidden, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from torch import Tensor

PieceLoss = Callable[[Tensor, slice], Tensor]
"""From the logits [n, V], float32, of the tokens in a slice of the N to the sum of their losses."""

_PROBE = (0, 1, 2)
"""Token ids that every vocabulary has."""
_TOLERANCE = 0.02
"""Tolerance relative to the model's own largest logit, because bfloat16 rounds."""


@dataclass(frozen=True, slots=True)
class Head:
    """Logits of a hidden state: `cap` * tanh(`scale` * linear(state) / `cap`)."""

    linear: torch.nn.Linear
    scale: float = 1.0
    cap: float | None = None

    def __call__(self, states: Tensor) -> Tensor:
        """[..., d] to [..., V] float32."""
        logits: Tensor = self.linear(states)
        return self.finish(logits)

    def finish(self, logits: Tensor) -> Tensor:
        """Scale and cap the output of the linear map, in float32."""
        logits = logits.float()
        if self.scale != 1.0:
            logits = logits * self.scale
        return logits if self.cap is None else self.cap * torch.tanh(logits / self.cap)


_VERIFIED: WeakKeyDictionary[torch.nn.Module, bool] = WeakKeyDictionary()


def head_of(model: Any) -> Head | None:
    """The output layer of a causal language model; None if it is not a single linear map.

    The config's values are checked once per model against the model's own logits.
    """
    linear = model.get_output_embeddings()
    if type(linear) is not torch.nn.Linear or linear.weight.is_meta:
        return None
    config = model.config.get_text_config()
    scale = float(getattr(config, "logit_scale", None) or 1.0)
    scale /= float(getattr(config, "logits_scaling", None) or 1.0)
    head = Head(linear, scale, getattr(config, "final_logit_softcapping", None) or None)
    if model not in _VERIFIED:
        _VERIFIED[model] = _agrees(model, head)
    return head if _VERIFIED[model] else None


@torch.no_grad()
def _agrees(model: Any, head: Head) -> bool:
    ids = torch.tensor([_PROBE], device=model.get_input_embeddings().weight.device)
    expected = model(input_ids=ids, use_cache=False).logits.float()
    found = head(hidden_states(model, ids)).to(expected)
    bound = _TOLERANCE * float(expected.abs().max())
    return found.shape == expected.shape and bool(((found - expected).abs() <= bound).all())


def hidden_states(model: Any, ids: Tensor) -> Tensor:
    """Input [b, L, d] of the output layer, for token ids [b, L]."""
    states: Tensor = model.base_model(input_ids=ids, use_cache=False).last_hidden_state
    return states


def chunked_loss(head: Head, states: Tensor, loss: PieceLoss, size: int) -> Tensor:
    """The sum (a scalar) of `loss` over chunks of `size` tokens of hidden states [N, d].

    Differentiable in `states` and in the weights of `head`, once only.
    """
    total: Tensor = _Pieces.apply(  # type: ignore[no-untyped-call]
        states, head.linear.weight, head.linear.bias, head, loss, size
    )
    return total


class _Pieces(torch.autograd.Function):
    """Computes gradients in the forward pass; the backward pass only multiplies them."""

    @staticmethod
    def forward(
        ctx: Any,
        states: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        head: Head,
        loss: PieceLoss,
        size: int,
    ) -> Tensor:
        wanted = ctx.needs_input_grad
        grads = _Gradients(
            torch.zeros_like(states) if wanted[0] else None,
            _accumulator(weight) if wanted[1] else None,
            _accumulator(bias) if bias is not None and wanted[2] else None,
        )
        total = torch.zeros((), device=states.device)
        for start in range(0, len(states), size):
            piece = slice(start, start + size)
            raw = F.linear(states[piece], weight, bias)
            with torch.enable_grad():
                leaf = raw.requires_grad_(any(wanted[:3]))
                value = loss(head.finish(leaf), piece)
            if value.requires_grad:
                (outer,) = torch.autograd.grad(value, leaf)
                grads.add(outer, states, weight, piece)
            total += value.detach()
        ctx.kept = grads.states, _like(grads.weight, weight), _like(grads.bias, bias)
        return total

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor | None, ...]:
        kept, ctx.kept = ctx.kept, None
        if kept is None:
            raise RuntimeError("the gradient of a chunked loss can be taken only once")
        scaled = [None if g is None else g.mul_(outer[0].to(g)) for g in kept]
        return (*scaled, None, None, None)


@dataclass(slots=True)
class _Gradients:
    """The sums over all chunks; None for gradients that are not needed."""

    states: Tensor | None
    weight: Tensor | None
    bias: Tensor | None

    def add(self, outer: Tensor, states: Tensor, weight: Tensor, piece: slice) -> None:
        """Add the contribution of a chunk, given the gradient `outer` [n, V] of its logits."""
        if self.states is not None:
            self.states[piece] = outer @ weight
        if self.weight is not None and outer.dtype == self.weight.dtype == states.dtype:
            self.weight.addmm_(outer.t(), states[piece])
        elif self.weight is not None:
            self.weight.add_(outer.t() @ states[piece])
        if self.bias is not None:
            self.bias.add_(outer.sum(0))


def _accumulator(parameter: Tensor) -> Tensor:
    """Zeros in at least float32, because many small terms are added."""
    dtype = torch.promote_types(parameter.dtype, torch.float32)
    return torch.zeros(parameter.shape, dtype=dtype, device=parameter.device)


def _like(gradient: Tensor | None, parameter: Tensor | None) -> Tensor | None:
    if gradient is None or parameter is None:
        return None
    return gradient.to(parameter.dtype)
