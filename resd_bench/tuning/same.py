"""What is the same in all trials of a tuning: the budget, the measure, and validation tasks only.

A trial may differ in how it learns (`OWN`). All else is given once, in `base`, so that no method is
given more than another or measured otherwise; a setting that is new one day counts as such. Keys
are compared as a configuration reads them, and the resolved runs once more.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from resd_bench.config import NESTED, RunConfig, flatten
from resd_bench.errors import UsageError
from resd_bench.sweep.definition import BATCH, Trial

ONLY_VALIDATION: Mapping[str, Any] = {
    "eval_split": "validation",
    "eval_validation": 0,
    "eval_contexts": False,
    "eval_also": None,
}
"""What a run evaluates. Nothing else reads test tasks: a method is given training tasks alone."""
TAKEN = frozenset({*ONLY_VALIDATION, "env", "seed", "out", "eval_every", "trials", "seeds"})
"""Keys of the file itself, and what it does with them: no settings may set these."""
OWN = frozenset(
    {
        *("method", "method_options", BATCH, "batch_size", "group_size", "inner_steps"),
        *("learning_rate", "warmup", "warmup_updates", "weight_decay", "grad_clip"),
        *("temperature", "top_p", "task_order", "lora_rank", "lora_alpha"),
        *("teacher_precision", "teacher_offload", "gradient_checkpointing"),
    }
)
"""What a method may set for itself; all of it but `method` may be a knob."""
_SETTINGS = frozenset(field.name for field in fields(RunConfig))


def spelt(values: Any, what: str) -> dict[str, Any]:
    """A mapping under the keys that a configuration reads: `eval_also` for `eval-also`, and
    `method.k` for `method: {k: ...}`; {} for None.

    UsageError for what is no mapping, and for a key that is given in two spellings.
    """
    if values is not None and not isinstance(values, Mapping):
        raise UsageError(f"{what}: expected `key: value` lines, got {values!r}")
    found: dict[str, Any] = {}
    short = {name: key for key, name in NESTED.items()}
    for given, value in (values or {}).items():
        head, dot, rest = str(given).replace("-", "_").partition(".")
        head = short.get(head, head)
        nested = head in NESTED and not dot and isinstance(value, Mapping)
        own = {f"{head}.{k}": v for k, v in value.items()} if nested else {head + dot + rest: value}
        if twice := found.keys() & own.keys():
            raise UsageError(f"{what}: {min(twice)} is given in two spellings: give it once")
        found |= own
    return found


def refuse_taken(keys: Iterable[str], what: str) -> None:
    """UsageError for a key that no settings may have."""
    if taken := set(keys) & TAKEN:
        raise UsageError(
            f"{what}: {min(taken)} cannot be given: trials, seeds, environments and evaluation are "
            "the same for every method, on validation tasks only"
        )


def refuse_shared(keys: Iterable[str], what: str) -> None:
    """UsageError for a setting that must be the same for all methods, and so belongs in `base`."""
    refuse_taken(keys, what)
    if shared := [key for key in keys if _field(key) in _SETTINGS - OWN]:
        raise UsageError(
            f"{what}: {min(shared)} cannot be given here: every method gets the same budget and is "
            "measured in the same way. Give it in `base`, for all of them"
        )


def _field(key: str) -> str:
    """The field of a configuration that a key sets."""
    head, dot, _ = key.partition(".")
    return NESTED.get(head, head) if dot else head


def refuse_unequal(trials: Iterable[Trial], path: Path) -> None:
    """UsageError if a run would evaluate more than validation tasks, or on an environment one
    differs from another in more than its `OWN` settings; also where the model brings them."""
    first: dict[str, Mapping[str, Any]] = {}
    for trial in trials:
        config = trial.config
        for key, wanted in ONLY_VALIDATION.items():
            if (found := getattr(config, key)) != wanted:
                raise UsageError(
                    f"{path}: {trial} would run with {key} {found}, and tuning may look at "
                    "validation tasks alone"
                )
        shared = _shared(config)
        other = first.setdefault(config.env, shared)
        keys = [key for key in {**other, **shared} if other.get(key) != shared.get(key)]
        for key in keys:
            raise UsageError(
                f"{path}: {trial} would run with {key} {shared.get(key)}, others with "
                f"{other.get(key)}: every method gets the same budget and is measured in the same "
                f"way. Give {key} in `base`"
            )


def _shared(config: RunConfig) -> dict[str, Any]:
    """The settings of a run that all runs on its environment should have."""
    free = OWN | {"seed", "out", "eval_every"}
    return {k: v for k, v in flatten(config.shown()).items() if _field(k) not in free}
