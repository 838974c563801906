"""How a model's weights lie over the processes of a run, and who computes what.

`Whole` is the usual case: one process that holds everything. With several, `distributed.Copied`
gives each a copy, and `sharding.Sharded` a share. Nothing outside these three knows the difference.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from resd_bench.agent import State, TeacherKind
from resd_bench.policy.engine import Engine
from resd_bench.policy.teacher import CopyTeacher, Precision, Teacher
from resd_bench.policy.trainer import Passes, Serial
from resd_bench.team import Team

if TYPE_CHECKING:
    from resd_bench.policy.lm_policy import PolicyConfig


class Layout(Passes, Protocol):
    """Where the weights are; also how the passes of a step run."""

    @property
    def sampler(self) -> Any:
        """The model that engines read; it holds weights only while they sample."""
        ...

    def engine(self, engine: Engine) -> Engine:
        """An engine that samples with all processes, each through an `engine` of its own."""
        ...

    def moved(self) -> None:
        """The weights are about to change: whatever was made of them is stale."""
        ...

    def teacher(
        self, kind: TeacherKind, ema_rate: float, precision: Precision, offload: bool
    ) -> Teacher:
        """A copy of the present weights, laid out as they are."""
        ...

    def whole_state(self, state: State) -> State:
        """A policy's state with whole tensors; other processes than the first may get none."""
        ...

    def whole_model(self) -> Any:
        """The model with all its weights, for writing."""
        ...


class Whole(Serial):
    """All weights in one process."""

    def __init__(self, model: Any) -> None:
        self._model = model

    @property
    def sampler(self) -> Any:
        return self._model

    def engine(self, engine: Engine) -> Engine:
        return engine

    def moved(self) -> None:
        pass

    def teacher(
        self, kind: TeacherKind, ema_rate: float, precision: Precision, offload: bool
    ) -> Teacher:
        return CopyTeacher.of(self._model, kind, ema_rate, precision=precision, offload=offload)

    def whole_state(self, state: State) -> State:
        return state

    def whole_model(self) -> Any:
        return self._model


def lay_out(model: Any, team: Team, config: PolicyConfig) -> Layout:
    """Lay `model` out over `team`; UsageError where `config` does not allow it."""
    if team.size == 1:
        return Whole(model)
    from resd_bench.policy.distributed import spread

    return spread(model, team, config)
