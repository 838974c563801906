"""Which settings a run of several processes supports: for the run itself, and for planning it.

Nothing is imported here that takes long, so that planning does not need torch.
"""

from __future__ import annotations

from resd_bench.errors import UsageError
from resd_bench.policy.config import PolicyOptions
from resd_bench.policy.engines import registry


def check_processes(options: PolicyOptions, processes: int, *, sharded: bool) -> None:
    """UsageError for settings that a run of this many processes does not support.

    `sharded` says whether they divide the weights among them (FSDP).
    """
    if processes > 1:
        registry.refuse_processes(registry.find_engine(options.engine), processes)
        if sharded:
            check_sharded(options)


def check_sharded(options: PolicyOptions) -> None:
    """UsageError for settings that do not go with sharded weights."""
    if options.teacher_precision != "float32" or options.teacher_offload:
        raise UsageError(
            "--teacher-precision bfloat16 and --teacher-offload save memory of a full teacher; "
            "with FSDP each process holds a shard of it in float32: leave them out"
        )


def check_devices(device: str, device_map: str | None, *, trace: bool, sharded: bool) -> None:
    """UsageError for what several processes cannot do with a run's devices; settings as given."""
    if device_map is not None:
        raise UsageError(
            f"--device-map {device_map} spreads one model over the GPUs of one process, but "
            "there are several: leave it out, and use FSDP if the model is too large for one GPU"
        )
    if device not in ("auto", "cpu", "cuda"):
        raise UsageError(
            f"--device {device} was given to several processes, each with a device of its "
            "own: give auto, cpu or cuda; CUDA_VISIBLE_DEVICES chooses among GPUs"
        )
    if trace and sharded:
        raise UsageError("--trace reads all weights, but with FSDP each process has only a shard")
