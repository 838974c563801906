"""From a run's configuration to its policy."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from resd_bench.policy import loading
from resd_bench.policy.lm_policy import LMPolicy, PolicyConfig

if TYPE_CHECKING:
    from resd_bench.config import RunConfig


def build(config: RunConfig) -> LMPolicy:
    """Load the model of `config` and make it a policy; UsageError where it cannot be loaded."""
    device = choose_device(config.device)
    if not device.startswith("cpu"):
        loading.be_deterministic()
    dtype = "bfloat16" if config.precision == "bfloat16" else "float32"
    return LMPolicy.load(config.model, policy_config(config), device=device, dtype=dtype)


def choose_device(device: str) -> str:
    """`auto` as a GPU where there is one, else the CPU."""
    if device != "auto":
        return device
    return "cuda" if torch.cuda.is_available() else "cpu"


def policy_config(config: RunConfig) -> PolicyConfig:
    """The part of a run's configuration that a policy needs."""
    return PolicyConfig(
        learning_rate=config.learning_rate,
        warmup_updates=config.warmup_updates,
        weight_decay=config.weight_decay,
        grad_clip=config.grad_clip or math.inf,
        autocast=config.precision == "mixed",
        engine=config.engine,
        dialect=config.dialect or "auto",
        threads=config.threads or None,
    )
