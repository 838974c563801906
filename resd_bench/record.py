"""The run directory: what is written while a run goes on, and how it is taken up again.

    config.yaml manifest.json status.json summary.json
    metrics.jsonl episodes.jsonl evals.jsonl     append-only, one JSON object per line
    context/update-0004.json                     what the method wrote and remembers
    traces/update-0004.json                      losses of single tokens, where asked for
    checkpoints/update-00000004.ckpt             the last two, atomic

Every log row names the update after which it was true. Resuming takes the newest intact
checkpoint, and rows that are later than it move to `*.orphaned`; nothing measured is deleted.
Left out: Parquet.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any, Literal

from resd_bench import reading
from resd_bench.agent import State
from resd_bench.checkpoints import (
    Checkpoint,
    CorruptCheckpoint,
    by_update,
    checkpoint_files,
    load_checkpoint,
    save_checkpoint,
)
from resd_bench.config import RunConfig, differences
from resd_bench.plugins import UsageError
from resd_bench.types import Group, Trajectory
from resd_bench.writing import append_to, make_folder, open_lock, rename, write_atomically

LOGS = ("metrics.jsonl", "episodes.jsonl", "evals.jsonl")
RunState = Literal["new", "running", "interrupted", "failed", "finished"]
Row = dict[str, Any]


def plain(value: Any) -> Any:
    """`value` as JSON can hold it: NaN and infinities become null, arrays lists, the rest text."""
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
    """The JSON object of a file, {} where there is none; UsageError where it is damaged."""
    if not path.exists():
        return {}
    try:
        loaded = reading.parse_json(reading.read_bytes(path))
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} is damaged ({error}): restore it from a copy") from None
    return dict(loaded)


@dataclass(frozen=True, slots=True)
class LogText:
    """The intact rows of a log, and a last line that a kill cut off."""

    rows: list[Row]
    lines: list[bytes]
    tail: bytes = b""


def read_log(path: Path) -> LogText:
    """Read a JSONL log. A damaged last line is the tail; a damaged earlier one is a UsageError."""
    lines = _log_lines(path)
    rows: list[Row] = []
    for number, line in enumerate(lines, start=1):
        try:
            if not line.endswith(b"\n"):
                raise ValueError("cut off")
            row = reading.parse_json(line)
            if not isinstance(row, dict) or not isinstance(row.get("update"), int):
                raise ValueError("not an object with an update number")
            rows.append(row)
        except ValueError as error:
            if number == len(lines):
                return LogText(rows, lines[:-1], line)
            raise UsageError(
                f"{path} line {number} is damaged ({error}) though later lines are whole. Restore "
                f"the file from a copy, or keep only the lines before it (head -n {number - 1}) "
                "and use --resume: the run repeats what is missing from an earlier checkpoint"
            ) from None
    return LogText(rows, lines)


def log_bytes(path: Path) -> bytes:
    """What `path` holds, or its compressed form beside it; nothing where there is neither."""
    return b"".join(_log_lines(path))


def _log_lines(path: Path) -> list[bytes]:
    packed = path.with_name(path.name + ".gz")
    here = next((file for file in (path, packed) if file.exists()), None)
    try:
        return [] if here is None else list(reading.read_lines(here))
    except (OSError, ValueError) as error:
        raise UsageError(f"{here} is damaged ({error}): restore it from a copy") from None


def cut_log(path: Path, log: LogText, update: int, root: Path | None = None) -> int:
    """Move rows later than `update`, and the tail, to `<name>.orphaned`; how many lines moved."""
    keep = [line for row, line in zip(log.rows, log.lines, strict=True) if row["update"] <= update]
    gone = [line for row, line in zip(log.rows, log.lines, strict=True) if row["update"] > update]
    if log.tail:
        gone.append(log.tail.rstrip(b"\n") + b"\n")
    if gone:
        with append_to(path.with_name(path.name + ".orphaned"), root) as sidecar:
            sidecar.write(b"".join(gone))
            sidecar.flush()
            os.fsync(sidecar.fileno())
        write_atomically(path, b"".join(keep), root)
    return len(gone)


@dataclass
class Recorder:
    """Writes one run directory."""

    folder: Path
    config: RunConfig
    state: RunState = "new"
    notes: list[str] = field(default_factory=list)
    """What happened while the folder was opened, for the user."""
    counts: dict[str, int] = field(default_factory=dict)
    _files: dict[str, IO[bytes]] = field(default_factory=dict)
    _lock: IO[bytes] | None = None

    @property
    def root(self) -> Path:
        """The folder that was named: below it no link is followed."""
        out = Path(self.config.out)
        return out if self.folder.is_relative_to(out) else self.folder

    def log(self, name: str, rows: Iterable[Mapping[str, Any]]) -> None:
        """Append rows to a log, in one write that a kill cannot lose."""
        if name not in self._files:
            self._files[name] = append_to(self.folder / name, self.root)
        lines = [to_line(row) for row in rows]
        self._files[name].write(b"".join(lines))
        self._files[name].flush()
        self.counts[name] = self.counts.get(name, 0) + len(lines)

    def context(self, update: int, context: Mapping[str, Any]) -> None:
        """Write what the method wrote and remembers after `update` updates."""
        text = json.dumps(plain(context), indent=2).encode() + b"\n"
        self._write("context", f"update-{update:04d}.json", text)

    def trace(self, update: int, trace: Mapping[str, Any]) -> None:
        """Write how update number `update` scored its examples, token by token."""
        self._write("traces", f"update-{update:04d}.json", to_line(trace))

    def _write(self, folder: str, name: str, data: bytes) -> None:
        place = make_folder(self.folder / folder, self.root)
        write_atomically(place / name, data, self.root)

    def checkpoint(self, update: int, state: State) -> None:
        """Make everything logged so far durable, then write a checkpoint that relies on it."""
        for file in self._files.values():
            os.fsync(file.fileno())
        rows = {name: self.counts.get(name, 0) for name in LOGS}
        folder = self.folder / "checkpoints"
        save_checkpoint(folder, Checkpoint(update, rows, state), self.root)

    def status(self, state: RunState, **facts: Any) -> None:
        """Say how the run stands."""
        self.state = state
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S%z")
        row = {"state": state, "digest": self.config.digest(), "pid": os.getpid(), "at": stamp}
        write_json(self.folder / "status.json", row | facts, self.root)

    def close(self) -> None:
        """Close the logs and let go of the folder."""
        for file in self._files.values():
            file.close()
        self._files.clear()
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def lock(self) -> None:
        """Hold the folder; UsageError where another process does."""
        with suppress(ImportError):
            import fcntl

            self._lock = open_lock(self.folder / ".lock", self.root)
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                self._lock.close()
                self._lock = None
                raise UsageError(
                    f"{self.folder} is being written by another process: wait for it, stop it, "
                    "or give another --out or --seed"
                ) from None


def look(config: RunConfig, *, resume: bool = False) -> RunState:
    """How the run folder of `config` stands, without touching it.

    UsageError where it holds another configuration, an unfinished run without `resume`, or
    something that is no run.
    """
    folder = config.folder()
    saved = folder / "config.yaml"
    if not saved.exists():
        if folder.exists() and any(path.name != ".lock" for path in folder.iterdir()):
            raise UsageError(
                f"{folder} is not empty and holds no config.yaml, so it is no run: "
                "give another --out, or move it away"
            )
        return "new"
    if not any(_size(folder / name) for name in LOGS):
        return "new"
    _refuse_other(config, saved)
    state: RunState = read_json(folder / "status.json").get("state", "new")
    if state != "finished" and not resume:
        raise UsageError(
            f"{folder} holds an unfinished run ({state}) of this configuration: "
            "add --resume to go on, or give another --out"
        )
    return state


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def open_run(config: RunConfig, *, resume: bool = False) -> Recorder:
    """Make or take up the run folder of `config`, held against other processes; see `look`."""
    folder = config.folder()
    recorder = Recorder(folder, config)
    _make_folder(folder, recorder.root)
    recorder.lock()
    state = look(config, resume=resume)
    # A folder in which nothing was measured yet may be taken over with other settings.
    if state == "new":
        write_atomically(folder / "config.yaml", config.to_yaml().encode(), recorder.root)
    return recorder


def _make_folder(folder: Path, root: Path) -> None:
    try:
        make_folder(folder, root)
    except OSError as error:
        raise UsageError(f"cannot write to {folder}: {error}. Give another --out") from None


def _refuse_other(config: RunConfig, saved: Path) -> None:
    remedy = f"give another --out, use the same settings (--config {saved}), or move it away"
    try:
        old = RunConfig.of_record(saved)
    except UsageError as error:
        raise UsageError(
            f"{saved} is not a configuration of this version ({error}): {remedy}"
        ) from None
    if changed := differences(old, config):
        shown = "; ".join(changed[:8]) + (f"; and {len(changed) - 8} more" * (len(changed) > 8))
        raise UsageError(
            f"{saved.parent} already holds another configuration. {shown}. To keep both, {remedy}"
        )


def recover(recorder: Recorder) -> Checkpoint | None:
    """The newest intact checkpoint that the logs support, with the logs cut to it.

    None where the run never got to one (everything logged moves aside). UsageError where there are
    checkpoints and none can be used.
    """
    folder = recorder.folder
    logs = {name: read_log(folder / name) for name in LOGS}
    files = checkpoint_files(folder / "checkpoints")
    chosen: Checkpoint | None = None
    refused: list[Path] = []
    for path in files:
        try:
            chosen = _supported(load_checkpoint(path), logs, path)
            break
        except CorruptCheckpoint as error:
            recorder.notes.append(f"checkpoint passed over: {error}")
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
    moved = {name: cut_log(folder / name, log, update, root) for name, log in logs.items()}
    _orphan_later(folder / "context", update, root)
    _orphan_later(folder / "traces", update, root)
    recorder.counts = {
        name: sum(row["update"] <= update for row in log.rows) for name, log in logs.items()
    }
    if any(moved.values()):
        parts = [f"{count} of {name}" for name, count in moved.items() if count]
        recorder.notes.append(f"rows after update {update} moved to *.orphaned: {', '.join(parts)}")
    return chosen


def _supported(checkpoint: Checkpoint, logs: Mapping[str, LogText], path: Path) -> Checkpoint:
    for name, log in logs.items():
        there = sum(row["update"] <= checkpoint.update for row in log.rows)
        if there != checkpoint.rows.get(name, 0):
            raise CorruptCheckpoint(
                f"{path.name} relies on {checkpoint.rows.get(name, 0)} rows of {name}, "
                f"which has {there} whole ones"
            )
    return checkpoint


def _orphan_later(folder: Path, update: int, root: Path) -> None:
    for number, path in by_update(folder).items():
        if number > update:
            rename(path, f"{path.name}.orphaned", root)


def episode_rows(groups: Sequence[Group], update: int, first_attempt: int) -> list[Row]:
    """Whole episodes as rows; token ids and log-probabilities are left out, their number kept."""
    return [
        {"update": update, "task": group.task.id, "attempt": first_attempt + j} | _episode(attempt)
        for group in groups
        for j, attempt in enumerate(group.trajectories)
    ]


def _episode(attempt: Trajectory) -> Row:
    # A turn repeats the whole conversation; the log holds what came after the last answer.
    turns = [
        {
            "messages": [asdict(message) for message in turn.messages[-1 if t else 0 :]],
            "response": turn.completion.text,
            "tokens": len(turn.completion.token_ids),
            "stop": turn.completion.stop.value,
        }
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
    }
