"""The losses as pure functions of tensors, and the objectives that methods train with.

Self-distillation (paper Eqs. 1 to 3), success-rate weights (Eq. 2), group-relative advantages and
the clipped policy gradient. Nothing here pads, moves tensors between devices or takes an optimiser
step. Left out: supports chosen by the teacher, entropy filters and position ramps, which the
paper's release has as options but never uses.

Shapes: B sequences (b in a micro-batch), T tokens, V vocabulary, S support (top-k and a tail),
G groups of N samples. Log-probabilities are in nats.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from resd_bench.objective import Aggregation, TokenBatch, TokenObjective, sequence_losses

Divergence = Literal["reverse_kl", "forward_kl", "jsd"]

LOG_RATIO_BOUND = 20.0
"""Log-ratios of probabilities are clamped to +-20 before they are exponentiated (release)."""
MAX_LOG_MASS = -1e-7
"""Upper bound on the log-mass of a top-k support, so that the tail is never empty (release)."""
MIN_LOGPROB = -1e4
"""The log-probability of impossible events; its exponential is 0."""


@dataclass(frozen=True, slots=True)
class DistillationLoss:
    """The result of `self_distillation_loss`."""

    loss: Tensor
    """Scalar: mean over all B sequences of each sequence's mean over scored tokens."""
    per_token: Tensor
    """[B, T], with all weights applied but not the mask."""


def self_distillation_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    mask: Tensor,
    *,
    divergence: Divergence = "reverse_kl",
    mixture: float = 0.5,
    top_k: int | None = 100,
    tail: bool = True,
    clip_low: float | None = 0.2,
    clip_high: float | None = None,
    sample_weights: Tensor | None = None,
    token_weights: Tensor | None = None,
    temperature: float = 1.0,
) -> DistillationLoss:
    """Divergence between student and teacher at every response token (Eqs. 1 and 3).

    Logits are [B, T, V], divided by `temperature`; `mask` [B, T] is 1 where a token is scored;
    `sample_weights` [B] and `token_weights` [B, T] are factors without gradient. With `top_k` the
    support is the student's k most likely tokens and, with `tail`, one bucket for all others
    (without it, both sides are renormalised); None is the full vocabulary. The teacher's
    probabilities are kept within `clip_low` and `clip_high` times the student's, as constants and
    without renormalising, as in the release. `mixture` is the teacher's share in the mixture of
    `jsd`.
    """
    log_p, log_q = _on_support(student_logits, teacher_logits, top_k, tail, temperature)
    log_q = _clip_ratio(log_q, log_p.detach(), clip_low, clip_high)
    per_token = _divergence(log_p, log_q, divergence, mixture)
    if token_weights is not None:
        per_token = per_token * token_weights.detach().to(per_token)
    if sample_weights is not None:
        per_token = per_token * sample_weights.detach().to(per_token)[:, None]
    return DistillationLoss(sequence_losses(per_token, mask).mean(), per_token)


def _on_support(
    student: Tensor, teacher: Tensor, top_k: int | None, tail: bool, temperature: float
) -> tuple[Tensor, Tensor]:
    """Log-probabilities [B, T, S] of both sides; only the student's have a gradient."""
    z, y = _tempered(student, temperature), _tempered(teacher.detach(), temperature)
    if top_k is None:
        return _logprobs(z, z), _logprobs(y, y)
    top, indices = z.topk(min(top_k, z.shape[-1]), dim=-1)
    log_p, log_q = _logprobs(top, z), _logprobs(y.gather(-1, indices), y)
    if not tail:
        return log_p.log_softmax(-1), log_q.log_softmax(-1)
    return _with_tail(log_p), _with_tail(log_q)


def _tempered(logits: Tensor, temperature: float) -> Tensor:
    # Dividing by 1 would copy what may be the largest tensor of all.
    return logits if temperature == 1 else logits / temperature


def _logprobs(chosen: Tensor, logits: Tensor) -> Tensor:
    return (chosen - logits.logsumexp(-1, keepdim=True)).clamp(min=MIN_LOGPROB)


def _with_tail(log_p: Tensor) -> Tensor:
    """Append the log-probability of everything outside the support."""
    log_mass = log_p.logsumexp(-1, keepdim=True).clamp(max=MAX_LOG_MASS)
    return torch.cat([log_p, torch.log(-torch.expm1(log_mass))], dim=-1)


def _clip_ratio(log_q: Tensor, log_p: Tensor, low: float | None, high: float | None) -> Tensor:
    """Keep q / p within bounds (the clip of Eq. 1), the lower bound first."""
    if low is not None:
        log_q = torch.maximum(log_q, log_p + math.log(low))
    if high is not None:
        log_q = torch.minimum(log_q, log_p + math.log(high))
    return log_q


def _divergence(log_p: Tensor, log_q: Tensor, kind: Divergence, mixture: float) -> Tensor:
    """Forward KL(q || p), reverse KL(p || q) or generalised Jensen-Shannon divergence, [B, T]."""
    if kind == "forward_kl":
        return (log_q.exp() * (log_q - log_p)).sum(-1)
    if kind == "reverse_kl":
        return (log_p.exp() * (log_p - log_q)).sum(-1)
    if kind != "jsd":
        raise ValueError(f"divergence {kind!r} is not 'reverse_kl', 'forward_kl' or 'jsd'")
    if not 0 < mixture < 1:
        raise ValueError(f"mixture {mixture} must be between 0 and 1, both excluded")
    log_m = torch.logaddexp(log_p + math.log1p(-mixture), log_q + math.log(mixture))
    from_student = (log_p.exp() * (log_p - log_m)).sum(-1)
    from_teacher = (log_q.exp() * (log_q - log_m)).sum(-1)
    return (1 - mixture) * from_student + mixture * from_teacher


def success_rate_weights(success: Tensor, *, alpha: float = 1.0, beta: float = 1.0) -> Tensor:
    """Float64 weights [B] with mean 1 that emphasise the rarer outcome (Eq. 2).

    With success rate s, a success has weight (1 - s)^alpha and a failure s^beta, before division by
    the mean. s is kept away from 0 and 1 (release), so if all outcomes are equal, all weights are
    1.
    """
    won = torch.as_tensor(success).double()
    count = won.numel()
    if count == 0:
        return won
    rate = float(won.mean().clamp(1 / count, 1 - 1 / count))
    raw = won * (1 - rate) ** alpha + (1 - won) * rate**beta
    mean = raw.mean()
    return torch.ones_like(raw) if mean <= 1e-8 else raw / mean


def token_logprobs(logits: Tensor, token_ids: Tensor, temperature: float = 1.0) -> Tensor:
    """Log-probability [B, T] of each token under logits [B, T, V] / temperature."""
    z = _tempered(logits, temperature)
    return z.gather(-1, token_ids[..., None])[..., 0] - z.logsumexp(-1)


@torch.no_grad()
def importance_weights(
    old_logprobs: Tensor, behaviour_logprobs: Tensor, cap: float = 2.0
) -> Tensor:
    """Truncated ratio [B, T] of trainer to sampler probability (release); 1 if unknown (NaN)."""
    bound = LOG_RATIO_BOUND
    ratio = (old_logprobs - behaviour_logprobs).clamp(-bound, bound).exp().clamp(max=cap)
    return torch.where(torch.isnan(behaviour_logprobs), torch.ones_like(ratio), ratio)


def group_advantages(rewards: Tensor, *, normalise_std: bool = True, eps: float = 1e-6) -> Tensor:
    """Rewards [G, N] minus their group's mean, over its unbiased standard deviation + `eps`.

    A group of one has mean 0 and deviation 1.
    """
    rewards = torch.as_tensor(rewards)
    if not rewards.is_floating_point():
        rewards = rewards.double()
    alone = rewards.shape[-1] == 1
    centred = rewards if alone else rewards - rewards.mean(-1, keepdim=True)
    if not normalise_std:
        return centred
    deviation = torch.ones_like(rewards) if alone else rewards.std(-1, keepdim=True)
    return centred / (deviation + eps)


def reweighted_advantages(
    advantage: float, gain: Tensor, *, clip: float = 0.2, mix: float = 1.0
) -> Tensor:
    """[T] an advantage, larger where a teacher supports its direction (RLSD, Eqs. 13 to 15).

    `gain` [T] is the teacher's log-probability of each token less the student's. The weight
    exp(sign(advantage) gain) is clipped to [1 - clip, 1 + clip]; `mix` is its share, the rest
    weighs 1.
    """
    sign = math.copysign(1.0, advantage)
    weight = (sign * gain).clamp(-LOG_RATIO_BOUND, LOG_RATIO_BOUND).exp()
    return advantage * ((1 - mix) + mix * weight.clamp(1 - clip, 1 + clip))


def hint_contrast(right: Tensor, wrong: Tensor) -> Tensor:
    """[T] log-probability after a right hint, less that after a wrong one (RLCSD, Eq. 7).

    `right` is [T], `wrong` [K, T]: of K wrong hints, the mean probability counts.
    """
    return right - (wrong.logsumexp(0) - math.log(len(wrong)))


def contrasted_advantages(
    advantage: float,
    evidence: Tensor,
    *,
    scale: float = 0.5,
    temperature: float = 1.3,
    threshold: float = 0.02,
    selected_weight: float = 0.5,
) -> Tensor:
    """[T] an advantage, changed where the evidence [T] of `contrast` is strong (RLCSD).

    A token is selected if scale * tanh(evidence / temperature), which is added to its advantage,
    exceeds `threshold` in size; the sum keeps the sign of the advantage, or is 0. The mean of these
    [T] is the mean over all other tokens plus `selected_weight` times that over selected ones.
    """
    change = scale * torch.tanh(evidence / temperature)
    selected = change.abs() > threshold
    moved = advantage + change
    moved = moved.clamp(min=0) if advantage > 0 else moved.clamp(max=0)
    count, total = int(selected.sum()), evidence.numel()
    others = torch.full_like(evidence, advantage * total / max(1, total - count))
    return torch.where(selected, moved * selected_weight * total / max(1, count), others)


def policy_gradient_per_token(
    logprobs: Tensor,
    old_logprobs: Tensor,
    advantages: Tensor,
    *,
    clip_low: float = 0.2,
    clip_high: float = 0.28,
    dual_clip: float | None = 3.0,
    token_weights: Tensor | None = None,
) -> Tensor:
    """Clipped surrogate [B, T]; `advantages` is [B] or [B, T]. See `policy_gradient_loss`."""
    a = advantages if advantages.dim() == logprobs.dim() else advantages[:, None]
    log_ratio = logprobs - old_logprobs.detach()
    ratio = log_ratio.clamp(-LOG_RATIO_BOUND, LOG_RATIO_BOUND).exp()
    clipped = ratio.clamp(1 - clip_low, 1 + clip_high)
    per_token = torch.maximum(-a * ratio, -a * clipped)
    if dual_clip is not None:
        per_token = torch.where(a < 0, torch.minimum(per_token, -a * dual_clip), per_token)
    return per_token if token_weights is None else per_token * token_weights.detach().to(per_token)


def _nll_per_token(batch: TokenBatch) -> Tensor:
    nll = -token_logprobs(batch.student_logits, batch.token_ids)
    return batch.weights[:, None] * nll


nll_objective = TokenObjective(_nll_per_token)
"""Mean negative log-likelihood [b] of each sequence's tokens."""


def _trainer_weights(batch: TokenBatch, temperature: float, cap: float | None) -> Tensor | None:
    """Truncated importance weights of the sampled tokens; None if there is no cap."""
    if cap is None:
        return None
    old = token_logprobs(batch.student_logits.detach(), batch.token_ids, temperature)
    return importance_weights(old, batch.behaviour_logprobs, cap)


def distillation_objective(
    *,
    divergence: Divergence,
    mixture: float,
    top_k: int | None,
    tail: bool,
    clip_low: float | None,
    clip_high: float | None,
    importance_cap: float | None,
    aggregation: Aggregation,
    temperature: float,
) -> TokenObjective:
    """The objective of self-distillation at the sampling temperature of the rollouts."""

    def per_token(batch: TokenBatch) -> Tensor:
        if batch.teacher_logits is None:
            raise ValueError("self-distillation needs examples with teacher_messages")
        return self_distillation_loss(
            batch.student_logits,
            batch.teacher_logits,
            batch.mask,
            divergence=divergence,
            mixture=mixture,
            top_k=top_k,
            tail=tail,
            clip_low=clip_low,
            clip_high=clip_high,
            sample_weights=batch.weights,
            token_weights=_trainer_weights(batch, temperature, importance_cap),
            temperature=temperature,
        ).per_token

    return TokenObjective(per_token, aggregation)


def policy_gradient_objective(
    *,
    clip_low: float,
    clip_high: float,
    dual_clip: float | None,
    importance_cap: float | None,
    temperature: float,
    aggregation: Aggregation = "mean",
) -> TokenObjective:
    """The objective of GRPO with one mini-batch: the old policy is the one being trained."""

    def per_token(batch: TokenBatch) -> Tensor:
        logprobs = token_logprobs(batch.student_logits, batch.token_ids, temperature)
        terms = policy_gradient_per_token(
            logprobs,
            logprobs.detach(),
            batch.advantages,
            clip_low=clip_low,
            clip_high=clip_high,
            dual_clip=dual_clip,
            token_weights=_trainer_weights(batch, temperature, importance_cap),
        )
        return batch.weights[:, None] * terms

    return TokenObjective(per_token, aggregation)
