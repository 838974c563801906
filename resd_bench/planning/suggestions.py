"""What would make a run fit: the fewest flags, found by planning the run again with each.

Left out: a smaller model, shorter completions and smaller batches, which change what is measured.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

from resd_bench.agent import Load
from resd_bench.config import RunConfig
from resd_bench.errors import UsageError
from resd_bench.planning.architecture import Architecture
from resd_bench.planning.memory import Lengths, Machine, fits, memory

MOST_FLAGS = 3
MOST_SHOWN = 3

Allowed = Callable[[RunConfig, Machine], None]
"""Raises UsageError for settings that a run refuses on a machine."""


@dataclass(frozen=True, slots=True)
class Change:
    """A flag, and what it does to the configuration or to the use of the machine."""

    flag: str
    settings: Mapping[str, Any]
    shared: bool = False

    def on(self, config: RunConfig, machine: Machine) -> tuple[RunConfig, Machine]:
        """The run with this change."""
        return replace(config, **self.settings), replace(
            machine, shared=machine.shared or self.shared
        )


CHANGES = (
    Change("--fsdp", {}, shared=True),
    Change("--gradient-checkpointing true", {"gradient_checkpointing": True}),
    Change("--teacher-offload true", {"teacher_offload": True}),
    Change("--device-map auto", {"device_map": "auto"}),
    Change("--precision mixed", {"precision": "mixed"}),
    Change("--teacher-precision bfloat16", {"teacher_precision": "bfloat16"}),
    Change("--lora-rank 16", {"lora_rank": 16}),
)
"""First those that change nothing but rounding, last those that train otherwise."""


def what_fits(
    config: RunConfig,
    model: Architecture,
    lengths: Lengths,
    load: Load,
    machine: Machine,
    allowed: Allowed,
) -> list[str]:
    """The smallest sets of flags with which the run fits `machine`, at most `MOST_SHOWN`."""
    useful = [change for change in CHANGES if _is_useful(change, config, machine)]
    for count in range(1, MOST_FLAGS + 1):
        found = [
            " ".join(change.flag for change in chosen)
            for chosen, (run, on) in _plans(useful, count, config, machine)
            if _goes(run, on, allowed) and fits(memory(run, model, lengths, load, on), on)
        ]
        if found:
            return found[:MOST_SHOWN]
    return []


def _is_useful(change: Change, config: RunConfig, machine: Machine) -> bool:
    """Whether the change is one: not what the run has already, nor GPUs that are not there."""
    needs_gpus = change.shared or "device_map" in change.settings
    if needs_gpus and machine.gpus < 2:
        return False
    return change.on(config, machine) != (config, machine)


def _plans(
    useful: list[Change], count: int, config: RunConfig, machine: Machine
) -> Iterator[tuple[tuple[Change, ...], tuple[RunConfig, Machine]]]:
    for chosen in combinations(useful, count):
        plan = config, machine
        for change in chosen:
            plan = change.on(*plan)
        yield chosen, plan


def _goes(config: RunConfig, machine: Machine, allowed: Allowed) -> bool:
    try:
        allowed(config, machine)
    except UsageError:
        return False
    return True
