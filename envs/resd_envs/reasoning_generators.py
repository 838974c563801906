"""The generators of the package reasoning-gym, if it is installed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from resd_bench.errors import UsageError, install_extra
from resd_bench.seeds import derive


def generators() -> Sequence[str]:
    """Names of all generators; UsageError if the package is not installed."""
    try:
        from reasoning_gym.factory import DATASETS
    except ImportError as error:
        raise UsageError(
            f"reasoning-gym environments need the package reasoning-gym ({error}): "
            f"{install_extra('reasoning-gym')}"
        ) from error
    return sorted(set(DATASETS) - {"composite"})


def generator(dataset: str, options: str, size: int) -> Any:
    """The package's generator of `size` entries, with `options` as JSON."""
    import reasoning_gym

    seed = derive(0, "reasoning-gym", dataset) % 2**31
    try:
        return reasoning_gym.create_dataset(dataset, seed=seed, size=size, **json.loads(options))
    except (AssertionError, TypeError, ValueError) as error:
        raise UsageError(
            f"reasoning-gym dataset {dataset!r} refuses config {options}: {error}"
        ) from error
