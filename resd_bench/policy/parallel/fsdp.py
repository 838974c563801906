"""Weights sharded over processes: FSDP 2 (`torch.distributed.fsdp.fully_shard`).

Each process keeps a shard of weights, gradients, optimiser and teacher. For training, the weights
of one decoder layer at a time are gathered. For sampling, all of them are, once per update, into a
plain copy that is freed before the next: otherwise they would be gathered for each decoded token.
An engine that copies the weights gets them one tensor at a time instead. Adapters are small: each
process keeps all of them, and only the model around them is sharded. Left out: teachers that are
not float32, weights in main memory.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from resd_bench.agent import State, TeacherKind
from resd_bench.distributed.torch_group import TorchGroup
from resd_bench.errors import UsageError
from resd_bench.policy import lora
from resd_bench.policy.chunked_loss import head_of
from resd_bench.policy.micro_batches import TokenizedExample
from resd_bench.policy.parallel.ddp import DataParallelPlacement, ForwardHook
from resd_bench.policy.parallel.dtensor import gather_full
from resd_bench.policy.teacher import Teacher, put
from resd_bench.policy.trainer import Summed

if TYPE_CHECKING:
    from resd_bench.policy.config import Precision

_T = TypeVar("_T")


class FsdpPlacement(DataParallelPlacement):
    """A shard of all weights in every process."""

    keeps_casts = False
    """They would be copies of all weights, not of a shard."""

    def __init__(self, model: Any, process_group: TorchGroup) -> None:
        """Shard `model`, of which every process holds a full copy so far, on any device."""
        # The output layer can be identified only while it is not sharded.
        head_of(model)
        self._adapters = [p for name, p in model.named_parameters() if lora.belongs(name)]
        self._mesh = init_device_mesh(process_group.device.type, (process_group.size,))
        self._skeleton = without_weights(model, process_group.device)
        self._lent = False
        super().__init__(model, process_group)

    def _wrap(self, model: Any) -> Any:
        return shard(model, self._mesh)

    @property
    def sampler(self) -> Any:
        return self._skeleton

    def descend(
        self, batches: Sequence[Sequence[TokenizedExample]], summed: Summed, batch_size: int
    ) -> float:
        total = super().descend(batches, summed, batch_size)
        mean_over_processes([p.grad for p in self._adapters if p.grad is not None])
        return total

    @torch.no_grad()
    def read(self, compute: Callable[[Any], _T]) -> _T:
        try:
            found: _T = self._wrapped(lambda: compute(self._model))
        finally:
            self._wrapped.reshard()
        return found

    def _ready(self) -> None:
        if not self._lent:
            load_weights(self._skeleton, _gathered(self._model))
            self._lent = True

    def invalidate(self) -> None:
        load_weights(self._skeleton, None)
        self._lent = False

    def _exchanging(self, last: bool) -> AbstractContextManager[Any]:
        # Gradients that wait for the last pass would have to be kept unsharded.
        return nullcontext()

    def teacher(
        self, kind: TeacherKind, ema_rate: float, precision: Precision, offload: bool
    ) -> Teacher:
        self.invalidate()
        model = copy.deepcopy(self._skeleton)
        load_weights(model, {name: w.float() for name, w in _gathered(self._model).items()})
        head_of(model)
        return ShardedTeacher(model, kind, ema_rate, shard(model, self._mesh))

    def whole_state(self, state: State) -> State:
        whole: State = _whole(state, keep=self._process_group.rank == 0)
        return whole

    def whole_model(self) -> Any:
        self._ready()
        return self._skeleton


def shard(model: Any, mesh: DeviceMesh) -> Any:
    """Shard `model` layer by layer, in place, but not adapters; returns the wrapper for its passes.

    UsageError if the model does not say what its layers are.
    """
    blocks = set(getattr(model, "_no_split_modules", None) or ())
    layers = [module for module in model.modules() if type(module).__name__ in blocks]
    if not layers:
        raise UsageError(
            f"FSDP shards a model layer by layer, and {type(model).__name__} does not say "
            "what its layers are (_no_split_modules): leave out --use_fsdp"
        )
    wrapped = ForwardHook(model)
    kept = {p for name, p in model.named_parameters() if lora.belongs(name)}
    for layer in layers:
        fully_shard(layer, mesh=mesh, ignored_params=kept)
    fully_shard(wrapped, mesh=mesh, ignored_params=kept)
    # The first pass decides which module is the outermost.
    with torch.no_grad():
        wrapped(lambda: torch.zeros((), device=mesh.device_type))
    wrapped.reshard()  # type: ignore[operator]
    return wrapped


@torch.no_grad()
def mean_over_processes(tensors: Sequence[Tensor]) -> None:
    """Replace each tensor by its mean over all processes, in place; they are of one type."""
    if not tensors:
        return
    joint = torch.cat([tensor.flatten() for tensor in tensors])
    torch.distributed.all_reduce(joint)
    joint /= torch.distributed.get_world_size()
    means = torch.split(joint, [tensor.numel() for tensor in tensors])
    for tensor, mean in zip(tensors, means, strict=True):
        tensor.copy_(mean.view_as(tensor))


def without_weights(model: Any, device: torch.device) -> Any:
    """A copy of `model` with buffers on `device` and empty parameters."""
    memo = {id(p): _nothing(p) for p in model.parameters()}
    skeleton = copy.deepcopy(model, memo).requires_grad_(False)
    for module in skeleton.modules():
        for name, buffer in module._buffers.items():
            module._buffers[name] = None if buffer is None else buffer.to(device)
    return skeleton


def _nothing(parameter: Tensor) -> nn.Parameter:
    return nn.Parameter(torch.empty_like(parameter, device="meta"), requires_grad=False)


@torch.no_grad()
def load_weights(model: Any, weights: Mapping[str, Tensor] | None) -> None:
    """Set the parameters of `model` to these weights, tied ones together; None removes them."""
    # In reverse order, so that a tied parameter goes by the first of its names.
    names = {id(p): name for name, p in reversed(list(model.named_parameters()))}
    fresh: dict[str, nn.Parameter] = {}
    for module in model.modules():
        for attribute, old in module._parameters.items():
            if old is None:
                continue
            name = names[id(old)]
            if name not in fresh:
                fresh[name] = (
                    _nothing(old)
                    if weights is None
                    else nn.Parameter(weights[name], requires_grad=False)
                )
            module._parameters[attribute] = fresh[name]


@torch.no_grad()
def _gathered(model: Any) -> dict[str, Tensor]:
    """All parameters, unsharded, by name; a collective operation."""
    return {name: gather_full(p).detach() for name, p in model.named_parameters()}


@torch.no_grad()
def _whole(value: Any, *, keep: bool) -> Any:
    """`value` with full tensors in main memory in place of shards, or None unless `keep`."""
    if isinstance(value, DTensor):
        whole = value.full_tensor()
        return whole.cpu() if keep else None
    if isinstance(value, Mapping):
        return {key: _whole(item, keep=keep) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_whole(item, keep=keep) for item in value)
    return value


@dataclass(slots=True)
class ShardedTeacher:
    """A second copy of all weights, in float32 and sharded as the student's are."""

    model: Any
    kind: TeacherKind
    ema_rate: float
    wrapped: Any
    """The module that holds embedding, last norm and output layer."""

    @contextmanager
    def scoring(self) -> Iterator[Any]:
        self.wrapped.unshard()
        try:
            yield self.model
        finally:
            self.wrapped.reshard()

    @contextmanager
    def at_work(self) -> Iterator[None]:
        yield

    @torch.no_grad()
    def follow(self, student: Any) -> None:
        if self.kind == "frozen":
            return
        for mine, theirs in zip(self.model.parameters(), student.parameters(), strict=True):
            mine.lerp_(theirs.to(mine.dtype), self.ema_rate)

    def weights(self) -> dict[str, Tensor]:
        return {name: p.detach().clone() for name, p in self.model.named_parameters()}

    def restore(self, weights: Mapping[str, Tensor]) -> None:
        put(dict(self.model.named_parameters()), weights)
