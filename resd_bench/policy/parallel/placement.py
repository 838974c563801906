"""How a model's weights are placed on the processes of a run, and which of them computes what.

`SingleDevice` is the usual case: one process that holds everything. With several,
`ddp.DataParallelPlacement` gives each a copy, and `fsdp.FsdpPlacement` a shard. Nothing outside
these three classes knows the difference; `place` chooses.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

import torch

from resd_bench.agent import State, TeacherKind
from resd_bench.policy.config import Precision
from resd_bench.policy.engines.base import Engine, TrainedWeights
from resd_bench.policy.teacher import CopyTeacher, Teacher
from resd_bench.policy.trainer import Passes, Serial

_T = TypeVar("_T")


class WeightPlacement(Passes, TrainedWeights, Protocol):
    """Where the weights are, and how the passes of a step run."""

    @property
    def sampler(self) -> Any:
        """The model that engines read; it holds weights only while they sample."""
        ...

    def engine(self, engine: Engine, limit: int) -> Engine:
        """An engine that samples with all processes, each through an `engine` of its own.

        `limit` is the longest sequence in tokens.
        """
        ...

    def invalidate(self) -> None:
        """The weights are about to change: whatever was derived from them is stale."""
        ...

    def teacher(
        self, kind: TeacherKind, ema_rate: float, precision: Precision, offload: bool
    ) -> Teacher:
        """A copy of the current weights, placed as they are."""
        ...

    def whole_state(self, state: State) -> State:
        """A policy's state with full tensors; ranks other than 0 may get none."""
        ...

    def whole_model(self) -> Any:
        """The model with all its weights, to be saved."""
        ...


class SingleDevice(Serial):
    """All weights in one process."""

    def __init__(self, model: Any) -> None:
        self._model = model

    @property
    def sampler(self) -> Any:
        return self._model

    @property
    def trained_model(self) -> Any:
        return self._model

    @property
    def device(self) -> torch.device:
        device: torch.device = self._model.get_input_embeddings().weight.device
        return device

    @torch.no_grad()
    def read(self, compute: Callable[[Any], _T]) -> _T:
        return compute(self._model)

    def engine(self, engine: Engine, limit: int) -> Engine:
        return engine

    def invalidate(self) -> None:
        pass

    def teacher(
        self, kind: TeacherKind, ema_rate: float, precision: Precision, offload: bool
    ) -> Teacher:
        return CopyTeacher.of(self._model, kind, ema_rate, precision=precision, offload=offload)

    def whole_state(self, state: State) -> State:
        return state

    def whole_model(self) -> Any:
        return self._model
