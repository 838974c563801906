"""The state of the optimiser of the package `gepa`, as JSON.

The package writes a pickle; a checkpoint from elsewhere must not run code.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from resd_bench.errors import UsageError, install_extra
from resd_bench.files import reading

_DROPPED: Mapping[str, Any] = {
    "full_program_trace": [],
    "best_outputs_valset": None,
    "evaluation_cache": None,
}
"""Parts of the package's state that grow, and that no iteration reads."""


def package() -> Any:
    """The package; UsageError says how to install it."""
    try:
        import gepa
    except ImportError as error:
        raise UsageError(
            f"the method gepa needs the package gepa ({error}): {install_extra('gepa')}"
        ) from error
    return gepa


def state_as_json(state: Any) -> str:
    """A state without what no iteration reads."""
    return json.dumps(_encoded({**vars(state), **_DROPPED}))


def state_from_json(text: str) -> Any:
    """The state that `state_as_json` was given."""
    kind = package().core.state.GEPAState
    state = kind.__new__(kind)
    state.__dict__.update(_decoded(reading.parse_json(text)))
    return state


def _encoded(value: Any) -> Any:
    """Values as JSON; sets, tuples and mappings whose keys are numbers survive."""
    if isinstance(value, dict):
        return {"map": [[_encoded(k), _encoded(v)] for k, v in value.items()]}
    if isinstance(value, set | frozenset):
        return {"set": sorted(value)}
    if isinstance(value, list | tuple):
        return [_encoded(one) for one in value]
    return value


def _decoded(value: Any) -> Any:
    """What `_encoded` was given, tuples as lists."""
    if isinstance(value, list):
        return [_decoded(one) for one in value]
    if isinstance(value, dict):
        if "set" in value:
            return set(value["set"])
        return {_decoded(k): _decoded(v) for k, v in value["map"]}
    return value
