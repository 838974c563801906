"""A calculation, not a measurement: seconds of the paper's updates on 8 H200 GPUs.

    python benchmarks/paper_step.py            # a table in Markdown

Tokens follow from the paper's settings in `runs/paper/bouncingsim-easy`, as in `run --dry-run`.
Decoding reads the weights, and the keys and values of all sequences on a GPU, once per token;
reading, scoring and training are arithmetic, attention included. Both run at a share of what the
GPU can do at most. Every sequence is as long as `tokens` says, and the phases follow one another.
Left out: the sandbox, transferring weights, idle GPUs while the longest answer ends, evaluations.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from resd_bench import plugins
from resd_bench.config import RunConfig, load_file, method_config, resolve
from resd_bench.planning import architecture
from resd_bench.planning.memory import Lengths, Tokens, count_tokens

GPUS = 8
BANDWIDTH, FLOPS = 4.8e12, 989e12
"""Bytes a second of an H200's memory, and bfloat16 operations a second (NVIDIA's data sheet)."""
BANDWIDTH_SHARE, FLOPS_SHARE = 0.6, 0.35
"""What programs reach; assumed, not measured."""
BYTES = 2
"""Of a number in bfloat16."""
PROMPT = 1000
"""Tokens of a task's prompt."""
PAPER = {"sdpo": "about 400 s", "resd": "between", "grpo": "above 1,200 s"}
"""Seconds of a step in the paper's figure 8."""

HEADER = (
    "| method | tokens of an answer | rollouts | the method's own sampling | arithmetic | together "
    "| the paper's figure 8 |"
)


class Seconds(NamedTuple):
    """Where the time of an update goes."""

    rollouts: float
    own: float
    """Sampling that the method asks for: reflections and curation."""
    arithmetic: float
    """Reading prompts, the teacher, training."""


def decoding(model: architecture.Architecture, sequences: float, tokens: int) -> float:
    """Seconds to sample `tokens` tokens of so many sequences on one GPU, all at once."""
    kept = 2 * model.layers * model.keys * BYTES
    mean_context = PROMPT + tokens / 2
    per_token = model.active * BYTES + sequences * mean_context * kept
    return tokens * per_token / (BANDWIDTH * BANDWIDTH_SHARE)


def attention(model: architecture.Architecture, counted: Tokens, tokens: int) -> float:
    """Operations of attention: causal, twice as many backward as forward."""
    forward = counted.read + counted.scored + 3 * counted.trained
    return forward * 4 * model.layers * model.queries * (PROMPT + tokens) / 2


def seconds(config: RunConfig, tokens: int) -> Seconds:
    """Of one update, where every answer has `tokens` tokens."""
    spec = plugins.method(config.method)
    load = spec.load(method_config(spec.config, config.method_options, spec.name))
    model = architecture.read(config.model, config.model_revision)
    lengths = Lengths(PROMPT + load.memory_tokens, tokens, 1)
    counted = count_tokens(config, lengths, load, 0, model.context)
    # What decoding computes is hidden behind what it reads.
    counted = replace(counted, rollouts=0, own=0)
    rows = config.batch_size * (config.group_size or 1) / GPUS
    operations = counted.flops(model.active, False) + attention(model, counted, tokens)
    round_seconds = decoding(model, rows, tokens)
    own = load.samples * round_seconds
    return Seconds(round_seconds, own, operations / (GPUS * FLOPS * FLOPS_SHARE))


def main() -> None:
    print(HEADER)
    print("|---|---:|---:|---:|---:|---:|---|")
    for method, paper in PAPER.items():
        config = resolve(load_file(f"runs/paper/bouncingsim-easy/{method}.yaml"), {})
        for tokens in (config.max_new_tokens // 2, config.max_new_tokens):
            found = seconds(config, tokens)
            cells = [method, f"{tokens:,}", *(f"{part:.0f} s" for part in found)]
            print(f"| {' | '.join(cells)} | {sum(found):.0f} s | {paper} |")


if __name__ == "__main__":
    main()
