"""Keep the records of finished runs: only what tables and figures are made from.

    python -m resd_bench results keep runs-out/manufactoria-has --to results/nano

A kept run is a run folder without texts, contexts and checkpoints: its logs are in columns, and of
each episode a short row remains; the texts of held-out answers are kept where they are asked for.
Everything that reads run folders can read it. Left out: packing kept runs together, see
`resd_bench.records.packing`; re-deriving committed tables, see `resd_bench.report.verify`.
"""

from __future__ import annotations

import gzip
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from resd_bench.errors import UsageError
from resd_bench.files import columns, reading
from resd_bench.files.integrity import Extent, sealed, sha256
from resd_bench.files.writing import (
    check_name,
    make_folder,
    remove_folder,
    rename,
    write_atomically,
)
from resd_bench.records.checkpoints import by_update
from resd_bench.records.log_files import LogRow
from resd_bench.records.recorder import (
    FOLDERS,
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
)
from resd_bench.records.runs import RunData

KEPT = ("config.yaml", "manifest.json", "summary.json")


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
            raise UsageError(
                f"{place} exists: move it away (`results unpack` makes packed runs folders), or "
                "give another --to"
            )
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
            write_columns(lines, scratch / name, to)
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


def write_columns(lines: Sequence[bytes], log: Path, root: Path) -> Path:
    """Write a log in columns, or compressed where they would not give its lines; the file."""
    data = columns.pack_columns(lines)
    if data is not None:
        path = log.with_name(f"{log.name}{columns.COLUMNS_SUFFIX}")
    else:
        # No time stamp, so that equal records give equal bytes.
        path, data = log.with_name(f"{log.name}.gz"), gzip.compress(b"".join(lines), mtime=0)
    write_atomically(path, data, root)
    return path


def _place(run: RunData, to: Path) -> Path:
    env = check_name(str(run.settings["env"]), f"{run.folder}: environment")
    return to / env / check_name(run.method, f"{run.folder}: method") / f"seed-{run.seed}"
