"""The processes that make one run together: one, unless `torchrun` or `accelerate` start more.

All of them run the same program on the same values, so that they decide alike without being told.
What only one may do (write the run folder, step environments, read the clock) the first does, and
tells the others. Left out: how they talk and who computes what, which is
`distributed/torch_group.py`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

_T = TypeVar("_T")

_DEFERENCE = 10.0
"""Seconds; launchers look for ended processes every few."""


class ProcessGroup(Protocol):
    """The processes of a run, seen from one of them."""

    @property
    def rank(self) -> int:
        """Number of this process, from 0."""
        ...

    @property
    def size(self) -> int:
        """How many there are."""
        ...

    def broadcast_from_rank0(self, make: Callable[[], _T]) -> _T:
        """What `make` gives in the first process, in all; what it raises there, raised in all.

        The others do not call `make`. What it gives must survive being pickled.
        """
        ...

    def gather(self, mine: _T) -> list[_T]:
        """What each process gave, in the order of their numbers."""
        ...


@dataclass(frozen=True)
class SingleProcess:
    """A group of one."""

    rank: int = 0
    size: int = 1

    def broadcast_from_rank0(self, make: Callable[[], _T]) -> _T:
        return make()

    def gather(self, mine: _T) -> list[_T]:
        return [mine]


SINGLE_PROCESS = SingleProcess()


def rank0_first(group: ProcessGroup, make: Callable[[], _T], otherwise: Callable[[], _T]) -> _T:
    """`make` in the first process; when it is done, `otherwise` in the others."""
    made: list[_T] = []
    group.broadcast_from_rank0(lambda: made.append(make()))
    return made[0] if made else otherwise()


def is_rank0() -> bool:
    """Whether this process speaks to the user; known before the group is joined."""
    return os.environ.get("RANK", "0") == "0"


def wait_for_rank0_error() -> None:
    """Before an error is told: wait, in all processes but the first, for the launcher's verdict.

    What goes wrong in all of them the first tells, and its end ends the others while they wait.
    """
    if not is_rank0():
        time.sleep(_DEFERENCE)
