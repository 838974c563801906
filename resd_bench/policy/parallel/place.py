"""Place a model on the processes of a run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from resd_bench.distributed.process_group import ProcessGroup
from resd_bench.policy.parallel.placement import SingleDevice, WeightPlacement
from resd_bench.policy.parallel.supported import check_sharded

if TYPE_CHECKING:
    from resd_bench.policy.config import PolicyConfig


def place(model: Any, process_group: ProcessGroup, config: PolicyConfig) -> WeightPlacement:
    """Place `model` on `process_group`; UsageError if `config` does not allow it."""
    if process_group.size == 1:
        return SingleDevice(model)
    # A single process needs neither accelerate nor torch.distributed.
    from resd_bench.distributed.torch_group import TorchGroup
    from resd_bench.policy.parallel import ddp, fsdp

    if not isinstance(process_group, TorchGroup):
        raise TypeError(f"{type(process_group).__name__} is not a TorchGroup")
    if not process_group.sharded:
        return ddp.DataParallelPlacement(model, process_group)
    check_sharded(config)
    return fsdp.FsdpPlacement(model, process_group)
