"""Evaluate a checkpoint of a run, or a model without training, outside any run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from resd_bench.agent import Charged, Policy
from resd_bench.budget import Ledger
from resd_bench.config import RunConfig, resolve
from resd_bench.env import TextEnv
from resd_bench.errors import UsageError
from resd_bench.evaluation.held_out import eval_rows, evaluate
from resd_bench.jobs import setup
from resd_bench.jobs.setup import (
    BuildPolicy,
    held_out_tasks,
    make_agent,
    make_envs,
    make_eval_set,
    take_over,
)
from resd_bench.models.identity import model_identity
from resd_bench.records.checkpoints import Checkpoint, CorruptCheckpoint, by_update, load_checkpoint
from resd_bench.records.content import plugin_version, refuse_changed, split_hashes
from resd_bench.records.log_files import LogRow
from resd_bench.records.manifest import panel_hash
from resd_bench.records.run_files import RunFiles
from resd_bench.rollout.rollout import Act, EnvPool
from resd_bench.stats import EvalPoint, eval_points


@dataclass(frozen=True)
class Scored:
    """The result of an evaluation."""

    what: str
    config: RunConfig
    point: EvalPoint
    rows: Sequence[LogRow]
    notes: Sequence[str] = ()
    """What the user should know."""


def score_run(
    folder: Path,
    update: int | None,
    flags: Mapping[str, Any],
    sets: Sequence[str] = (),
    policy: BuildPolicy | None = None,
) -> Scored:
    """Evaluate a run's checkpoint (by default the last), with other settings."""
    files = RunFiles.at(folder)
    began, config = files.config(), resolve(files.settings(), flags, sets)
    checkpoint = find_checkpoint(folder, update)
    env, envs = make_envs(config)
    model, agent = make_agent(config, policy)
    notes = _refuse_changed(folder, began, config, env)
    take_over(agent, checkpoint, folder)
    what = f"{config.method} after {checkpoint.update} updates"
    return _score(config, env, envs, model, agent.act, checkpoint.update, what, notes)


def _refuse_changed(
    folder: Path, began: RunConfig, config: RunConfig, env: TextEnv
) -> Sequence[str]:
    """UsageError if the run's model or tasks have changed since it began; notes for the user.

    What `config` deliberately changes is not compared.
    """
    here: dict[str, str] = {}
    if began.model == config.model:
        here |= model_identity(config.model, config.model_revision)
    if all(getattr(began, name) == getattr(config, name) for name in POSING):
        here |= split_hashes(env, [config.eval_split])
        here[f"code.env.{config.env}"] = plugin_version("resd_bench.envs", config.env)
        if (began.eval_split, began.eval_tasks) == (config.eval_split, config.eval_tasks):
            here["tasks"] = panel_hash([*env.tasks("train"), *held_out_tasks(env, config)])
    remedy = "restore it; to measure something else, give it under another name (--model, --set)"
    return refuse_changed(folder, here, remedy)


POSING = ("env", "env_options", "dialect")
"""Settings that determine the tasks."""


def score_model(
    flags: Mapping[str, Any], sets: Sequence[str] = (), policy: BuildPolicy | None = None
) -> Scored:
    """Evaluate a model without any learning."""
    config = resolve({"method": "base"}, flags, sets)
    model = (policy or setup.build_policy)(config)
    return _score(config, *make_envs(config), model, model.sample, 0, config.model)


def find_checkpoint(folder: Path, update: int | None) -> Checkpoint:
    """The checkpoint after `update` updates; UsageError lists the existing ones."""
    files = by_update(folder / "checkpoints", ".ckpt")
    if not files:
        raise UsageError(
            f"{folder} has no checkpoint, as kept records have none: give the folder that `run` "
            "wrote; an unfinished run goes on with `run --resume`"
        )
    wanted = max(files) if update is None else update
    if wanted not in files:
        known = ", ".join(map(str, sorted(files)))
        raise UsageError(f"{folder} has no checkpoint {wanted}: give --checkpoint {known}")
    try:
        found = load_checkpoint(files[wanted])
    except CorruptCheckpoint as error:
        raise UsageError(f"{error}. Give another one with --checkpoint, or restore it") from None
    RunFiles.at(folder).check_own(found)
    return found


def _score(
    config: RunConfig,
    env: TextEnv,
    envs: EnvPool,
    policy: Policy,
    act: Act,
    update: int,
    what: str,
    notes: Sequence[str] = (),
) -> Scored:
    held_out = held_out_tasks(env, config)
    ledger = Ledger()
    groups = evaluate(act, envs, make_eval_set(config, held_out), ledger)
    rows = eval_rows(groups, update, ledger)
    spent = [policy.spending()] if isinstance(policy, Charged) else []
    return Scored(what, config, eval_points(rows)[0], rows, [*notes, *spent])
