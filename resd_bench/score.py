"""Evaluate a checkpoint of a run, or a model as it is, outside any run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from resd_bench import run
from resd_bench.budget import Ledger
from resd_bench.checkpoints import Checkpoint, CorruptCheckpoint, by_update, load_checkpoint
from resd_bench.config import RunConfig, load_file, resolve
from resd_bench.evaluate import eval_rows, evaluate
from resd_bench.plugins import UsageError
from resd_bench.record import Row
from resd_bench.rollout import Act
from resd_bench.run import (
    BuildPolicy,
    held_out_tasks,
    make_agent,
    make_envs,
    make_panel,
    restore_agent,
)
from resd_bench.stats import EvalPoint, eval_points


@dataclass(frozen=True)
class Scored:
    """What an evaluation came to."""

    what: str
    config: RunConfig
    point: EvalPoint
    rows: Sequence[Row]


def score_run(
    folder: Path,
    update: int | None,
    flags: Mapping[str, Any],
    sets: Sequence[str] = (),
    policy: BuildPolicy | None = None,
) -> Scored:
    """Evaluate a run's checkpoint (the last unless `update` is given), with other settings."""
    saved = folder / "config.yaml"
    if not saved.is_file():
        raise UsageError(f"{folder} is no run folder (no config.yaml): give one that `run` wrote")
    config = resolve(load_file(saved), flags, sets)
    checkpoint = find_checkpoint(folder, update)
    _, agent = make_agent(config, policy)
    restore_agent(agent, checkpoint)
    what = f"{config.method} after {checkpoint.update} updates"
    return _score(config, agent.act, checkpoint.update, what)


def score_model(
    flags: Mapping[str, Any], sets: Sequence[str] = (), policy: BuildPolicy | None = None
) -> Scored:
    """Evaluate a model without any learning."""
    config = resolve({"method": "base"}, flags, sets)
    return _score(config, (policy or run.build_policy)(config).sample, 0, config.model)


def find_checkpoint(folder: Path, update: int | None) -> Checkpoint:
    """The checkpoint after `update` updates; UsageError names those there are."""
    files = by_update(folder / "checkpoints", ".ckpt")
    if not files:
        raise UsageError(f"{folder} has no checkpoint: go on with `run --resume`")
    wanted = max(files) if update is None else update
    if wanted not in files:
        known = ", ".join(map(str, files))
        raise UsageError(f"{folder} has no checkpoint {wanted}: give --checkpoint {known}")
    try:
        return load_checkpoint(files[wanted])
    except CorruptCheckpoint as error:
        raise UsageError(f"{error}. Give another one with --checkpoint, or restore it") from None


def _score(config: RunConfig, act: Act, update: int, what: str) -> Scored:
    env, envs = make_envs(config)
    held_out = held_out_tasks(env, config)
    ledger = Ledger()
    groups = evaluate(act, envs, make_panel(config, held_out), ledger)
    rows = eval_rows(groups, update, ledger)
    return Scored(what, config, eval_points(rows)[0], rows)
