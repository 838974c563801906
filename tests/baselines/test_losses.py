"""Losses against reference values, formulas and properties."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from resd_baselines.losses import (
    DistillationLoss,
    Divergence,
    distillation_objective,
    group_advantages,
    importance_weights,
    nll_objective,
    policy_gradient_objective,
    policy_gradient_per_token,
    self_distillation_loss,
    success_rate_weights,
    token_logprobs,
)
from resd_bench.objective import TokenBatch, sequence_losses

DIVERGENCES: tuple[Divergence, ...] = ("reverse_kl", "forward_kl", "jsd")


def logits(seed: int, shape: tuple[int, ...] = (2, 4, 11)) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 2 * torch.randn(shape, generator=generator, dtype=torch.float64)


def alone(loss: DistillationLoss) -> Tensor:
    return loss.loss


def reference_case(path: Path) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Arrays, config, and the keyword arguments the config means."""
    data = dict(np.load(path))
    config = json.loads(str(data["config"]))
    alpha = config["alpha"]
    kind = {0.0: "forward_kl", 1.0: "reverse_kl"}.get(alpha, "jsd")
    options = {
        "divergence": kind,
        "mixture": alpha if kind == "jsd" else 0.5,
        "top_k": config["distillation_topk"],
        "tail": config["distillation_add_tail"],
        "clip_low": config["teacher_prob_min_ratio"],
        "clip_high": config["teacher_prob_max_ratio"],
        "temperature": config["temperature"],
    }
    return data, config, options


def test_the_distillation_loss_and_its_gradient_equal_the_reference(fixtures: Path) -> None:
    paths = sorted((fixtures / "loss").glob("*.npz"))
    compared = 0
    assert paths
    for path in paths:
        data, config, options = reference_case(path)
        if not config["full_logit_distillation"]:
            continue
        if config["distillation_token_selector"] != "student":
            continue
        exact = config["dtype"] == "float64"
        rtol, atol = (1e-9, 1e-12) if exact else (1e-5, 1e-5)
        z = torch.tensor(data["student_logits"], requires_grad=True)
        mask = torch.tensor(data["mask"])
        if "self_distillation_mask" in data:
            mask = mask * torch.tensor(data["self_distillation_mask"])[:, None]
        token_weights = torch.ones_like(mask)
        if "old_log_probs" in data and config["is_clip"]:
            logp = token_logprobs(z.detach(), torch.tensor(data["response_ids"]))
            token_weights = importance_weights(
                logp, torch.tensor(data["old_log_probs"]), config["is_clip"]
            )
        if "rollout_is_weights" in data:
            token_weights = token_weights * torch.tensor(data["rollout_is_weights"])
        weights = data.get("sample_weights")
        result = self_distillation_loss(
            z,
            torch.tensor(data["teacher_logits"]),
            mask,
            sample_weights=None if weights is None else torch.tensor(weights),
            token_weights=token_weights,
            **options,
        )
        (gradient,) = torch.autograd.grad(result.loss, z)
        for mine, name in (
            (result.loss, "loss_microbatch1"),
            (result.per_token, "per_token_loss"),
            (gradient, "grad_microbatch1"),
        ):
            np.testing.assert_allclose(
                mine.detach().numpy(), data[name], rtol=rtol, atol=atol, err_msg=f"{path} {name}"
            )
        compared += 1
    assert compared >= 10


@pytest.mark.parametrize("kind", DIVERGENCES)
def test_masked_tokens_get_no_gradient(kind: Divergence) -> None:
    z, y = logits(1).requires_grad_(), logits(2)
    mask = torch.tensor([[1.0, 0, 1, 0], [0, 0, 0, 0]], dtype=torch.float64)
    alone(self_distillation_loss(z, y, mask, divergence=kind, top_k=4)).backward()  # type: ignore[no-untyped-call]
    assert z.grad is not None
    assert (z.grad[mask == 0] == 0).all()
    assert (z.grad[mask == 1] != 0).any()


@pytest.mark.parametrize("kind", DIVERGENCES)
def test_the_teacher_gets_no_gradient_and_equal_models_lose_nothing(kind: Divergence) -> None:
    y = logits(3).requires_grad_()
    mask = torch.ones(2, 4, dtype=torch.float64)
    loss = alone(self_distillation_loss(logits(3), y, mask, divergence=kind, top_k=None))
    assert not loss.requires_grad
    assert abs(float(loss)) < 1e-12


def test_unclipped_divergences_equal_their_definitions() -> None:
    p, q = logits(4).softmax(-1), logits(5).softmax(-1)
    mask = torch.ones(2, 4, dtype=torch.float64)
    a = 0.25
    m = (1 - a) * p + a * q
    definitions: dict[Divergence, Tensor] = {
        "reverse_kl": (p * (p / q).log()).sum(-1),
        "forward_kl": (q * (q / p).log()).sum(-1),
        "jsd": (1 - a) * (p * (p / m).log()).sum(-1) + a * (q * (q / m).log()).sum(-1),
    }
    for kind, expected in definitions.items():
        for top_k in (None, 11, 100):
            got = self_distillation_loss(
                logits(4),
                logits(5),
                mask,
                divergence=kind,
                mixture=a,
                top_k=top_k,
                clip_low=None,
            )
            # With the whole vocabulary as support the tail holds 1e-7 by definition.
            torch.testing.assert_close(got.per_token, expected, rtol=1e-4, atol=1e-5)


def test_a_lower_clip_bounds_the_reverse_kl_of_a_token() -> None:
    z, y = 20 * logits(6), 20 * logits(7)
    loss = self_distillation_loss(z, y, torch.ones(2, 4), clip_low=0.2, top_k=5)
    assert float(loss.per_token.max()) <= math.log(5) + 1e-9
    assert float(loss.per_token.min()) >= -1e-9


@pytest.mark.parametrize("kind", DIVERGENCES)
@pytest.mark.parametrize("top_k", [None, 3])
def test_impossible_tokens_give_finite_losses_and_gradients(
    kind: Divergence, top_k: int | None
) -> None:
    z, y = logits(8), logits(9)
    z[..., 0] = -math.inf
    y[..., :3] = -math.inf
    z.requires_grad_()
    loss = self_distillation_loss(z, y, torch.ones(2, 4), divergence=kind, top_k=top_k)
    alone(loss).backward()  # type: ignore[no-untyped-call]
    assert z.grad is not None
    assert torch.isfinite(loss.per_token).all()
    assert torch.isfinite(z.grad).all()


def test_temperature_divides_both_sides() -> None:
    z, y, mask = logits(10), logits(11), torch.ones(2, 4)
    warm = self_distillation_loss(z, y, mask, temperature=2.0, top_k=None)
    cool = self_distillation_loss(z / 2, y / 2, mask, top_k=None)
    torch.testing.assert_close(warm.loss, cool.loss)


def test_an_unknown_divergence_is_refused() -> None:
    with pytest.raises(ValueError, match="reverse_kl"):
        self_distillation_loss(logits(1), logits(2), torch.ones(2, 4), divergence="kl")  # type: ignore[arg-type]


def test_a_sequence_without_scored_tokens_counts_as_zero() -> None:
    per_token = torch.tensor([[2.0, 4.0], [9.0, math.nan]])
    mask = torch.tensor([[1.0, 1.0], [0.0, 0.0]])
    assert sequence_losses(per_token, mask).tolist() == [3.0, 0.0]
    assert sequence_losses(per_token, mask, "sum").tolist() == [6.0, 0.0]


def test_success_rate_weights_give_each_outcome_half_the_weight() -> None:
    success = torch.zeros(32, dtype=torch.bool)
    success[5] = True
    weights = success_rate_weights(success)
    assert float(weights[5]) == pytest.approx(16.0, rel=1e-12)
    assert float(weights[0]) == pytest.approx(32 / 62, rel=1e-12)
    assert float(weights.mean()) == pytest.approx(1.0)


@pytest.mark.parametrize("outcomes", [[], [True], [False], [True] * 5, [False] * 5])
def test_batches_of_one_outcome_weigh_one_each(outcomes: list[bool]) -> None:
    weights = success_rate_weights(torch.tensor(outcomes, dtype=torch.bool))
    torch.testing.assert_close(weights, torch.ones(len(outcomes), dtype=torch.float64))


def test_advantages_and_policy_gradient_equal_the_reference(fixtures: Path) -> None:
    paths = sorted((fixtures / "grpo").glob("*.npz"))
    assert paths
    for path in paths:
        data = dict(np.load(path))
        config = json.loads(str(data["config"]))
        mask = torch.tensor(data["mask"])
        rewards = torch.tensor(data["token_level_rewards"].sum(1))
        advantages = torch.empty_like(rewards)
        for uid in np.unique(data["uid"]):
            members = torch.tensor(data["uid"] == uid)
            advantages[members] = group_advantages(
                rewards[members][None],
                normalise_std=config["norm_adv_by_std_in_grpo"],
                eps=config["epsilon"],
            )[0]
        np.testing.assert_allclose(
            (advantages[:, None] * mask).numpy(), data["advantages"] * data["mask"], rtol=1e-6
        )
        logprobs = torch.tensor(data["log_prob"], requires_grad=True)
        weights = data.get("rollout_is_weights")
        per_token = policy_gradient_per_token(
            logprobs,
            torch.tensor(data["old_log_prob"]),
            torch.tensor(data["advantages"]),
            clip_low=config["clip_low"],
            clip_high=config["clip_high"],
            dual_clip=config["clip_c"],
            token_weights=None if weights is None else torch.tensor(weights),
        )
        loss = sequence_losses(per_token, mask).mean()
        (gradient,) = torch.autograd.grad(loss, logprobs)
        kwargs: dict[str, Any] = {"rtol": 1e-9, "atol": 1e-12, "err_msg": str(path)}
        np.testing.assert_allclose(loss.item(), data["loss_microbatch1"], **kwargs)
        np.testing.assert_allclose(gradient.numpy(), data["grad_microbatch1"], **kwargs)


def test_advantages_of_equal_rewards_are_zero_and_of_one_sample_the_reward() -> None:
    assert group_advantages(torch.ones(2, 4)).tolist() == [[0.0] * 4] * 2
    assert float(group_advantages(torch.ones(1, 1), eps=0.0)[0, 0]) == 1.0
    assert group_advantages(torch.tensor([[0, 1]]), normalise_std=False).tolist() == [[-0.5, 0.5]]


def test_importance_weights_are_capped_and_one_where_nothing_is_known() -> None:
    old = torch.tensor([[0.0, 0.0, -3.0, 1000.0]])
    behaviour = torch.tensor([[-9.0, math.nan, -2.0, 0.0]])
    weights = importance_weights(old, behaviour, cap=2.0)
    torch.testing.assert_close(weights, torch.tensor([[2.0, 1.0, math.exp(-1), 2.0]]))


def batch(teacher: bool = True) -> TokenBatch:
    z = logits(12).float().requires_grad_()
    ids = torch.tensor([[1, 2, 3, 0], [4, 5, 0, 0]])
    mask = torch.tensor([[1.0, 1, 1, 0], [1, 1, 0, 0]])
    behaviour = torch.full((2, 4), math.nan)
    return TokenBatch(
        z,
        logits(13).float() if teacher else None,
        ids,
        mask,
        behaviour,
        advantages=torch.tensor([1.0, -0.5]),
        weights=torch.tensor([2.0, 0.5]),
    )


def test_the_distillation_objective_is_the_loss_per_sequence() -> None:
    b = batch()
    options: dict[str, Any] = {"divergence": "jsd", "mixture": 0.5, "top_k": 5, "tail": True}
    options |= {"clip_low": 0.2, "clip_high": None, "temperature": 1.0}
    objective = distillation_objective(importance_cap=2.0, aggregation="mean", **options)
    assert b.teacher_logits is not None
    expected = self_distillation_loss(
        b.student_logits, b.teacher_logits, b.mask, sample_weights=b.weights, **options
    )
    each = objective(b)
    assert each.shape == (2,)
    torch.testing.assert_close(each.mean(), expected.loss)
    totals = distillation_objective(importance_cap=None, aggregation="sum", **options)(b)
    torch.testing.assert_close(totals, each * b.mask.sum(-1))
    with pytest.raises(ValueError, match="teacher_messages"):
        objective(batch(teacher=False))


def test_the_gradient_of_grpo_on_policy_is_advantage_times_score() -> None:
    b = batch()
    objective = policy_gradient_objective(
        clip_low=0.2, clip_high=0.28, dual_clip=3.0, importance_cap=2.0, temperature=1.0
    )
    (mine,) = torch.autograd.grad(objective(b).sum(), b.student_logits)
    score = token_logprobs(b.student_logits, b.token_ids)
    by_hand = -(b.weights * b.advantages) * sequence_losses(score, b.mask)
    (expected,) = torch.autograd.grad(by_hand.sum(), b.student_logits)
    torch.testing.assert_close(mine, expected)


def test_the_likelihood_objective_is_the_weighted_mean_of_log_probabilities() -> None:
    b = batch()
    expected = torch.nn.functional.cross_entropy(b.student_logits[1, :2], b.token_ids[1, :2])
    torch.testing.assert_close(nll_objective(b)[1], 0.5 * expected)
