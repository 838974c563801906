"""Folders of adapters that `peft` wrote: which base model each belongs to.

`adapter_config.json` names the base by its place or its name on the Hub; `base_model.json` beside
it, which we write, adds what its weights were, so that another model is not taken for it. Left
out: loading them, see `resd_bench.policy.loading`; no torch is imported here.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from resd_bench import nano, reading
from resd_bench.manifest import weights_hash
from resd_bench.plugins import UsageError
from resd_bench.writing import write_atomically

CONFIG = "adapter_config.json"
"""What marks the folder of an adapter."""
BASE = "base_model.json"
WEIGHTS = "adapter_model.safetensors"
MOST_STACKED = 8
"""Adapters trained one on another."""
_HUB_NAME = re.compile(r"\w[\w.-]*/[\w.-]+")


def is_adapter(folder: Path) -> bool:
    """Whether a folder holds an adapter."""
    return (folder / CONFIG).is_file()


def read_config(folder: Path) -> dict[str, Any]:
    """An adapter's `adapter_config.json`; UsageError where it is none."""
    path = folder / CONFIG
    try:
        found = reading.parse_json(reading.read_bytes(path))
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be read: {error}") from None
    if not isinstance(found, dict) or not isinstance(found.get("base_model_name_or_path"), str):
        raise UsageError(f"{path} names no base model: give base_model_name_or_path in it")
    return found


@dataclass(frozen=True, slots=True)
class _Noted:
    """What `base_model.json` says."""

    embedded: str = ""
    """Name of an embedded model."""
    weights_sha256: str | None = None


def _noted(folder: Path) -> _Noted:
    path = folder / BASE
    if not path.is_file():
        return _Noted()
    try:
        found = reading.parse_json(reading.read_bytes(path))
        sha = found.get("weights_sha256")
        return _Noted(str(found.get("embedded", "")), sha if isinstance(sha, str) else None)
    except (OSError, ValueError, AttributeError) as error:
        raise UsageError(f"{path} cannot be read: {error}") from None


def base_of(folder: Path) -> str:
    """The base model of the adapter in `folder`: a folder on this machine, or a name on the Hub.

    UsageError where it is not here, or is another model than the adapter was trained on.
    """
    named, noted = read_config(folder)["base_model_name_or_path"], _noted(folder)
    place = Path(named).expanduser()
    if not place.is_dir() and noted.embedded in nano.NAMES:
        place = nano.weights_folder(noted.embedded)
    if not place.is_dir():
        if _HUB_NAME.fullmatch(named):
            return str(named)
        raise UsageError(
            f"the adapter {folder} was trained on {named!r}, which is not here: put that model "
            f"there, or set base_model_name_or_path in {folder / CONFIG}"
        )
    found = weights_hash(str(place))
    if noted.weights_sha256 and found and found != noted.weights_sha256:
        raise UsageError(
            f"the adapter {folder} was trained on other weights than {place} holds now: put the "
            f"model back whose weights have the SHA-256 {noted.weights_sha256[:16]}…"
        )
    return str(place)


def model_folder(folder: Path) -> Path | str:
    """The folder, or the name on the Hub, of the whole model below adapters; `folder` itself."""
    place: Path | str = folder
    for _ in range(MOST_STACKED):
        if not isinstance(place, Path) or not is_adapter(place):
            return place
        base = base_of(place)
        place = Path(base) if Path(base).is_dir() else base
    raise UsageError(f"{folder} is one of more than {MOST_STACKED} adapters, one on another")


def note_base(folder: Path, base: str, weights_sha256: str | None) -> None:
    """Write down beside an adapter what the weights of its base were when it was loaded."""
    packaged = {str(nano.packaged_folder(name).resolve()): name for name in nano.NAMES}
    told = {"base_model": base, "weights_sha256": weights_sha256}
    if base in packaged:
        told["embedded"] = packaged[base]
    write_atomically(folder / BASE, json.dumps(told, indent=2).encode() + b"\n")


def base_name(name_or_path: str) -> str:
    """What an adapter calls its base, so that it is found from anywhere on this machine."""
    place = Path(name_or_path)
    return str(place.resolve()) if name_or_path and place.is_dir() else name_or_path
