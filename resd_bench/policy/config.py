"""How a language model samples and trains: the policy's part of a run's configuration.

`resd_bench.config.RunConfig` has the fields of `PolicyOptions`, so that each is written only once;
what can be set only from Python is in `PolicyConfig`. Left out: which model, and on which device.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from resd_bench.budget import Pace
from resd_bench.options import ABOVE_0, NOT_NEGATIVE, POSITIVE, SHARE
from resd_bench.policy import limits
from resd_bench.types import PromptDialect

Precision = Literal["float32", "bfloat16"]
Thinking = Literal["auto", "on", "off"]
PAPER_WARMUP = 10
"""Updates of warm-up in the paper."""


@dataclass(frozen=True)
class PolicyOptions:
    """A run's policy options. Defaults follow the paper and its release."""

    # AdamW changes every weight by about the learning rate.
    learning_rate: Annotated[float, SHARE] = 1e-6
    """Peak learning rate of AdamW. The embedded model needs far more, about 1e-4 to 1e-3."""
    warmup_updates: Annotated[int | None, NOT_NEGATIVE] = None
    """Updates over which the learning rate rises linearly (default: see `warmup`)."""
    weight_decay: Annotated[float, NOT_NEGATIVE] = 0.01
    """Decoupled weight decay of AdamW."""
    grad_clip: Annotated[float, NOT_NEGATIVE] = 1.0
    """Maximum gradient norm; 0 disables clipping."""
    dialect: PromptDialect | None = None
    """Wording of prompts: `full`; `plain`, short and without JSON, for small models; `compact`, of
    the embedded model (default: the one that suits the model)."""
    engine: str = "auto"
    """Sampling engine, as listed by `engines list`: `fast` for Qwen3, Qwen2 and Llama; `hf` for any
    model, but slow; `vllm` in this process; `openai` for a server, `chat` for a hosted model;
    `auto`: `fast` or `hf`."""
    engine_memory: Annotated[float | None, ABOVE_0] = None
    """GiB of vLLM's key-value cache (default: 0.5 on a CPU, 30% of the free memory on a GPU)."""
    server: str | None = None
    """URL of the server of `--engine openai` or `chat`, such as http://localhost:8000/v1. It
    receives the prompts and OPENAI_API_KEY, so only the command line can set it, not a file."""
    server_model: str | None = None
    """Name of the model on that server (default: the only one it serves)."""
    engine_options: dict[str, Any] = field(default_factory=dict)
    """Options of the engine's own: `--set engine.NAME=VALUE`."""
    context_limit: Annotated[int | None, POSITIVE] = None
    """Maximum tokens of prompt and response together (default: the model's limit)."""
    thinking: Thinking = "auto"
    """Ask the chat template for thinking, or for none; `auto` leaves it to the template."""
    lora_rank: Annotated[int, NOT_NEGATIVE] = 0
    """Train a low-rank adapter of this rank instead of all weights; 0 trains all weights."""
    lora_alpha: Annotated[int | None, POSITIVE] = None
    """Scale of the adapter: its update is multiplied by alpha / rank (default: twice the rank)."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, about a third more compute."""
    teacher_precision: Precision = "float32"
    """Precision of a full-copy teacher; with bfloat16 the rounding error is kept in float32."""
    teacher_offload: bool = False
    """Keep a full-copy teacher in main memory except while it scores."""
    threads: Annotated[int, NOT_NEGATIVE] = 0
    """CPU threads; 0: one for models below 50 million parameters, otherwise torch's choice.
    Rounding depends on it."""


@dataclass(frozen=True)
class PolicyConfig(PolicyOptions):
    """How a language model samples and trains."""

    warmup_from_zero: bool = True
    """Whether the first update has learning rate 0, as in the paper's release."""
    micro_batch_tokens: int = field(default_factory=lambda: limits.MICRO_BATCH_TOKENS)
    """Padded tokens (student and teacher) per forward and backward pass."""
    micro_batch_logits: int = field(default_factory=lambda: limits.MICRO_BATCH_LOGITS)
    """Maximum number of logits (sequences x response tokens x vocabulary) held at a time."""
    pace: Pace | None = None
    """The run's, by which a warm-up ends where updates spend more than was planned; none: it goes
    by updates alone."""
    autocast: bool = False
    """Train with matrix products in bfloat16; weights stay in their own precision."""
    adapter_seed: int = 0
    """Seed of the adapter's initial weights."""
    max_batch_tokens: int | None = None
    """Tokens (prompt and new) decoded together; by default derived from the model's size."""

    @property
    def warm_up(self) -> int:
        """Updates of warm-up: the paper's number, where no run says what they are a share of."""
        return PAPER_WARMUP if self.warmup_updates is None else self.warmup_updates

    @property
    def max_gradient_norm(self) -> float:
        """The norm that gradients are clipped to; infinite without clipping."""
        return self.grad_clip or math.inf
