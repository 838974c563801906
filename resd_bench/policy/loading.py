"""Load a model and its tokenizer, and set up the process for it: threads, allocator, determinism.

Left out: quantised models, models with code of their own, and vision parts.
"""

from __future__ import annotations

import ctypes
import importlib.util
import json
import os
import re
import socket
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from resd_bench import nano
from resd_bench.identity import refuse_other_base
from resd_bench.plugins import UsageError
from resd_bench.policy import gguf

_ADAPTER = "adapter_config.json"
"""What marks the folder of an adapter that `peft` wrote."""
_LAYER = re.compile(r"\.(layers|h|blocks)\.\d+\.")
"""What names the weights of a decoder's layers have."""
_HUB_NAME = re.compile(r"\w[\w.-]*/[\w.-]+")
_SMALL = 50_000_000
"""Parameters below which one CPU thread is faster than several on busy cores."""
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # names of malloc.h
_MMAP_THRESHOLD_BYTES = 32 << 20  # the largest that glibc accepts
_TRIM_THRESHOLD_BYTES = 1 << 30


def resolve(path_or_name: str | Path, revision: str | None = None) -> str:
    """A model folder, or a hub name; UsageError for a wrong path.

    The folder is that of an embedded model, the one given, or where a GGUF file is kept once it
    was dequantised, which happens here: a file that is given, in a folder, in an installed package,
    or on the hub at `revision`.
    """
    given = str(path_or_name)
    if given in nano.NAMES:
        return str(nano.weights_folder(given))
    if (file := gguf_file(given, revision)) is not None:
        return str(gguf.folder(file, given))
    folder = Path(given).expanduser()
    if folder.is_dir():
        if not any((folder / name).is_file() for name in ("config.json", _ADAPTER)):
            raise UsageError(
                f"{given!r} is not a model folder: it holds no config.json. Expected what "
                "save_pretrained writes (config.json, weights, tokenizer files), or a GGUF file"
            )
        return str(folder)
    if folder.parent == nano.models_folder():
        raise UsageError(
            f"{given!r} held a model that was read from a GGUF file, and it is no longer in the "
            "cache: load that file with --model once more"
        )
    if folder.exists() or not _HUB_NAME.fullmatch(given) or folder.suffix.lower() == ".gguf":
        known = (*nano.NAMES, *nano.GGUF_PACKAGES)
        raise UsageError(
            f"no model at {given!r}: expected one of {', '.join(known)}, a folder with "
            "config.json, a GGUF file, or a hub name such as Qwen/Qwen3-0.6B"
        )
    return given


def gguf_file(given: str, revision: str | None = None) -> Path | None:
    """The GGUF file that a model's name stands for, fetched from the hub if need be; else None.

    UsageError where the package that carries it is not installed, or the hub is out of reach.
    """
    named = nano.hub_gguf(given)
    file = nano.gguf_file(given) if named is None else _fetch(given, named, revision)
    if file is None and given in nano.GGUF_PACKAGES:
        package = nano.GGUF_PACKAGES[given]
        raise UsageError(
            f"the model {given!r} is in the package {package.distribution}, which is not "
            f"installed: {package.install}"
        )
    return file


def _fetch(given: str, named: tuple[str, str], revision: str | None) -> Path:
    from huggingface_hub import hf_hub_download

    try:
        offline = without_network()
        return Path(hf_hub_download(*named, revision=revision, local_files_only=offline))
    except (OSError, ValueError) as error:
        raise UsageError(_why(given, given, error)) from error


def as_dtype(dtype: torch.dtype | str) -> torch.dtype:
    """A torch dtype from its name; UsageError for an unknown one."""
    if isinstance(dtype, torch.dtype):
        return dtype
    if dtype not in _DTYPES:
        raise UsageError(f"unknown dtype {dtype!r}; give one of {', '.join(_DTYPES)}")
    return _DTYPES[dtype]


def as_device(device: torch.device | str) -> torch.device:
    """A torch device that this machine has; UsageError otherwise."""
    try:
        wanted = torch.device(device)
    except RuntimeError as error:
        raise UsageError(f"unknown device {device!r}; give cpu, cuda or cuda:0") from error
    if wanted.type == "cuda" and not torch.cuda.is_available():
        raise UsageError(f"device {device!r} was asked for and no GPU is visible; use --device cpu")
    return wanted


def load(
    path_or_name: str | Path,
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | str = torch.float32,
    revision: str | None = None,
    device_map: str | None = None,
    attention: str | None = None,
    weights: bool = True,
) -> tuple[Any, Any]:
    """The causal language model (in evaluation mode) and tokenizer at `path_or_name`.

    `nano` is the embedded model; a folder is read as it is, one that holds an adapter of `peft` as
    its base model with the adapter merged in, and a GGUF file from where it is kept once it was
    dequantised; anything else is a hub name, at `revision`.
    `device_map` spreads the model over devices instead of `device`; `attention` is the name of an
    implementation in `transformers`. Without `weights` the model is only a shape, on the meta
    device, for a server that holds them. UsageError where there is no model, no tokenizer, no chat
    template, or the hub is out of reach.
    """
    wanted, precision = as_device(device), as_dtype(dtype)
    where = resolve(path_or_name, revision)
    if revision is not None and Path(where).is_dir() and not nano.hub_gguf(str(path_or_name)):
        raise UsageError(
            f"--model-revision {revision} was given and {str(path_or_name)!r} is a folder: a "
            "revision belongs to a hub name such as Qwen/Qwen3-0.6B"
        )
    options = {"device_map": device_map, "attn_implementation": attention}
    options = {name: value for name, value in options.items() if value is not None}
    if device_map is not None and importlib.util.find_spec("accelerate") is None:
        raise UsageError(
            "--device-map needs accelerate, which is not installed: pip install 'resd-bench[lora]'"
        )
    try:
        read = _read if weights else _read_hollow
        model, tokenizer = read(where, revision, dtype=precision, **options)
    except UsageError:
        raise
    except Exception as error:
        # Whatever a damaged file, or one of another kind, makes of the readers of others.
        raise UsageError(_why(str(path_or_name), where, error)) from error
    if not getattr(tokenizer, "chat_template", None):
        raise UsageError(
            f"the model {str(path_or_name)!r} has no chat template: use a chat model, or add a "
            "chat_template.jinja to its folder"
        )
    return (model if device_map or not weights else model.to(wanted)).eval(), tokenizer


def _read(where: str, revision: str | None, **options: Any) -> tuple[Any, Any]:
    """Model and tokenizer as `transformers` reads them, an adapter merged into its base."""
    from transformers import AutoModelForCausalLM
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    source = _source(where, revision)
    tokenizer = _read_tokenizer(where, source)
    if not (Path(where) / _ADAPTER).is_file():
        return _whole(AutoModelForCausalLM, where, **source, **options), tokenizer
    import peft

    base = json.loads((Path(where) / _ADAPTER).read_text("utf-8"))["base_model_name_or_path"]
    refuse_other_base(Path(where), base)
    model: Any = _whole(AutoModelForCausalLM, resolve(base), **options)
    return peft.PeftModel.from_pretrained(model, where).merge_and_unload(), tokenizer


def _whole(kind: Any, where: str, **options: Any) -> Any:
    """The model with every weight from its files; UsageError where some are not there.

    `transformers` would draw what is missing at random, and pass over layers that it has no place
    for.
    """
    from transformers.utils import logging

    level = logging.get_verbosity()
    # What it would report at length is said below in a line.
    logging.set_verbosity_error()
    try:
        model, info = kind.from_pretrained(
            where, **options, output_loading_info=True, ignore_mismatched_sizes=True
        )
    finally:
        logging.set_verbosity(level)
    wrong = {
        "missing": sorted(info["missing_keys"]),
        "of another shape": sorted(str(key[0]) for key in info["mismatched_keys"]),
        "of layers that it does not have": sorted(filter(_LAYER.search, info["unexpected_keys"])),
    }
    found = [f"{len(keys)} {how} (such as {keys[0]})" for how, keys in wrong.items() if keys]
    if found:
        raise UsageError(
            f"the weights in {where!r} are not those of its config.json: {', '.join(found)}. They "
            "are perhaps an older model's: give a folder as save_pretrained wrote it"
        )
    return model


def _read_hollow(where: str, revision: str | None, **options: Any) -> tuple[Any, Any]:
    """A model of the right shape without weights, and its tokenizer."""
    from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig

    source = _source(where, revision)
    tokenizer = _read_tokenizer(where, source)
    with torch.device("meta"):
        model: Any = AutoModelForCausalLM.from_config(
            AutoConfig.from_pretrained(where, **source), dtype=options["dtype"]
        )
    with suppress(OSError):
        model.generation_config = GenerationConfig.from_pretrained(where, **source)
    return model, tokenizer


def _read_tokenizer(where: str, source: dict[str, Any]) -> Any:
    if gguf.is_kept(where):
        return gguf.tokenizer(Path(where))
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(where, **source)


def _source(where: str, revision: str | None) -> dict[str, Any]:
    local = not Path(where).is_dir() and without_network()
    return {"revision": revision or "main", "local_files_only": local}


def without_network() -> bool:
    """Whether the hub's name does not resolve: asking it anyway would retry for a minute."""
    if any(os.environ.get(name) for name in ("HTTPS_PROXY", "https_proxy", "HF_ENDPOINT")):
        return False
    try:
        socket.getaddrinfo("huggingface.co", 443)
    except OSError:
        return True
    return False


def _why(given: str, where: str, error: Exception) -> str:
    first = (str(error).splitlines() or [type(error).__name__])[0]
    if not isinstance(error, OSError | ValueError | ImportError | RuntimeError):
        first = f"{type(error).__name__}: {first}"
    if Path(where).is_dir():
        return f"{given!r} cannot be loaded as a causal language model with a tokenizer: {first}"
    if "gated repo" in str(error):
        return (
            f"{given!r} is gated: {first} Accept its terms at https://huggingface.co/{given} and "
            "log in with `hf auth login`, or give the folder of a downloaded copy"
        )
    if "git identifier" in str(error):
        return f"{given!r} has no such --model-revision: {first}"
    return (
        f"there is no folder {given!r}, and as a hub model it is neither in the local cache nor "
        f"could it be fetched: {first} "
        "Download it where there is network and give the folder, or use the embedded model "
        "(--model nano)"
    )


def parameters(model: Any) -> int:
    """Number of parameters, tied ones once."""
    return sum(p.numel() for p in model.parameters())


def set_threads(threads: int | None, model: Any) -> int:
    """Set torch's CPU threads; None chooses one for small models. Returns what is in force."""
    if threads is not None and threads < 1:
        raise UsageError(f"{threads} threads were asked for; give at least 1, or leave it out")
    on_cpu = next(model.parameters()).device.type == "cpu"
    if threads is None and on_cpu and parameters(model) < _SMALL:
        threads = 1
    if threads is not None:
        torch.set_num_threads(threads)
    return torch.get_num_threads()


def tune_allocator() -> bool:
    """Make glibc keep freed memory instead of returning it to the system; whether that worked.

    By default every large tensor is mapped anew and its pages fault in one by one, which can cost
    a training step more than its arithmetic. A no-op where the C library is not glibc.
    """
    try:
        library = ctypes.CDLL(None)
        library.gnu_get_libc_version  # noqa: B018  absent from every other C library
        mmap = library.mallopt(_M_MMAP_THRESHOLD, _MMAP_THRESHOLD_BYTES)
        trim = library.mallopt(_M_TRIM_THRESHOLD, _TRIM_THRESHOLD_BYTES)
    except (OSError, AttributeError, TypeError):
        return False
    return bool(mmap and trim)


def be_deterministic() -> None:
    """Same machine, threads and seed, same results: forbid kernels that sum in no fixed order.

    On a CPU nothing changes. On a GPU it must be called before the first kernel runs.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=True)
