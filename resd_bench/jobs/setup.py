"""What a run is made of: its environments, its tasks, its evaluations, its model and method."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

from resd_bench import plugins
from resd_bench.agent import SEES_REFERENCE, Agent, Policy, SeesReferences
from resd_bench.config import RunConfig, method_config
from resd_bench.distributed.join import join
from resd_bench.distributed.process_group import SINGLE_PROCESS, ProcessGroup, rank0_first
from resd_bench.env import TextEnv
from resd_bench.errors import UsageError
from resd_bench.evaluation.extra import (
    ExtraEvaluations,
    OtherEnvironment,
    config_for,
    other_environments,
    validation_tasks,
)
from resd_bench.evaluation.held_out import EvalSet, eval_sampling
from resd_bench.files.fingerprints import Identity
from resd_bench.files.redaction import redact
from resd_bench.records import schema
from resd_bench.records.checkpoints import Checkpoint
from resd_bench.records.content import identity, refuse_changed
from resd_bench.records.manifest import content_hash, manifest, panel_hash
from resd_bench.records.recorder import Recorder, has_measured, write_json
from resd_bench.records.run_files import RunFiles
from resd_bench.rollout.contract import checked_tasks
from resd_bench.rollout.rollout import EnvPool
from resd_bench.types import SPLITS, Split, Task, env_dialect

BuildPolicy = Callable[[RunConfig], Policy]


def build_policy(config: RunConfig) -> Policy:
    """The language model of `config` as a policy."""
    from resd_bench.policy.build import policy_of

    return policy_of(config)


def make_agent(
    config: RunConfig, policy: BuildPolicy | None = None, env: TextEnv | None = None
) -> tuple[Policy, Agent]:
    """The policy of `config`, and the method's agent that learns with it.

    Without `env` the agent is not to learn. Only a method that says so gets reference solutions.
    """
    model, spec = (policy or build_policy)(config), plugins.method(config.method)
    options = method_config(spec.config, config.method_options, spec.name)
    agent = spec.build(model, options)
    plain = None if env is None else env.unwrapped
    if spec.sees_reference and isinstance(plain, TextEnv) and isinstance(agent, SeesReferences):
        agent.use_references(plain.reference)
    return model, agent


def take_over(agent: Agent, checkpoint: Checkpoint, folder: Path) -> None:
    """Load a checkpoint of the run in `folder` into the agent; UsageError if it does not fit."""
    try:
        agent.load_state_dict(checkpoint.state["agent"])
    except (LookupError, ValueError, TypeError, AttributeError, RuntimeError) as error:
        first = (str(error).strip().splitlines() or [""])[0]
        raise UsageError(
            f"{folder}: the checkpoint after {checkpoint.update} updates is of another model or "
            f"another version of the method ({type(error).__name__}: {first[:200]}): use those "
            "that its manifest.json names, or give another --out"
        ) from error


def make_envs(config: RunConfig) -> tuple[TextEnv, EnvPool]:
    """One environment to get tasks from, and a pool for rollouts."""
    make = partial(
        plugins.make_env,
        config.env,
        grade=config.grade,
        **{
            "dialect": env_dialect(config.dialect or "full"),
            "feedback_level": config.feedback_level,
        },
        **config.env_options,
    )
    try:
        env = make()
        pool = EnvPool(
            make,
            config.step_seconds,
            process_group=join(config.device),
            slots=config.rollout_slots,
        )
    except (TypeError, ValueError) as error:
        raise plugins.refused_options(config.env, error) from None
    if env.verify_seconds is not None and config.step_seconds <= env.verify_seconds:
        warnings.warn(
            f"step_seconds = {config.step_seconds:g}, but {config.env} may take "
            f"{env.verify_seconds:g} s to answer: what takes longer than step_seconds fails",
            stacklevel=2,
        )
    return env, pool


def held_out_tasks(env: TextEnv, config: RunConfig) -> Sequence[Task]:
    """The tasks to evaluate on; UsageError if there are none, or two tasks share an id."""
    refuse_equal_ids(env, config)
    held_out = checked_tasks(env, config.eval_split)
    if not held_out:
        raise UsageError(f"{config.env} has no {config.eval_split} tasks: give --eval-split")
    return held_out[: config.eval_tasks]


def choose_tasks(env: TextEnv, config: RunConfig) -> tuple[Sequence[Task], Sequence[Task]]:
    """Training and evaluation tasks; UsageError if they overlap or are too few."""
    train, held_out = checked_tasks(env, "train"), held_out_tasks(env, config)
    if len(train) < config.batch_size:
        raise UsageError(
            f"{config.env} has {len(train)} training tasks, fewer than --batch-size "
            f"{config.batch_size}: give --batch-size of at most {len(train)}"
        )
    if config.eval_split != "train":
        shared = {content_hash(t) for t in train} & {content_hash(t) for t in held_out}
        if shared:
            raise UsageError(
                f"{config.env}: {len(shared)} tasks are in train and in {config.eval_split}: "
                "held-out success would be meaningless. Fix the environment so that its splits are "
                "disjoint"
            )
    return train, held_out


def refuse_equal_ids(env: TextEnv, config: RunConfig) -> None:
    """UsageError if two tasks share an id, in one split or across splits."""
    used = {"train", config.eval_split, *["validation"] * bool(config.eval_validation)}
    seen: dict[str, Split] = {}
    for split in SPLITS:
        for task in _tasks_of(env, split, split in used):
            if task.id in seen:
                raise UsageError(
                    f"{config.env}: the id {task.id!r} names two tasks, one of {seen[task.id]} and "
                    f"one of {split}, which rows of records could not tell apart: fix the "
                    "environment (`envs check`)"
                )
            seen[task.id] = split


def _tasks_of(env: TextEnv, split: Split, used: bool) -> Sequence[Task]:
    try:
        return checked_tasks(env, split)
    except Exception:
        # A split that is not used may not exist.
        if used:
            raise
        return ()


def make_eval_set(config: RunConfig, held_out: Sequence[Task]) -> EvalSet:
    """The evaluation of `config`."""
    sampling = eval_sampling(
        config.seed, config.eval_temperature, config.eval_top_p, config.max_new_tokens
    )
    return EvalSet(held_out, config.eval_samples, sampling, config.seed)


def make_extra_evaluations(
    env: TextEnv, config: RunConfig, used: Sequence[Task]
) -> ExtraEvaluations:
    """The extra evaluations that `config` asks for."""
    tasks = validation_tasks(env, config, used)
    validation = None if tasks is None else make_eval_set(config, tasks)
    elsewhere: dict[str, OtherEnvironment] = {}
    for name in other_environments(config):
        there = config_for(name, config)
        other, pool = make_envs(there)
        elsewhere[name] = OtherEnvironment(
            pool, make_eval_set(there, held_out_tasks(other, there)), other
        )
    return ExtraEvaluations(validation, config.eval_contexts, elsewhere)


@dataclass(frozen=True)
class Setup:
    """What a run is made of, except for its model and its folder."""

    config: RunConfig
    env: TextEnv
    """Where tasks are from."""
    envs: EnvPool
    train: Sequence[Task]
    held_out: Sequence[Task]
    extra: ExtraEvaluations

    @property
    def used(self) -> Sequence[Task]:
        """The tasks of training and evaluation."""
        return [*self.train, *self.held_out]

    @cached_property
    def content(self) -> Identity:
        """The present content of the run's tasks, model and code."""
        elsewhere = self.extra.elsewhere.items()
        there = {name: (own.env, own.eval_set.tasks) for name, own in elsewhere}
        return identity(self.config, self.env, there)

    def refuse_other_content(self) -> list[str]:
        """UsageError if the run began with other content, see the function of this name."""
        return refuse_other_content(self.config, lambda: self.content, self.used)

    def close(self) -> None:
        """End the environments."""
        self.envs.close()
        self.extra.close()


def set_up(config: RunConfig, process_group: ProcessGroup = SINGLE_PROCESS) -> Setup:
    """Environments, tasks and evaluations of `config`."""
    env, envs = make_envs(config)
    # Rank 0 first: some environments generate their tasks and cache them.
    chosen = partial(choose_tasks, env, config)
    train, held_out = rank0_first(process_group, chosen, chosen)
    extra = make_extra_evaluations(env, config, [*train, *held_out])
    return Setup(config, env, envs, train, held_out, extra)


def content_of(config: RunConfig) -> tuple[Identity, Sequence[Task]]:
    """The present content of a run of `config`, and its training and evaluation tasks."""
    made = set_up(config)
    try:
        return made.content, made.used
    finally:
        made.close()


def refuse_other_content(
    config: RunConfig, about: Callable[[], Identity], used: Sequence[Task]
) -> list[str]:
    """UsageError if the run in the folder of `config` began with other content; notes for the user.

    `about` gives the present content, `used` are the tasks of training and evaluation.
    """
    if not has_measured(config.folder()):
        return []
    remedy = "restore it, or give another --out for a new run"
    return refuse_changed(config.folder(), {**about(), "tasks": panel_hash(used)}, remedy)


@contextmanager
def closing(recorder: Recorder, made: Setup) -> Iterator[None]:
    """Release the folder and the environments in any case; record a failure in the status."""
    try:
        yield
    except Exception as error:
        if recorder.state == "running":
            # If the disk is full or the folder gone, the first error is the one to report.
            with suppress(OSError, UsageError):
                recorder.status("failed", error=redact(f"{type(error).__name__}: {error}"))
        raise
    finally:
        recorder.close()
        made.close()


def note_session(recorder: Recorder, made: Setup, from_update: int, processes: int) -> None:
    """Add this session to the manifest: a run may be resumed on another machine."""
    import torch

    config = made.config
    sessions = RunFiles.at(recorder.folder).json("manifest.json").get("sessions", [])
    model, revision = config.model, config.model_revision
    facts = manifest(made.used, torch.get_num_threads(), model, revision, made.content)
    if plugins.method(config.method).sees_reference:
        facts["sees"] = SEES_REFERENCE
    if processes > 1:
        facts["processes"] = processes
    known = {"schema_version": schema.VERSION, **facts}
    told = {**known, "sessions": [*sessions, {"from_update": from_update, **facts}]}
    write_json(recorder.folder / "manifest.json", told, recorder.root)
