"""An untrusted model folder, checked before anything loads it.

Weights must be safetensors, which contain no code. Files are bounded in size; the tokenizer is
tried out in a process that can be killed; the config's sizes must fit this machine. Left out:
whether the model is any good.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from resd_bench.errors import UsageError
from resd_bench.files import reading
from resd_bench.machine import memory
from resd_bench.models import adapters
from resd_bench.models.chat_process import TRY_BYTES
from resd_bench.models.chat_renderer import command, environment

MOST_JSON = 128 << 20
"""Bytes of one JSON file; the largest tokenizers take 40 MB."""
MOST_TEMPLATE = 1 << 20
"""Bytes of a chat template."""
MOST_LAYERS = 4096
_MOST = {"layer": MOST_LAYERS, "expert": 1 << 16}
"""Limits on the counts that a config may give under these names."""
TRY_SECONDS = 60
"""Processor time in which a tokenizer must load and encode a page of text."""
_TRY_WAIT_S = 900.0
_MODULE = re.compile(r"\^?[\w.-]+\$?")
_TOKENIZERS = ("tokenizer*", "vocab*", "*.model", "*.tiktoken")
_PICKLES = ("pytorch_model*.bin", "*.pt", "*.pth", "*.ckpt", "adapter_model.bin")


def check_folder(folder: Path, shown: str) -> None:
    """UsageError if the files of a model folder exceed a bound, or can run code.

    `shown` is the user's name for the model.
    """
    for path, most in _bounded(folder):
        if path.stat().st_size > most:
            raise UsageError(f"the model {shown!r}: {path.name} is longer than {most >> 20} MiB")
        if path.suffix == ".json":
            try:
                found = reading.parse_json(reading.read_bytes(path))
            except (OSError, ValueError) as error:
                raise UsageError(f"the model {shown!r}: {path.name} is not JSON: {error}") from None
            if path.name == "config.json":
                _check_counts(found, shown)
    pickles = sorted(path.name for pattern in _PICKLES for path in folder.glob(pattern))
    if pickles and not any(folder.glob("*.safetensors")):
        raise UsageError(
            f"the model {shown!r} has its weights in {pickles[0]}, which can run code: give a "
            "model with safetensors, or, if you trust this one, convert it (save_pretrained does)"
        )
    if (folder / "tokenizer.json").is_file():
        check_tokenizer(folder / "tokenizer.json", shown)


def check_has_tokenizer(folder: Path, shown: str) -> None:
    """UsageError if a folder holds a model and no tokenizer; an adapter has its base model's."""
    whole = (folder / "config.json").is_file() and not (folder / "adapter_config.json").is_file()
    if whole and not any(any(folder.glob(name)) for name in _TOKENIZERS):
        raise UsageError(
            f"the model folder {shown!r} cannot be loaded: it has no tokenizer (tokenizer.json); "
            "save it there too, with tokenizer.save_pretrained"
        )


def _check_counts(config: Any, shown: str) -> None:
    """UsageError for counts of layers or experts that a config would turn into huge lists."""
    for name, value in config.items() if isinstance(config, dict) else ():
        if isinstance(value, dict):
            _check_counts(value, shown)
        most = next((most for word, most in _MOST.items() if word in name), None)
        if most is not None and isinstance(value, int) and not -most <= value <= most:
            raise UsageError(f"the model {shown!r}: its config says {name} {value}, over {most}")


def _bounded(folder: Path) -> Iterator[tuple[Path, int]]:
    yield from ((path, MOST_JSON) for path in sorted(folder.glob("*.json")))
    yield from ((path, MOST_TEMPLATE) for path in sorted(folder.glob("**/*.jinja")))
    yield from ((path, MOST_JSON) for name in ("*.txt", "*.model") for path in folder.glob(name))


def check_tokenizer(path: Path, shown: str) -> None:
    """UsageError if a `tokenizer.json` cannot be loaded and used within limits."""
    found = path.stat()
    if reason := _tried_out(str(path.resolve()), found.st_size, found.st_mtime_ns):
        raise UsageError(f"the model {shown!r}: its tokenizer.json cannot be used: {reason}")


@cache
def _tried_out(path: str, size: int, written: int) -> str:
    """Why the tokenizer of this size and time cannot be used; "" if it can."""
    words = [*command("tokenizers", "huggingface_hub"), "--", path, str(TRY_SECONDS)]
    try:
        done = subprocess.run(
            words, env=environment(), capture_output=True, timeout=_TRY_WAIT_S, check=False
        )
    except subprocess.TimeoutExpired:
        done = None
    if done is not None and done.returncode == 0:
        return ""
    said = [] if done is None else done.stderr.decode("utf-8", "replace").strip().splitlines()
    if done is not None and done.returncode > 0 and said:
        return said[-1][:300]
    return (
        f"a page of text takes it more than {TRY_SECONDS} s of processor time or "
        f"{TRY_BYTES >> 30} GiB of memory"
    )


def check_config(config: Any, shown: str, *, trusted: bool, bytes_each: int | None) -> None:
    """UsageError if a model of the config's sizes cannot fit this machine.

    `bytes_each` is the size of a parameter in main memory; None if they are loaded elsewhere.
    """
    text = config.get_text_config()
    for name in ("_attn_implementation", "_experts_implementation"):
        kernel = getattr(text, name, None)
        if isinstance(kernel, str) and "/" in kernel and not trusted:
            raise UsageError(
                f"the model {shown!r} asks for {kernel}, which is code from the Hub: give "
                "--attention sdpa, or --trust-remote-code true"
            )
    layers = getattr(text, "num_hidden_layers", None)
    if not isinstance(layers, int) or not 0 < layers <= MOST_LAYERS:
        raise UsageError(
            f"the model {shown!r}: its config says {layers} layers; expected 1 to {MOST_LAYERS}"
        )
    usable = memory.usable_memory()
    if bytes_each is None or usable is None or trusted:
        return
    needed = bytes_each * _parameters(config)
    if needed > usable:
        raise UsageError(
            f"the model {shown!r} cannot be loaded: by its config it needs {needed / 2**30:,.0f} "
            f"GiB and this machine has {usable / 2**30:,.0f}: give a smaller one, or --precision "
            "bfloat16"
        )


def _parameters(config: Any) -> int:
    import torch
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        model: Any = AutoModelForCausalLM.from_config(config)
    return sum(tensor.numel() for tensor in [*model.parameters(), *model.buffers()])


def check_adapter(config: Mapping[str, Any], folder: Path) -> None:
    """UsageError if an adapter's config asks for anything besides low-rank matrices."""
    for name in ("megatron_config", "layer_replication"):
        if config.get(name):
            raise UsageError(f"the adapter {folder} has a {name}, which is not supported")
    for name in ("rank_pattern", "alpha_pattern"):
        for pattern in config.get(name) or {}:
            # They would be used as regular expressions, which could run for ever.
            if not _MODULE.fullmatch(pattern):
                raise UsageError(f"the adapter {folder}: {name} {pattern!r} is not a module name")
    if not (folder / adapters.WEIGHTS).is_file():
        raise UsageError(f"the adapter {folder} has no {adapters.WEIGHTS}: give one that has")


def adapted_modules(folder: Path) -> dict[str, int]:
    """The modules that the low-rank matrices in a folder belong to, with their ranks."""
    from safetensors import safe_open

    found: dict[str, int] = {}
    with safe_open(str(folder / adapters.WEIGHTS), framework="pt") as tensors:
        for key in tensors.keys():  # noqa: SIM118  it is not a mapping
            module, mark, _ = key.removeprefix("base_model.model.").rpartition(".lora_")
            if mark:
                found[module] = min(tensors.get_slice(key).get_shape(), default=0)
    return found
