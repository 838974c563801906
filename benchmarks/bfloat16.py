"""What bfloat16 products change on this CPU: log-probabilities, gradients, and CPU seconds.

    OMP_NUM_THREADS=1 python benchmarks/bfloat16.py --model smollm2 --env ifeval --tasks 8

Answers are sampled in both precisions. Those sampled in float32 are then scored, and the gradient
of their negative log-likelihood computed, in both: the differences are what `--precision mixed`
changes besides speed. Left out: the weights, which are float32 in both.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from resd_baselines.losses import nll_objective
from resd_bench import plugins
from resd_bench.config import resolve
from resd_bench.policy import trainer
from resd_bench.policy.build import build
from resd_bench.policy.lm_policy import LMPolicy
from resd_bench.policy.micro_batches import BatchLimits, TokenizedExample
from resd_bench.types import Completion, Messages, Sampling, env_dialect, user


def measure(call: Callable[[], Any]) -> tuple[Any, float]:
    """What `call` returns, and the CPU seconds it took."""
    start = time.process_time()
    return call(), time.process_time() - start


def gradient(policy: LMPolicy, rows: list[TokenizedExample], autocast: bool) -> Tensor:
    """The whole gradient of the answers' negative log-likelihood, as one vector."""
    config = policy.config
    limits = BatchLimits(config.micro_batch_tokens, config.micro_batch_logits)
    trainer.backward(
        *(policy.model, None, rows, nll_objective),
        batch_size=len(rows),
        limits=limits,
        autocast=autocast,
    )
    gradients = [p.grad for p in trainer.trained(policy.model)]
    found = torch.cat([g.flatten() for g in gradients if g is not None])
    policy.model.zero_grad(set_to_none=True)
    return found


def sample(policy: LMPolicy, prompts: list[Messages], new: int) -> list[Completion]:
    """An answer to each prompt."""
    sampling = Sampling(1.0, 0.95, new, seed=0)
    return [one for (one,) in policy.sample(prompts, n=1, sampling=sampling, purpose="evaluation")]


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--model", default="smollm2")
    arguments.add_argument("--env", default="ifeval")
    arguments.add_argument("--tasks", type=int, default=8)
    given = arguments.parse_args()
    config = resolve({}, {"model": given.model, "precision": "float32"})
    env = plugins.make_env(given.env, dialect=env_dialect(config.dialect or "full"))
    prompts = [user(task.prompt) for task in env.tasks("train")[: given.tasks]]
    policy = build(config)
    slow, slow_seconds = measure(lambda: sample(policy, prompts, config.max_new_tokens))
    exact, exact_seconds = measure(lambda: policy.score(prompts, slow))
    rows = [
        TokenizedExample(policy.codec.prompt_ids(chat), said.token_ids, None, (), 0.0, 1.0)
        for chat, said in zip(prompts, slow, strict=True)
    ]
    right, right_seconds = measure(lambda: gradient(policy, rows, False))
    policy.config = replace(policy.config, autocast=True)
    policy.engine = policy.layout.engine(policy._make_engine(), policy.context_limit)
    fast, fast_seconds = measure(lambda: sample(policy, prompts, config.max_new_tokens))
    rough, rough_seconds = measure(lambda: policy.score(prompts, slow))
    near, near_seconds = measure(lambda: gradient(policy, rows, True))
    gaps = (torch.tensor(sum(exact, ())) - torch.tensor(sum(rough, ()))).abs()
    # A sum of 135 million float32 products would be off in the second digit.
    cosine = torch.nn.functional.cosine_similarity(right.double(), near.double(), dim=0)
    print(f"log-probabilities of {len(gaps)} tokens differ by {gaps.mean():.4f} on average,")
    print(f"{gaps.quantile(0.99):.4f} at the 99th percentile, and {gaps.max():.4f} at most")
    print(f"gradients: cosine {cosine:.5f}, norms {right.norm():.4f} and {near.norm():.4f}")
    told = [sum(len(one.token_ids) for one in made) for made in (slow, fast)]
    read = sum(row.student_tokens for row in rows)
    print("tokens per CPU second: float32, bfloat16")
    print(f"sampled {told[0] / slow_seconds:.0f}, {told[1] / fast_seconds:.0f}")
    print(f"scored {read / exact_seconds:.0f}, {read / rough_seconds:.0f}")
    print(f"trained on {read / right_seconds:.0f}, {read / near_seconds:.0f}")


if __name__ == "__main__":
    main()
