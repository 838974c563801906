"""Run settings that suit a model: its own, or for a small one without any, those of a laptop.

The paper's settings are for models of billions of parameters on GPUs. A model with fewer than
`SMALL`, whose files are on this machine, gets those in `small.json` instead. Its parameters are
counted in the headers of its files, so that no weight is read. Left out: settings for a device; the
same command must mean the same run on another machine, except for `precision`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from math import prod
from pathlib import Path
from typing import Any

from resd_bench import packaged_models
from resd_bench.errors import UsageError
from resd_bench.files import reading
from resd_bench.models import adapters, gguf

SMALL = 1_000_000_000
"""Parameters below which a model gets the settings of `small.json`."""
_DEFAULTS = Path(__file__).parent / "small.json"
_CPU = Path("/proc/cpuinfo")
_BFLOAT16 = re.compile(r"\b(avx512_bf16|amx_bf16|bf16)\b")
"""Names of the instructions for products of bfloat16, on x86 and on ARM."""
_MAX_HEADER = 100 << 20
"""Maximum bytes of a header in a safetensors file, as in the package safetensors."""


def settings_of(model: str) -> dict[str, Any]:
    """Run settings that suit `model`; {} for those of the paper.

    UsageError if the model brings settings of its own that cannot be read.
    """
    if model in packaged_models.GGUF_PACKAGES:
        return small_settings()
    own = packaged_models.model_defaults(model)
    if own or model in packaged_models.NAMES or not is_small(model):
        return own
    return small_settings()


def small_settings() -> dict[str, Any]:
    """The settings of small models; bfloat16 products only where the CPU computes them."""
    found: dict[str, Any] = json.loads(_DEFAULTS.read_text(encoding="utf-8"))
    if not has_bfloat16():
        del found["precision"]
    return found


def is_small(model: str) -> bool:
    """Whether `model` is on this machine and has fewer than `SMALL` parameters."""
    size = parameter_count(model)
    return size is not None and size < SMALL


def parameter_count(model: str) -> int | None:
    """Parameters in the files of `model`; None if they are not on this machine or unreadable."""
    with suppress(UsageError, OSError, ValueError, TypeError, KeyError, AttributeError):
        if (file := packaged_models.gguf_file(model)) is not None:
            return gguf.read_head(file).parameters
        folder = packaged_models.local_folder(model)
        if folder is not None:
            return _in_folder(Path(adapters.model_folder(folder)))
    return None


def _in_folder(folder: Path) -> int | None:
    files = sorted(folder.glob("*.safetensors"))
    return sum(prod(shape) for file in files for shape in _shapes(file)) if files else None


def _shapes(file: Path) -> Iterator[list[int]]:
    """The shapes of the tensors in a safetensors file: length, header as JSON, weights."""
    with reading.open_file(file) as opened:
        length = int.from_bytes(opened.read(8), "little")
        if length > _MAX_HEADER:
            raise ValueError(f"{file}: a header of {length} bytes")
        header = reading.parse_json(opened.read(length))
    yield from (entry["shape"] for name, entry in header.items() if name != "__metadata__")


@cache
def has_bfloat16() -> bool:
    """Whether this machine's CPU multiplies bfloat16 numbers; False where it does not say."""
    with suppress(OSError):
        lines = _CPU.read_text(encoding="utf-8", errors="replace").splitlines()
        told = (line for line in lines if line.startswith(("flags", "Features")))
        return _BFLOAT16.search(next(told, "")) is not None
    return False
