"""Do an update of a finished run again, to look at it: nothing is written.

Everything in a run follows from its seed, so an update can be repeated from the newest checkpoint
before it, or from the start. Whether it came out the same is counted, not assumed: on other
hardware it may not. Left out: runs whose model or plugins are not installed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from resd_bench import run
from resd_bench.checkpoints import Checkpoint, CorruptCheckpoint, by_update, load_checkpoint
from resd_bench.config import RunConfig, load_file, resolve
from resd_bench.plugins import UsageError
from resd_bench.record import Recorder, Row, plain, read_log
from resd_bench.run import BuildPolicy, Run, choose_tasks, make_agent, make_envs, make_panel
from resd_bench.trace import Tracer

Tell = Callable[[str], None]


@dataclass
class _Memory(Recorder):
    """Keeps what the last update logged, and writes nothing."""

    rows: dict[str, list[Row]] = field(default_factory=dict)

    def log(self, name: str, rows: Iterable[Mapping[str, Any]]) -> None:
        self.rows[name] = [plain(row) for row in rows]

    def context(self, update: int, context: Mapping[str, Any]) -> None:
        self.rows["context"] = [plain(context)]

    def trace(self, update: int, trace: Mapping[str, Any]) -> None:
        self.rows["trace"] = [plain(trace)]


def replay(
    folder: Path,
    update: int,
    limit: int,
    flags: Mapping[str, Any] | None = None,
    *,
    policy: BuildPolicy | None = None,
    tell: Tell = lambda text: None,
) -> dict[str, Any]:
    """Update number `update` (from 1) of the run in `folder`, with its episodes, context and trace.

    At most `limit` examples are scored. `tell` hears what takes long. UsageError where the run has
    no such update.
    """
    config = resolve(load_file(folder / "config.yaml"), flags)
    recorded = read_log(folder / "metrics.jsonl").rows
    last = max((row["update"] for row in recorded), default=0)
    if not 1 <= update <= last:
        raise UsageError(f"{folder} has no update {update}: give --update 1 to {last}")
    checkpoint = newest_before(folder, update)
    start = 0 if checkpoint is None else checkpoint.update
    tell(f"repeating updates {start + 1} to {update} from {_origin(checkpoint)}")
    tracer = Tracer(0)
    this, memory = _prepare(config, tracer, policy, folder)
    try:
        if checkpoint is not None:
            this.restore(checkpoint)
        while this.update < update - 1:
            this.advance()
        this.tracer, tracer.limit = tracer, limit
        this.advance()
    finally:
        this.envs.close()
    (trace,) = memory.rows["trace"]
    episodes, context = memory.rows["episodes.jsonl"], memory.rows["context"][0]
    trace["weights"] |= {
        "how": "repeated",
        "checkpoint": None if checkpoint is None else f"update-{checkpoint.update:08d}.ckpt",
        "same": _same(folder, update, episodes),
    }
    keys = ("env", "method", "model", "seed")
    names = {key: getattr(config, key) for key in keys}
    return {**trace, "run": names, "episodes": episodes, "context": context}


def newest_before(folder: Path, update: int) -> Checkpoint | None:
    """The newest whole checkpoint that `update` can be repeated from; None for the start."""
    for number, path in reversed(by_update(folder / "checkpoints", ".ckpt").items()):
        if number < update:
            try:
                return load_checkpoint(path)
            except CorruptCheckpoint:
                continue
    return None


def _origin(checkpoint: Checkpoint | None) -> str:
    return "the start" if checkpoint is None else f"the checkpoint after update {checkpoint.update}"


def _prepare(
    config: RunConfig, tracer: Tracer, policy: BuildPolicy | None, folder: Path
) -> tuple[Run, _Memory]:
    env, envs = make_envs(config)
    train, held_out = choose_tasks(env, config)
    model, agent = make_agent(config, tracer.around(policy or run.build_policy))
    memory = _Memory(folder, config)
    panel = make_panel(config, held_out)
    return Run(config, agent, model.ledger, envs, train, panel, memory), memory


def _same(folder: Path, update: int, episodes: Sequence[Row]) -> Sequence[int] | None:
    """How many of the responses on record came out again, and of how many; None without record."""
    known = {
        (row["task"], row["attempt"]): [turn["response"] for turn in row["turns"]]
        for row in read_log(folder / "episodes.jsonl").rows
        if row["update"] == update
    }
    if not known:
        return None
    found = {(r["task"], r["attempt"]): [t["response"] for t in r["turns"]] for r in episodes}
    return [sum(found.get(place) == said for place, said in known.items()), len(known)]
