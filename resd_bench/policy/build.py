"""From a run's configuration to its policy."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING

import torch

from resd_bench.agent import Policy
from resd_bench.distributed.join import join
from resd_bench.distributed.torch_group import TorchGroup
from resd_bench.errors import UsageError
from resd_bench.policy import loading
from resd_bench.policy.config import PolicyConfig, PolicyOptions
from resd_bench.policy.engines import registry
from resd_bench.policy.lm_policy import LMPolicy
from resd_bench.policy.parallel.supported import check_devices
from resd_bench.seeds import derive

if TYPE_CHECKING:
    from resd_bench.config import RunConfig


def policy_of(config: RunConfig) -> Policy:
    """The policy of `config`, whose model may be elsewhere; UsageError if it cannot be made."""
    spec = registry.find_engine(config.engine)
    if spec is None or spec.text_policy is None:
        return build(config)
    setup = registry.TextSetup(config.model, policy_config(config))
    return registry.make_text_policy(spec, setup, join(config.device).size)


def build(config: RunConfig) -> LMPolicy:
    """Load the model of `config` and make it a policy; UsageError if it cannot be loaded."""
    process_group = join(config.device)
    together = process_group if isinstance(process_group, TorchGroup) else None
    device = device_in(together, config) if together else choose_device(config.device)
    if not device.startswith("cpu"):
        loading.be_deterministic()
    policy = LMPolicy.load(
        config.model,
        policy_config(config),
        weights=needs_weights(config),
        # Shards move to the GPU one by one: unsharded, the weights might not fit.
        device="cpu" if together and together.sharded else device,
        dtype=weights_dtype(config),
        revision=config.model_revision,
        device_map=config.device_map,
        attention=config.attention,
        process_group=process_group,
        trust_remote_code=config.trust_remote_code,
    )
    policy.room_for_prompts(config.max_new_tokens)
    return policy


def needs_weights(config: RunConfig) -> bool:
    """Whether the model's weights must be loaded here; UsageError for what a server cannot do."""
    engine = registry.find_engine(config.engine)
    if engine is None or not engine.adapters_only or config.lora_rank:
        return True
    if config.method != "base":
        raise UsageError(
            f"--engine {config.engine} cannot take over the weights that --method {config.method} "
            "trains: train an adapter (--lora-rank 16), use --engine vllm, or --method base"
        )
    return False


def choose_device(device: str) -> str:
    """Resolve `auto`: a GPU if there is one, else the CPU."""
    if device != "auto":
        return device
    return "cuda" if torch.cuda.is_available() else "cpu"


def device_in(process_group: TorchGroup, config: RunConfig) -> str:
    """Where this process of a group computes; UsageError for what several processes cannot do."""
    check_devices(
        config.device, config.device_map, trace=config.trace > 0, sharded=process_group.sharded
    )
    return str(process_group.device)


def weights_dtype(config: RunConfig) -> str:
    """The precision the model is loaded in.

    Weights trained under `mixed` are float32. With LoRA the model's own weights are not trained:
    they are bfloat16, and the adapter is float32.
    """
    frozen = config.lora_rank > 0 and config.precision == "mixed"
    return "bfloat16" if frozen or config.precision == "bfloat16" else "float32"


def policy_config(config: RunConfig) -> PolicyConfig:
    """The part of a run's configuration that a policy needs."""
    return PolicyConfig(
        **{option.name: getattr(config, option.name) for option in fields(PolicyOptions)},
        pace=config.pace(),
        autocast=config.precision == "mixed",
        adapter_seed=derive(config.seed, "adapter"),
    )
