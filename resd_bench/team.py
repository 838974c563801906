"""The processes that make one run together: one, unless `torchrun` or `accelerate` start more.

All of them run the same program on the same values, so that they decide alike without being told.
What only one may do (write the run folder, step environments, read the clock) the first does, and
tells the others. Left out: how they talk and who computes what, which is `policy/distributed.py`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

from resd_bench.plugins import UsageError

T = TypeVar("T")

_DEFERENCE = 10.0
"""Seconds; launchers look for ended processes every few."""


class Team(Protocol):
    """The processes of a run, seen from one of them."""

    @property
    def rank(self) -> int:
        """Number of this process, from 0."""
        ...

    @property
    def size(self) -> int:
        """How many there are."""
        ...

    def same(self, make: Callable[[], T]) -> T:
        """What `make` gives in the first process, in all; what it raises there, raised in all.

        The others do not call `make`. What it gives must survive being pickled.
        """
        ...

    def gather(self, mine: T) -> list[T]:
        """What each process gave, in the order of their numbers."""
        ...


@dataclass(frozen=True)
class Alone:
    """A team of one."""

    rank: int = 0
    size: int = 1

    def same(self, make: Callable[[], T]) -> T:
        return make()

    def gather(self, mine: T) -> list[T]:
        return [mine]


ALONE = Alone()


def by_first(team: Team, make: Callable[[], T], otherwise: Callable[[], T]) -> T:
    """`make` in the first process; when it is done, `otherwise` in the others."""
    made: list[T] = []
    team.same(lambda: made.append(make()))
    return made[0] if made else otherwise()


def leads() -> bool:
    """Whether this process speaks to the user; known before the team is joined."""
    return os.environ.get("RANK", "0") == "0"


def defer_to_first() -> None:
    """Before an error is told: wait, in all processes but the first, for the launcher's verdict.

    What goes wrong in all of them the first tells, and its end ends the others while they wait.
    """
    if not leads():
        time.sleep(_DEFERENCE)


def join(device: str = "auto") -> Team:
    """The team that this process was started in; the same one at every call.

    `device` is the run's setting: `cpu` keeps it off the GPUs. UsageError where the launcher asked
    for something that is not done here.
    """
    # Some schedulers set WORLD_SIZE for a machine; only launchers of processes set LOCAL_RANK.
    if "LOCAL_RANK" in os.environ and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        from resd_bench.policy.distributed import joined

        return joined(device)
    if os.environ.get("ACCELERATE_USE_CPU", "").lower() == "true" and "MASTER_PORT" in os.environ:
        raise UsageError(
            "`accelerate launch --cpu --num_processes N` starts one process only: it leaves the "
            "others to mpirun. Use `torchrun --nproc_per_node N -m resd_bench run ...`"
        )
    return ALONE
