"""Adapter folders written by `peft`: which base model each belongs to.

`adapter_config.json` names the base by its path or its name on the Hub; `base_model.json` next to
it, which we write, records the identity of that base, so that another model is not mistaken for it
(`resd_bench.models.identity`). Left out: loading them, see `resd_bench.policy.loading`; torch is
not imported here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from resd_bench import packaged_models
from resd_bench.errors import UsageError
from resd_bench.files import reading
from resd_bench.files.writing import write_atomically

CONFIG = "adapter_config.json"
"""The file that marks the folder of an adapter."""
_BASE = "base_model.json"
WEIGHTS = "adapter_model.safetensors"
MOST_STACKED = 8
"""Maximum number of adapters trained on top of each other."""
HUB_NAME = re.compile(r"\w[\w.-]*/[\w.-]+")
"""What can name a model on the Hub."""


def is_adapter(folder: Path) -> bool:
    """Whether a folder holds an adapter."""
    return (folder / CONFIG).is_file()


def read_adapter_config(folder: Path) -> dict[str, Any]:
    """An adapter's `adapter_config.json`; UsageError if it is not valid."""
    path = folder / CONFIG
    try:
        found = reading.parse_json(reading.read_bytes(path))
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be read: {error}") from None
    if not isinstance(found, dict) or not isinstance(found.get("base_model_name_or_path"), str):
        raise UsageError(f"{path} does not name a base model: set base_model_name_or_path in it")
    return found


def noted(folder: Path) -> dict[str, Any]:
    """The content of `base_model.json`, {} if it does not exist; UsageError if it is damaged."""
    path = folder / _BASE
    if not path.is_file():
        return {}
    try:
        found = reading.parse_json(reading.read_bytes(path))
        if not isinstance(found, dict):
            raise ValueError("it is not a JSON object")
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be read: {error}") from None
    return found


def base_of(folder: Path) -> str:
    """The base model of the adapter in `folder`: a path on this machine, or a name on the Hub.

    UsageError if it is not here. `resd_bench.models.identity` tells whether it is still what the
    adapter was trained on.
    """
    named, embedded = (
        read_adapter_config(folder)["base_model_name_or_path"],
        noted(folder).get("embedded"),
    )
    place = Path(named).expanduser()
    if not place.is_dir() and embedded in packaged_models.NAMES:
        place = packaged_models.weights_folder(embedded)
    if place.exists():
        return str(place)
    if HUB_NAME.fullmatch(named) or place.parent == packaged_models.models_folder():
        return str(named)
    raise UsageError(
        f"the adapter {folder} was trained on {named!r}, which is not here: put that model "
        f"there, or set base_model_name_or_path in {folder / CONFIG}"
    )


def model_folder(folder: Path) -> Path | str:
    """The path, or the name on the Hub, of the full model below the adapters, if there are any."""
    place: Path | str = folder
    for _ in range(MOST_STACKED):
        if not isinstance(place, Path) or not is_adapter(place):
            return place
        base = base_of(place)
        place = Path(base) if Path(base).is_dir() else base
    raise UsageError(f"{folder} is the top of more than {MOST_STACKED} stacked adapters")


def note_base(folder: Path, base: str, identity: Mapping[str, str]) -> None:
    """Record next to an adapter the identity that its base had when it was loaded."""
    packaged = {
        str(packaged_models.packaged_folder(name).resolve()): name for name in packaged_models.NAMES
    }
    told: dict[str, Any] = {"base_model": base, "identity": dict(identity)}
    if base in packaged:
        told["embedded"] = packaged[base]
    write_atomically(folder / _BASE, json.dumps(told, indent=2).encode() + b"\n")


def base_name(name_or_path: str) -> str:
    """The name by which an adapter's base can be found from anywhere on this machine."""
    place = Path(name_or_path)
    return str(place.resolve()) if name_or_path and place.is_dir() else name_or_path
