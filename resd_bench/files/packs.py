"""Kept runs of one folder as one compressed file: what `results compact` makes of them.

The runs of a variant differ in their seed and hardly in their settings, versions and tasks: packed
together they take half the space and a thirtieth of the files. A pack lies where the folders of the
runs were, `<variant>/runs.pack.xz` for `<variant>/seed-0` and its siblings, and their files are
read under the paths that they had (`resd_bench.files.reading`). Unpacked it is one line of JSON,
`[[folder, file, bytes], ...]`, and the bytes of these files, one after another. Left out: which
runs are packed, see `resd_bench.records.packing`.
"""

from __future__ import annotations

import json
import lzma
import re
from collections.abc import Mapping

PACK_NAME = "runs.pack.xz"
"""The name of a pack, next to the folders of runs."""
Packed = Mapping[tuple[str, str], bytes]
"""The content of each file by the names of its folder and itself."""
_FILTERS = [{"id": lzma.FILTER_LZMA2, "preset": 8 | lzma.PRESET_EXTREME, "pb": 0}]
"""Bytes of text do not come in groups of four, which `pb` is for: a fifteenth less."""
_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+=,@-]{0,199}")
LONGEST_LIST = 4 << 20
"""Bytes of the line that lists the files."""


def pack_files(files: Packed) -> bytes:
    """The pack that holds these files, those of one name together: they resemble each other."""
    order = sorted(files, key=lambda place: (place[1], place[0]))
    told = [[folder, name, len(files[folder, name])] for folder, name in order]
    line = json.dumps(told, separators=(",", ":")).encode() + b"\n"
    return lzma.compress(line + b"".join(files[place] for place in order), filters=_FILTERS)


def split(told: object, content: bytes) -> Packed:
    """The files that a pack's list tells of, from what follows it; ValueError if it is damaged."""
    if not isinstance(told, list):
        raise ValueError("it does not begin with a list of files")
    files: dict[tuple[str, str], bytes] = {}
    at = 0
    for entry in told:
        folder, name, size = _checked(entry)
        files[folder, name] = content[at : at + size]
        at += size
    if at != len(content) or len(files) != len(told):
        raise ValueError("its list of files is not of what it holds")
    return files


def is_plain(name: str) -> bool:
    """Whether a file or folder of this name can be packed: it is hidden nowhere, leads nowhere."""
    return bool(_PLAIN.fullmatch(name)) and not name.endswith(".tmp")


def _checked(entry: object) -> tuple[str, str, int]:
    """Folder, name and size of a file; ValueError if it is no file of a folder."""
    match entry:
        case [str(folder), str(name), int(size)] if size >= 0 and is_plain(folder):
            if is_plain(name):
                return folder, name, size
    raise ValueError(f"it lists {str(entry)[:80]!r}, which is no file of a run's folder")
