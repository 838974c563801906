"""Low-rank adapters through `peft`: one for the student and, on demand, one for the teacher.

The adapters are inside the model's own linear layers (all but the output layer); the student's is
called `default` and is saved in peft's standard format. Left out: other kinds of adapter, and
adapters on embeddings.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from resd_bench.errors import UsageError, require_package
from resd_bench.policy.parallel.dtensor import gather_full

STUDENT, TEACHER = "default", "teacher"


def check_peft() -> None:
    """UsageError where peft is not installed."""
    require_package("peft", "--lora-rank", "lora")


def adapt(model: Any, rank: int, alpha: int | None, seed: int, name: str = "") -> Any:
    """`model` with a new adapter of `rank`, as a peft model; only the adapter is trained.

    The update is alpha / rank times the product of the two factors; `alpha` is 2 `rank` unless
    given. The first factor is drawn from `seed`, the second is 0, so at first nothing changes.
    `name` is the base model's name in the saved adapter. UsageError without peft.
    """
    if rank < 1:
        raise UsageError(f"--lora-rank {rank} must be at least 1, or 0 to train all weights")
    check_peft()
    import peft

    config = peft.LoraConfig(
        r=rank,
        lora_alpha=2 * rank if alpha is None else alpha,
        target_modules="all-linear",
        lora_dropout=0.0,
        task_type="CAUSAL_LM",
    )
    with torch.random.fork_rng(devices=_devices(model)):
        torch.manual_seed(seed)
        adapted: Any = peft.get_peft_model(model, config)
    if name:
        adapted.peft_config[STUDENT].base_model_name_or_path = name
    return adapted.eval()


def _devices(model: Any) -> list[torch.device]:
    return list({p.device for p in model.parameters() if p.device.type == "cuda"})


def weights(adapted: Any, adapter: str) -> dict[str, Tensor]:
    """The parameters of one adapter, by their names without the adapter's name."""
    mark = f".{adapter}."
    named = adapted.get_base_model().named_parameters()
    return {name.replace(mark, "."): p for name, p in named if belongs(name) and mark in name}


def belongs(name: str) -> bool:
    """Whether a parameter of this name belongs to an adapter."""
    return ".lora_" in name


@torch.no_grad()
def add_teacher(adapted: Any) -> None:
    """Add or replace the teacher's adapter: a copy of the student's that is not trained."""
    if TEACHER not in adapted.peft_config:
        with torch.random.fork_rng(devices=_devices(adapted)):
            adapted.add_adapter(TEACHER, copy.deepcopy(adapted.peft_config[STUDENT]))
    theirs = weights(adapted, STUDENT)
    for name, mine in weights(adapted, TEACHER).items():
        mine.requires_grad_(False)
        mine.copy_(theirs[name])
    activate(adapted, STUDENT)


def activate(adapted: Any, adapter: str) -> None:
    """Compute with `adapter` from now on; only the student's is ever trained."""
    adapted.base_model.set_adapter(adapter, inference_mode=adapter != STUDENT)


def save(adapted: Any, folder: str | Path) -> None:
    """Write the student's adapter: adapter_config.json and adapter_model.safetensors."""
    # Embeddings are never adapted: there is no need to look up the base model for them.
    adapted.save_pretrained(str(folder), selected_adapters=[STUDENT], save_embedding_layers=False)


def recorded_base(adapted: Any) -> str:
    """The adapter's name for its base model."""
    return str(adapted.peft_config[STUDENT].base_model_name_or_path or "")


def base_layer(linear: Any) -> Any:
    """The layer inside an adapted one; any other layer unchanged."""
    return linear.get_base_layer() if hasattr(linear, "lora_A") else linear


def merged_weight(linear: Any) -> Tensor:
    """The full weight of a linear layer plus what its active adapters add to it."""
    weight = gather_full(base_layer(linear).weight)
    for adapter in getattr(linear, "active_adapters", ()):
        weight = weight + linear.get_delta_weight(adapter).to(weight.dtype)
    return weight


NamedWeights = Iterator[tuple[str, Tensor]]
"""Full tensors under their names in the model's files, one after another; if they are sharded, all
processes iterate together and only one at a time is gathered."""


def merged_state(model: Any) -> NamedWeights:
    """The state of `model` without adapters, with their updates added to the weights.

    Tied weights appear under each of their names.
    """
    return _plain_state(model, merged_weight)


def base_state(model: Any) -> NamedWeights:
    """The state of `model` without its adapters."""
    return _plain_state(model, lambda linear: gather_full(base_layer(linear).weight))


def _plain_state(model: Any, weight: Callable[[Any], Tensor]) -> NamedWeights:
    from transformers import core_model_loading

    inner = ".base_layer"
    for name, value in model.state_dict().items():
        if belongs(name):
            continue
        owner, _, kind = name.rpartition(".")
        adapted = owner.endswith(inner) and kind == "weight"
        with torch.no_grad():
            full = (
                weight(model.get_submodule(owner.removesuffix(inner)))
                if adapted
                else gather_full(value)
            )
        # In memory, the experts of a layer are one tensor; in files, they are many.
        plain = {name.replace(f"{inner}.", "."): full.detach()}
        yield from core_model_loading.revert_weight_conversion(model, plain).items()
