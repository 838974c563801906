"""Sharded tensors (`torch.distributed.tensor.DTensor`).

A full tensor is its own shard: without sharding, nothing here does anything, and
`torch.distributed` is not imported.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor


def gather_full(tensor: Tensor) -> Tensor:
    """The full tensor; a collective operation if it is sharded."""
    of_share: Any = getattr(tensor, "full_tensor", None)
    return tensor if of_share is None else of_share()


def shard_like(value: Tensor, parameter: Any) -> Tensor:
    """This process's shard of the full `value` if `parameter` is sharded, else `value` itself."""
    mesh = getattr(parameter, "device_mesh", None)
    if mesh is None:
        return value
    from torch.distributed.tensor import distribute_tensor

    here = value.to(mesh.device_type)
    return distribute_tensor(here, mesh, parameter.placements, src_data_rank=None)


def in_main_memory(tensor: Tensor) -> Tensor:
    """A copy in main memory, so that a device does not hold two.

    A copy of a shard stays on its device, and one of a tensor without data on none.
    """
    own = tensor.detach()
    stays = own.is_meta or hasattr(own, "full_tensor")
    return own.clone() if stays else own.to("cpu", copy=True)
