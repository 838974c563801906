"""Read a run folder, and refuse files that are not as the run wrote them.

All records are read here. Files of a finished run are checked against `files` in its `status.json`
(row counts and SHA-256); those of a running one against its newest checkpoint, and rows that it
does not cover are not on record yet; those of a finished run from before these hashes against its
settings and its summary. Left out: what rows mean, see `resd_bench.records.runs`.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatch
from glob import glob
from itertools import islice
from pathlib import Path
from typing import Any

from resd_bench.config import RunConfig, load_file
from resd_bench.errors import UsageError
from resd_bench.files import columns, packs, reading
from resd_bench.files.integrity import Extent, file_sha256, files_sha256
from resd_bench.records import schema
from resd_bench.records.checkpoints import (
    Checkpoint,
    CorruptCheckpoint,
    by_update,
    checkpoint_files,
    describe_checkpoint,
)
from resd_bench.records.jsonl import Line, read_objects
from resd_bench.records.log_files import LogRow, lines_of, log_file, row_of
from resd_bench.records.recorder import (
    FOLDERS,
    LOG_FILES,
    LOGS,
    REMEDY,
    WHOLE,
    damaged,
    read_json,
    read_status,
)

EVALS, METRICS, EPISODES = "evals.jsonl", "metrics.jsonl", "episodes.jsonl"
HELD_OUT = "held-out"
"""What the reported evaluation is called, whose rows name no `panel`."""
SUFFIX = ".tmp"
"""Suffix of incomplete files and folders, which a kill may leave behind."""


def run_folders(root: Path) -> list[Path]:
    """The run folders at or below `root`, except incomplete ones; packed ones too.

    One that has lost its `config.yaml` is included, so that the loss is noticed. UsageError if a
    pack is damaged.
    """
    if not root.exists() and is_run(root):
        return [root]
    found = []
    for folder, names in _walk(root):
        if packs.PACK_NAME in names:
            found += _packed(folder)
        if not _OF_RUNS.isdisjoint(names):
            found.append(folder)
    return sorted(found)


def packs_below(root: Path) -> list[Path]:
    """The packs of runs at or below `root`, sorted."""
    return sorted(folder / packs.PACK_NAME for folder, own in _walk(root) if packs.PACK_NAME in own)


_OF_RUNS = {"config.yaml", "status.json"}
"""Files by which the folder of a run is known."""


def _walk(root: Path) -> Iterator[tuple[Path, Sequence[str]]]:
    """The folders at and below `root` with the names of their files, except incomplete ones."""
    for folder, inside, names in os.walk(root):
        inside[:] = [name for name in inside if not name.endswith(SUFFIX)]
        yield Path(folder), names


def matching(pattern: str) -> list[Path]:
    """The files and folders, packed run folders too, that a path or glob means; [] for none.

    UsageError if a pack is damaged.
    """
    hits = [Path(path) for path in sorted(glob(pattern, recursive=True))]
    parent, name = os.path.split(pattern.rstrip("/"))
    nearby = [Path(path) for path in glob(os.path.join(parent, packs.PACK_NAME), recursive=True)]
    packed = [place for pack in nearby for place in _packed(pack.parent)]
    whole = {place for hit in hits if hit.name == packs.PACK_NAME for place in _packed(hit.parent)}
    named = {place for place in packed if fnmatch(place.name, name)}
    return sorted({hit for hit in hits if hit.name != packs.PACK_NAME} | named | whole)


def _packed(folder: Path) -> list[Path]:
    """The run folders in the pack of a folder, except those that are there as well.

    UsageError if the pack is damaged, or something that is no run hides one of its runs.
    """
    try:
        places = [folder / name for name in reading.packed_folders(folder / packs.PACK_NAME)]
    except (OSError, ValueError) as error:
        raise damaged(folder / packs.PACK_NAME, str(error)) from None
    there = [place for place in places if os.path.lexists(place)]
    for place in there:
        if not any((place / name).is_file() for name in _OF_RUNS):
            raise UsageError(
                f"{place} is in the place of the packed run of its name and is no run: move it away"
            )
    return [place for place in places if place not in there]


def is_run(folder: Path) -> bool:
    """Whether there is a run folder, or a packed one; UsageError if the pack is damaged."""
    try:
        return reading.is_file(folder / "config.yaml")
    except (OSError, ValueError) as error:
        raise damaged(folder.with_name(packs.PACK_NAME), str(error)) from None


def is_log(path: Path) -> bool:
    """Whether a file is a log, plain or packed, of the run folder that it is in."""
    return path.name in LOG_FILES and is_run(path.parent)


@dataclass(frozen=True)
class RunFiles:
    """A run folder to read from; everything is as the run wrote it, or a UsageError."""

    folder: Path
    status: Mapping[str, Any]

    @classmethod
    def at(cls, folder: Path) -> RunFiles:
        """The run in `folder`; UsageError if it is not one or its `status.json` is damaged."""
        if not is_run(folder):
            raise UsageError(
                f"{folder} is not a run folder (no config.yaml): give one that `run` wrote, or "
                "restore the file from a copy"
            )
        return cls(folder, read_status(folder))

    @property
    def finished(self) -> bool:
        """Whether the run is finished."""
        return bool(self.status.get("state") == "finished")

    @property
    def vouched(self) -> Mapping[str, Mapping[str, Any]]:
        """The recorded hashes of a finished run's files, by name; empty if there are none."""
        files: Mapping[str, Mapping[str, Any]] = self.status.get("files", {})
        return files if self.finished else {}

    @property
    def unvouched(self) -> bool:
        """Whether the run has no hashes: it is older than them, or made by hand."""
        alone = not self.status and not checkpoint_files(self.folder / "checkpoints")
        return alone or (self.finished and not self.vouched)

    def settings(self) -> dict[str, Any]:
        """Its config.yaml as a mapping; settings that were added later are missing."""
        self._check_whole("config.yaml")
        return load_file(self.folder / "config.yaml")

    def config_text(self) -> str:
        """Its config.yaml, unchanged."""
        self._check_whole("config.yaml")
        path = self.folder / "config.yaml"
        try:
            return reading.read_bytes(path, reading.MAX_YAML).decode("utf-8", "replace")
        except (OSError, ValueError) as error:
            raise damaged(path, str(error)) from None

    def config(self) -> RunConfig:
        """Its config.yaml; UsageError also if this version cannot read it."""
        return RunConfig.from_yaml(self.config_text(), str(self.folder / "config.yaml"))

    def json(self, name: str) -> dict[str, Any]:
        """`manifest.json` or `summary.json`, {} if there is none."""
        self._check_whole(name)
        row = read_json(self.folder / name)
        if problem := schema.mistyped(name.removesuffix(".json"), row):
            raise damaged(self.folder / name, problem)
        return row

    def numbered(self, kind: str) -> dict[int, dict[str, Any]]:
        """The content of `context` or `traces`, by update; {} if there is none."""
        return {update: read_json(path) for update, path in self._numbered(kind).items()}

    def answers(self) -> list[LogRow]:
        """Rows of evaluations with what was said, as far as it was kept (`--keep-texts`).

        The texts of evaluations that are on record; [] if the run kept none, or is older than them.
        """
        paths = self._numbered("answers")
        rows = {self._place(row): row for row in self.stream(EVALS) if row["update"] in paths}
        found = []
        for update in dict.fromkeys(row["update"] for row in rows.values()):
            for said in read_objects(paths[update], "restore it from a copy, or remove it"):
                check_said(said)
                if (row := rows.get(self._place({"update": update, **said.row}))) is not None:
                    found.append(row | said.row)
        return found

    @staticmethod
    def _place(row: LogRow) -> tuple[Any, ...]:
        return row["update"], row.get("panel"), row.get("task"), row.get("sample")

    def _numbered(self, kind: str) -> dict[int, Path]:
        """The files of one of `FOLDERS` by update, as the run wrote them."""
        paths = by_update(self.folder / kind, FOLDERS[kind])
        known = self.vouched.get(kind)
        # A kept record has none of them, and says so.
        if paths and self.vouched and (known or {}).get("sha256") != files_sha256(paths.values()):
            raise damaged(self.folder / kind, "its files are not as the run wrote them")
        return paths

    def rows(self, log: str) -> list[LogRow]:
        """All rows of a log that are on record."""
        return list(self.stream(log))

    def stream(self, log: str) -> Iterator[LogRow]:
        """The rows of a log that are on record, one by one; the whole log is checked first."""
        path = self._log(log) or self.folder / log
        if columns.in_columns(path):
            yield from self._columns(log, path)
            return
        for number, line in enumerate(self.lines(log), start=1):
            yield _row(line, number, path)

    def _columns(self, log: str, path: Path) -> list[LogRow]:
        """The rows of a log in columns, which are checked by the lines that they stand for."""
        extent, rows = self._extent(log), _in_columns(path)
        if extent is not None:
            digest = hashlib.sha256()
            for row in rows:
                digest.update(columns.line_of(row))
            refuse_other(path, Extent(len(rows), digest.hexdigest()), extent, REMEDY)
        for number, row in enumerate(rows, start=1):
            if type(row.get("update")) is not int:
                raise damaged(path, f"row {number} has no update number")
        return rows

    def lines(self, log: str) -> Iterator[bytes]:
        """The lines of a log that are on record, as they were written."""
        extent, path = self._extent(log), self._log(log)
        if path is None:
            if extent is not None and extent.rows:
                raise damaged(self.folder / log, f"it is missing, with {extent.rows} rows")
            return
        if extent is not None:
            self._check_log(path, extent)
        with _opened(path) as lines:
            yield from lines if extent is None else islice(lines, extent.rows)

    def check(self) -> None:
        """UsageError if any file of a finished run is not as the run wrote it."""
        for name in self.vouched:
            if name in WHOLE:
                self._check_whole(name)
            elif name in LOGS:
                deque(self.lines(name), maxlen=0)
            elif name in FOLDERS:
                self._numbered(name)

    def check_own(self, checkpoint: Checkpoint) -> None:
        """UsageError if a checkpoint does not fit what this run has logged."""
        for name in (METRICS, EVALS):
            path, extent = self._log(name), checkpoint.extent(name)
            if path is not None and extent.sha256 is not None:
                found = self._measure(path, extent.rows)
                if found != extent:
                    raise UsageError(
                        f"{self.folder}: the checkpoint after {checkpoint.update} updates relies "
                        f"on {extent.rows} rows of {name} that are not there: it is of another "
                        "run, or the log is damaged. Restore them from a copy"
                    )

    def _check_whole(self, name: str) -> None:
        known, path = self.vouched.get(name), self.folder / name
        if known is None:
            return
        if not reading.is_file(path):
            raise damaged(path, "it is missing")
        if file_sha256(path) != known["sha256"]:
            raise damaged(path, "its SHA-256 differs from the one that the run recorded")

    def _log(self, log: str) -> Path | None:
        """Path of a log in whatever form."""
        return log_file(self.folder / log)

    def _extent(self, log: str) -> Extent | None:
        """How far a log is on record; None for all of it if there is no hash."""
        if self.unvouched:
            return None
        if self.finished:
            known = self.vouched.get(log, {})
            return Extent(known.get("rows", 0), known.get("sha256"))
        covered = self._newest_checkpoint()
        return Extent(0) if covered is None else covered.extent(log)

    def _newest_checkpoint(self) -> Checkpoint | None:
        """The first line of the newest checkpoint whose first line is intact."""
        for path in checkpoint_files(self.folder / "checkpoints"):
            try:
                return describe_checkpoint(path)
            except CorruptCheckpoint:
                continue
        return None

    def _check_log(self, path: Path, extent: Extent) -> None:
        """UsageError if the log (of an unfinished run, its beginning) does not match `extent`."""
        found = self._measure(path, None if self.finished else extent.rows)
        remedy = REMEDY if self.finished else "use --resume, which goes back to what is intact"
        refuse_other(path, found, extent, remedy)

    def _measure(self, path: Path, most: int | None) -> Extent:
        """Length and hash of the first `most` rows of a log, or of all of it."""
        digest, rows = hashlib.sha256(), 0
        with _opened(path) as lines:
            for line in islice(lines, most):
                rows += line.endswith(b"\n")
                digest.update(line)
        return Extent(rows, digest.hexdigest())


def refuse_other(path: Path, found: Extent, recorded: Extent, remedy: str) -> None:
    """UsageError if what was found in a log is not what was recorded."""
    if found.rows != recorded.rows:
        raise damaged(path, f"it has {found.rows} whole rows of {recorded.rows}", remedy)
    if recorded.sha256 not in (None, found.sha256):
        raise damaged(path, f"its {found.rows} rows are not what the run wrote", remedy)


def check_said(line: Line) -> None:
    """UsageError if a line does not hold what was said in an attempt, see the schema `answers`."""
    missing = [name for name in schema.load("answers")["required"] if name not in line.row]
    if problem := f"it has no {missing[0]!r}" if missing else schema.mistyped("answers", line.row):
        raise UsageError(f"{line.where}: {problem}; expected a row with texts, as `eval --out` has")


def _in_columns(path: Path) -> list[LogRow]:
    try:
        return columns.read_columns(path)
    except (OSError, reading.Unreadable) as error:
        raise damaged(path, str(error)) from None


@contextmanager
def _opened(path: Path) -> Iterator[Iterable[bytes]]:
    """The lines of a log in whatever form; UsageError if it cannot be read."""
    try:
        yield lines_of(path)
    except (OSError, reading.Unreadable) as error:
        raise damaged(path, str(error)) from None


def _row(line: bytes, number: int, path: Path) -> LogRow:
    try:
        return row_of(line)
    except ValueError as error:
        raise damaged(path, f"line {number}: {error}") from None


def check_evals(rows: Sequence[LogRow], path: Path) -> list[LogRow]:
    """Rows of evaluations, each (update, panel, task, sample) once.

    A row that occurs twice, word for word, counts once. UsageError if two rows of one sample
    differ, or a field that is read has an invalid type or range.
    """
    if problem := _mistyped_evals(rows):
        raise damaged(path, problem)
    seen: dict[tuple[Any, ...], LogRow] = {}
    for number, row in enumerate(rows, start=1):
        key = (row["update"], row.get("panel"), row["task"], row["sample"])
        if seen.setdefault(key, row) != row:
            raise damaged(
                path,
                f"row {number} is another outcome of task {str(row['task'])[:60]!r}, sample "
                f"{row['sample']}, after {row['update']} updates than an earlier row",
            )
    return list(seen.values())


_EVAL_TYPES: Mapping[str, tuple[type, ...]] = {
    "update": (int,),
    "episodes": (int,),
    "generated_tokens": (int,),
    "sample": (int,),
    "task": (str,),
    "success": (float, int, type(None)),
    "score": (float, int, type(None)),
}
"""Fields of evaluations that are read, and their types in `json`."""


def _mistyped_evals(rows: Sequence[LogRow]) -> str | None:
    """What is wrong with the types and ranges in `rows`, among distinct values for speed."""
    for kinds in {tuple(map(type, map(row.get, _EVAL_TYPES))) for row in rows}:
        for kind, (name, allowed) in zip(kinds, _EVAL_TYPES.items(), strict=True):
            if kind not in allowed:
                return f"{name} is of type {kind.__name__}"
    for name in ("success", "score"):
        for value in {row[name] for row in rows}:
            if value is not None and not 0 <= value <= 1:
                return f"{name} is {value!r}: expected a number from 0 to 1, or null"
    return None


def check_complete(
    folder: Path,
    settings: Mapping[str, Any],
    status: Mapping[str, Any],
    summary: Mapping[str, Any],
    evals: Sequence[LogRow],
    metrics: Sequence[LogRow],
) -> None:
    """UsageError if a run without hashes does not hold what its `settings` say.

    Every evaluation has `eval_samples` rows per task and the same tasks; there is one wherever
    `eval_every` asks for it; there is one row per update; and the success of the first and the last
    evaluation is that in `summary.json`. A setting that is missing is not checked.
    """
    updates = status.get("update", max((row["update"] for row in metrics), default=0))
    if [row["update"] for row in metrics] != list(range(1, updates + 1)):
        raise damaged(folder / METRICS, f"its rows are not those of updates 1 to {updates}")
    by_evaluation: dict[tuple[Any, int], Counter[str]] = defaultdict(Counter)
    for row in evals:
        by_evaluation[row.get("panel"), row["update"]][row["task"]] += 1
    every = settings.get("eval_every")
    due = {0, updates, *(range(every, updates + 1, every) if every else ())}
    if missing := due - {update for evaluation, update in by_evaluation if evaluation is None}:
        raise damaged(folder / EVALS, f"it has no evaluation after {min(missing)} updates")
    tasks: dict[Any, set[str]] = {}
    for (evaluation, update), samples in by_evaluation.items():
        same = tasks.setdefault(evaluation, set(samples))
        wanted = {settings.get("eval_samples", max(samples.values()))}
        if set(samples.values()) != wanted or set(samples) != same:
            raise damaged(folder / EVALS, f"the evaluation after {update} updates is not complete")
    limit = settings.get("eval_tasks")
    if limit is not None and len(tasks.get(None, ())) > limit:
        raise damaged(folder / EVALS, f"it has more than the {limit} tasks of its settings")
    for name, update in (("first", 0), ("last", updates)):
        _check_summary(folder, summary.get(name), evals, update)


def _check_summary(
    folder: Path, told: Mapping[str, Any] | None, evals: Sequence[LogRow], update: int
) -> None:
    own = [row for row in evals if row["update"] == update and row.get("panel") is None]
    scored = [row["success"] for row in own if row["success"] is not None]
    named = {k: v for k, v in (told or {}).items() if k.startswith("per_task_mean@")}
    for value in named.values():
        mean = sum(scored) / len(scored) if scored else None
        if value is None or mean is None:
            same = value is mean
        else:
            same = math.isclose(value, mean, abs_tol=1e-9)
        if not same:
            raise damaged(
                folder / EVALS,
                f"success after {update} updates is {mean}, and summary.json says {value}",
            )
