"""The processes of one run: a single one, unless `torchrun` or `accelerate` starts more.

All of them run the same program on the same values, so they reach the same decisions without
communicating. What only one may do (write the run folder, step environments, read the clock) is
done on rank 0, which broadcasts the result. Left out: how they communicate and which of them
computes what, see `distributed/torch_group.py`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

_T = TypeVar("_T")

_DEFERENCE = 10.0
"""Seconds to wait; launchers check for ended processes every few seconds."""


class ProcessGroup(Protocol):
    """The processes of a run, seen from one of them."""

    @property
    def rank(self) -> int:
        """The rank of this process, from 0."""
        ...

    @property
    def size(self) -> int:
        """Number of processes."""
        ...

    def broadcast_from_rank0(self, make: Callable[[], _T]) -> _T:
        """Run `make` on rank 0 and broadcast its result, or its exception, to all ranks.

        The other ranks do not call `make`. Its result must be picklable.
        """
        ...

    def gather(self, mine: _T) -> list[_T]:
        """The value of each process, in rank order."""
        ...


@dataclass(frozen=True)
class SingleProcess:
    """A process group of one."""

    rank: int = 0
    size: int = 1

    def broadcast_from_rank0(self, make: Callable[[], _T]) -> _T:
        return make()

    def gather(self, mine: _T) -> list[_T]:
        return [mine]


SINGLE_PROCESS = SingleProcess()


def rank0_first(group: ProcessGroup, make: Callable[[], _T], otherwise: Callable[[], _T]) -> _T:
    """Run `make` on rank 0 and, once it is done, `otherwise` on the other ranks."""
    made: list[_T] = []
    group.broadcast_from_rank0(lambda: made.append(make()))
    return made[0] if made else otherwise()


def is_rank0() -> bool:
    """Whether this process prints for the user; known before the process group is joined."""
    return os.environ.get("RANK", "0") == "0"


def wait_for_rank0_error() -> None:
    """Before an error is reported: on all ranks but 0, wait for the launcher to end the process.

    An error that all ranks have is reported by rank 0, whose exit ends the others as they wait.
    """
    if not is_rank0():
        time.sleep(_DEFERENCE)
