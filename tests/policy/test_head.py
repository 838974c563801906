"""The loss over the vocabulary in pieces is the loss over the whole, in value and gradient."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from resd_baselines.losses import (
    distillation_objective,
    nll_objective,
    policy_gradient_objective,
)
from resd_bench.objective import TokenBatch, TokenObjective
from resd_bench.policy import lora, trainer
from resd_bench.policy.chunked_loss import chunked_loss, head_of
from resd_bench.policy.config import PolicyConfig
from resd_bench.policy.lm_policy import LMPolicy
from resd_bench.policy.micro_batches import BatchLimits, TokenizedExample
from resd_bench.types import Completion, Example, user
from tests.policy import families

DISTIL: dict[str, Any] = {
    "divergence": "reverse_kl",
    "mixture": 0.5,
    "top_k": 20,
    "tail": True,
    "clip_low": 0.2,
    "clip_high": None,
    "importance_cap": 2.0,
    "aggregation": "mean",
    "temperature": 1.0,
}
OBJECTIVES: dict[str, TokenObjective] = {
    "reverse_kl": distillation_objective(**DISTIL),
    "jsd, summed, warm": distillation_objective(
        **DISTIL | {"divergence": "jsd", "aggregation": "sum", "temperature": 0.7}
    ),
    "whole vocabulary": distillation_objective(**DISTIL | {"top_k": None}),
    "likelihood": nll_objective,
    "policy gradient": policy_gradient_objective(
        clip_low=0.2, clip_high=0.28, dual_clip=3.0, importance_cap=2.0, temperature=1.0
    ),
}
WHOLE = BatchLimits(1 << 20, 1 << 40)


def rows(vocabulary: int, taught: bool = True) -> list[TokenizedExample]:
    generator = torch.Generator().manual_seed(0)

    def ids(n: int) -> list[int]:
        return torch.randint(vocabulary, (n,), generator=generator).tolist()

    return [
        TokenizedExample(
            ids(p), ids(r), ids(2 * p) if taught else None, [-2.0] * r, p - 5.0, 0.1 * p
        )
        for p, r in ((4, 3), (9, 1), (3, 17), (7, 8))
    ]


def gradient(
    model: Any, teacher: Any, objective: Any, limits: BatchLimits, **options: Any
) -> tuple[float, dict[str, Tensor]]:
    model.zero_grad()
    found = rows(model.config.vocab_size)
    loss, _ = trainer.backward(
        model, teacher, found, objective, batch_size=4, limits=limits, **options
    )
    return loss, {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def pieces(model: Any, tokens: int) -> BatchLimits:
    """Limits of this many tokens per chunk."""
    return BatchLimits(1 << 20, tokens * model.config.vocab_size)


@pytest.mark.parametrize("objective", OBJECTIVES.values(), ids=list(OBJECTIVES))
@pytest.mark.parametrize("tokens", [1, 5])
def test_pieces_give_the_loss_and_gradient_of_the_whole(
    objective: TokenObjective, tokens: int
) -> None:
    model, teacher = families.model("qwen3"), families.model("qwen3", seed=1)
    limits = pieces(model, tokens)
    assert trainer.in_pieces(model, rows(9), objective, limits)
    loss, expected = gradient(model, teacher, objective, WHOLE)
    lean, found = gradient(model, teacher, objective, limits)
    assert lean == pytest.approx(loss, rel=1e-5)
    assert found.keys() == expected.keys()
    for name, value in found.items():
        scale = float(expected[name].abs().max())
        torch.testing.assert_close(value, expected[name], atol=1e-5 * scale, rtol=1e-5)


@pytest.mark.parametrize("name", families.NAMES)
def test_pieces_fit_every_family(name: str) -> None:
    model, teacher = families.model(name), families.model(name, seed=1)
    assert head_of(model) is not None
    loss, expected = gradient(model, teacher, OBJECTIVES["reverse_kl"], WHOLE)
    lean, found = gradient(model, teacher, OBJECTIVES["reverse_kl"], pieces(model, 4))
    assert lean == pytest.approx(loss, rel=1e-4)
    for key, value in found.items():
        scale = float(expected[key].abs().max())
        torch.testing.assert_close(value, expected[key], atol=1e-5 * scale, rtol=1e-4)


def test_pieces_work_under_autocast_and_in_bfloat16() -> None:
    for dtype, cast in ((torch.float32, True), (torch.bfloat16, False)):
        model = families.model("llama", initializer_range=0.1).to(dtype)
        teacher = families.model("llama", seed=1, initializer_range=0.1).to(dtype)
        objective = OBJECTIVES["reverse_kl"]
        loss, expected = gradient(model, teacher, objective, WHOLE, autocast=cast)
        lean, found = gradient(model, teacher, objective, pieces(model, 4), autocast=cast)
        assert lean == pytest.approx(loss, rel=0.02)
        whole = torch.cat([g.flatten().float() for g in expected.values()])
        parts = torch.cat([g.flatten().float() for g in found.values()])
        assert float((whole - parts).norm()) < 0.02 * float(whole.norm())


def test_under_an_adapter_the_output_weights_get_no_gradient() -> None:
    adapted = lora.adapt(families.model("qwen3"), 4, None, seed=0)
    model = adapted.get_base_model()
    teacher = families.model("qwen3", seed=1)
    loss, expected = gradient(model, teacher, OBJECTIVES["reverse_kl"], WHOLE)
    lean, found = gradient(model, teacher, OBJECTIVES["reverse_kl"], pieces(model, 3))
    assert lean == pytest.approx(loss, rel=1e-5)
    assert found.keys() == expected.keys()
    assert all(".lora_" in name for name in found)
    for key, value in found.items():
        torch.testing.assert_close(value, expected[key], atol=1e-5, rtol=1e-4)


def test_no_more_logits_are_made_than_a_piece_holds() -> None:
    model, seen = families.model("qwen3"), list[torch.Size]()

    def per_token(batch: TokenBatch) -> Tensor:
        seen.append(batch.student_logits.shape)
        assert batch.teacher_logits is not None
        seen.append(batch.teacher_logits.shape)
        return (batch.student_logits - batch.teacher_logits).square().mean(-1)

    objective = TokenObjective(per_token)
    gradient(model, families.model("qwen3", seed=1), objective, pieces(model, 6))
    assert max(shape[0] * shape[1] for shape in seen) == 6
    assert sum(shape[0] for shape in seen) == 2 * (3 + 1 + 17 + 8)


def test_a_loss_in_pieces_is_scaled_by_what_comes_after_it() -> None:
    model = families.model("llama")
    head = head_of(model)
    assert head is not None
    states = torch.randn(5, 32, generator=torch.Generator().manual_seed(0), requires_grad=True)

    def loss(logits: Tensor, piece: slice) -> Tensor:
        return logits.logsumexp(-1).sum()

    (whole,) = torch.autograd.grad(3 * head(states).logsumexp(-1).sum(), states)
    total = 3 * chunked_loss(head, states, loss, 2)
    (found,) = torch.autograd.grad(total, states, retain_graph=True)
    torch.testing.assert_close(found, whole)
    with pytest.raises(RuntimeError, match="only once"):
        torch.autograd.grad(total, states)


def test_a_model_that_alters_its_logits_in_its_own_way_is_left_whole() -> None:
    model = families.model("llama")
    forward = type(model).forward

    class Louder(type(model)):  # type: ignore[misc]
        def forward(self, *args: Any, **kwargs: Any) -> Any:
            out = forward(self, *args, **kwargs)
            out.logits = 2 * out.logits
            return out

    model.__class__ = Louder
    assert head_of(model) is None
    assert not trainer.in_pieces(model, rows(9), nll_objective, pieces(model, 1))
    ids = torch.tensor([[5, 6, 7]])
    made = trainer.response_logits(model, [[5, 6]], [[7]])
    torch.testing.assert_close(made[0, 0], model(ids).logits[0, 1])


def test_an_objective_that_is_not_a_sum_over_tokens_gets_whole_sequences() -> None:
    model = families.model("qwen3")
    assert not trainer.in_pieces(model, rows(9), lambda b: b.weights, pieces(model, 1))


def test_a_policy_with_small_limits_learns_the_same() -> None:
    ends = []
    for limit in (1 << 25, 1000):
        config = PolicyConfig(learning_rate=0.01, warmup_updates=0, micro_batch_logits=limit)
        subject = LMPolicy(families.model("qwen3"), families.tokenizer("qwen3"), config)
        subject.use_teacher("ema", 0.1)
        batch = [
            Example(user("a"), Completion("", tuple(range(5, 5 + n))), user("hint a"))
            for n in (9, 4)
        ]
        metrics = subject.update(batch, OBJECTIVES["reverse_kl"], batch_size=2)
        ends.append((metrics["policy/loss"], metrics["policy/grad_norm"]))
    assert ends[0] == pytest.approx(ends[1], rel=1e-4)
