"""Pack the kept runs of a folder in one file, and write them as folders again.

    python -m resd_bench results compact results/nano
    python -m resd_bench results unpack results/nano/finer/resd

A pack is written over the one before only when its bytes, read again, hold the runs of both, and
folders are removed when it is there. A kill leaves each run in its folder, in the pack, or in both
alike. Left out: the form of a pack, see `resd_bench.files.packs`; reading one, see
`resd_bench.files.reading`.
"""

from __future__ import annotations

import lzma
import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from resd_bench.errors import UsageError
from resd_bench.files import columns, packs, reading
from resd_bench.files.writing import (
    alone_in,
    make_folder,
    remove,
    remove_folder,
    rename,
    write_atomically,
)
from resd_bench.records.archive import KEPT, write_columns
from resd_bench.records.log_files import LOG_SUFFIXES, lines_of
from resd_bench.records.recorder import LOG_FILES, LOGS, damaged
from resd_bench.records.run_files import SUFFIX, RunFiles, is_run, packs_below, run_folders

PACKABLE = {*KEPT, "status.json", *LOG_FILES}
"""The files of a run that can be packed with others."""
RunContent = Mapping[str, bytes]
"""The files of a run as they are packed: not compressed."""


class Compacted(NamedTuple):
    """What `compact` wrote."""

    logs: int
    """In columns."""
    runs: int
    """That were packed."""
    packs: int


def compact(root: Path) -> Compacted:
    """Pack the kept runs below `root`, those in one folder together, with their logs in columns.

    A log that columns cannot give is compressed; a run with files that records of runs do not have,
    or with a name that is not plain, stays a folder. UsageError if a run is unfinished or not as it
    was written, before any is packed; if a pack holds another run of its name; or if another
    command packs there.
    """
    runs = run_folders(root)
    if not runs:
        raise UsageError(f"no run found in {root}: give a folder of kept records")
    there = [folder for folder in runs if folder.is_dir()]
    for folder in there:
        _check_kept(folder)
    logs = sum(_write_columns(folder, root) for folder in there)
    together: dict[Path, list[Path]] = defaultdict(list)
    for folder in there:
        if folder != root and packs.is_plain(folder.name) and _is_packable(folder):
            together[folder.parent].append(folder)
    for parent, folders in together.items():
        with alone_in(parent, root):
            _pack_runs([folder for folder in folders if folder.is_dir()], parent, root)
    for pack in packs_below(root):
        if any(path.name.endswith(SUFFIX) for path in pack.parent.iterdir()):
            with alone_in(pack.parent, root):
                for name in _runs_in(pack):  # what a kill left of their folders
                    remove_folder(pack.with_name(name + SUFFIX), root)
    return Compacted(logs, sum(map(len, together.values())), len(together))


def _is_packable(folder: Path) -> bool:
    return all(path.name in PACKABLE for path in folder.iterdir())


def _check_kept(folder: Path) -> None:
    """UsageError unless a run is finished, as it was written, and has each log once."""
    files = RunFiles.at(folder)
    if not files.finished:
        raise UsageError(f"{folder} is not finished: only kept records are compressed")
    for log in LOGS:
        forms = [f"{log}{end}" for end in LOG_SUFFIXES if (folder / f"{log}{end}").is_file()]
        if len(forms) > 1:
            raise UsageError(f"{folder} holds {' and '.join(forms)}: move the one that is old away")
    files.check()


def _write_columns(folder: Path, root: Path) -> int:
    """Write the logs of a kept run in columns; how many were not."""
    written = 0
    for log in LOGS:
        places = [folder / log, folder / f"{log}.gz"]
        for path in (place for place in places if place.is_file()):
            lines = list(reading.read_lines(path))
            packed = write_columns(lines, folder / log, root)
            if packed == path:
                continue
            if list(lines_of(packed)) != lines:
                raise UsageError(f"{packed} is not what was written: {path} is left as it is")
            remove(path, root)
            written += 1
    return written


def _content(folder: Path) -> RunContent:
    """The files of a run's folder; OSError or Unreadable if they are not those of a record."""
    found = {}
    for path in folder.iterdir():
        data, name = reading.read_bytes(path, follow=False), path.name
        if name.endswith(columns.COLUMNS_SUFFIX):
            data, name = reading.unpack_xz(data), name.removesuffix(".xz")
        elif name.endswith(".gz"):
            data, name = reading.unpack(data), name.removesuffix(".gz")
        found[name] = data
    return found


def _runs_in(pack: Path) -> dict[str, dict[str, bytes]]:
    """The files of each run in a pack, {} if there is none; UsageError if it is damaged."""
    found: dict[str, dict[str, bytes]] = defaultdict(dict)
    try:
        for (folder, name), data in reading.read_pack(pack).items():
            if name not in PACKABLE:
                raise damaged(pack, f"it holds {name!r}, which is no file of a record")
            found[folder][name] = data
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise damaged(pack, str(error)) from None
    return found


def _pack_runs(folders: Sequence[Path], parent: Path, root: Path) -> None:
    """Pack run folders with those that are packed already, and remove them."""
    pack = parent / packs.PACK_NAME
    runs: dict[str, RunContent] = dict(_runs_in(pack))
    for folder in folders:
        content = _content(folder)
        if runs.setdefault(folder.name, content) != content:
            raise UsageError(
                f"{pack} holds another run of the name {folder.name} than the folder: move the "
                "folder away"
            )
    files = {(run, name): data for run, own in runs.items() for name, data in own.items()}
    data = packs.pack_files(files)
    try:
        same = reading.parse_pack(data) == files
    except ValueError as error:
        raise UsageError(
            f"{pack} is not written, since it could not be read ({error}): put some of the runs "
            "into another folder"
        ) from None
    if same:
        write_atomically(pack, data, root)
    if not same or reading.read_bytes(pack) != data:
        raise UsageError(f"{pack} would not be what was packed: the folders of its runs are left")
    for folder in folders:
        _remove_whole(folder, root)


def _remove_whole(folder: Path, root: Path) -> None:
    """Remove a folder at once: what a kill left of it would hide the packed run."""
    scratch = folder.with_name(folder.name + SUFFIX)
    remove_folder(scratch, root)
    rename(folder, scratch.name, root)
    remove_folder(scratch, root)


def unpack_runs(root: Path) -> list[Path]:
    """Write the packed runs below `root` as folders again, and remove the packs; the folders.

    UsageError if a pack is damaged, or a file or folder has the place of a run and is not alike,
    before any run of the pack is written.
    """
    found = packs_below(root)
    if not found:
        hint = f"{root.parent}, whose pack holds it" if is_run(root) else "a folder of kept records"
        raise UsageError(f"no pack of runs found in {root}: give {hint}")
    written = []
    for pack in found:
        with alone_in(pack.parent, root):
            runs = {pack.with_name(name): content for name, content in _runs_in(pack).items()}
            missing = [folder for folder, own in runs.items() if _is_missing(folder, own)]
            for folder in missing:
                RunFiles.at(folder).check()
            for folder in missing:
                _write_run(folder, runs[folder], root)
            remove(pack, root)
            written += missing
    return written


def _is_missing(folder: Path, content: RunContent) -> bool:
    """Whether a run is in its pack alone; UsageError if something else has its place."""
    if not os.path.lexists(folder):
        return True
    with suppress(OSError, ValueError):
        if _content(folder) == content:
            return False
    raise UsageError(f"{folder} is in the place of the packed run of its name: move it away")


def _write_run(folder: Path, content: RunContent, root: Path) -> None:
    scratch = folder.with_name(folder.name + SUFFIX)
    remove_folder(scratch, root)
    make_folder(scratch, root)
    for name, data in content.items():
        if name.endswith(columns.PLAIN_SUFFIX):
            name, data = f"{name}.xz", lzma.compress(data)
        write_atomically(scratch / name, data, root)
    rename(scratch, folder.name, root)
