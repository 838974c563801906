"""The embedded model "nano": a small language model that makes every method run anywhere.

It is a model organism: pre-trained on synthetic documents so that its abilities are known by
construction. Its results test mechanisms and the harness; they are no evidence about large models.
No torch is imported here.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from resd_bench.plugins import UsageError

NAMES = ("nano", "nano-common", "nano-rare", "nano-rarest")
"""Success before training is near 1%, 10%, 0.1% and below that; all were made from the first."""


FILES = ("config.json", "model.safetensors", "tokenizer.json")
"""What a packaged model consists of, at least."""


def packaged_folder(name: str) -> Path:
    """Where a packaged model lies, whether or not it is there."""
    return Path(__file__).parent / "weights" / name


def missing_files(name: str) -> list[str]:
    """What a packaged model lacks."""
    folder = packaged_folder(name)
    return [file for file in FILES if not (folder / file).is_file()]


def weights_folder(name: str) -> Path:
    """A packaged model, as `from_pretrained` reads it; UsageError where it is missing."""
    folder = packaged_folder(name)
    if missing := missing_files(name):
        raise UsageError(
            f"the embedded model is not packaged here: {folder} holds no {', '.join(missing)}. "
            "Make it with: python -m resd_bench nano pretrain --out nano-out"
        )
    return folder


def local_folder(model: str) -> Path | None:
    """The folder that `model` names, embedded or not; None where there is none here."""
    folder = weights_folder(model) if model in NAMES else Path(model)
    return folder if folder.is_dir() else None


def model_defaults(name: str) -> dict[str, Any]:
    """Run settings that suit the model `name`; {} unless it is an embedded one."""
    if name not in NAMES:
        return {}
    defaults: dict[str, Any] = json.loads((Path(__file__).parent / "defaults.json").read_text())
    return defaults
