"""A copy of all weights in every process, gradients summed: `DistributedDataParallel`.

Every process holds the same examples and computes its share of them; the loss is that of all of
them, because each process divides by the size of the whole batch and gradients are summed. Left
out: splitting one model's layers or matrices over devices (pipeline and tensor parallelism).
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

from torch import Tensor, nn

from resd_bench.distributed.torch_group import TorchGroup
from resd_bench.policy.engines.base import Engine, RemoteWeightsEngine
from resd_bench.policy.micro_batches import TokenizedExample, chain_size, prefix_groups
from resd_bench.policy.parallel.placement import SingleDevice
from resd_bench.policy.parallel.shared_engine import SharedEngine, balance
from resd_bench.policy.trainer import SplitBatch, Summed

_FILLER = TokenizedExample((0,), (0,), None, (-1.0,), 0.0, 0.0)
_TAUGHT_FILLER = TokenizedExample((0,), (0,), (0,), (-1.0,), 0.0, 0.0)
"""What a process computes while others have rows left; it does not count."""


class ForwardHook(nn.Module):
    """A wrapper whose forward pass is whatever is computed with the model.

    DDP and FSDP prepare a model when its own forward pass begins; a chunked loss never calls that
    one, so it is computed within this.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, compute: Callable[[], Any]) -> Any:
        return compute()


class DataParallelPlacement(SingleDevice):
    """All weights in every process, gradients summed over them: `DistributedDataParallel`."""

    def __init__(self, model: Any, process_group: TorchGroup) -> None:
        super().__init__(model)
        self._process_group = process_group
        self._wrapped = self._wrap(model)

    def _wrap(self, model: Any) -> Any:
        accelerator = self._process_group.accelerator
        # It would keep the model of an earlier run in this process alive.
        accelerator.free_memory()
        return accelerator.prepare(ForwardHook(model))

    def engine(self, engine: Engine, limit: int) -> Engine:
        # An engine with weights of its own takes them over by itself, one tensor at a time.
        own = isinstance(engine, RemoteWeightsEngine)
        return SharedEngine(engine, self._process_group, limit, _nothing if own else self._ready)

    def _ready(self) -> None:
        """Make `sampler` ready to sample."""

    def share(
        self, rows: Sequence[TokenizedExample], split: SplitBatch
    ) -> list[Sequence[TokenizedExample]]:
        """This process's micro-batches: as many as every other's, with and without a teacher."""
        self._agree(rows)
        passes: list[Sequence[TokenizedExample]] = []
        for taught, filler in ((True, _TAUGHT_FILLER), (False, _FILLER)):
            kind = prefix_groups(
                [row for row in rows if (row.teacher_prompt is not None) == taught]
            )
            hands = balance([chain_size(chain)[0] for chain in kind], self._process_group.size)
            batches = [list(split([row for i in hand for row in kind[i]])) for hand in hands]
            mine, most = batches[self._process_group.rank], max(map(len, batches))
            passes += [*mine, *[[filler]] * (most - len(mine))]
        return passes

    def _agree(self, rows: Sequence[TokenizedExample]) -> None:
        """RuntimeError if processes hold different rows: they would wait for ever, or worse."""
        known = self._process_group.gather(zlib.crc32(repr(rows).encode()))
        if len(set(known)) > 1:
            raise RuntimeError(
                "the processes of this run have different examples, so something in it is not "
                f"determined by the seed (checksums {known}); please report it"
            )

    def descend(
        self, batches: Sequence[Sequence[TokenizedExample]], summed: Summed, batch_size: int
    ) -> float:
        total = 0.0
        for place, rows in enumerate(batches):
            with self._exchanging(place == len(batches) - 1):
                loss: Tensor = self._wrapped(partial(_share_of, summed, rows, batch_size))
                if not loss.requires_grad:
                    raise ValueError("with several processes, every loss must have a gradient")
                # DDP averages the gradients of all processes; we need their sum.
                self._process_group.accelerator.backward(loss * self._process_group.size)
            total += float(loss.detach())
        return sum(self._process_group.gather(total))

    def _exchanging(self, last: bool) -> AbstractContextManager[Any]:
        """A context around a pass: gradients are exchanged only in the last one."""
        return nullcontext() if last else self._process_group.accelerator.no_sync(self._wrapped)


def _nothing() -> None:
    """What an engine with weights of its own needs before it samples."""


def _share_of(summed: Summed, rows: Sequence[TokenizedExample], batch_size: int) -> Tensor:
    loss = summed(rows) / batch_size
    return 0.0 * loss if rows[0] in (_FILLER, _TAUGHT_FILLER) else loss
