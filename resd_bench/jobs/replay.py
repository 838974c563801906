"""Replay one update of a finished run, read-only.

Everything in a run follows from its seed, so an update can be repeated from the newest checkpoint
before it, or from the start. Whether it gives the same responses is counted, not assumed: on other
hardware it may not. Left out: runs whose model or plugins are not installed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from resd_bench.config import RunConfig, resolve
from resd_bench.errors import UsageError
from resd_bench.jobs import setup
from resd_bench.jobs.run import Run
from resd_bench.jobs.setup import BuildPolicy, choose_tasks, make_agent, make_envs, make_eval_set
from resd_bench.records.checkpoints import Checkpoint, CorruptCheckpoint, by_update, load_checkpoint
from resd_bench.records.content import identity, refuse_changed
from resd_bench.records.log_files import LogRow
from resd_bench.records.manifest import panel_hash
from resd_bench.records.recorder import Recorder, plain
from resd_bench.records.run_files import EPISODES, METRICS, RunFiles
from resd_bench.rollout.placebo import Placebo, length_of
from resd_bench.tracing.tracer import Tracer

Tell = Callable[[str], None]


@dataclass
class _Memory(Recorder):
    """Keeps what the last update logged, without writing anything."""

    rows: dict[str, list[LogRow]] = field(default_factory=dict)

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

    At most `limit` examples are scored. `tell` is told about slow steps. UsageError if the run has
    no such update.
    """
    files = RunFiles.at(folder)
    config = resolve(files.settings(), flags)
    last = max((row["update"] for row in files.stream(METRICS)), default=0)
    if not 1 <= update <= last:
        raise UsageError(f"{folder} has no update {update}: give --update 1 to {last}")
    checkpoint = newest_before(folder, update)
    if checkpoint is not None:
        files.check_own(checkpoint)
    start = 0 if checkpoint is None else checkpoint.update
    tell(f"repeating updates {start + 1} to {update} from {_origin(checkpoint)}")
    tracer = Tracer(0)
    this, memory = _prepare(config, tracer, policy, folder, tell)
    try:
        if checkpoint is not None:
            this.restore(checkpoint)
        while this.update < update - 1:
            this.advance()
            tell(f"repeated update {this.update}")
        this.tracer, tracer.limit = tracer, limit
        tell(f"repeating update {update} and scoring its examples")
        this.advance()
    finally:
        this.envs.close()
    (trace,) = memory.rows["trace"]
    episodes, context = memory.rows["episodes.jsonl"], memory.rows["context"][0]
    trace["weights"] |= {
        "how": "repeated",
        "checkpoint": None if checkpoint is None else f"update-{checkpoint.update:08d}.ckpt",
        "same": _same(files, update, episodes),
    }
    keys = ("env", "method", "model", "seed")
    names = {key: getattr(config, key) for key in keys}
    return {**trace, "run": names, "episodes": episodes, "context": context}


def newest_before(folder: Path, update: int) -> Checkpoint | None:
    """The newest whole checkpoint that `update` can be repeated from; None for the start."""
    files = by_update(folder / "checkpoints", ".ckpt")
    for path in [files[number] for number in sorted(files, reverse=True) if number < update]:
        try:
            return load_checkpoint(path)
        except CorruptCheckpoint:
            continue
    return None


def _origin(checkpoint: Checkpoint | None) -> str:
    return "the start" if checkpoint is None else f"the checkpoint after update {checkpoint.update}"


def _prepare(
    config: RunConfig, tracer: Tracer, policy: BuildPolicy | None, folder: Path, tell: Tell
) -> tuple[Run, _Memory]:
    env, envs = make_envs(config)
    train, held_out = choose_tasks(env, config)
    remedy = "restore it: an update can be repeated only with what the run had"
    here = {**identity(config, env), "tasks": panel_hash([*train, *held_out])}
    for text in refuse_changed(folder, here, remedy):
        tell(text)
    model, agent = make_agent(config, tracer.around(policy or setup.build_policy), env)
    memory = _Memory(folder, config)
    eval_set = make_eval_set(config, held_out)
    placebo = Placebo(config.feedback, length_of(model))
    this = Run(config, agent, model.ledger, envs, train, eval_set, memory, placebo=placebo)
    return this, memory


def _same(files: RunFiles, update: int, episodes: Sequence[LogRow]) -> Sequence[int] | None:
    """How many recorded responses were reproduced, and the total; None without a record."""
    known = {
        (row["task"], row["attempt"]): [turn["response"] for turn in row["turns"]]
        for row in files.stream(EPISODES)
        if row["update"] == update
    }
    if not known:
        return None
    found = {(r["task"], r["attempt"]): [t["response"] for t in r["turns"]] for r in episodes}
    return [sum(found.get(place) == said for place, said in known.items()), len(known)]
