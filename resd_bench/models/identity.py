"""A model's identity, by the content of its files: weights, configuration and tokenizer.

Left out: weights that a server holds.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from resd_bench import packaged_models
from resd_bench.errors import UsageError
from resd_bench.files import reading
from resd_bench.files.fingerprints import differing, fingerprint
from resd_bench.files.integrity import cached_sha256, concatenated_sha256, files_sha256
from resd_bench.models import adapters

MOST_HASHED = 2**30
"""Weights larger than this many bytes are not hashed: reading them can take more than a minute on
slow disks."""
SAMPLED_BYTES, STRIDE_BYTES = 1 << 16, 1 << 22
"""For files too large to hash: how many bytes are read out of each stride."""
_WEIGHTS, OLD_WEIGHTS = ("*.safetensors",), ("pytorch_model*.bin", "adapter_model.bin")
"""The weights that are loaded, and those that are if the former do not exist."""
CONFIGURATION = ("config.json", "generation_config.json", adapters.CONFIG)
TOKENIZER = (
    *("tokenizer*", "vocab*", "merges*", "special_tokens*", "added_tokens*", "chat_template*"),
    *("*.model", "*.tiktoken", "*.jinja"),
)


def model_identity(
    model: str, revision: str | None = None, depth: int = adapters.MOST_STACKED
) -> dict[str, str]:
    """Hashes of a local model's weights, configuration and tokenizer; for a Hub model its commit.

    An adapter's base counts too. {} if the model is not on this machine.
    """
    if (
        model in packaged_models.GGUF_PACKAGES
        or packaged_models.gguf_file(model, revision) is not None
    ):
        # The file holds all of it; what was converted from it may differ between versions.
        return {"model.weights": str(weights_hash(model, revision))}
    folder = packaged_models.local_folder(model)
    if folder is None:
        commit = hub_commit(model, revision)
        return {} if commit is None else {"model.commit": commit}
    found = {
        "model.weights": weights_hash(model) or _large_or_old(folder),
        "model.config": files_sha256(_matching(folder, CONFIGURATION)),
        "model.tokenizer": files_sha256(_matching(folder, TOKENIZER)),
    }
    if adapters.is_adapter(folder) and depth:
        own = model_identity(adapters.base_of(folder), depth=depth - 1)
        found |= {key.replace("model.", "model.base.", 1): value for key, value in own.items()}
    return {key: value for key, value in found.items() if value is not None}


def _large_or_old(folder: Path) -> str | None:
    """A hash of weights that `weights_hash` does not cover; None if there are none."""
    files = _matching(folder, _WEIGHTS) or _matching(folder, OLD_WEIGHTS)
    if not files:
        return None
    small = sum(path.stat().st_size for path in files) <= MOST_HASHED
    return files_sha256(files) if small else sampled_hash(files)


def hub_commit(model: str, revision: str | None) -> str | None:
    """The commit of a Hub model in the local cache; None if it is not there."""
    if "/" not in model:
        return None
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    for name in CONFIGURATION:
        try:
            path = try_to_load_from_cache(model, name, revision=revision or "main")
        except HFValidationError:
            return None
        if isinstance(path, str):
            return Path(path).parent.name
    return None


def _matching(folder: Path, patterns: Iterable[str]) -> list[Path]:
    found = {path for pattern in patterns for path in folder.glob(pattern) if path.is_file()}
    return sorted(found)


def sampled_hash(paths: Iterable[Path]) -> str:
    """SHA-256 over names, sizes, `SAMPLED_BYTES` of every `STRIDE_BYTES`, and the last bytes.

    It detects any training, which changes all weights, and reads a 64th of them.
    """
    digest = hashlib.sha256()
    for path in paths:
        size = path.stat().st_size
        digest.update(fingerprint([path.name, size]))
        with reading.open_file(path) as file:
            for start in (*range(0, size, STRIDE_BYTES), max(0, size - SAMPLED_BYTES)):
                file.seek(start)
                digest.update(file.read(SAMPLED_BYTES))
    return digest.hexdigest()


def refuse_other_base(folder: Path, base: str) -> None:
    """UsageError if the `base` of the adapter in `folder` is not what it was trained on."""
    there = adapters.noted(folder).get("identity")
    if isinstance(there, dict) and (found := differing(there, model_identity(base))):
        raise UsageError(
            f"the adapter {folder} was trained on another version of {base}: "
            f"{'; '.join(found)}. Restore that model, or name the right one in {adapters.CONFIG}"
        )


def weights_hash(model: str, revision: str | None = None) -> str | None:
    """SHA-256 of the weights that `model` starts from; None if they are on a hub, or large.

    For a GGUF file it is the hash of the file; for a packaged one, the hash that loading requires.
    """
    if model in packaged_models.GGUF_PACKAGES:
        return packaged_models.GGUF_PACKAGES[model].sha256
    if (file := packaged_models.gguf_file(model, revision)) is not None:
        return cached_sha256(file)
    folder = packaged_models.local_folder(model)
    files = sorted(folder.glob("*.safetensors")) if folder else []
    stats = [(str(file), own.st_size, own.st_mtime_ns) for file in files for own in [file.stat()]]
    if not files or sum(size for _, size, _ in stats) > MOST_HASHED:
        return None
    return _hash_of(tuple(stats))


@cache
def _hash_of(stats: tuple[tuple[str, int, int], ...]) -> str:
    """SHA-256 of files, recomputed only if one has changed."""
    return concatenated_sha256(Path(path) for path, _, _ in stats)
