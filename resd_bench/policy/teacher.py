"""The teacher's weights: a copy of the student's, or with LoRA a second adapter of its model.

A step of 1e-4 towards the student is lost in bfloat16, so a copy moves in float32, or in bfloat16
with the rounding error kept in float32. Left out: teachers that are other models.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from resd_bench.agent import State, TeacherKind
from resd_bench.policy import lora
from resd_bench.policy.config import Precision
from resd_bench.policy.parallel.dtensor import in_main_memory, shard_like


class Teacher(Protocol):
    """Scores the student's tokens after its own, enriched prompt."""

    kind: TeacherKind
    ema_rate: float

    @property
    def model(self) -> Any:
        """The model with the teacher's weights; with LoRA, it has the student's as well."""
        ...

    def scoring(self) -> Any:
        """A context whose value is a model that computes the teacher's logits."""
        ...

    def at_work(self) -> Any:
        """A context around all of a step's scoring."""
        ...

    def follow(self, student: Any) -> None:
        """theta_T <- (1 - rate) theta_T + rate theta, for a teacher that moves (section 3.3)."""
        ...

    def weights(self) -> dict[str, Tensor]:
        """A copy of everything that changes."""
        ...

    def restore(self, weights: Mapping[str, Tensor]) -> None:
        """Restore what `weights` returned; ValueError if it is another model's."""
        ...


@dataclass(slots=True)
class CopyTeacher:
    """A second copy of all weights."""

    model: Any
    kind: TeacherKind
    ema_rate: float
    residuals: Sequence[Tensor] = ()
    """Rounding error of each bfloat16 parameter, in float32; empty for a float32 copy."""
    device: torch.device | None = None
    """The device for scoring if the model is otherwise in main memory; None if it stays put."""

    @classmethod
    def of(
        cls,
        student: Any,
        kind: TeacherKind,
        ema_rate: float,
        *,
        precision: Precision = "float32",
        offload: bool = False,
    ) -> CopyTeacher:
        """A copy of the current weights; with `offload`, in main memory except while it scores."""
        device = student.get_input_embeddings().weight.device if offload else None
        model = copy.deepcopy(student).requires_grad_(False)
        if offload:
            model = model.cpu()
        if precision == "float32":
            return cls(model.float(), kind, ema_rate, (), device)
        residuals = [_round(p) for p in model.parameters()]
        return cls(model, kind, ema_rate, residuals if kind == "ema" else (), device)

    @contextmanager
    def scoring(self) -> Iterator[Any]:
        yield self.model

    @contextmanager
    def at_work(self) -> Iterator[None]:
        if self.device is None:
            yield
            return
        self.model.to(self.device)
        try:
            yield
        finally:
            self.model.to("cpu")

    @torch.no_grad()
    def follow(self, student: Any) -> None:
        if self.kind == "frozen":
            return
        for i, (mine, theirs) in enumerate(
            zip(self.model.parameters(), student.parameters(), strict=True)
        ):
            if not self.residuals:
                mine.lerp_(theirs.to(mine.device, mine.dtype), self.ema_rate)
                continue
            residual = self.residuals[i]
            exact = mine.to(residual) + residual
            exact.lerp_(theirs.to(exact), self.ema_rate)
            mine.copy_(exact)
            residual.copy_(exact - mine.to(exact))

    def weights(self) -> dict[str, Tensor]:
        return {name: in_main_memory(p) for name, p in self._moving().items()}

    def restore(self, weights: Mapping[str, Tensor]) -> None:
        put(self._moving(), weights)

    def _moving(self) -> dict[str, Tensor]:
        named = dict(self.model.named_parameters())
        residuals = zip(list(named), self.residuals, strict=False)
        return named | {f"{name}.residual": residual for name, residual in residuals}


@dataclass(slots=True)
class AdapterTeacher:
    """A second adapter of the student's model: it moves as the student's adapter does."""

    adapted: Any
    """The peft model that holds both adapters."""
    kind: TeacherKind
    ema_rate: float

    @classmethod
    def of(cls, adapted: Any, kind: TeacherKind, ema_rate: float) -> AdapterTeacher:
        """A copy of the current adapter."""
        lora.add_teacher(adapted)
        return cls(adapted, kind, ema_rate)

    @property
    def model(self) -> Any:
        return self.adapted.get_base_model()

    @contextmanager
    def scoring(self) -> Iterator[Any]:
        lora.activate(self.adapted, lora.TEACHER)
        try:
            yield self.model
        finally:
            lora.activate(self.adapted, lora.STUDENT)

    @contextmanager
    def at_work(self) -> Iterator[None]:
        yield

    @torch.no_grad()
    def follow(self, student: Any) -> None:
        if self.kind == "frozen":
            return
        theirs = lora.weights(self.adapted, lora.STUDENT)
        for name, mine in lora.weights(self.adapted, lora.TEACHER).items():
            mine.lerp_(theirs[name].to(mine.dtype), self.ema_rate)

    def weights(self) -> dict[str, Tensor]:
        named = lora.weights(self.adapted, lora.TEACHER)
        return {name: in_main_memory(p) for name, p in named.items()}

    def restore(self, weights: Mapping[str, Tensor]) -> None:
        put(lora.weights(self.adapted, lora.TEACHER), weights)


@torch.no_grad()
def _round(parameter: Any) -> Tensor:
    """Round a parameter to bfloat16 and return the rounding error in float32."""
    exact: Tensor = parameter.detach().float()
    # Not the whole model: rounded rotary frequencies would shift every position.
    parameter.data = exact.to(torch.bfloat16)
    taken: Tensor = exact - parameter.float()
    return taken


def to_state(teacher: Teacher | None) -> State | None:
    """What is needed to resume with `teacher`."""
    if teacher is None:
        return None
    return {"kind": teacher.kind, "ema_rate": teacher.ema_rate, "weights": teacher.weights()}


@torch.no_grad()
def put(mine: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> None:
    """Copy saved weights into parameters in place; ValueError if their names differ."""
    if mine.keys() != weights.keys():
        odd = sorted(mine.keys() ^ weights.keys())
        raise ValueError(f"the saved state is of another model; parameters that differ: {odd[:3]}")
    for name, parameter in mine.items():
        parameter.copy_(shard_like(weights[name], parameter))
