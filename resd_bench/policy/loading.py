"""Load a model and its tokenizer, and set up the process for it: threads, allocator, determinism.

A model's files are checked before they are loaded (`model_files`), and code that comes with the
weights is run only if the user says so. Left out: quantised models and vision parts.
"""

from __future__ import annotations

import ctypes
import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from resd_bench import packaged_models
from resd_bench.errors import UsageError, install_extra, require_package
from resd_bench.machine import cores
from resd_bench.models import adapters, gguf, model_files
from resd_bench.models.identity import refuse_other_base

_LAYER = re.compile(r"\.(layers|h|blocks)\.\d+\.")
"""Matches the names of weights in a decoder's layers."""
_SMALL = 50_000_000
"""Number of parameters below which one CPU thread is faster than several on busy cores."""
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # names of malloc.h
_MMAP_THRESHOLD_BYTES = 32 << 20  # the largest that glibc accepts
_TRIM_THRESHOLD_BYTES = 1 << 30


def local_path(path_or_name: str | Path, revision: str | None = None) -> str:
    """A model folder, or a hub name; UsageError for a wrong path.

    The folder is that of an embedded model, the one given, or the cache folder of a dequantised
    GGUF file. Dequantising happens here, for a file that is given, in a folder, in an installed
    package, or on the hub at `revision`.
    """
    given = str(path_or_name)
    if given in packaged_models.NAMES:
        return str(packaged_models.weights_folder(given))
    if (file := fetch_gguf(given, revision)) is not None:
        return str(gguf.folder(file, given))
    folder = Path(given).expanduser()
    if folder.is_dir():
        if not any((folder / name).is_file() for name in ("config.json", adapters.CONFIG)):
            raise UsageError(
                f"{given!r} is not a model folder: it holds no config.json. Expected what "
                "save_pretrained writes (config.json, weights, tokenizer files), or a GGUF file"
            )
        return str(folder)
    if folder.parent == packaged_models.models_folder():
        raise UsageError(
            f"{given!r} held a model that was read from a GGUF file, but it is no longer in the "
            "cache: load that file with --model again"
        )
    if (
        folder.exists()
        or not adapters.HUB_NAME.fullmatch(given)
        or folder.suffix.lower() == ".gguf"
    ):
        known = (*packaged_models.NAMES, *packaged_models.GGUF_PACKAGES)
        raise UsageError(
            f"no model at {given!r}: expected one of {', '.join(known)}, a folder with "
            "config.json, a GGUF file, or a hub name such as Qwen/Qwen3-0.6B"
        )
    return given


def fetch_gguf(given: str, revision: str | None = None) -> Path | None:
    """The GGUF file that a model's name refers to, fetched from the hub if necessary; else None.

    UsageError if the package that contains it is not installed, or the hub cannot be reached.
    """
    named = packaged_models.hub_gguf(given)
    file = packaged_models.gguf_file(given) if named is None else _fetch(given, named, revision)
    if file is None and given in packaged_models.GGUF_PACKAGES:
        package = packaged_models.GGUF_PACKAGES[given]
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
        raise UsageError(_why(_Given(given, given, revision, False), error)) from error


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
        raise UsageError(f"device {device!r} was given, but no GPU is visible; use --device cpu")
    return wanted


def load_model(
    path_or_name: str | Path,
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | str = torch.float32,
    revision: str | None = None,
    device_map: str | None = None,
    attention: str | None = None,
    weights: bool = True,
    trust_remote_code: bool = False,
) -> tuple[Any, Any]:
    """The causal language model (in evaluation mode) and tokenizer at `path_or_name`.

    `nano` is the embedded model; a folder is read as it is, a folder with a `peft` adapter as its
    base model with the adapter merged in, and a GGUF file from the cache once it is dequantised;
    anything else is a hub name, at `revision`.
    `device_map` spreads the model over devices instead of `device`; `attention` is the name of an
    implementation in `transformers`. Without `weights` the model is only a skeleton, on the meta
    device, for a server that holds the weights. Code that comes with a model runs only with
    `trust_remote_code`. UsageError if there is no model, no tokenizer or no chat template, if the
    hub cannot be reached, and for files that exceed a bound.
    """
    wanted, precision = as_device(device), as_dtype(dtype)
    where = local_path(path_or_name, revision)
    given = _Given(str(path_or_name), where, revision, trust_remote_code)
    _refuse_what_does_not_fit(given, device_map, attention)
    options = {"device_map": device_map, "attn_implementation": attention}
    options = {name: value for name, value in options.items() if value is not None}
    with _explaining(given):
        read = _read if weights else _read_skeleton
        model, tokenizer = read(given, dtype=precision, **options)
    if not getattr(tokenizer, "chat_template", None):
        raise UsageError(
            f"the model {str(path_or_name)!r} has no chat template: use a chat model, or add a "
            "chat_template.jinja to its folder"
        )
    return (model if device_map or not weights else model.to(wanted)).eval(), tokenizer


@dataclass(frozen=True, slots=True)
class _Given:
    """The model to load."""

    shown: str
    """The name that the user gave."""
    where: str
    """A folder, or a name on the Hub."""
    revision: str | None
    trusted: bool

    @property
    def source(self) -> dict[str, Any]:
        """Arguments that tell `from_pretrained` where the model is."""
        local = not Path(self.where).is_dir() and without_network()
        revision = self.revision or "main"
        return {
            "revision": revision,
            "local_files_only": local,
            "trust_remote_code": self.trusted,
        }

    def below(self) -> _Given:
        """The base model of this adapter; UsageError if it is not what it was trained on."""
        base = adapters.base_of(Path(self.where))
        refuse_other_base(Path(self.where), base)
        return replace(self, where=local_path(base), revision=None)


def check_accelerate() -> None:
    """UsageError where accelerate, which spreads a model over devices, is not installed."""
    require_package("accelerate", "--device-map", "lora")


def _refuse_what_does_not_fit(given: _Given, device_map: str | None, attention: str | None) -> None:
    """UsageError for options that do not go with the model or with this machine."""
    revision, folder = given.revision, Path(given.where).is_dir()
    if revision is not None and folder and not packaged_models.hub_gguf(given.shown):
        raise UsageError(
            f"--model-revision {revision} was given and {given.shown!r} is a folder: a "
            "revision belongs to a hub name such as Qwen/Qwen3-0.6B"
        )
    if folder:
        model_files.check_has_tokenizer(Path(given.where), given.shown)
    if device_map is not None:
        check_accelerate()
    if attention is not None and "/" in attention and not given.trusted:
        raise UsageError(
            f"--attention {attention} is code from the Hub: give eager, sdpa or flash_attention_2, "
            "or add --trust-remote-code true"
        )


@contextmanager
def _explaining(given: _Given) -> Iterator[None]:
    """UsageError for whatever a damaged file, or one of another kind, makes of its reader."""
    try:
        yield
    except UsageError:
        raise
    except Exception as error:
        raise UsageError(_why(given, error)) from error
    except BaseException as error:
        # Rust code panics this way.
        if type(error).__name__ != "PanicException":
            raise
        raise UsageError(_why(given, RuntimeError(str(error)))) from error


def _read(given: _Given, **options: Any) -> tuple[Any, Any]:
    """Model and tokenizer as `transformers` reads them; an adapter is merged into its base."""
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    adapters.model_folder(Path(given.where))
    _look_at(given)
    tokenizer = _read_tokenizer(given)
    return _model(given, **options), tokenizer


def _model(given: _Given, **options: Any) -> Any:
    from transformers import AutoConfig

    if adapters.is_adapter(Path(given.where)):
        below = given.below()
        _look_at(below)
        return _merged(_model(below, **options), Path(given.where))
    config = AutoConfig.from_pretrained(given.where, **given.source)
    size = None if "device_map" in options else options["dtype"].itemsize
    model_files.check_config(config, given.shown, trusted=given.trusted, bytes_each=size)
    return _whole(given, config=config, use_safetensors=True, **options)


def _whole(given: _Given, **options: Any) -> Any:
    """The model with every weight from its files; UsageError if some are missing.

    `transformers` would initialise missing weights at random, and ignore layers that the model does
    not have.
    """
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    level = logging.get_verbosity()
    # The message below says in one line what it would report at length.
    logging.set_verbosity_error()
    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            given.where,
            **given.source,
            **options,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
        )
    finally:
        logging.set_verbosity(level)
    model, info = loaded
    wrong = {
        "missing": sorted(info["missing_keys"]),
        "of another shape": sorted(str(key[0]) for key in info["mismatched_keys"]),
        "of layers that it does not have": sorted(filter(_LAYER.search, info["unexpected_keys"])),
    }
    found = [f"{len(keys)} {how} (such as {keys[0]})" for how, keys in wrong.items() if keys]
    if found:
        raise UsageError(
            f"the weights in {given.where!r} do not match its config.json: {', '.join(found)}. "
            "Perhaps they belong to an older model: give a folder as save_pretrained wrote it"
        )
    return model


def _merged(model: Any, folder: Path) -> Any:
    """`model` with an adapter added to its weights, all trainable; UsageError if it is unfit."""
    try:
        import peft
    except ImportError as error:
        raise UsageError(
            f"the adapter {folder} needs peft, which is not installed: {install_extra('lora')}"
        ) from error
    model_files.check_adapter(adapters.read_adapter_config(folder), folder)
    config: Any = peft.PeftConfig.from_pretrained(str(folder))
    if isinstance(config, peft.LoraConfig):
        # By name, not by a pattern from the file, which could run for ever.
        modules = model_files.adapted_modules(folder)
        config.target_modules, config.exclude_modules = list(modules), None
        config.layers_to_transform = config.layers_pattern = None
        if config.r > max(modules.values(), default=0):
            raise UsageError(f"the adapter {folder} declares rank {config.r}, but has a lower one")
    try:
        adapted: Any = peft.PeftModel.from_pretrained(model, str(folder), config=config)
        merged = adapted.merge_and_unload()
    except (ValueError, RuntimeError, KeyError, AttributeError) as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise UsageError(
            f"the adapter {folder} does not fit its base model {model.name_or_path}: {first}"
        ) from error
    merged.name_or_path = str(folder.resolve())
    return merged.requires_grad_(True)


def _read_skeleton(asked: _Given, **options: Any) -> tuple[Any, Any]:
    """A skeleton of the model, without weights, and its tokenizer."""
    from transformers import AutoModelForCausalLM, GenerationConfig

    given, config = _config(asked)
    _look_at(asked)
    tokenizer = _read_tokenizer(asked)
    with torch.device("meta"):
        model: Any = AutoModelForCausalLM.from_config(
            config, dtype=options["dtype"], trust_remote_code=given.trusted
        )
    with suppress(OSError):
        source = {k: v for k, v in given.source.items() if k != "trust_remote_code"}
        model.generation_config = GenerationConfig.from_pretrained(given.where, **source)
    return model, tokenizer


def _read_tokenizer(given: _Given) -> Any:
    if gguf.is_kept(given.where):
        return gguf.tokenizer(Path(given.where))
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(given.where, **given.source)


def read_config(path_or_name: str, revision: str | None = None) -> Any:
    """The config of a model, or of an adapter's base: its sizes, without weights.

    UsageError if there is none, or if it exceeds a bound.
    """
    given = _Given(path_or_name, local_path(path_or_name), revision, False)
    try:
        return _config(given)[1]
    except UsageError:
        raise
    except Exception as error:
        if "trust_remote_code" in str(error):
            raise UsageError(_why(given, error)) from error
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UsageError(f"the config of {path_or_name!r} cannot be read: {first}") from error


def _config(given: _Given) -> tuple[_Given, Any]:
    """The full model below adapters, and its config."""
    from transformers import AutoConfig

    adapters.model_folder(Path(given.where))
    while adapters.is_adapter(Path(given.where)):
        given = given.below()
    _look_at(given)
    config = AutoConfig.from_pretrained(given.where, **given.source)
    model_files.check_config(config, given.shown, trusted=given.trusted, bytes_each=None)
    return given, config


_SMALL_FILES = (
    *("config.json", "generation_config.json", "tokenizer_config.json", "tokenizer.json"),
    *("chat_template.jinja", adapters.CONFIG),
)


def _look_at(given: _Given) -> None:
    """UsageError if a model's files exceed a bound; files on the Hub are fetched first."""
    folder = Path(given.where)
    if not folder.is_dir():
        from transformers.utils.hub import cached_file

        source = {name: given.source[name] for name in ("revision", "local_files_only")}
        found = [
            cached_file(given.where, name, _raise_exceptions_for_missing_entries=False, **source)
            for name in _SMALL_FILES
        ]
        folder = next((Path(path).parent for path in found if path), folder)
    if folder.is_dir():
        model_files.check_folder(folder, given.shown)


def without_network() -> bool:
    """Whether the hub's name does not resolve: a request would be retried for a minute."""
    if any(os.environ.get(name) for name in ("HTTPS_PROXY", "https_proxy", "HF_ENDPOINT")):
        return False
    try:
        socket.getaddrinfo("huggingface.co", 443)
    except OSError:
        return True
    return False


def _why(asked: _Given, error: Exception) -> str:
    first = (str(error).strip().splitlines() or [type(error).__name__])[0]
    if not isinstance(error, OSError | ValueError | ImportError | RuntimeError):
        first = f"{type(error).__name__}: {first}"
    given = asked.shown
    if "trust_remote_code" in str(error):
        return (
            f"{given!r} comes with code of its own, which is not run: give a model that "
            "transformers supports, or add --trust-remote-code true if you trust it"
        )
    if Path(asked.where).is_dir():
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
        "Download it on a machine with network access and give the folder, or use the embedded "
        "model (--model nano)"
    )


def parameters(model: Any) -> int:
    """Number of parameters; tied ones count once."""
    return sum(p.numel() for p in model.parameters())


def set_threads(threads: int | None, model: Any) -> int:
    """Set torch's CPU threads; returns the number in effect.

    None chooses one for small models, and for others at most as many as there are usable cores:
    torch counts those of the machine, and more threads than cores wait for each other.
    """
    if threads is not None and threads < 1:
        raise UsageError(f"--threads {threads}: give at least 1, or leave it out")
    on_cpu = next(model.parameters()).device.type == "cpu"
    if threads is None and on_cpu:
        small = parameters(model) < _SMALL
        threads = 1 if small else min(torch.get_num_threads(), cores.usable_cores())
    if threads is not None:
        torch.set_num_threads(threads)
    return torch.get_num_threads()


def tune_allocator() -> bool:
    """Make glibc keep freed memory instead of returning it to the system; whether that worked.

    By default every large tensor is mapped afresh and its pages fault in one by one, which can cost
    a training step more than its arithmetic. A no-op if the C library is not glibc.
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
    """Same machine, threads and seed, same results: forbid kernels without a fixed summing order.

    On a CPU nothing changes. On a GPU it must be called before the first kernel runs.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=True)
