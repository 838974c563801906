"""From a run's configuration to its policy."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from resd_bench.policy import loading
from resd_bench.policy.lm_policy import LMPolicy, PolicyConfig
from resd_bench.seeds import derive

if TYPE_CHECKING:
    from resd_bench.config import RunConfig


def build(config: RunConfig) -> LMPolicy:
    """Load the model of `config` and make it a policy; UsageError where it cannot be loaded."""
    device = choose_device(config.device)
    if not device.startswith("cpu"):
        loading.be_deterministic()
    policy = LMPolicy.load(
        config.model,
        policy_config(config),
        device=device,
        dtype=weights_dtype(config),
        revision=config.model_revision,
        device_map=config.device_map,
        attention=config.attention,
    )
    policy.room_for_prompts(config.max_new_tokens)
    return policy


def choose_device(device: str) -> str:
    """`auto` as a GPU where there is one, else the CPU."""
    if device != "auto":
        return device
    return "cuda" if torch.cuda.is_available() else "cpu"


def weights_dtype(config: RunConfig) -> str:
    """The precision the model is loaded in.

    Weights that train under `mixed` are float32. Under LoRA the model's own do not train: they are
    bfloat16, and the adapter is float32.
    """
    frozen = config.lora_rank > 0 and config.precision == "mixed"
    return "bfloat16" if frozen or config.precision == "bfloat16" else "float32"


def policy_config(config: RunConfig) -> PolicyConfig:
    """The part of a run's configuration that a policy needs."""
    return PolicyConfig(
        learning_rate=config.learning_rate,
        warmup_updates=config.warmup_updates,
        weight_decay=config.weight_decay,
        grad_clip=config.grad_clip or math.inf,
        autocast=config.precision == "mixed",
        lora_rank=config.lora_rank,
        lora_alpha=config.lora_alpha,
        adapter_seed=derive(config.seed, "adapter"),
        gradient_checkpointing=config.gradient_checkpointing,
        teacher_precision=config.teacher_precision,
        teacher_offload=config.teacher_offload,
        thinking=config.thinking,
        engine=config.engine,
        dialect=config.dialect or "auto",
        threads=config.threads or None,
    )
