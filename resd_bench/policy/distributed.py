"""Several processes for one model, through `accelerate` and `torch.distributed`.

Every process holds the same examples and takes its share of them; a loss is that of all, because
each divides by the size of the whole batch and gradients are summed. Prompts are shared out in the
same way, and since every sample has a random stream of its own, who samples it changes nothing.
Left out: splitting one model's layers or matrices over devices (pipeline and tensor parallelism).
"""

from __future__ import annotations

import atexit
import os
import pickle
import zlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta
from functools import cache, partial
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor, nn

from resd_bench.plugins import UsageError
from resd_bench.policy.batches import Row, chain_size, chains
from resd_bench.policy.engine import Engine, Generated, check_request, context_limit
from resd_bench.policy.layout import Layout, Whole
from resd_bench.policy.trainer import Split, Summed
from resd_bench.team import Team
from resd_bench.types import Sampling

if TYPE_CHECKING:
    from resd_bench.policy.lm_policy import PolicyConfig

T = TypeVar("T")

_PATIENCE = timedelta(hours=2)
"""How long processes wait for each other: one may sample or verify much longer than another."""
_FILLER = Row((0,), (0,), None, (-1.0,), 0.0, 0.0)
_TAUGHT_FILLER = Row((0,), (0,), (0,), (-1.0,), 0.0, 0.0)
"""What a process computes while others have rows left; counts nothing."""


class Together:
    """A `Team` over `torch.distributed`."""

    def __init__(self, accelerator: Any, *, sharded: bool) -> None:
        self.accelerator = accelerator
        self.sharded = sharded
        """Whether weights are to be shared out (FSDP) rather than copied (DDP)."""

    @property
    def rank(self) -> int:
        return int(self.accelerator.process_index)

    @property
    def size(self) -> int:
        return int(self.accelerator.num_processes)

    @property
    def device(self) -> torch.device:
        """Where the model of this process computes."""
        device: torch.device = self.accelerator.device
        return torch.device("cpu") if device.type == "cpu" else device

    def same(self, make: Callable[[], T]) -> T:
        told: list[Any] = [None]
        if self.rank == 0:
            value, error = _attempt(make)
            told = [_pickled(value, error)]
        torch.distributed.broadcast_object_list(told, src=0)
        if self.rank != 0:
            value, error = pickle.loads(told[0])
        if error is not None:
            raise error
        made: T = value
        return made

    def gather(self, mine: T) -> list[T]:
        found: list[Any] = [None] * self.size
        torch.distributed.all_gather_object(found, mine)
        return found


def _attempt(make: Callable[[], Any]) -> tuple[Any, Exception | None]:
    try:
        return make(), None
    except Exception as error:
        return None, error


def _pickled(value: Any, error: Exception | None) -> bytes:
    """Both as bytes; an error instead where they cannot be, so that nobody waits for ever."""
    try:
        return pickle.dumps((value, error))
    except Exception as reason:
        return pickle.dumps((None, RuntimeError(f"the first process failed: {error or reason}")))


@cache
def joined(device: str) -> Together:
    """This process's team, as its launcher's variables describe it; see `team.join`."""
    sharded = asks_for_shards(os.environ)
    try:
        from accelerate import Accelerator  # type: ignore[import-untyped]
        from accelerate.utils import (  # type: ignore[import-untyped]
            DistributedDataParallelKwargs,
            InitProcessGroupKwargs,
        )
    except ImportError as error:
        raise UsageError(
            "several processes need accelerate, which is not installed: "
            "pip install 'resd-bench[lora]'"
        ) from error
    # Weights are loaded whole and then shared out; transformers would load them empty otherwise.
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
    return Together(accelerator, sharded=sharded)


def asks_for_shards(variables: Mapping[str, str]) -> bool:
    """Whether FSDP is asked for; UsageError for what a launcher asks for and gets from nobody."""

    def given(name: str, default: str = "false") -> str:
        return variables.get(name, default).lower()

    for name, what in (("DEEPSPEED", "DeepSpeed"), ("MEGATRON_LM", "Megatron-LM")):
        if given(f"ACCELERATE_USE_{name}") == "true":
            raise UsageError(f"{what} is not supported: use DDP or FSDP, see docs/distributed.md")
    if given("ACCELERATE_MIXED_PRECISION", "no") not in ("no", ""):
        raise UsageError(
            "mixed precision was asked of accelerate: ask for it by --precision mixed of the run, "
            "and give accelerate --mixed_precision no"
        )
    if given("ACCELERATE_USE_FSDP") != "true":
        return False
    if given("FSDP_VERSION", "1") != "2":
        raise UsageError("FSDP 1 was asked for: give accelerate launch --fsdp_version 2")
    if given("FSDP_OFFLOAD_PARAMS") == "true":
        raise UsageError("FSDP was asked to offload weights: give --fsdp_offload_params false")
    if given("FSDP_ACTIVATION_CHECKPOINTING") == "true":
        raise UsageError(
            "FSDP was asked to recompute activations: ask for it by --gradient-checkpointing true "
            "of the run, and give accelerate --fsdp_activation_checkpointing false"
        )
    return True


def spread(model: Any, team: Team, config: PolicyConfig) -> Layout:
    """Lay `model` out over the processes of `team`; UsageError where `config` does not allow it."""
    if not isinstance(team, Together):
        raise TypeError(f"{type(team).__name__} is no team over torch.distributed")
    if not team.sharded:
        return Copied(model, team)
    from resd_bench.policy.sharding import Sharded, check

    check(config)
    return Sharded(model, team)


def deal(sizes: Sequence[int], hands: int) -> list[list[int]]:
    """Places of `sizes` dealt into `hands` of about equal total, each hand in ascending order."""
    dealt: list[list[int]] = [[] for _ in range(hands)]
    for turn, place in enumerate(sorted(range(len(sizes)), key=lambda i: (-sizes[i], i))):
        forth, position = divmod(turn, hands)
        dealt[position if forth % 2 == 0 else hands - 1 - position].append(place)
    return [sorted(hand) for hand in dealt]


class SharedEngine:
    """Samples with all processes: each its share of the prompts, then all get everything."""

    def __init__(self, engine: Engine, team: Team, limit: int, ready: Callable[[], None]) -> None:
        """`limit` is the model's context; `ready` is called before sampling, in all processes."""
        self._engine, self._team, self._limit, self._ready = engine, team, limit, ready

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        *,
        n: int,
        sampling: Sampling,
        numbers: Sequence[int] | None = None,
    ) -> list[list[Generated]]:
        """`n` continuations of each prompt, see `Engine.generate`."""
        # All prompts in every process, so that either all of them refuse or none.
        check_request(prompts, n, sampling, self._limit)
        self._ready()
        named = range(len(prompts)) if numbers is None else numbers
        hands = deal([len(prompt) for prompt in prompts], self._team.size)
        made: list[list[Generated]] = []
        if mine := hands[self._team.rank]:
            made = self._engine.generate(
                [prompts[i] for i in mine],
                n=n,
                sampling=sampling,
                numbers=[named[i] for i in mine],
            )
        found = {
            place: group
            for hand, groups in zip(hands, self._team.gather(made), strict=True)
            for place, group in zip(hand, groups, strict=True)
        }
        return [found[i] for i in range(len(prompts))]


class Wrapped(nn.Module):
    """A model whose forward pass is whatever is computed with it.

    DDP and FSDP prepare a model when its own forward pass begins; a loss over the vocabulary in
    pieces never calls that one, so it is called within this.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, compute: Callable[[], Tensor]) -> Tensor:
        return compute()


class Copied(Whole):
    """All weights in every process, gradients summed over them: `DistributedDataParallel`."""

    def __init__(self, model: Any, team: Together) -> None:
        super().__init__(model)
        self._team = team
        self._wrapped = self._wrap(model)

    def _wrap(self, model: Any) -> Any:
        accelerator = self._team.accelerator
        # It would hold on to the model of an earlier run of this process.
        accelerator.free_memory()
        return accelerator.prepare(Wrapped(model))

    def engine(self, engine: Engine) -> Engine:
        return SharedEngine(engine, self._team, context_limit(self._model.config), self._ready)

    def _ready(self) -> None:
        """Make `sampler` fit to sample."""

    def share(self, rows: Sequence[Row], split: Split) -> list[Sequence[Row]]:
        """This process's micro-batches: as many as any other's, with and without a teacher."""
        self._agree(rows)
        passes: list[Sequence[Row]] = []
        for taught, filler in ((True, _TAUGHT_FILLER), (False, _FILLER)):
            kind = chains([row for row in rows if (row.teacher_prompt is not None) == taught])
            hands = deal([chain_size(chain)[0] for chain in kind], self._team.size)
            batches = [list(split([row for i in hand for row in kind[i]])) for hand in hands]
            mine, most = batches[self._team.rank], max(map(len, batches))
            passes += [*mine, *[[filler]] * (most - len(mine))]
        return passes

    def _agree(self, rows: Sequence[Row]) -> None:
        """RuntimeError where processes hold different rows: they would wait for ever, or worse."""
        known = self._team.gather(zlib.crc32(repr(rows).encode()))
        if len(set(known)) > 1:
            raise RuntimeError(
                "the processes of this run have come to different examples, so something in it is "
                f"not determined by the seed (checksums {known}); please report it"
            )

    def descend(self, batches: Sequence[Sequence[Row]], summed: Summed, batch_size: int) -> float:
        total = 0.0
        for place, rows in enumerate(batches):
            with self._exchanging(place == len(batches) - 1):
                loss: Tensor = self._wrapped(partial(_share_of, summed, rows, batch_size))
                if not loss.requires_grad:
                    raise ValueError("with several processes, every loss must have a gradient")
                # The gradients of all processes are averaged; their sum is wanted.
                self._team.accelerator.backward(loss * self._team.size)
            total += float(loss.detach())
        return sum(self._team.gather(total))

    def _exchanging(self, last: bool) -> AbstractContextManager[Any]:
        """Around a pass: gradients are exchanged in the last one only."""
        return nullcontext() if last else self._team.accelerator.no_sync(self._wrapped)


def _share_of(summed: Summed, rows: Sequence[Row], batch_size: int) -> Tensor:
    loss = summed(rows) / batch_size
    return 0.0 * loss if rows[0] in (_FILLER, _TAUGHT_FILLER) else loss
