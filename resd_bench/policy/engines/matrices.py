"""Weight matrices in the layout in which this machine multiplies by them fastest.

On a CPU, oneDNN can reorder a matrix once ("pack" it), so that products need not do it each time.
In float32 it is also faster than torch's default, MKL, on processors that are not Intel's. Its
products have the same bits as unpacked ones in bfloat16, and another rounding in float32. Small
matrices gain nothing: their products cost less than the call.

Shapes: m rows, O outputs, I inputs.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


class Matrix:
    """A weight [O, I], packed or as it is."""

    def __init__(self, weight: Tensor) -> None:
        self.weight = weight
        """[O, I]; once packed, readable by oneDNN only."""
        self.packed = False

    def __len__(self) -> int:
        """O."""
        return len(self.weight)

    def pack(self) -> None:
        """Pack it, and let go of the weight as it was."""
        self.weight = torch.ops.mkldnn._reorder_linear_weight(self.weight, None)
        self.packed = True

    def times(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        """The products [m, O] with `x` [m, I], plus `bias` [O]."""
        if not self.packed:
            return F.linear(x, self.weight, bias)
        product: Tensor = torch.ops.mkldnn._linear_pointwise(x, self.weight, bias, "none", [], "")
        return product

    def added(self, to: Tensor, x: Tensor) -> Tensor:
        """`to` [m, O] plus the products with `x` [m, I]."""
        if not self.packed:
            return torch.addmm(to, x, self.weight.t())
        sums: Tensor = torch.ops.mkldnn._linear_pointwise.binary(x, to, self.weight, None, "add")
        return sums


def can_pack(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether this build of torch and this processor have packed products of `dtype`."""
    available: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    if device.type != "cpu" or not available or not torch._C._get_mkldnn_enabled():
        return False
    if dtype is torch.bfloat16:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return dtype is torch.float32
