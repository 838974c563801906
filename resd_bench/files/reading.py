"""Read untrusted files: bounded in size, depth and number of values, whatever they hold.

Every file that somebody else may have made is read through here: YAML, JSON, JSON Lines, gzip, and
what `torch.save` wrote. The bounds are far above what any real file needs. Exceeding one raises
`Unreadable`, a ValueError whose message is one line; callers add what was expected and what to do.
A file of a run's folder that was packed (`resd_bench.files.packs`) is read from the pack. Left
out: files of this package, and models, which `resd_bench.models.model_files` examines.
"""

from __future__ import annotations

import gzip
import io
import json
import lzma
import math
import os
import re
import stat
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

from resd_bench.files import packs

MAX_DOCUMENT = 256 << 20
"""Bytes of a file that is read as a whole."""
MAX_LINE = 256 << 20
"""Bytes of one line of JSON Lines."""
MAX_YAML = 1 << 20
"""Bytes of a YAML file."""
MAX_VALUES = 10_000_000
"""Values of one JSON document or line."""
MAX_NESTING = 100
"""Levels of nesting, in JSON and YAML."""
MAX_PACK = 64 << 20
"""Bytes that a pack of runs may unpack to; five runs have 0.4 MB, with many evaluations 5."""
UNPACKED_AT_LEAST = 16 << 20
"""Bytes that any compressed file may unpack to."""
MOST_PACKED = 100
"""How many times its own size a larger one may unpack to; logs shrink to about a fiftieth."""
_MOST_MEMORY = 64 << 20
"""Bytes that unpacking xz data may take besides its output; presets up to 8 need 33 MiB."""
_PIPES = ("/dev/fd/", "/dev/stdin", "/proc/self/fd/")
"""Paths by which a shell passes input; apart from these, only regular files are read."""


class Unreadable(ValueError):
    """A file is damaged or exceeds a bound; the message is one line."""


def open_file(path: Path, *, follow: bool = True) -> BinaryIO:
    """Open a regular file for reading, or one in a pack; OSError where there is none.

    Pipes and devices are refused because they could keep the reader waiting for ever. Without
    `follow`, links are refused too. Unreadable if a pack is damaged.
    """
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | (0 if follow else os.O_NOFOLLOW)
    try:
        descriptor = os.open(path, flags)
    except FileNotFoundError:
        if (packed := _in_pack(path)) is None:
            raise
        return io.BytesIO(packed)
    try:
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(21, "Is a directory", str(path))
        if not stat.S_ISREG(mode) and not str(path).startswith(_PIPES):
            raise OSError(f"{path} is not a regular file")
        os.set_blocking(descriptor, True)
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def is_file(path: Path) -> bool:
    """Whether there is a file, or one in a pack; Unreadable if the pack is damaged."""
    return path.is_file() or _in_pack(path) is not None


def packed_folders(path: Path) -> list[str]:
    """The names of the folders in a pack, sorted; OSError or Unreadable."""
    return sorted({folder for folder, _ in read_pack(path)})


def read_pack(path: Path) -> packs.Packed:
    """The files in a pack; OSError or Unreadable."""
    found = path.stat()
    which = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
    return _read_pack(path.absolute(), which)


@lru_cache(maxsize=4)
def _read_pack(path: Path, which: tuple[int, ...]) -> packs.Packed:
    return parse_pack(read_bytes(path))


def parse_pack(data: bytes) -> packs.Packed:
    """The files in the bytes of a pack; Unreadable if it is damaged or too large."""
    unpacked = unpack_xz(data, MAX_PACK)
    end = unpacked.find(b"\n", 0, packs.LONGEST_LIST)
    try:
        return packs.split(parse_json(unpacked[: max(0, end)]), unpacked[end + 1 :])
    except Unreadable:
        raise
    except ValueError as error:
        raise Unreadable(f"it is not a pack of runs: {error}") from None


def _in_pack(path: Path) -> bytes | None:
    """The content of a file that is packed; None where its folder is there, or no pack."""
    folder = path.parent
    pack = folder.with_name(packs.PACK_NAME) if folder.name else None
    if pack is None or not pack.is_file() or os.path.lexists(folder):
        return None
    return read_pack(pack).get((folder.name, path.name))


def read_bytes(path: Path, limit: int = MAX_DOCUMENT, *, follow: bool = True) -> bytes:
    """The content of a file, at most `limit` bytes; OSError or Unreadable otherwise."""
    with open_file(path, follow=follow) as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise Unreadable(f"it is longer than {size_text(limit)}")
    return data


def read_text(path: Path, limit: int = MAX_DOCUMENT, *, follow: bool = True) -> str:
    """The UTF-8 text of a file; OSError or Unreadable."""
    try:
        return read_bytes(path, limit, follow=follow).decode("utf-8")
    except UnicodeDecodeError as error:
        raise Unreadable(f"it is not UTF-8 text ({error})") from None


def read_tail(path: Path, most: int) -> bytes:
    """The last `most` bytes of a file."""
    with open_file(path) as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - most))
        return file.read(most)


def read_lines(path: Path) -> Iterator[bytes]:
    """The lines of a file with their line ends, unpacked if its name ends in `.gz`.

    Raises OSError or Unreadable, at once or after some lines.
    """
    with open_file(path) as file:
        if path.suffix != ".gz":
            yield from _lines(file, math.inf)
            return
        most = unpacked_bound(os.fstat(file.fileno()).st_size)
        try:
            with gzip.GzipFile(fileobj=file) as unpacked:
                yield from _lines(io.BufferedReader(unpacked), most)
        except (EOFError, zlib.error) as error:
            raise Unreadable(f"its compressed data are damaged: {error}") from None


def _lines(file: BinaryIO, most: float) -> Iterator[bytes]:
    total, longest = 0, int(min(MAX_LINE, most)) + 1
    while line := file.readline(longest):
        total += len(line)
        if total > most:
            raise Unreadable(f"it unpacks to more than {size_text(most)}")
        if len(line) > MAX_LINE:
            raise Unreadable(f"it has a line of more than {size_text(MAX_LINE)}")
        yield line


def unpack(data: bytes) -> bytes:
    """Unpack gzip data; Unreadable if it is damaged or unpacks to far more than logs do."""
    most = unpacked_bound(len(data))
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(data)) as file:
            unpacked = file.read(most + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise Unreadable(str(error)) from None
    if len(unpacked) > most:
        raise Unreadable(f"it unpacks to more than {size_text(most)}")
    return unpacked


def unpack_xz(data: bytes, limit: int | None = None) -> bytes:
    """Unpack xz data; Unreadable if it is damaged, or has more than `limit` bytes.

    Without a limit it may have as many as logs have.
    """
    most = unpacked_bound(len(data)) if limit is None else limit
    try:
        unpacker = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_MOST_MEMORY)
        unpacked = unpacker.decompress(data, max_length=most + 1)
    except lzma.LZMAError as error:
        raise Unreadable(f"its compressed data are damaged: {error}") from None
    if len(unpacked) > most:
        raise Unreadable(f"it unpacks to more than {size_text(most)}")
    if not unpacker.eof:
        raise Unreadable("its compressed data are damaged: they end too early")
    return unpacked


def unpacked_bound(packed: int) -> int:
    """Bytes that compressed data of `packed` bytes may unpack to."""
    return max(UNPACKED_AT_LEAST, MOST_PACKED * packed)


def size_text(limit: float) -> str:
    return f"{limit / 2**20:.0f} MiB"


# JSON


_TEXTS = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.S)
"""The strings of a JSON document; matches in linear time."""


def parse_json(data: bytes | str, *, strict: bool = False) -> Any:
    """The value of a JSON text; Unreadable (a ValueError) if it is invalid or exceeds a bound.

    `strict` refuses NaN and infinities, which JSON does not have, and duplicate keys.
    """
    raw = data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data
    openers = raw.count(b"[") + raw.count(b"{")
    # This counts inside strings too; often that is enough to know that there are few.
    if openers + raw.count(b",") + raw.count(b":") > MAX_VALUES and _values(raw) > MAX_VALUES:
        raise Unreadable(f"it holds more than {MAX_VALUES:,} values")
    try:
        value = json.loads(data, **(_STRICT if strict else {}))
    except RecursionError:
        raise Unreadable(f"it is nested more than {MAX_NESTING} levels deep") from None
    if openers > MAX_NESTING:
        _check_depth(value)
    return value


def _values(raw: bytes) -> int:
    bare = _TEXTS.sub(b"", raw)
    return sum(map(bare.count, (b"[", b"{", b",", b":")))


def _check_depth(value: Any) -> None:
    level = [value]
    for _ in range(MAX_NESTING + 1):
        level = [
            inner
            for outer in level
            if isinstance(outer, dict | list)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, dict | list)
        ]
        if not level:
            return
    raise Unreadable(f"it is nested more than {MAX_NESTING} levels deep")


def _refuse_constant(name: str) -> float:
    raise Unreadable(f"{name} is not JSON")


def _finite(text: str) -> float:
    number = float(text)
    return number if math.isfinite(number) else _refuse_constant(text)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise Unreadable(f"the key {key!r} occurs twice")
        found[key] = value
    return found


_STRICT: Mapping[str, Any] = {
    "parse_constant": _refuse_constant,
    "parse_float": _finite,
    "object_pairs_hook": _once,
}


# What `torch.save` wrote


def load_tensors(data: bytes) -> Any:
    """Load what `torch.save` wrote: tensors and plain containers; Unreadable for anything else.

    No code is run. The archive must be uncompressed, as `torch.save` writes it: then it cannot
    hold more than its own size.
    """
    import torch

    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise Unreadable(f"it is not what torch.save writes: {error}") from None
    stored = sum(entry.file_size for entry in entries)
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries) or stored > len(data):
        raise Unreadable("it is not what torch.save writes: its archive is compressed")
    try:
        return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
        raise Unreadable(f"torch cannot read it: {first}") from error
