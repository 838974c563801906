"""LoRA: what trains, what is saved, and a teacher that is a second adapter of the same model."""

from __future__ import annotations

import copy
import sys
from itertools import chain
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM

from resd_bench.errors import UsageError
from resd_bench.objective import TokenBatch
from resd_bench.policy import loading, lora, trainer
from resd_bench.policy.config import PolicyConfig
from resd_bench.policy.engines import fast
from resd_bench.policy.engines.hf import HfEngine
from resd_bench.policy.lm_policy import LMPolicy
from resd_bench.policy.micro_batches import BatchLimits
from resd_bench.policy.teacher import AdapterTeacher
from resd_bench.types import Completion, Example, Sampling, user
from tests.policy import families

IDS = torch.arange(5, 17)[None]
BATCH = [
    Example(user("one"), Completion("", tuple(range(20, 29))), user("hint one")),
    Example(user("two"), Completion("", tuple(range(40, 44))), user("hint two")),
]


def policy(name: str = "qwen3", model: Any = None, **options: Any) -> LMPolicy:
    config = PolicyConfig(**{"learning_rate": 0.01, "warmup_updates": 0, "lora_rank": 4, **options})
    return LMPolicy(model or families.model(name), families.tokenizer(name), config)


def reverse_kl(batch: TokenBatch) -> Tensor:
    assert batch.teacher_logits is not None
    p, q = batch.student_logits.log_softmax(-1), batch.teacher_logits.log_softmax(-1)
    per_token = (p.exp() * (p - q)).sum(-1) * batch.mask
    return per_token.sum(-1) / batch.mask.sum(-1)


def adapter(subject: LMPolicy, which: str = lora.STUDENT) -> dict[str, Tensor]:
    return {n: p.detach().clone() for n, p in lora.weights(subject.adapted, which).items()}


@torch.no_grad()
def logits(model: Any) -> Tensor:
    found: Tensor = model(IDS).logits
    return found


def train(subject: LMPolicy, updates: int = 2) -> None:
    for _ in range(updates):
        subject.update(BATCH, reverse_kl, batch_size=2)


@pytest.mark.parametrize("name", families.NAMES)
def test_a_fresh_adapter_changes_nothing(name: str) -> None:
    assert torch.equal(logits(policy(name).model), logits(families.model(name)))


def test_only_the_adapter_trains() -> None:
    subject = policy()
    subject.use_teacher("frozen", 0.0)
    frozen = {n: p.clone() for n, p in subject.model.named_parameters() if ".lora_" not in n}
    before = adapter(subject)
    train(subject)
    after = dict(subject.model.named_parameters())
    assert all(torch.equal(p, after[n]) for n, p in frozen.items())
    assert all((before[n] != p).any() for n, p in adapter(subject).items())
    assert len(trainer.trained(subject.model)) == len(before)


def test_the_first_weights_come_from_the_seed_and_from_nothing_else() -> None:
    models = [families.model("qwen3") for _ in range(3)]
    torch.manual_seed(1)
    state = torch.get_rng_state()
    one = adapter(policy(model=models[0], adapter_seed=3))
    assert torch.equal(state, torch.get_rng_state())
    torch.manual_seed(2)
    again = adapter(policy(model=models[1], adapter_seed=3))
    assert all(torch.equal(p, one[n]) for n, p in again.items())
    other = adapter(policy(model=models[2], adapter_seed=4))
    assert any((p != one[n]).any() for n, p in other.items())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["qwen3", "llama", "gemma2"])
def test_a_saved_adapter_gives_the_same_logits_in_plain_peft(name: str, tmp_path: Path) -> None:
    base = families.save(name, tmp_path / "base")
    config = PolicyConfig(learning_rate=0.01, warmup_updates=0, lora_rank=4)
    subject = LMPolicy.load(base, config)
    subject.use_teacher("ema", 0.5)
    train(subject)
    subject.save(tmp_path / "adapter")
    written = {path.name for path in (tmp_path / "adapter").iterdir()}
    assert {"adapter_config.json", "adapter_model.safetensors"} <= written
    assert not any("teacher" in name for name in written)
    plain: Any = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    reloaded = peft.PeftModel.from_pretrained(plain, tmp_path / "adapter").eval()
    assert torch.equal(logits(reloaded), logits(subject.model))
    assert not torch.equal(logits(reloaded), logits(families.model(name)))
    merged, _ = loading.load_model(tmp_path / "adapter")
    torch.testing.assert_close(logits(merged), logits(subject.model), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", ["qwen3", "gemma3", "moe"])
def test_weights_are_given_under_the_names_and_with_the_values_of_the_models_files(
    name: str, tmp_path: Path
) -> None:
    model = experts() if name == "moe" else families.model(name)
    model.save_pretrained(tmp_path)
    files = [load_file(path) for path in tmp_path.glob("*.safetensors")]
    given = dict(lora.merged_state(model))
    for key, value in (item for file in files for item in file.items()):
        assert torch.equal(given.pop(key), value)
    # Tied weights are in the file once.
    assert set(given) <= {"lm_head.weight"}


def experts(**sizes: int) -> Any:
    """A mixture of four experts, which the model holds as one tensor."""
    small = {
        "vocab_size": 64,
        "hidden_size": 32,
        "moe_intermediate_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 16,
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "max_position_embeddings": 256,
        "initializer_range": 0.2,
    }
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(
        AutoConfig.for_model("qwen3_moe", **{**small, **sizes})
    ).eval()


def test_a_fully_trained_model_is_saved_as_a_model(tmp_path: Path) -> None:
    subject = policy(lora_rank=0)
    subject.use_teacher("frozen", 0.0)
    train(subject)
    subject.save(tmp_path)
    assert torch.equal(logits(loading.load_model(tmp_path)[0]), logits(subject.model))


def test_the_teacher_is_a_second_adapter_and_not_a_second_model() -> None:
    subject = policy()
    before = sum(p.numel() for p in subject.model.parameters())
    subject.use_teacher("ema", 0.1)
    assert isinstance(subject.teacher, AdapterTeacher)
    grown = sum(p.numel() for p in subject.model.parameters()) - before
    assert grown == sum(p.numel() for p in adapter(subject).values())
    with subject.teacher.scoring() as model:
        assert model is subject.model


def test_the_teachers_adapter_averages_exponentially_and_a_frozen_one_stays() -> None:
    moving, frozen = policy(), policy()
    moving.use_teacher("ema", 0.1)
    frozen.use_teacher("frozen", 0.1)
    start, expected = adapter(frozen), adapter(moving)
    for _ in range(3):
        train(moving, 1)
        train(frozen, 1)
        expected = {n: 0.9 * expected[n] + 0.1 * p for n, p in adapter(moving).items()}
    for name, mine in adapter(moving, lora.TEACHER).items():
        torch.testing.assert_close(mine, expected[name], atol=1e-6, rtol=1e-5)
    found = adapter(frozen, lora.TEACHER)
    assert all(torch.equal(p, found[n]) for n, p in start.items())


def test_a_frozen_adapter_scores_as_the_model_did_before_training() -> None:
    subject = policy()
    subject.use_teacher("frozen", 0.0)
    before = logits(subject.model)
    train(subject)
    assert subject.teacher is not None
    with subject.teacher.scoring() as model:
        torch.testing.assert_close(logits(model), before)
    assert not torch.allclose(logits(subject.model), before)


def test_after_scoring_the_student_computes_and_trains_again() -> None:
    subject = policy()
    subject.use_teacher("ema", 0.1)
    assert subject.teacher is not None
    for _ in range(2):
        train(subject, 1)
        trains = {n for n, p in subject.model.named_parameters() if p.requires_grad}
        assert trains
        assert all(f".{lora.STUDENT}." in name for name in trains)
    with pytest.raises(KeyError), subject.teacher.scoring():
        raise KeyError
    assert {n for n, p in subject.model.named_parameters() if p.requires_grad} == trains


@pytest.mark.parametrize("checkpointing", [False, True])
def test_a_step_is_that_with_a_copy_of_the_model_as_teacher(checkpointing: bool) -> None:
    subject = policy(gradient_checkpointing=checkpointing)
    subject.use_teacher("frozen", 0.0)
    norms = []
    for teacher in (subject.teacher, families.model("qwen3")):
        rows = [subject.row(example)[0] for example in BATCH]
        subject.model.zero_grad()
        with trainer.checkpointed(subject.model):
            limits = BatchLimits(1 << 20, 1 << 30)
            trainer.backward(subject.model, teacher, rows, reverse_kl, batch_size=2, limits=limits)
        grads = [p.grad for p in trainer.trained(subject.model) if p.grad is not None]
        norms.append([grad.norm().item() for grad in grads])
    assert norms[0] == pytest.approx(norms[1], rel=1e-4, abs=1e-7)
    assert max(norms[0]) > 0


def test_a_restored_adapter_goes_on_bit_for_bit(tmp_path: Path) -> None:
    first = policy()
    first.use_teacher("ema", 0.05)
    train(first)
    torch.save(first.state_dict(), tmp_path / "state.pt")
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    assert all(".lora_" in name for name in state["model"])
    train(first)
    second = policy(adapter_seed=9)
    second.load_state_dict(state)
    train(second)
    for which in (lora.STUDENT, lora.TEACHER):
        theirs = adapter(second, which)
        assert all(torch.equal(p, theirs[n]) for n, p in adapter(first, which).items())
    whole = policy(lora_rank=0)
    with pytest.raises(ValueError, match="another model"):
        whole.load_state_dict(copy.deepcopy(state))


@pytest.mark.parametrize("name", ["qwen3", "llama"])
def test_the_fast_engine_samples_with_the_adapter_merged_in(name: str) -> None:
    subject = policy(name)
    subject.use_teacher("ema", 0.1)
    train(subject, 3)
    assert isinstance(subject.engine, fast.FastEngine)
    slow = HfEngine(subject.model, subject.codec.stop_ids, subject.codec.pad_id)
    prompts, sampling = [list(range(5, 15)), list(range(30, 33))], Sampling(max_new_tokens=8)
    mine = subject.engine.generate(prompts, n=2, sampling=sampling)
    theirs = slow.generate(prompts, n=2, sampling=sampling)
    for a, b in zip(chain(*mine), chain(*theirs), strict=True):
        assert a.token_ids == b.token_ids
        assert a.logprobs == pytest.approx(b.logprobs, abs=1e-3)
    plain = fast.FastEngine(families.model(name), subject.codec.stop_ids)
    assert plain.generate(prompts, n=2, sampling=sampling) != mine


def test_the_update_is_scaled_by_alpha_over_rank() -> None:
    small, large = policy(lora_alpha=4), policy()
    assert small.adapted.peft_config["default"].lora_alpha == 4
    assert large.adapted.peft_config["default"].lora_alpha == 8


def test_training_an_adapter_is_charged_without_gradients_of_frozen_weights() -> None:
    subject = policy()
    subject.use_teacher("frozen", 0.0)
    subject.update(BATCH, reverse_kl, batch_size=2)
    spent = subject.ledger
    per_token = 4.0 * spent.trained_tokens + 2.0 * spent.scored_tokens
    assert spent.flops == subject.parameters * per_token


def test_without_peft_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(UsageError, match=r"pip install .*\[lora\]"):
        policy()
