"""What a plan reckons with is what sampling and training keep to: a changed limit changes both."""

from __future__ import annotations

import math
import string
from dataclasses import replace

import pytest
import torch

from resd_bench.agent import Load
from resd_bench.config import RunConfig
from resd_bench.objective import TokenBatch, TokenObjective
from resd_bench.planning import architecture
from resd_bench.planning.memory import Lengths, Machine, Part, memory
from resd_bench.policy import limits
from resd_bench.policy.config import PolicyConfig
from resd_bench.policy.engines import fast
from resd_bench.policy.engines.hf import HfEngine
from resd_bench.policy.lm_policy import LMPolicy
from resd_bench.types import Completion, Example, user
from tests.policy import tiny

PROMPT, ANSWER, BATCH = 20, 30, 8
LENGTHS = Lengths(PROMPT, ANSWER)
CONFIG = replace(RunConfig(), batch_size=BATCH, group_size=1, max_new_tokens=ANSWER)


def planned(
    phase: str, name: str, config: RunConfig = CONFIG, machine: Machine | None = None
) -> float:
    """Bytes of a part of the plan for a tiny model."""
    model = architecture.of_config(tiny.model().config)
    parts: list[Part] = list(
        getattr(memory(config, model, LENGTHS, Load(), machine or Machine()), phase)
    )
    return next(part.bytes for part in parts if part.name == name)


def nll(batch: TokenBatch) -> torch.Tensor:
    picked = batch.student_logits.gather(-1, batch.token_ids[..., None])[..., 0]
    return batch.student_logits.logsumexp(-1) - picked


def update() -> tuple[int, int]:
    """Forward passes of an update on `BATCH` sequences, and the most logits held at a time."""
    policy = LMPolicy(tiny.model(), tiny.tokenizer(), PolicyConfig())
    said = Completion("", tuple(5 + i for i in range(ANSWER)))
    # The template adds three tokens.
    examples = [Example(user(c * (PROMPT - 3)), said) for c in string.ascii_letters[:BATCH]]
    # The first update also compares the output layer with the model's own logits.
    policy.update(examples, TokenObjective(nll), batch_size=BATCH)
    passes: list[int] = []
    logits: list[int] = []
    policy.model.model.register_forward_hook(lambda *_: passes.append(1))

    def watched(batch: TokenBatch) -> torch.Tensor:
        logits.append(batch.student_logits.numel())
        return nll(batch)

    policy.update(examples, TokenObjective(watched), batch_size=BATCH)
    return len(passes), max(logits)


@pytest.mark.parametrize(
    ("name", "of_one"),
    [("MICRO_BATCH_TOKENS", PROMPT + ANSWER), ("MICRO_BATCH_LOGITS", ANSWER * 260)],
)
@pytest.mark.parametrize("rows", [2, 4])
def test_a_limit_of_micro_batches_is_that_of_the_plan_and_of_training(
    monkeypatch: pytest.MonkeyPatch, name: str, of_one: int, rows: int
) -> None:
    whole = planned("training", "activations")
    assert update()[0] == 1
    monkeypatch.setattr(limits, name, rows * of_one)
    assert update()[0] == math.ceil(BATCH / rows)
    assert planned("training", "activations") == whole * rows / BATCH


def test_a_limit_of_logits_is_that_of_the_plan_and_of_a_piece_of_the_loss(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    output = 4 * 260 * 32
    before = planned("training", "logits of the loss")
    assert before - output == BATCH * ANSWER * 260 * 4 * 4
    half = ANSWER * 260 // 2
    monkeypatch.setattr(limits, "MICRO_BATCH_LOGITS", half)
    assert planned("training", "logits of the loss") - output == half * 4 * 4
    assert update()[1] == half


def test_the_cache_of_the_fast_engine_is_that_of_the_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = planned("sampling", "sampler's cache")
    held = fast.FastEngine(tiny.model(), [1]).max_batch_tokens
    per_token = limits.cache_bytes_per_token(layers=2, keys=2 * 16, width=4)
    assert whole == BATCH * (PROMPT + ANSWER) * per_token
    assert held == limits.FAST_CACHE_BYTES // per_token
    monkeypatch.setattr(limits, "FAST_CACHE_BYTES", 2 * (PROMPT + ANSWER) * per_token)
    assert planned("sampling", "sampler's cache") == whole * 2 / BATCH
    assert fast.FastEngine(tiny.model(), [1]).max_batch_tokens == 2 * (PROMPT + ANSWER)


def test_the_fast_engine_packs_weights_where_the_plan_says(monkeypatch: pytest.MonkeyPatch) -> None:
    def copied(main_memory: bool = True) -> float:
        machine = Machine(main_memory=main_memory)
        return planned("sampling", "sampler's copy of weights", machine=machine)

    def held() -> float:
        weights = fast._prepare(model, PROMPT + ANSWER, torch.float32)
        own = {p.data_ptr() for p in model.parameters()}
        engine = fast.FastEngine(model, [1])
        before = [matrix.weight.data_ptr() in own for matrix in weights.matrices()]
        engine._pack(weights, ANSWER)
        matrices = zip(weights.matrices(), before, strict=True)
        return sum(m.weight.nbytes for m, shared in matrices if m.packed or not shared)

    model = tiny.model()
    assert held() == copied()
    as_they_are = copied()
    monkeypatch.setattr(limits, "FAST_PACKED_WIDTH", 32)
    monkeypatch.setattr(limits, "FAST_PACKED_TOKENS", ANSWER)
    projections = 2 * 32 * (4 * 16 + model.config.intermediate_size)
    assert copied() == as_they_are + 4 * projections
    assert held() == copied()
    assert copied(main_memory=False) == as_they_are
    monkeypatch.setattr(limits, "FAST_PACKED_TOKENS", ANSWER + 1)
    assert held() == copied() == as_they_are


def test_a_prefill_pass_of_the_fast_engine_is_that_of_the_plan(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = planned("sampling", "sampler's activations")
    lengths, rows = [PROMPT] * BATCH, [(i, 0) for i in range(BATCH)]
    assert len(list(fast._slabs(lengths, rows))) == 1
    monkeypatch.setattr(limits, "FAST_PREFILL_TOKENS", 2 * PROMPT)
    assert len(list(fast._slabs(lengths, rows))) == BATCH / 2
    fewer = before - planned("sampling", "sampler's activations")
    monkeypatch.setattr(limits, "FAST_PREFILL_TOKENS", 4 * PROMPT)
    assert before - planned("sampling", "sampler's activations") == pytest.approx(fewer * 4 / 6)


def test_the_batch_of_the_hf_engine_is_that_of_the_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    config = replace(CONFIG, engine="hf")
    whole = planned("sampling", "sampler's cache", config)
    monkeypatch.setattr(limits, "HF_BATCH_TOKENS", 2 * (PROMPT + ANSWER))
    assert planned("sampling", "sampler's cache", config) == whole * 2 / BATCH
    assert HfEngine(tiny.model(), [1]).max_batch_tokens == 2 * (PROMPT + ANSWER)


def test_the_models_that_a_plan_gives_to_the_fast_engine_are_those_it_serves() -> None:
    for kind in tiny.CLASSES:
        assert fast.supports(tiny.model(kind))
        assert kind in limits.FAST_ARCHITECTURES
    assert set(tiny.CLASSES) == set(limits.FAST_ARCHITECTURES)
