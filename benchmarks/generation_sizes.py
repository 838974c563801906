"""CPU seconds per 1,000 new tokens: our decode loop beside `generate` of transformers.

    OMP_NUM_THREADS=1 python benchmarks/generation_sizes.py [--model "10 M"]

Three models: nano, whose prompts are tasks of `manufactoria-has`, and random weights of 10 million
parameters and of SmolLM2's shape (135 million), with random prompts. Nothing stops early, so that
both make the same number of tokens; both sample from the whole distribution. The peer of a second
row is the matrix products alone, those of the weights and those of attention over the cache, with
the shapes of every step: nothing that samples one token at a time and keeps a cache can do with
less. Left out: vLLM, see `generation.py`, and early stopping, which favours dropping rows.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from transformers import LlamaConfig, LlamaForCausalLM, Qwen3Config, Qwen3ForCausalLM

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


SETTINGS = {
    "nano": (
        Setting(8, 128, torch.float32),
        Setting(64, 32, torch.float32),
        Setting(64, 128, torch.float32),
        Setting(256, 32, torch.float32),
        Setting(64, 64, torch.bfloat16),
    ),
    "10 M": (
        Setting(8, 128, torch.float32),
        Setting(64, 64, torch.float32),
        Setting(256, 32, torch.float32),
        Setting(64, 64, torch.bfloat16),
    ),
    "SmolLM2's shape": (
        Setting(8, 32, torch.float32),
        Setting(64, 32, torch.float32),
        Setting(64, 32, torch.bfloat16),
    ),
}
"""By model; weights are cast as the precision changes, which comes last."""


def load(name: str) -> tuple[Any, list[list[int]]]:
    """A model and 256 prompts."""
    if name == "nano":
        policy = LMPolicy.load("nano", PolicyConfig())
        tasks = make_env("manufactoria-has", dialect="compact").tasks("train")[:256]
        return policy.model, [list(policy.codec.prompt_ids(user(task.prompt))) for task in tasks]
    torch.manual_seed(0)
    config = Qwen3Config(**TEN_MILLION) if name == "10 M" else LlamaConfig(**SMOLLM2)
    make: Any = Qwen3ForCausalLM if name == "10 M" else LlamaForCausalLM
    lengths = torch.randint(30, 90, (256,)).tolist()
    prompts = [torch.randint(2, config.vocab_size, (length,)).tolist() for length in lengths]
    return make(config).eval(), prompts


SHARED: dict[str, Any] = {
    "tie_word_embeddings": True,
    "max_position_embeddings": 1024,
    "pad_token_id": 0,
}
TEN_MILLION = SHARED | {
    **{"vocab_size": 1024, "hidden_size": 384, "intermediate_size": 1024, "num_hidden_layers": 6},
    **{"num_attention_heads": 6, "num_key_value_heads": 2, "head_dim": 64},
}
SMOLLM2 = SHARED | {
    **{"vocab_size": 49152, "hidden_size": 576, "intermediate_size": 1536},
    **{"num_hidden_layers": 30, "num_attention_heads": 9, "num_key_value_heads": 3},
}


def products(model: Any, setting: Setting, prompt: int) -> Way:
    """Each weight matrix with a column per sequence; each query with `prompt` keys and values and
    those of the tokens so far.
    """
    linear = [m.weight for m in model.modules() if isinstance(m, torch.nn.Linear)]
    inputs = [torch.randn(setting.batch, w.shape[1], dtype=w.dtype) for w in linear]
    config = model.config
    heads, shared_by = config.num_key_value_heads, config.num_attention_heads
    groups, size = setting.batch * heads, model.model.layers[0].self_attn.head_dim
    queries = torch.randn(groups, shared_by // heads, size, dtype=setting.dtype)
    columns = prompt + setting.new
    shape = (config.num_hidden_layers, 2, groups, columns, size)
    cache = torch.randn(shape, dtype=setting.dtype)

    def run() -> None:
        with torch.inference_mode():
            for end in range(prompt + 1, columns + 1):
                for given, weight in zip(inputs, linear, strict=True):
                    torch.nn.functional.linear(given, weight)
                for keys, values in cache[..., :end, :]:
                    torch.bmm(torch.bmm(queries, keys.transpose(1, 2)), values)

    return of_call(run)


def ways(model: Any, prompts: Sequence[Sequence[int]], setting: Setting) -> dict[str, Way]:
    """Our engine, `generate`, and the products alone."""
    sampling = Sampling(max_new_tokens=setting.new)
    model = model.to(setting.dtype)
    engine = FastEngine(model, [], 0)
    some = [prompts[n % len(prompts)] for n in range(setting.batch)]
    return {
        "ours": of_call(lambda: void(engine.generate(some, n=1, sampling=sampling))),
        "transformers": of_call(with_transformers(model, some, sampling)),
        "products": products(model, setting, sum(map(len, some)) // len(some)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", choices=SETTINGS, help="only this one")
    asked = parser.parse_args().model
    torch.set_num_threads(1)
    unit = "CPU s per 1,000 tokens"
    for name in [asked] if asked else SETTINGS:
        model, prompts = load(name)
        for setting in SETTINGS[name]:
            tried = ways(model, prompts, setting)
            tried["ours"]()
            costs = in_turn(tried, TURNS)
            scale = setting.batch * setting.new / 1000
            about = f"generation: {name}, {setting}"
            row = (costs["ours"], costs["transformers"])
            print_row(about, unit, row, "transformers generate", scale, target_ratio=TARGET)
            row = (costs["ours"], costs["products"])
            told = {"target_ratio": PRODUCTS_TARGET}
            print_row(f"{about}, products", unit, row, "matrix products alone", scale, **told)


if __name__ == "__main__":
    main()
