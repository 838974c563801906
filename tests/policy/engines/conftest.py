"""What tests of the sampling engines share."""

from __future__ import annotations

import pytest
import torch

from resd_bench.policy import limits
from resd_bench.policy.engines.matrices import can_pack


@pytest.fixture(params=["as they are", "packed"])
def each_layout(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fast engine with weights as they are, and packed, as those of larger models are."""
    if request.param == "packed":
        if not can_pack(torch.device("cpu"), torch.float32):
            pytest.skip("NOT TESTED: this build of torch does not pack weights")
        monkeypatch.setattr(limits, "FAST_PACKED_WIDTH", 1)
        monkeypatch.setattr(limits, "FAST_PACKED_TOKENS", 1)
