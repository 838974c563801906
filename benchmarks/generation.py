"""What benchmarks of generation share: random models, and `generate` of transformers."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from transformers import Qwen3Config, Qwen3ForCausalLM

from resd_bench.types import Sampling


def make_model(width: int, layers: int, kv_heads: int) -> Any:
    """A random Qwen3 decoder with heads of size 32 and a vocabulary of 512."""
    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=512,
        hidden_size=width,
        intermediate_size=width * 11 // 4,
        num_hidden_layers=layers,
        num_attention_heads=width // 32,
        num_key_value_heads=kv_heads,
        head_dim=32,
        max_position_embeddings=8192,
        tie_word_embeddings=True,
        pad_token_id=0,
    )
    make: Any = Qwen3ForCausalLM
    return make(config).eval()


def with_transformers(
    model: Any, prompts: Sequence[Sequence[int]], sampling: Sampling
) -> Callable[[], None]:
    """`generate` on the left-padded batch."""
    width = max(map(len, prompts))
    ids = torch.tensor([[*[0] * (width - len(p)), *p] for p in prompts])
    mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts])

    def run() -> None:
        model.generate(
            ids,
            attention_mask=mask,
            do_sample=True,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            top_k=0,
            min_new_tokens=sampling.max_new_tokens,
            max_new_tokens=sampling.max_new_tokens,
            eos_token_id=1,
        )

    return run


def measure(runs: dict[str, Callable[[], None]], turns: int) -> dict[str, float]:
    """Median CPU seconds of each run; the runs take turns."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(turns):
        for name, run in runs.items():
            start = time.process_time()
            run()
            seconds[name].append(time.process_time() - start)
    return {name: statistics.median(spent) for name, spent in seconds.items()}


def void(_: object) -> None:
    """Forget a result."""
