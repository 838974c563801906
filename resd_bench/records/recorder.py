"""The run directory: what is written during a run, and how it is resumed.

    config.yaml manifest.json status.json summary.json
    metrics.jsonl episodes.jsonl evals.jsonl     append-only, one JSON object per line
    context/update-0004.json                     what the method wrote and remembers
    traces/update-0004.json                      losses of single tokens, if requested
    answers/update-0004.jsonl.gz                 what was said in an evaluation, by default the last
    checkpoints/update-00000004.ckpt             the last two, atomic

Every log row names the update after which it was true. Resuming uses the newest intact
checkpoint and moves later rows to `*.orphaned`; nothing measured is deleted.
Left out: Parquet.
"""

from __future__ import annotations

import gzip
import json
import math
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import IO, Any, Literal

from resd_bench.agent import State
from resd_bench.budget import Ledger
from resd_bench.config import RunConfig, differences
from resd_bench.distributed.process_group import ProcessGroup, rank0_first
from resd_bench.errors import UsageError, reason_of
from resd_bench.files import reading
from resd_bench.files.integrity import (
    CHECKSUM,
    Extent,
    file_sha256,
    files_sha256,
    is_intact,
    sealed,
    sha256,
)
from resd_bench.files.writing import (
    append_to,
    make_folder,
    open_lock,
    refuse_links,
    remove,
    rename,
    write_all,
    write_atomically,
)
from resd_bench.records import schema
from resd_bench.records.checkpoints import (
    Checkpoint,
    CorruptCheckpoint,
    by_update,
    checkpoint_files,
    checkpoint_path,
    load_checkpoint,
    save_checkpoint,
)
from resd_bench.records.log_files import (
    LOG_SUFFIXES,
    Logged,
    LogRow,
    LogScan,
    read_log,
    scan_log,
    truncate_log,
)
from resd_bench.types import Group, Trajectory

LOGS = ("metrics.jsonl", "episodes.jsonl", "evals.jsonl")
LOG_FILES = tuple(f"{name}{suffix}" for name in LOGS for suffix in LOG_SUFFIXES)
"""The names that a log may have."""
WHOLE = ("config.yaml", "manifest.json", "summary.json")
"""Files that are hashed when a run finishes, besides the logs and `FOLDERS`."""
FOLDERS = {"context": ".json", "traces": ".json", "answers": ".jsonl.gz"}
"""Folders with a file for an update, and the suffix of these files."""
SAID = ("turns", "unread", "feedback", "cases")
"""Fields of an evaluation's row that are kept in `answers`, those that it has."""
RunState = Literal["new", "running", "interrupted", "failed", "finished"]


def plain(value: Any) -> Any:
    """`value` for JSON: NaN and infinities become null, arrays lists, other types text."""
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if isinstance(value, str | int | bool | None) else str(value)


def to_line(row: Mapping[str, Any]) -> bytes:
    """One line of JSON; ASCII, so that lone surrogates survive."""
    return json.dumps(plain(row), allow_nan=False).encode() + b"\n"


def write_json(path: Path, value: Mapping[str, Any], root: Path | None = None) -> None:
    """Write a JSON file atomically; no link below `root` is followed."""
    text = json.dumps(plain(value), indent=2, allow_nan=False)
    write_atomically(path, text.encode() + b"\n", root)


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object of a file, {} if there is none; UsageError if it is damaged."""
    try:
        loaded = reading.parse_json(reading.read_bytes(path))
        if not isinstance(loaded, dict):
            raise ValueError("it does not hold an object")
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError) as error:
        raise damaged(path, str(error)) from None
    return loaded


def damaged(path: Path, why: str, remedy: str | None = None) -> UsageError:
    """The error for a file of a run folder that is not as it was written, with the remedy."""
    return UsageError(f"{path} is damaged ({why}): {remedy or REMEDIES.get(path.name, REMEDY)}")


REMEDY = "restore it from a copy, or move the run's folder away and run it again"
REMEDIES = {
    "status.json": "restore it from a copy; or, if the run still has its checkpoints, delete it "
    "and use --resume",
    "manifest.json": "restore it from a copy; or, to resume an unfinished run, delete it and "
    "use --resume",
}
"""Remedies for files that a run can do without."""


def read_status(folder: Path) -> dict[str, Any]:
    """The content of `status.json`, {} if there is none; UsageError if it is damaged."""
    path = folder / "status.json"
    row = read_json(path)
    # Records from before there were checksums have neither.
    if (CHECKSUM in row or "files" in row) and not is_intact(row):
        raise damaged(path, "its checksum does not match")
    if problem := schema.mistyped("status", row):
        raise damaged(path, problem)
    return row


@dataclass
class Recorder:
    """Writes one run directory."""

    folder: Path
    config: RunConfig
    state: RunState = "new"
    notes: list[str] = field(default_factory=list)
    """Notes for the user on what happened while the folder was opened."""
    logged: dict[str, Logged] = field(default_factory=lambda: {name: Logged() for name in LOGS})
    _files: dict[str, IO[bytes]] = field(default_factory=dict)
    _lock: IO[bytes] | None = None

    @property
    def root(self) -> Path:
        """The folder given by the user: links below it are not followed."""
        out = Path(self.config.out)
        return out if self.folder.is_relative_to(out) else self.folder

    def log(self, name: str, rows: Iterable[Mapping[str, Any]]) -> None:
        """Append rows to a log, in one write that survives a kill."""
        self._check_place()
        if name not in self._files:
            self._files[name] = append_to(self.folder / name, self.root)
        lines = [to_line(row) for row in rows]
        write_all(self._files[name], b"".join(lines))
        self.logged[name].add(lines)

    def context(self, update: int, context: Mapping[str, Any]) -> None:
        """Write what the method wrote and remembers after `update` updates."""
        content = json.dumps(plain(context), indent=2).encode() + b"\n"
        self._numbered("context", update, content)

    def evaluation(self, update: int, rows: Sequence[LogRow]) -> None:
        """Log rows of an evaluation; their texts are written to `answers`, where they are kept."""
        self.log("evals.jsonl", [{k: v for k, v in r.items() if k not in SAID} for r in rows])
        if rows and self.config.keep_texts != "none":
            names = ("panel", "task", "sample", *SAID)
            texts = [{name: row[name] for name in names if name in row} for row in rows]
            lines = [*self._said_elsewhere(update, texts), *map(to_line, texts)]
            self._numbered("answers", update, gzip.compress(b"".join(lines), 6, mtime=0))

    def _said_elsewhere(self, update: int, texts: Sequence[LogRow]) -> list[bytes]:
        """The lines that `answers` holds of other evaluations after the same update."""
        path = self.folder / "answers" / f"update-{update:04d}{FOLDERS['answers']}"
        panels = {row.get("panel") for row in texts}
        try:
            old = list(reading.read_lines(path)) if path.exists() else []
            return [line for line in old if reading.parse_json(line).get("panel") not in panels]
        except (OSError, ValueError) as error:
            raise damaged(path, str(error), "remove it, and use --resume") from None

    def drop_answers(self) -> None:
        """Remove what was said in all evaluations but the last one, unless all is to be kept."""
        if self.config.keep_texts == "last":
            held = list(by_update(self.folder / "answers", FOLDERS["answers"]).values())
            for path in held[:-1]:
                remove(path, self.root)

    def trace(self, update: int, trace: Mapping[str, Any]) -> None:
        """Write the losses of update `update`, token by token."""
        self._numbered("traces", update, to_line(trace))

    def _numbered(self, name: str, update: int, content: bytes) -> None:
        self._check_place()
        place = make_folder(self.folder / name, self.root)
        write_atomically(place / f"update-{update:04d}{FOLDERS[name]}", content, self.root)

    def checkpoint(self, update: int, state: State) -> None:
        """Make everything logged so far durable, then write a checkpoint that relies on it."""
        self._check_place()
        for file in self._files.values():
            os.fsync(file.fileno())
        rows = {name: log.rows for name, log in self.logged.items()}
        digests = {name: log.sha256 for name, log in self.logged.items()}
        folder = self.folder / "checkpoints"
        save_checkpoint(folder, Checkpoint(update, rows, state, digests), self.root)

    def status(self, state: RunState, **facts: Any) -> None:
        """Write the state of the run; for a finished one also the hashes of its files."""
        self._check_place()
        files = {"files": self._written()} if state == "finished" else {}
        self.state = state
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S%z")
        row = {"state": state, "digest": self.config.digest(), "pid": os.getpid(), "at": stamp}
        write_json(self.folder / "status.json", sealed(plain(row | facts | files)), self.root)

    def _written(self) -> dict[str, Any]:
        """The hashes that readers will check; UsageError if a log is not as it was written."""
        for name, log in self.logged.items():
            path = self.folder / name
            if log.sha256 != (file_sha256(path) if path.exists() else sha256(b"")):
                raise damaged(path, "it changed while the run was writing it")
        logs = {name: Extent(log.rows, log.sha256) for name, log in self.logged.items()}
        return files_of(self.folder, logs)

    def _check_place(self) -> None:
        """UsageError if the folder or a log was deleted, moved or replaced during the run."""
        open_files = {self.folder / name: file for name, file in self._files.items()}
        if self._lock is not None:
            open_files[self.folder / ".lock"] = self._lock
        for path, file in open_files.items():
            if not _is_at(path, file):
                raise UsageError(
                    f"{path} was deleted, moved or replaced while the run was writing there, so it "
                    f"ended: restore it and use --resume, or move {self.folder} away and run again"
                )

    def close(self) -> None:
        """Close the logs and release the folder."""
        for file in self._files.values():
            file.close()
        self._files.clear()
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def lock(self) -> None:
        """Lock the folder; UsageError names the process that holds it."""
        for left in range(LOCK_TRIES, 0, -1):
            try:
                self._lock = lock_folder(self.folder, self.root)
                return
            except BlockingIOError:
                if left > 1:
                    time.sleep(LOCK_WAIT)
        raise _held(self.folder)


def refuse_held(folder: Path) -> None:
    """UsageError where another process holds the run folder, and names it."""
    for _ in range(LOCK_TRIES):
        if not is_held(folder):
            return
        time.sleep(LOCK_WAIT)
    raise _held(folder)


def _held(folder: Path) -> UsageError:
    return UsageError(
        f"{folder} is being written by another process: {holder(folder)}. Wait for it, stop it, "
        "or give another --out or --seed"
    )


LOCK_TRIES, LOCK_WAIT = 4, 0.1
"""How often a lock is tried, and the seconds between: readers hold it for a moment."""


def lock_folder(folder: Path, root: Path) -> IO[bytes] | None:
    """Lock a folder until the returned file is closed; BlockingIOError if another process has it.

    None if the system has no such locks; UsageError if the file system has none, or there is a link
    at or below `root`.
    """
    try:
        import fcntl
    except ImportError:
        return None
    file = open_lock(folder / ".lock", root)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise
    except OSError as error:
        file.close()
        raise UsageError(
            f"{folder} cannot be locked ({error.strerror}): give an --out on another file system"
        ) from None
    file.truncate(0)
    write_all(file, str(os.getpid()).encode())
    return file


def is_held(folder: Path) -> bool:
    """Whether a process holds the run folder."""
    if not (folder / ".lock").exists():
        return False
    try:
        file = lock_folder(folder, folder)
    except BlockingIOError:
        return True
    except (OSError, UsageError):
        return False
    if file is not None:
        file.close()
    return False


def holder(folder: Path) -> str:
    """The process that holds a run folder, in words, as far as the system tells."""
    lock = folder / ".lock"
    try:
        taken_by = reading.read_text(lock, limit=100, follow=False).strip() or "unknown"
    except (OSError, ValueError):
        taken_by = "unknown"
    # Forked children inherit a lock, which lasts as long as one of them.
    found = {pid: _command(pid) for pid in _having_open(lock)}
    if not found or taken_by in found:
        return f"process {taken_by}" + (f" ({found[taken_by]})" if taken_by in found else "")
    named = ", ".join(f"{pid} ({command})" for pid, command in found.items())
    return (
        f"process {taken_by}, which took it, has ended, but left {named} behind, which holds it "
        f"still: kill {' '.join(found)}"
    )


def _having_open(path: Path) -> list[str]:
    """Ids of the other processes that have a file open, as far as /proc tells."""
    found = set()
    for entry in Path("/proc").glob("[0-9]*/fd/*"):
        with suppress(OSError):
            if os.path.samefile(entry, path):
                found.add(entry.parts[2])
    return sorted(found - {str(os.getpid())}, key=int)


def _command(pid: str) -> str:
    with suppress(OSError, ValueError):
        words = reading.read_bytes(Path(f"/proc/{pid}/cmdline")).decode(errors="replace")
        return " ".join(words.replace("\0", " ").split())[:120]
    return ""


def _is_at(path: Path, file: IO[bytes]) -> bool:
    """Whether `path` is still the file that was opened."""
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except OSError:
        return False


def files_of(folder: Path, logs: Mapping[str, Extent]) -> dict[str, Any]:
    """The hashes of a finished run's files, for its `status.json`."""
    whole = {
        name: {"sha256": file_sha256(folder / name)} for name in WHOLE if (folder / name).is_file()
    }
    rows = {name: {"rows": log.rows, "sha256": log.sha256} for name, log in logs.items()}
    inside = {name: list(by_update(folder / name, end).values()) for name, end in FOLDERS.items()}
    folders = {
        name: {"files": len(paths), "sha256": files_sha256(paths)}
        for name, paths in inside.items()
        if paths
    }
    return whole | rows | folders


def run_state(config: RunConfig, *, resume: bool = False) -> RunState:
    """The state of the run folder of `config`, read-only.

    A finished run of a smaller budget counts as interrupted. UsageError if the folder holds
    another configuration, an unfinished run without `resume`, or something that is not a run.
    """
    folder = config.folder()
    saved = folder / "config.yaml"
    if not saved.exists():
        if folder.exists() and not all(_is_scrap(path) for path in folder.iterdir()):
            raise UsageError(
                f"{folder} is not empty and has no config.yaml, so it is not a run: "
                "give another --out, or move it away"
            )
        if reading.is_file(saved):
            raise UsageError(
                f"{folder} is a kept run in a pack: give another --out, or make it a folder "
                f"(`resd-bench results unpack {folder.parent}`)"
            )
        return "new"
    if not has_measured(folder):
        return "new"
    old = _refuse_other(config, saved)
    state: RunState = read_status(folder).get("state", "new")
    if old.budget != config.budget:
        state = _with_another_budget(config, old, state, resume)
    if state != "finished" and not resume:
        raise UsageError(
            f"{folder} holds an unfinished run ({state}) of this configuration: "
            "add --resume to continue it, or give another --out"
        )
    return state


def has_measured(folder: Path) -> bool:
    """Whether a run has logged anything there."""
    logs = (folder / name for name in LOG_FILES)
    return any(path.stat().st_size for path in logs if path.exists())


def _is_scrap(path: Path) -> bool:
    """Whether a file is only a remnant of a run that was killed at its start."""
    return path.name == ".lock" or path.name.endswith(".tmp")


def open_run(config: RunConfig, *, resume: bool = False) -> Recorder:
    """Create or resume the run folder of `config`, locked against others; see `run_state`."""
    folder = config.folder()
    recorder = Recorder(folder, config)
    _make_folder(folder, recorder.root)
    recorder.lock()
    refuse_links(folder)
    state = run_state(config, resume=resume)
    # A folder in which nothing has been measured yet may be reused with other settings.
    if state == "new":
        write_atomically(folder / "config.yaml", config.to_yaml().encode(), recorder.root)
    elif state != "finished":
        _take_on(recorder, _refuse_other(config, folder / "config.yaml"))
    return recorder


def _take_on(recorder: Recorder, old: RunConfig) -> None:
    """Replace the budget of `old` in the folder."""
    budget = recorder.config.budget
    if old.budget != budget:
        # First, the run is no longer finished.
        recorder.status("interrupted")
        text = replace(old, budget=budget).to_yaml()
        write_atomically(recorder.folder / "config.yaml", text.encode(), recorder.root)


def _make_folder(folder: Path, root: Path) -> None:
    try:
        make_folder(folder, root)
    except OSError as error:
        raise UsageError(
            f"cannot write to {folder}: {reason_of(error)}. Give another --out"
        ) from None


def _with_another_budget(
    config: RunConfig, old: RunConfig, state: RunState, resume: bool
) -> RunState:
    """The state of a run to the budget of `old` as one to that of `config`; UsageError if invalid.

    Nothing that is learned or measured depends on where a run will end: a warm-up has its number.
    """
    folder, budget = config.folder(), config.parsed_budget()
    ledgers = [Ledger.from_row(row) for row in read_log(folder / "metrics.jsonl")]
    exhausted = [budget.exhausted(ledger) for ledger in ledgers]
    if any(exhausted[:-1]):
        spent = budget.spent(ledgers[-1])
        raise UsageError(
            f"{folder} holds a run to --budget {old.budget}, which has spent {spent:g} of "
            f"{config.budget}: a run cannot be taken back. `compare --budget {config.budget}` "
            "looks at it there; for a shorter run give another --out"
        )
    if state != "finished":
        return state
    if any(exhausted):
        return "finished"
    if not checkpoint_files(folder / "checkpoints"):
        raise UsageError(
            f"{folder} holds a run that finished at --budget {old.budget}, and its checkpoints are "
            f"gone: it cannot be taken on to {config.budget}. Give another --out"
        )
    if not resume:
        raise UsageError(
            f"{folder} holds a run that finished at --budget {old.budget}: add --resume to take it "
            f"on to {config.budget}, or give another --out"
        )
    return "interrupted"


GOES_ON = frozenset({"budget", "model_revision"})
"""Settings of results in which a run may differ from its resumption: a change of the budget is
checked, and the content of models is compared."""


def _refuse_other(config: RunConfig, saved: Path) -> RunConfig:
    """The saved configuration; UsageError if it differs from `config`."""
    remedy = f"give another --out, use the same settings (--config {saved}), or move it away"
    try:
        old = RunConfig.of_record(saved)
    except UsageError as error:
        raise UsageError(
            f"{saved} is not a configuration of this version ({error}): {remedy}"
        ) from None
    free = GOES_ON if has_content(saved.parent, "model.") else GOES_ON - {"model_revision"}
    if changed := differences(old, config, free):
        shown = "; ".join(changed[:8]) + (f"; and {len(changed) - 8} more" * (len(changed) > 8))
        own = ""
        if len(changed) == 1 and old.budget != config.budget and "warmup_updates:" in changed[0]:
            own = (
                " The warm-up is a share of the run, so a longer run has a longer one; to go on "
                f"with the one it began, add --warmup-updates {old.warmup_updates}."
            )
        raise UsageError(
            f"{saved.parent} already holds another configuration. {shown}.{own} "
            f"To keep both, {remedy}"
        )
    return old


def has_content(folder: Path, beginning: str) -> bool:
    """Whether the manifest of a run has hashes of content; see `resd_bench.records.content`."""
    known = read_json(folder / "manifest.json").get("identity") or {}
    return any(key.startswith(beginning) for key in known)


def recover(recorder: Recorder) -> Checkpoint | None:
    """The newest intact checkpoint that the logs support, with the logs truncated to it.

    None if the run never wrote one (all log rows are moved aside). UsageError if there are
    checkpoints but none can be used.
    """
    folder = recorder.folder
    logs = {name: scan_log(folder / name) for name in LOGS}
    files = checkpoint_files(folder / "checkpoints")
    chosen: Checkpoint | None = None
    logged = {name: Logged() for name in LOGS}
    refused: list[Path] = []
    for path in files:
        try:
            checkpoint = load_checkpoint(path)
            logged = _logged_by_then(checkpoint, logs, path)
            chosen = checkpoint
            break
        except CorruptCheckpoint as error:
            recorder.notes.append(f"checkpoint skipped: {error}")
            refused.append(path)
    if files and chosen is None:
        raise UsageError(
            f"no checkpoint in {folder / 'checkpoints'} can be used ("
            + "; ".join(recorder.notes)
            + f"). Restore the file from a copy, or move {folder} away (what it has measured stays "
            "in its logs) and start again without --resume"
        )
    for path in refused:
        rename(path, f"{path.name}.damaged", recorder.root)
    update = -1 if chosen is None else chosen.update
    root = recorder.root
    moved = {name: truncate_log(log, logged[name].rows, root) for name, log in logs.items()}
    for kind in FOLDERS:
        _orphan_later(folder, kind, update, root)
    recorder.logged = logged
    if any(moved.values()):
        parts = [f"{count} of {name}" for name, count in moved.items() if count]
        recorder.notes.append(f"rows after update {update} moved to *.orphaned: {', '.join(parts)}")
    return chosen


def _logged_by_then(
    checkpoint: Checkpoint, logs: Mapping[str, LogScan], path: Path
) -> dict[str, Logged]:
    """What the logs held at a checkpoint; CorruptCheckpoint if they no longer do."""
    logged = {}
    for name, log in logs.items():
        extent = checkpoint.extent(name)
        # Without a hash, only the number of rows by then is known.
        there = log.rows if extent.sha256 else log.rows_until(checkpoint.update)
        if there < extent.rows or (extent.sha256 is None and there > extent.rows):
            raise CorruptCheckpoint(
                f"{path.name} relies on {extent.rows} rows of {name}, which has {there} whole ones"
            )
        logged[name] = log.first(extent.rows)
        if extent.sha256 not in (None, logged[name].sha256):
            raise CorruptCheckpoint(
                f"{path.name} relies on {extent.rows} rows of {name}, which are no longer what was "
                "written"
            )
    return logged


def _orphan_later(folder: Path, kind: str, update: int, root: Path) -> None:
    for number, path in by_update(folder / kind, FOLDERS[kind]).items():
        if number > update:
            rename(path, f"{path.name}.orphaned", root)


class NullRecorder(Recorder):
    """What processes other than rank 0 have for the run folder: it writes nothing.

    All processes see the same folder: on several machines, `--out` is on storage that they share.
    """

    def log(self, name: str, rows: Iterable[Mapping[str, Any]]) -> None:
        pass

    def context(self, update: int, context: Mapping[str, Any]) -> None:
        pass

    def trace(self, update: int, trace: Mapping[str, Any]) -> None:
        pass

    def evaluation(self, update: int, rows: Sequence[LogRow]) -> None:
        pass

    def drop_answers(self) -> None:
        pass

    def checkpoint(self, update: int, state: State) -> None:
        pass

    def status(self, state: RunState, **facts: Any) -> None:
        self.state = state


def open_together(config: RunConfig, process_group: ProcessGroup, *, resume: bool) -> Recorder:
    """The run folder, open in the first process of `process_group`; see `open_run`."""
    return rank0_first(
        process_group,
        lambda: open_run(config, resume=resume),
        lambda: NullRecorder(config.folder(), config),
    )


def recover_together(recorder: Recorder, process_group: ProcessGroup) -> Checkpoint | None:
    """The checkpoint to resume from, the same in all processes; see `recover`."""
    found = rank0_first(process_group, lambda: recover(recorder), lambda: None)
    update = process_group.broadcast_from_rank0(lambda: None if found is None else found.update)
    if update is None or found is not None:
        return found
    return load_checkpoint(checkpoint_path(recorder.folder / "checkpoints", update))


def episode_rows(groups: Sequence[Group], update: int, first_attempt: int) -> list[LogRow]:
    """Whole episodes as rows, with the number of tokens instead of ids and log-probabilities."""
    return [
        {"update": update, "task": group.task.id, "attempt": first_attempt + j} | told(attempt)
        for group in groups
        for j, attempt in enumerate(group.trajectories)
    ]


def told(attempt: Trajectory) -> LogRow:
    """What was said in an attempt, and its verdict."""
    # A turn repeats the whole conversation; the log has only what follows the last answer.
    turns = [
        {
            "messages": [asdict(message) for message in turn.messages[-1 if t else 0 :]],
            "response": turn.completion.text,
            "tokens": turn.completion.tokens,
            "stop": turn.completion.stop.value,
        }
        | ({"feedback": asdict(turn.feedback)} if turn.feedback else {})
        for t, turn in enumerate(attempt.turns)
    ]
    feedback = attempt.feedback
    return {
        "turns": turns,
        "success": feedback.success,
        "reward": feedback.reward,
        "score": feedback.score,
        "kind": feedback.kind,
        "feedback": feedback.text,
        "cases": [{"name": c.name, "passed": c.passed, "kind": c.kind} for c in feedback.cases],
        "stop": attempt.stop.value,
        "error": attempt.error,
        "metrics": dict(attempt.feedback.metrics),
    } | ({"unread": attempt.unread} if attempt.unread else {})
