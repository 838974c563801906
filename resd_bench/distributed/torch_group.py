"""The processes of a run over `accelerate` and `torch.distributed`, and their communication.

Left out: the model, which `resd_bench.policy.parallel` places on them.
"""

from __future__ import annotations

import atexit
import os
import pickle
from collections.abc import Callable, Mapping
from datetime import timedelta
from functools import cache
from typing import Any, TypeVar

import torch

from resd_bench.errors import UsageError, install_extra

_T = TypeVar("_T")

_PATIENCE = timedelta(hours=2)
"""How long processes wait for each other: one may sample or verify much longer than another."""


class TorchGroup:
    """A `ProcessGroup` over `torch.distributed`."""

    def __init__(self, accelerator: Any, *, sharded: bool) -> None:
        self.accelerator = accelerator
        self.sharded = sharded
        """Whether weights are sharded (FSDP) rather than copied (DDP)."""

    @property
    def rank(self) -> int:
        return int(self.accelerator.process_index)

    @property
    def size(self) -> int:
        return int(self.accelerator.num_processes)

    @property
    def device(self) -> torch.device:
        """The device that this process computes on."""
        device: torch.device = self.accelerator.device
        return torch.device("cpu") if device.type == "cpu" else device

    def broadcast_from_rank0(self, make: Callable[[], _T]) -> _T:
        told: list[Any] = [None]
        if self.rank == 0:
            value, error = _attempt(make)
            told = [_pickled(value, error)]
        torch.distributed.broadcast_object_list(told, src=0)
        if self.rank != 0:
            value, error = pickle.loads(told[0])
        if error is not None:
            raise error
        made: _T = value
        return made

    def gather(self, mine: _T) -> list[_T]:
        found: list[Any] = [None] * self.size
        torch.distributed.all_gather_object(found, mine)
        return found


def _attempt(make: Callable[[], Any]) -> tuple[Any, Exception | None]:
    try:
        return make(), None
    except Exception as error:
        return None, error


def _pickled(value: Any, error: Exception | None) -> bytes:
    """Both, pickled; an error instead if that fails, so that no process waits for ever."""
    try:
        return pickle.dumps((value, error))
    except Exception as reason:
        return pickle.dumps((None, RuntimeError(f"the first process failed: {error or reason}")))


@cache
def joined(device: str) -> TorchGroup:
    """This process's group, as the launcher's variables describe it; see `join`."""
    sharded = asks_for_shards(os.environ)
    try:
        from accelerate import Accelerator  # type: ignore[import-untyped]
        from accelerate.utils import (  # type: ignore[import-untyped]
            DistributedDataParallelKwargs,
            InitProcessGroupKwargs,
        )
    except ImportError as error:
        raise UsageError(
            f"several processes need accelerate, which is not installed: {install_extra('lora')}"
        ) from error
    # Weights are loaded whole and then sharded; otherwise transformers would load them empty.
    os.environ["FSDP_CPU_RAM_EFFICIENT_LOADING"] = "false"
    handlers = [
        InitProcessGroupKwargs(timeout=_PATIENCE),
        DistributedDataParallelKwargs(gradient_as_bucket_view=True),
    ]
    # Without a GPU, accelerate leaves processes alone unless it is told to use the CPU.
    on_cpu = device.startswith("cpu") or not torch.accelerator.is_available()
    accelerator = Accelerator(cpu=on_cpu, mixed_precision="no", kwargs_handlers=handlers)
    if accelerator.num_processes != int(os.environ["WORLD_SIZE"]):
        raise RuntimeError(f"accelerate did not join the processes: {accelerator.state}")
    atexit.register(accelerator.end_training)
    return TorchGroup(accelerator, sharded=sharded)


def asks_for_shards(variables: Mapping[str, str]) -> bool:
    """Whether FSDP was asked for; UsageError if the launcher asks for anything unsupported."""

    def given(name: str, default: str = "false") -> str:
        return variables.get(name, default).lower()

    for name, what in (("DEEPSPEED", "DeepSpeed"), ("MEGATRON_LM", "Megatron-LM")):
        if given(f"ACCELERATE_USE_{name}") == "true":
            raise UsageError(f"{what} is not supported: use DDP or FSDP, see docs/distributed.md")
    if given("ACCELERATE_MIXED_PRECISION", "no") not in ("no", ""):
        raise UsageError(
            "accelerate was asked for mixed precision: use the run's --precision mixed instead, "
            "and give accelerate --mixed_precision no"
        )
    if given("ACCELERATE_USE_FSDP") != "true":
        return False
    if given("FSDP_VERSION", "1") != "2":
        raise UsageError("FSDP 1 is not supported: give accelerate launch --fsdp_version 2")
    if given("FSDP_OFFLOAD_PARAMS") == "true":
        raise UsageError("FSDP was asked to offload weights: give --fsdp_offload_params false")
    if given("FSDP_ACTIVATION_CHECKPOINTING") == "true":
        raise UsageError(
            "FSDP was asked to recompute activations: use the run's --gradient-checkpointing true "
            "instead, and give accelerate --fsdp_activation_checkpointing false"
        )
    return True
