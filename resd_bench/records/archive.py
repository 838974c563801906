"""Keep the records of finished runs: only what tables and figures are made from.

    python -m resd_bench results keep runs-out/manufactoria-has --to results/nano

A kept run is a run folder without texts, contexts and checkpoints: its logs are in columns, and of
each episode a short row remains; the texts of held-out answers are kept where they are asked for.
`compact` packs kept runs together. Everything that reads run folders can read both. Left out:
re-deriving committed tables from records, see `resd_bench.report.verify`.
"""

from __future__ import annotations

import gzip
import lzma
import os
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from resd_bench.errors import UsageError
from resd_bench.files import columns, packs, reading
from resd_bench.files.integrity import Extent, sealed, sha256
from resd_bench.files.writing import (
    check_name,
    make_folder,
    remove,
    remove_folder,
    rename,
    write_atomically,
)
from resd_bench.records.checkpoints import by_update
from resd_bench.records.log_files import LogRow, lines_of, log_file
from resd_bench.records.recorder import (
    FOLDERS,
    LOG_FILES,
    LOGS,
    files_of,
    to_line,
    write_json,
)
from resd_bench.records.run_files import (
    EPISODES,
    EVALS,
    METRICS,
    SUFFIX,
    RunFiles,
    is_run,
    run_folders,
)
from resd_bench.records.runs import RunData

KEPT = ("config.yaml", "manifest.json", "summary.json")
PACKABLE = {*KEPT, "status.json", *LOG_FILES}
"""The files of a run that can be packed with others."""


def keep(runs: Iterable[RunData], to: Path, *, answers: bool = False) -> list[Path]:
    """Copy each run's records to `<to>/<env>/<method>/seed-<k>`; the folders written.

    With `answers` also the texts of held-out answers. UsageError, before anything is written, if a
    run is unfinished or its target exists.
    """
    return keep_at({_place(run, to): run for run in runs}, to, answers=answers)


def keep_at(places: Mapping[Path, RunData], to: Path, *, answers: bool = False) -> list[Path]:
    """Copy each run's records to the folder given with it, which is below `to`; like `keep`."""
    for place, run in places.items():
        if run.status.get("state") != "finished":
            raise UsageError(f"{run.folder} is not finished: finish it with `run --resume` first")
        if is_taken(place):
            raise UsageError(f"{place} exists: move it away, or give another --to")
    for place, run in places.items():
        _keep(run, place, to, answers)
    return list(places)


def is_taken(place: Path) -> bool:
    """Whether a folder to keep a run in is taken, also by a packed run."""
    return os.path.lexists(place) or is_run(place)


def _keep(run: RunData, place: Path, to: Path, answers: bool) -> None:
    """Write a kept record completely or not at all; UsageError if the run is damaged."""
    files = run.files or RunFiles.at(run.folder)
    files.check()
    for name in (*KEPT, *LOGS):
        if (run.folder / name).is_symlink():
            raise UsageError(
                f"{run.folder / name} is not kept: it is a link. Replace it by a regular file"
            )
    make_folder(place.parent, to)
    scratch = place.with_name(place.name + SUFFIX)
    remove_folder(scratch, to)
    make_folder(scratch, to)
    for name in KEPT:
        if reading.is_file(run.folder / name):
            write_atomically(scratch / name, reading.read_bytes(run.folder / name), to)
    logs = {name: list(files.lines(name)) for name in (METRICS, EVALS)}
    logs[EPISODES] = [to_line(episode_summary(row)) for row in run.training()]
    for name, lines in logs.items():
        if lines or name != EPISODES:
            _pack(lines, scratch / name, to)
    if answers:
        _copy_answers(run.folder, scratch, to)
    extents = {name: Extent(len(lines), sha256(b"".join(lines))) for name, lines in logs.items()}
    # The hashes of the run's own files do not apply to the kept ones.
    status = {key: value for key, value in run.status.items() if key not in ("files", "checksum")}
    write_json(scratch / "status.json", sealed(status | {"files": files_of(scratch, extents)}), to)
    rename(scratch, place.name, to)


def _copy_answers(folder: Path, scratch: Path, to: Path) -> None:
    """Copy the texts of held-out answers; UsageError if there are none."""
    paths = by_update(folder / "answers", FOLDERS["answers"]).values()
    if not paths:
        raise UsageError(f"{folder} holds no texts of held-out answers: leave out --answers")
    make_folder(scratch / "answers", to)
    for path in paths:
        write_atomically(scratch / "answers" / path.name, reading.read_bytes(path), to)


def episode_summary(row: Mapping[str, Any]) -> LogRow:
    """An episode without its texts; applying it twice changes nothing."""
    names = ("update", "task", "attempt", "success", "score", "stop")
    tokens = row["tokens"] if "tokens" in row else sum(turn["tokens"] for turn in row["turns"])
    return {**{name: row[name] for name in names}, "tokens": tokens}


def _pack(lines: Sequence[bytes], log: Path, root: Path) -> Path:
    """Write a log in columns, or compressed where they would not give its lines; the file."""
    data = columns.pack_columns(lines)
    if data is not None:
        path = log.with_name(f"{log.name}{columns.COLUMNS_SUFFIX}")
    else:
        # No time stamp, so that equal records give equal bytes.
        path, data = log.with_name(f"{log.name}.gz"), gzip.compress(b"".join(lines), mtime=0)
    write_atomically(path, data, root)
    return path


def compact(root: Path) -> Compacted:
    """Pack the kept runs below `root`, those in one folder together, with their logs in columns.

    Nothing is removed before what was written has been read back and is the same. A log that
    columns cannot give is compressed; a run with files that records of runs do not have stays a
    folder. UsageError if a run is unfinished or not as it was written; what came before it is
    packed then.
    """
    runs = run_folders(root)
    if not runs:
        raise UsageError(f"no run found in {root}: give a folder of kept records")
    there = [folder for folder in runs if folder.is_dir()]
    logs = sum(_write_columns(folder, root) for folder in there)
    together: dict[Path, list[Path]] = defaultdict(list)
    for folder in there:
        if folder != root and all(path.name in PACKABLE for path in folder.iterdir()):
            together[folder.parent].append(folder)
    for parent, folders in together.items():
        _pack_runs(folders, parent / packs.PACK_NAME, root)
    for pack in root.rglob(packs.PACK_NAME):
        for name in reading.packed_folders(pack):  # what a kill left of their folders
            remove_folder(pack.with_name(name + SUFFIX), root)
    return Compacted(logs, sum(map(len, together.values())), len(together))


class Compacted(NamedTuple):
    """What `compact` wrote."""

    logs: int
    """In columns."""
    runs: int
    """That were packed."""
    packs: int


def _write_columns(folder: Path, root: Path) -> int:
    """Write the logs of a kept run in columns; how many were not."""
    known = [log_file(folder / name) for name in LOGS]
    logs = [path for path in known if path and not columns.in_columns(path)]
    files = RunFiles.at(folder)
    if not files.finished:
        raise UsageError(f"{folder} is not finished: only kept records are compressed")
    files.check()
    written = 0
    for path in logs:
        lines = list(reading.read_lines(path))
        packed = _pack(lines, path.with_name(path.name.removesuffix(".gz")), root)
        if packed == path:
            continue
        if list(lines_of(packed)) != lines:
            raise UsageError(f"{packed} is not what was written: {path} is left as it is")
        remove(path, root)
        written += 1
    return written


def _pack_runs(folders: Sequence[Path], pack: Path, root: Path) -> None:
    """Pack run folders with those that the pack holds already, and remove them."""
    names = {folder.name for folder in folders}
    old = reading.read_pack(pack) if pack.exists() else {}
    files = {place: data for place, data in old.items() if place[0] not in names}
    for path in (path for folder in folders for path in folder.iterdir()):
        data, name = reading.read_bytes(path, follow=False), path.name
        if name.endswith(columns.COLUMNS_SUFFIX):
            data, name = reading.unpack_xz(data), name.removesuffix(".xz")
        elif name.endswith(".gz"):
            data, name = reading.unpack(data), name.removesuffix(".gz")
        files[path.parent.name, name] = data
    write_atomically(pack, packs.pack_files(files), root)
    if reading.read_pack(pack) != files:
        raise UsageError(f"{pack} is not what was written: the folders of its runs are left")
    for folder in folders:
        # At once: what is left of a folder would hide the packed run.
        scratch = folder.with_name(folder.name + SUFFIX)
        remove_folder(scratch, root)
        rename(folder, scratch.name, root)
        remove_folder(scratch, root)


def unpack_runs(root: Path) -> list[Path]:
    """Write the packed runs below `root` as folders again; the folders."""
    found = [folder for folder in run_folders(root) if not folder.is_dir()]
    if not found:
        raise UsageError(f"no packed run found in {root}: give a folder of kept records")
    for folder in found:
        RunFiles.at(folder).check()
        scratch = folder.with_name(folder.name + SUFFIX)
        remove_folder(scratch, root)
        make_folder(scratch, root)
        for (place, name), data in reading.read_pack(folder.with_name(packs.PACK_NAME)).items():
            if place == folder.name:
                plain = name.endswith(columns.PLAIN_SUFFIX)
                own = (f"{name}.xz", lzma.compress(data)) if plain else (name, data)
                write_atomically(scratch / own[0], own[1], root)
        rename(scratch, folder.name, root)
    for pack in {folder.with_name(packs.PACK_NAME) for folder in found}:
        remove(pack, root)
    return found


def _place(run: RunData, to: Path) -> Path:
    env = check_name(str(run.settings["env"]), f"{run.folder}: environment")
    return to / env / check_name(run.method, f"{run.folder}: method") / f"seed-{run.seed}"
