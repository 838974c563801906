"""CPU seconds per 1,000 new tokens of nano: our decode loop beside `generate` of transformers.

    OMP_NUM_THREADS=1 python benchmarks/nano_generation.py

The prompts are tasks of `manufactoria-has`, and nothing stops early, so that both make the same
number of tokens; both sample from the whole distribution. The last row's peer is the matrix
products alone, those of the weights and those of attention over the cache, with the shapes of every
step: nothing that samples one token at a time and keeps a cache can do with less.
Left out: other models, see `generation.py`, and early stopping, which favours dropping rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch

from benchmarks.generation import void, with_transformers
from benchmarks.in_turn import Way, in_turn, of_call, print_row
from resd_bench.plugins import make_env
from resd_bench.policy.config import PolicyConfig
from resd_bench.policy.engines.fast import FastEngine
from resd_bench.policy.lm_policy import LMPolicy
from resd_bench.types import Sampling, user

TURNS = 3
TARGET = 5.0
PRODUCTS_TARGET = 0.5


class Setting(NamedTuple):
    """Sequences at once, new tokens of each, and the precision of weights and cache."""

    batch: int
    new: int
    dtype: torch.dtype

    def __str__(self) -> str:
        return f"{self.batch} x {self.new}, {str(self.dtype).removeprefix('torch.')}"


SETTINGS = (
    Setting(8, 128, torch.float32),
    Setting(64, 32, torch.float32),
    Setting(64, 128, torch.float32),
    Setting(256, 32, torch.float32),
    Setting(64, 64, torch.bfloat16),
)
OF_PRODUCTS = Setting(64, 128, torch.float32)


def products(model: Any, setting: Setting, prompt: int) -> Way:
    """Each weight matrix with a column per sequence; each query with `prompt` keys and values and
    those of the tokens so far."""
    linear = [m.weight for m in model.modules() if isinstance(m, torch.nn.Linear)]
    inputs = [torch.randn(setting.batch, weight.shape[1]) for weight in linear]
    config = model.config
    groups = setting.batch * config.num_key_value_heads
    queries = torch.randn(
        groups, config.num_attention_heads // config.num_key_value_heads, config.head_dim
    )
    size = (config.num_hidden_layers, 2, groups, prompt + setting.new, config.head_dim)
    cache = torch.randn(size)

    def run() -> None:
        with torch.inference_mode():
            for end in range(prompt + 1, prompt + setting.new + 1):
                for given, weight in zip(inputs, linear, strict=True):
                    torch.nn.functional.linear(given, weight)
                for keys, values in cache[..., :end, :]:
                    torch.bmm(torch.bmm(queries, keys.transpose(1, 2)), values)

    return of_call(run)


def ways(policy: LMPolicy, prompts: Sequence[Sequence[int]], setting: Setting) -> dict[str, Way]:
    """Our engine, `generate`, and the products alone."""
    sampling = Sampling(max_new_tokens=setting.new)
    model = policy.model.to(setting.dtype)
    engine = FastEngine(model, [], 0)
    some = [prompts[n % len(prompts)] for n in range(setting.batch)]
    found = {
        "ours": of_call(lambda: void(engine.generate(some, n=1, sampling=sampling))),
        "transformers": of_call(with_transformers(model, some, sampling)),
    }
    if setting == OF_PRODUCTS:
        found["products"] = products(model, setting, sum(map(len, some)) // len(some))
    return found


def main() -> None:
    torch.set_num_threads(1)
    policy = LMPolicy.load("nano", PolicyConfig())
    tasks = make_env("manufactoria-has", dialect="compact").tasks("train")[:256]
    prompts = [policy.codec.prompt_ids(user(task.prompt)) for task in tasks]
    for setting in SETTINGS:
        tried = ways(policy, prompts, setting)
        tried["ours"]()
        costs = in_turn(tried, TURNS)
        scale = setting.batch * setting.new / 1000
        name = f"generation: nano, {setting}"
        row = (costs["ours"], costs["transformers"])
        unit = "CPU s per 1,000 tokens"
        print_row(name, unit, row, "transformers generate", scale, target_ratio=TARGET)
        if "products" in costs:
            row = (costs["ours"], costs["products"])
            told = {"target_ratio": PRODUCTS_TARGET}
            print_row(f"{name}, products", unit, row, "matrix products alone", scale, **told)


if __name__ == "__main__":
    main()
