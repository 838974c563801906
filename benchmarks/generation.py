"""New tokens per CPU second: our decode loop, our slow engine, vLLM, `transformers` `generate`.

    OMP_NUM_THREADS=1 python benchmarks/generation.py --batch 64 --new 192 --vllm

With `--vllm`, which needs it installed, also what handing over and checking new weights costs.

One thread, random weights of the embedded model's shape, prompts of mixed length, no stop token,
so that every engine makes the same number of tokens. The engines take turns; the median of the
turns is printed. Left out: start-up, GPUs, early stopping (which favours dropping finished rows).
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from transformers import Qwen3Config, Qwen3ForCausalLM

from resd_bench.policy.engines.fast import FastEngine
from resd_bench.policy.engines.hf import HfEngine
from resd_bench.policy.engines.vllm import VllmEngine
from resd_bench.policy.loading import parameters, tune_allocator
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


def main() -> None:
    """Measure and print one line per engine."""
    parser = argparse.ArgumentParser(description=__doc__)
    options = {"batch": 64, "prompt": 120, "new": 192, "turns": 3}
    shape = {"width": 128, "layers": 4, "kv-heads": 4}
    for name, default in (options | shape).items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--top-p", type=float, default=1.0)
    parser.add_argument("--vllm", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(1)
    tune_allocator()
    model = make_model(args.width, args.layers, args.kv_heads)
    lengths = torch.randint(args.prompt // 2, args.prompt, (args.batch,)).tolist()
    prompts = [torch.randint(2, 512, (length,)).tolist() for length in lengths]
    sampling = Sampling(top_p=args.top_p, max_new_tokens=args.new)
    fast, slow = FastEngine(model, [], 0), HfEngine(model, [], 0)
    runs = {
        "fast": lambda: void(fast.generate(prompts, n=1, sampling=sampling)),
        "hf": lambda: void(slow.generate(prompts, n=1, sampling=sampling)),
        "transformers": with_transformers(model, prompts, sampling),
    }
    if args.vllm:
        vllm = VllmEngine(model, [], limit=1024)
        vllm.generate(prompts[:2], n=1, sampling=sampling)
        runs["vllm"] = lambda: void(vllm.generate(prompts, n=1, sampling=sampling))
    medians = measure(runs, args.turns)
    print(f"{parameters(model) / 1e6:.2f} M parameters, {vars(args)}")
    for name, seconds in medians.items():
        made = args.batch * args.new / seconds
        print(f"{name:13s} {made:7.0f} tokens/s  {medians['transformers'] / seconds:5.2f} x")
    if args.vllm:
        seconds = measure({"weights": vllm._sync}, args.turns)["weights"]
        print(f"handing over and checking weights: {seconds:.3f} s")


def void(_: object) -> None:
    """Forget a result."""


if __name__ == "__main__":
    main()
