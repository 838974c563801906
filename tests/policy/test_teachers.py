"""Teachers that are copies: precision, offloading; and gradients recomputed in checkpoints."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from resd_bench.objective import TokenBatch
from resd_bench.policy import trainer
from resd_bench.policy.chunked_loss import head_of
from resd_bench.policy.config import PolicyConfig
from resd_bench.policy.lm_policy import LMPolicy
from resd_bench.policy.teacher import CopyTeacher
from resd_bench.types import Completion, Example, Sampling, user
from tests.policy import families

BATCH = [Example(user("one"), Completion("", tuple(range(20, 29))), user("hint one"))]


def likelihood(batch: TokenBatch) -> Tensor:
    found = batch.student_logits.log_softmax(-1).gather(-1, batch.token_ids[..., None])[..., 0]
    return -(found * batch.mask).sum(-1)


def nudge(model: Any, size: float, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(size * torch.randn(p.shape, generator=generator).to(p.dtype))


def test_in_bfloat16_with_residuals_a_teacher_follows_like_one_in_float32() -> None:
    student = families.model("qwen3")
    exact = CopyTeacher.of(student, "ema", 1e-3)
    light = CopyTeacher.of(student, "ema", 1e-3, precision="bfloat16")
    start = [p.clone() for p in exact.model.parameters()]
    for step in range(40):
        nudge(student, 0.01, step)
        exact.follow(student)
        light.follow(student)
    pairs = zip(exact.model.parameters(), light.model.parameters(), light.residuals, strict=True)
    for (mine, theirs, residual), before in zip(pairs, start, strict=True):
        assert theirs.dtype == torch.bfloat16
        together = theirs.float() + residual
        torch.testing.assert_close(together, mine, atol=1e-6, rtol=1e-5)
        assert float((mine - before).abs().max()) > 1e-5


def test_without_residuals_the_same_steps_would_be_lost() -> None:
    student = families.model("qwen3")
    light = CopyTeacher.of(student, "ema", 1e-4, precision="bfloat16")
    light.residuals = ()
    before = [p.clone() for p in light.model.parameters()]
    nudge(student, 0.01, 0)
    light.follow(student)
    moved = [(a != b).float().mean() for a, b in zip(before, light.model.parameters(), strict=True)]
    assert float(torch.stack(moved).mean()) < 0.05


def test_rounding_the_weights_leaves_positions_exact() -> None:
    student = families.model("llama")
    light = CopyTeacher.of(student, "frozen", 0.0, precision="bfloat16")
    assert light.model.model.rotary_emb.inv_freq.dtype == torch.float32
    assert {p.dtype for p in light.model.parameters()} == {torch.bfloat16}
    assert {p.dtype for p in student.parameters()} == {torch.float32}
    assert light.model.get_output_embeddings().weight.requires_grad is False


def test_a_teacher_in_bfloat16_is_restored_bit_for_bit() -> None:
    student = families.model("qwen3")
    first = CopyTeacher.of(student, "ema", 1e-3, precision="bfloat16")
    nudge(student, 0.1, 0)
    first.follow(student)
    second = CopyTeacher.of(student, "ema", 1e-3, precision="bfloat16")
    second.restore(first.weights())
    for teacher in (first, second):
        teacher.follow(student)
    mine, theirs = first.weights(), second.weights()
    assert all(torch.equal(value, theirs[name]) for name, value in mine.items())
    assert any(name.endswith(".residual") for name in mine)


def test_an_offloaded_teacher_works_on_the_device_and_rests_in_main_memory() -> None:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    student = families.model("qwen3").to(device)
    teacher = CopyTeacher.of(student, "ema", 0.5, offload=True)
    places = []
    for _ in range(2):
        with teacher.at_work(), teacher.scoring() as model:
            places.append(next(model.parameters()).device.type)
            trainer.response_logits(model, [[5, 6]], [[7]])
        assert next(teacher.model.parameters()).device.type == "cpu"
        teacher.follow(student)
    assert places == [device.type] * 2


@pytest.mark.parametrize("options", [{"teacher_offload": True}, {"teacher_precision": "bfloat16"}])
def test_a_policy_learns_with_any_teacher(options: dict[str, Any]) -> None:
    config = PolicyConfig(learning_rate=0.01, warmup_updates=0, **options)
    subject = LMPolicy(families.model("qwen3"), families.tokenizer("qwen3"), config)
    subject.use_teacher("ema", 0.1)
    metrics = subject.update(BATCH, _squared, batch_size=1)
    assert metrics["policy/grad_norm"] > 0
    other = LMPolicy(families.model("qwen3"), families.tokenizer("qwen3"), config)
    other.load_state_dict(subject.state_dict())
    assert subject.update(BATCH, _squared, batch_size=1) == other.update(
        BATCH, _squared, batch_size=1
    )


def _squared(batch: TokenBatch) -> Tensor:
    assert batch.teacher_logits is not None
    gap = (batch.student_logits - batch.teacher_logits.float()).square().mean(-1)
    return (gap * batch.mask).sum(-1)


# Gradient checkpointing


@pytest.mark.parametrize("name", families.NAMES)
def test_checkpointed_gradients_are_the_same_and_layers_run_twice(name: str) -> None:
    ends, calls = [], []
    for enabled in (False, True):
        config = PolicyConfig(learning_rate=0.01, warmup_updates=0, gradient_checkpointing=enabled)
        subject = LMPolicy(families.model(name), families.tokenizer(name), config)
        count = [0]
        attention = subject.model.model.layers[0].self_attn
        attention.register_forward_hook(lambda *_, count=count: count.__setitem__(0, count[0] + 1))
        head_of(subject.model)  # its own check is a forward pass
        count[0] = 0
        metrics = subject.update(
            [Example(user("one"), BATCH[0].completion)], likelihood, batch_size=1
        )
        ends.append(metrics["policy/grad_norm"])
        calls.append(count[0])
        assert not any(module.training for module in subject.model.modules())
    assert ends[0] == pytest.approx(ends[1], rel=1e-6)
    assert calls == [1, 2]


def test_checkpointing_leaves_sampling_with_its_cache() -> None:
    made = []
    for enabled in (False, True):
        config = PolicyConfig(engine="hf", gradient_checkpointing=enabled)
        subject = LMPolicy(families.model("qwen3"), families.tokenizer("qwen3"), config)
        sampling = Sampling(max_new_tokens=6)
        made.append(subject.sample([user("one")], n=2, sampling=sampling, purpose="rollout"))
    assert made[0] == made[1]
