"""The gap between an engine's log-probabilities and the trainer's, and the check of weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch

from resd_bench.objective import TokenBatch, TokenObjective
from resd_bench.policy.config import PolicyConfig
from resd_bench.policy.engines.base import Generated, choose, logprobs_of, row_seed
from resd_bench.policy.engines.hf import HfEngine
from resd_bench.policy.engines.logprob_gap import GREEDY, LogprobGap, measure
from resd_bench.policy.lm_policy import LMPolicy
from resd_bench.policy.parallel.placement import SingleDevice
from resd_bench.types import Example, Sampling, user
from tests.policy import tiny


@pytest.mark.parametrize(
    "sampling", [Sampling(), Sampling(0.7, 0.9), Sampling(1.5), Sampling(0.0, 0.9)]
)
def test_log_probabilities_of_given_tokens_are_those_they_are_drawn_with(
    sampling: Sampling,
) -> None:
    logits = torch.randn(200, 50, generator=torch.Generator().manual_seed(0)) * 2
    ids, drawn_with = choose(logits, torch.linspace(0, 0.999, 200, dtype=torch.float64), sampling)
    assert logprobs_of(logits, ids, sampling) == pytest.approx(drawn_with, abs=1e-5)


def test_a_token_outside_the_nucleus_has_a_finite_log_probability() -> None:
    logits = torch.tensor([[5.0, 0.0, -5.0]])
    outside = logprobs_of(logits, torch.tensor([2]), Sampling(top_p=0.5))
    assert float(outside) == pytest.approx(-10.0, abs=1e-5)


def nll(batch: TokenBatch) -> torch.Tensor:
    picked = batch.student_logits.gather(-1, batch.token_ids[..., None])[..., 0]
    return batch.student_logits.logsumexp(-1) - picked


class Claims:
    """Samples by another engine and tells log-probabilities that are `off` nats too high."""

    def __init__(self, engine: Any, off: float) -> None:
        self.engine, self.off, self.told = engine, off, 0

    def generate(self, prompts: Sequence[Sequence[int]], **how: Any) -> list[list[Generated]]:
        made = self.engine.generate(prompts, **how)
        return [
            [replace(one, logprobs=tuple(p + self.off for p in one.logprobs)) for one in group]
            for group in made
        ]

    def sync_weights(self) -> None:
        self.told += 1


@pytest.mark.parametrize("pieces", [False, True])
@pytest.mark.parametrize("sampling", [Sampling(max_new_tokens=12), Sampling(0.8, 0.9, 12)])
def test_the_metric_is_how_much_the_engine_is_off(sampling: Sampling, pieces: bool) -> None:
    config = PolicyConfig(learning_rate=1e-3, warmup_updates=0)
    if pieces:
        config = replace(config, micro_batch_logits=2000)
    policy = LMPolicy(tiny.model(initializer_range=0.15), tiny.tokenizer(), config)
    for off in (0.0, 0.25):
        engine = policy.engine = policy._mirror = Claims(policy.engine, off)
        made = policy.sample([user("ab"), user("cde")], n=2, sampling=sampling, purpose="rollout")
        examples = [
            Example(user(text), one)
            for text, group in zip(("ab", "cde"), made, strict=True)
            for one in group
        ]
        metrics = policy.update(examples, TokenObjective(nll), batch_size=4)
        assert metrics["policy/engine_logprob_gap"] == pytest.approx(off, abs=1e-3)
        assert metrics["policy/engine_logprob_gap_max"] == pytest.approx(off, abs=1e-3)
        assert engine.told == 1
        policy.engine = engine.engine


def test_the_metric_is_absent_where_the_engine_reads_the_weights_themselves() -> None:
    policy = LMPolicy(tiny.model(), tiny.tokenizer(), PolicyConfig())
    made = policy.sample([user("ab")], n=1, sampling=Sampling(max_new_tokens=5), purpose="rollout")
    metrics = policy.update([Example(user("ab"), made[0][0])], TokenObjective(nll), batch_size=1)
    assert not [name for name in metrics if "gap" in name]


def test_nothing_seen_gives_no_metric() -> None:
    assert LogprobGap().metrics() == {}


def test_the_check_finds_another_model_and_passes_the_same() -> None:
    mine, other = tiny.model(), tiny.model(seed=1)

    def sampled_by(model: Any) -> Any:
        engine = HfEngine(model, ())
        return lambda prompt, how: engine.generate([prompt], n=1, sampling=how)[0][0]

    weights = SingleDevice(mine)
    same = measure(weights, sampled_by(mine))
    different = measure(weights, sampled_by(other), GREEDY)
    assert max(same.logprobs, same.greedy) < 1e-4
    assert different.logprobs > 1
    assert different.greedy > 1


def test_seeds_of_samples_differ_and_fit_in_31_bits() -> None:
    seeds = {
        row_seed(Sampling(seed=s), i, j) for s in range(5) for i in range(20) for j in range(8)
    }
    assert len(seeds) == 800
    assert all(0 <= seed < 2**31 for seed in seeds)
