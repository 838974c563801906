"""From a run's configuration to its policy."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from resd_bench.plugins import UsageError
from resd_bench.policy import loading
from resd_bench.policy.distributed import Together
from resd_bench.policy.lm_policy import LMPolicy, PolicyConfig
from resd_bench.seeds import derive
from resd_bench.team import join

if TYPE_CHECKING:
    from resd_bench.config import RunConfig


def build(config: RunConfig) -> LMPolicy:
    """Load the model of `config` and make it a policy; UsageError where it cannot be loaded."""
    team = join(config.device)
    together = team if isinstance(team, Together) else None
    device = device_in(together, config) if together else choose_device(config.device)
    if not device.startswith("cpu"):
        loading.be_deterministic()
    policy = LMPolicy.load(
        config.model,
        policy_config(config),
        weights=needs_weights(config),
        # Shares move to the GPU one by one: whole, the weights might not fit.
        device="cpu" if together and together.sharded else device,
        dtype=weights_dtype(config),
        revision=config.model_revision,
        device_map=config.device_map,
        attention=config.attention,
        team=team,
        trust_remote_code=config.trust_remote_code,
    )
    policy.room_for_prompts(config.max_new_tokens)
    return policy


def needs_weights(config: RunConfig) -> bool:
    """Whether the model's weights are to be loaded here; UsageError for what a server cannot do."""
    if config.engine != "openai" or config.lora_rank:
        return True
    if config.method != "base":
        raise UsageError(
            f"--engine openai cannot hand a server the weights that --method {config.method} "
            "trains: train an adapter (--lora-rank 16), use --engine vllm, or --method base"
        )
    return False


def choose_device(device: str) -> str:
    """`auto` as a GPU where there is one, else the CPU."""
    if device != "auto":
        return device
    return "cuda" if torch.cuda.is_available() else "cpu"


def device_in(team: Together, config: RunConfig) -> str:
    """Where this process of `team` computes; UsageError for what several processes cannot do."""
    if config.device_map is not None:
        raise UsageError(
            f"--device-map {config.device_map} spreads one model over the GPUs of one process, and "
            "there are several: leave it out, and use FSDP if the model is too large for a GPU"
        )
    if config.device not in ("auto", "cpu", "cuda"):
        raise UsageError(
            f"--device {config.device} was given to several processes, which have a device each: "
            "give auto, cpu or cuda; CUDA_VISIBLE_DEVICES chooses among GPUs"
        )
    if config.trace and team.sharded:
        raise UsageError("--trace reads all weights, of which each process has a share with FSDP")
    return str(team.device)


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
        engine_memory=config.engine_memory,
        server=config.server,
        server_model=config.server_model,
        context_limit=config.context_limit,
        dialect=config.dialect or "auto",
        threads=config.threads or None,
    )
