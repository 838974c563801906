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
