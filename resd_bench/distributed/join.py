"""Join the processes of this run, as `torchrun` or `accelerate` started them."""

from __future__ import annotations

import os

from resd_bench.distributed.process_group import SINGLE_PROCESS, ProcessGroup
from resd_bench.errors import UsageError


def join(device: str = "auto") -> ProcessGroup:
    """The group that this process was started in; the same one at every call.

    `device` is the run's setting: `cpu` keeps it off the GPUs. UsageError where the launcher asked
    for something that is not done here.
    """
    # Some schedulers set WORLD_SIZE for a machine; only launchers of processes set LOCAL_RANK.
    if "LOCAL_RANK" in os.environ and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        # Where there is one process, torch is not needed for this.
        from resd_bench.distributed.torch_group import joined

        return joined(device)
    if os.environ.get("ACCELERATE_USE_CPU", "").lower() == "true" and "MASTER_PORT" in os.environ:
        raise UsageError(
            "`accelerate launch --cpu --num_processes N` starts one process only: it leaves the "
            "others to mpirun. Use `torchrun --nproc_per_node N -m resd_bench run ...`"
        )
    return SINGLE_PROCESS
