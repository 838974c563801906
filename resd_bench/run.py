"""The main job: run one method on one environment to a budget.

Stream tasks, roll out, learn, evaluate, record. Everything is derived from the seed, names and the
number of the update, so a run that was killed and resumed measures the same as one that was not.
Left out: sweeps. A run may have several processes (`team`); all of them come through here.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from resd_bench import plugins, schema
from resd_bench.agent import Agent, Policy
from resd_bench.budget import Ledger
from resd_bench.bystander import open_together, recover_together
from resd_bench.checkpoints import Checkpoint
from resd_bench.config import RunConfig, method_config
from resd_bench.env import TextEnv
from resd_bench.evaluate import Panel, eval_rows, evaluate, panel_sampling
from resd_bench.manifest import content_hash, manifest
from resd_bench.panels import Beside, Elsewhere, as_on, other_environments, validation_tasks
from resd_bench.plugins import UsageError
from resd_bench.record import (
    Recorder,
    Row,
    episode_rows,
    look,
    read_json,
    read_log,
    write_json,
)
from resd_bench.redaction import redact
from resd_bench.rollout import EnvPool, roll_out
from resd_bench.seeds import derive, stream
from resd_bench.signals import Signals
from resd_bench.stats import EvalPoint, area_under_curve, eval_points, reported
from resd_bench.team import ALONE, Team, by_first, join
from resd_bench.trace import Tracer, traced
from resd_bench.types import Group, Metrics, Sampling, Step, Stop, Task

BuildPolicy = Callable[[RunConfig], Policy]


class Watcher(Protocol):
    """Whoever follows a run: a progress bar, a tracker."""

    def updated(self, row: Row) -> None:
        """An update is done; `row` is its line in metrics.jsonl."""
        ...

    def evaluated(self, point: EvalPoint) -> None:
        """An evaluation is done."""
        ...


@dataclass(frozen=True)
class Outcome:
    """How a run ended."""

    folder: Path
    state: str
    """`finished`, `interrupted`, or `already finished` where there was nothing to do."""
    signal: int = 0
    """Number of the signal that interrupted it."""
    notes: Sequence[str] = ()
    """What the user should know, e.g. what resuming moved."""


def build_policy(config: RunConfig) -> Policy:
    """The language model of `config` as a policy."""
    from resd_bench.policy.build import build

    return build(config)


def make_agent(config: RunConfig, policy: BuildPolicy | None = None) -> tuple[Policy, Agent]:
    """The policy of `config`, and the method's agent that learns with it."""
    model, spec = (policy or build_policy)(config), plugins.method(config.method)
    options = method_config(spec.config, config.method_options, spec.name)
    return model, spec.build(model, options)


def restore_agent(agent: Agent, checkpoint: Checkpoint) -> None:
    """Let `agent` go on from a checkpoint; UsageError where that is of another method or model."""
    try:
        agent.load_state_dict(checkpoint.state["agent"])
    except (LookupError, ValueError, TypeError, AttributeError, RuntimeError) as error:
        first = (str(error).strip().splitlines() or [""])[0]
        raise UsageError(
            f"the checkpoint after update {checkpoint.update} does not fit this method and model "
            f"({type(error).__name__}: {first[:200]}): give those it was made with"
        ) from error


def make_envs(config: RunConfig) -> tuple[TextEnv, EnvPool]:
    """One environment to ask for tasks, and a pool to roll out in."""
    make = partial(
        plugins.make_env,
        config.env,
        **{"dialect": config.dialect, "feedback_level": config.feedback_level},
        **config.env_options,
    )
    try:
        return make(), EnvPool(make, config.step_seconds, team=join(config.device))
    except (TypeError, ValueError) as error:
        raise UsageError(f"environment {config.env}: {error}. Check --set env.NAME=VALUE") from None


def held_out_tasks(env: TextEnv, config: RunConfig) -> Sequence[Task]:
    """The tasks to evaluate on; UsageError where there are none."""
    held_out = env.tasks(config.eval_split)
    if not held_out:
        raise UsageError(f"{config.env} has no {config.eval_split} tasks: give --eval-split")
    return held_out[: config.eval_tasks]


def choose_tasks(env: TextEnv, config: RunConfig) -> tuple[Sequence[Task], Sequence[Task]]:
    """Training and evaluation tasks; UsageError where they overlap or do not suffice."""
    train, held_out = env.tasks("train"), held_out_tasks(env, config)
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
                "held-out success would be meaningless; the environment must be mended"
            )
    return train, held_out


def batch_of(tasks: Sequence[Task], config: RunConfig, batch: int) -> tuple[int, list[Task]]:
    """The epoch and the tasks of batch number `batch`, the same for every method.

    The tail of an epoch that does not fill a batch is left out, as in the paper.
    """
    epoch, position = divmod(batch, len(tasks) // config.batch_size)
    order = list(range(len(tasks)))
    if config.task_order == "shuffled":
        order = stream(config.seed, "tasks", epoch).permutation(len(tasks)).tolist()
    start = position * config.batch_size
    return epoch, [tasks[i] for i in order[start : start + config.batch_size]]


@dataclass
class Run:
    """A run under way."""

    config: RunConfig
    agent: Agent
    ledger: Ledger
    envs: EnvPool
    train: Sequence[Task]
    panel: Panel
    recorder: Recorder
    watchers: Sequence[Watcher] = ()
    tracer: Tracer | None = None
    """Looks at the examples of an update, where that is asked for."""
    beside: Beside = field(default_factory=Beside)
    team: Team = ALONE
    update: int = 0
    """Updates done."""
    evaluated: int = -1
    """Update after which the last evaluation was made."""

    def step(self) -> Step:
        """Where the next update stands in the run."""
        config, u = self.config, self.update
        batch, inner = divmod(u, config.inner_steps)
        seed = derive(config.seed, "sampler", "rollout", u)
        sampling = Sampling(config.temperature, config.top_p, config.max_new_tokens, seed)
        return Step(u, batch, inner, sampling, derive(config.seed, "method", u))

    def advance(self) -> None:
        """One update: fresh rollouts on the present batch, and what the method learns from them."""
        start, step = time.perf_counter(), self.step()
        n = self.config.group_size or 1
        epoch, tasks = batch_of(self.train, self.config, step.batch)
        first = (epoch * self.config.inner_steps + step.inner) * n
        groups = roll_out(
            self.agent.act,
            self.envs,
            tasks,
            n=n,
            sampling=step.sampling,
            purpose="rollout",
            ledger=self.ledger,
            seed=self.config.seed,
            first_attempt=first,
        )
        learned = self.agent.learn(groups, step)
        self.update += 1
        self.ledger.updates = self.update
        self.ledger.seconds += time.perf_counter() - start
        if self.tracer is not None:
            # Looking is no part of training.
            self.ledger.seconds -= self.tracer.seconds
            examples = self.tracer.take(groups, first)
            self.recorder.trace(self.update, traced(self.update, examples, how="recorded"))
        # A budget in minutes must end for all processes at once.
        self.ledger.seconds = self.team.same(lambda: self.ledger.seconds)
        self._record(groups, learned, step, first)

    def _record(
        self, groups: Sequence[Group], learned: Metrics, step: Step, first_attempt: int
    ) -> None:
        row: Row = {"update": self.update, "batch": step.batch, "inner": step.inner}
        row |= self.ledger.as_row() | train_metrics(groups) | learned
        self.recorder.log("episodes.jsonl", episode_rows(groups, self.update, first_attempt))
        self.recorder.context(self.update, self.agent.context())
        self.recorder.log("metrics.jsonl", [row])
        for watcher in self.watchers:
            watcher.updated(row)

    def evaluate(self) -> None:
        """Measure held-out success now."""
        start = time.perf_counter()
        groups = evaluate(self.agent.act, self.envs, self.panel, self.ledger)
        rows = eval_rows(groups, self.update, self.ledger)
        beside = self.beside.rows(
            self.agent, self.envs, self.panel, groups, self.update, self.ledger
        )
        self.ledger.evaluation_seconds += time.perf_counter() - start
        self.recorder.log("evals.jsonl", [*rows, *beside])
        self.evaluated = self.update
        for watcher in self.watchers:
            watcher.evaluated(eval_points(rows)[0])

    def evaluate_elsewhere(self) -> None:
        """Measure success on other environments now."""
        start = time.perf_counter()
        rows = self.beside.rows_elsewhere(self.agent, self.update, self.ledger)
        self.ledger.evaluation_seconds += time.perf_counter() - start
        self.recorder.log("evals.jsonl", rows)

    def checkpoint(self) -> None:
        """Save everything that going on from here needs."""
        state = {
            "agent": self.agent.state_dict(),
            "ledger": {f.name: getattr(self.ledger, f.name) for f in fields(Ledger)},
            "evaluated": self.evaluated,
        }
        self.recorder.checkpoint(self.update, state)
        self.recorder.status("running", **self.progress())

    def restore(self, checkpoint: Checkpoint) -> None:
        """Go on from a checkpoint."""
        restore_agent(self.agent, checkpoint)
        # In place: policy and methods hold this very ledger.
        for name, value in checkpoint.state["ledger"].items():
            setattr(self.ledger, name, value)
        self.update = checkpoint.update
        self.evaluated = int(checkpoint.state["evaluated"])

    def progress(self) -> dict[str, Any]:
        """Where the run stands."""
        return {
            "update": self.update,
            "episodes": self.ledger.episodes,
            "generated_tokens": self.ledger.generated_tokens,
            "seconds": self.ledger.seconds,
        }

    def signal(self, signals: Signals) -> int:
        """The signal that any process of the run has received, 0 for none."""
        return max(self.team.gather(signals.received))

    def due(self, every: int) -> bool:
        """Whether something that happens every `every` updates happens now; never for 0."""
        return every > 0 and self.update % every == 0


def loop(run: Run, interrupted: Callable[[], bool]) -> bool:
    """Run to the budget; False where `interrupted` said to stop before."""
    budget = run.config.parsed_budget()
    if run.evaluated < 0:
        run.evaluate()
        run.evaluate_elsewhere()
        run.checkpoint()
    while not budget.exhausted(run.ledger):
        if interrupted():
            run.checkpoint()
            return False
        run.advance()
        if run.due(run.config.eval_every):
            run.evaluate()
        if run.due(run.config.checkpoint_every):
            run.checkpoint()
    if run.evaluated != run.update:
        run.evaluate()
    if run.update:
        run.evaluate_elsewhere()
    run.checkpoint()
    return True


def run(
    config: RunConfig,
    *,
    resume: bool = False,
    watchers: Sequence[Watcher] = (),
    policy: BuildPolicy | None = None,
) -> Outcome:
    """Run `config` to its budget, or go on with it; UsageError for what the user can mend."""
    team = join(config.device)
    env, envs = make_envs(config)
    # One process first: some environments make their tasks and keep them.
    chosen = partial(choose_tasks, env, config)
    train, held_out = by_first(team, chosen, chosen)
    beside = make_beside(env, config, [*train, *held_out])
    if team.same(lambda: look(config, resume=resume)) == "finished":
        return Outcome(config.folder(), "already finished")
    # Before the folder is made: a model that cannot be loaded must leave nothing behind.
    tracer = Tracer(config.trace) if config.trace else None
    build = policy or build_policy
    model, agent = make_agent(config, tracer.around(build) if tracer else build)
    recorder = open_together(config, team, resume=resume)
    with closing(recorder, envs, beside), Signals() as signals:
        checkpoint = recover_together(recorder, team)
        panel = make_panel(config, held_out)
        this = Run(
            config,
            agent,
            model.ledger,
            envs,
            train,
            panel,
            recorder,
            watchers,
            tracer,
            beside,
            team,
        )
        if checkpoint is not None:
            this.restore(checkpoint)
            recorder.notes.append(f"resumed after update {checkpoint.update}")
        note_session(this, [*train, *held_out])
        recorder.status("running", **this.progress())
        if not loop(this, lambda: this.signal(signals) != 0):
            recorder.status("interrupted", **this.progress())
            return Outcome(recorder.folder, "interrupted", this.signal(signals), recorder.notes)
        if team.rank == 0:
            told = summarise(recorder.folder, this)
            write_json(recorder.folder / "summary.json", told, recorder.root)
        recorder.status("finished", **this.progress())
    return Outcome(recorder.folder, "finished", notes=recorder.notes)


@contextmanager
def closing(recorder: Recorder, envs: EnvPool, beside: Beside) -> Iterator[None]:
    """Let go of the folder and the environments, whatever happens; say so where it failed."""
    try:
        yield
    except Exception as error:
        if recorder.state == "running":
            recorder.status("failed", error=redact(f"{type(error).__name__}: {error}"))
        raise
    finally:
        recorder.close()
        envs.close()
        beside.close()


def make_panel(config: RunConfig, held_out: Sequence[Task]) -> Panel:
    """The evaluation of `config`."""
    sampling = panel_sampling(
        config.seed, config.eval_temperature, config.eval_top_p, config.max_new_tokens
    )
    return Panel(held_out, config.eval_samples, sampling, config.seed)


def make_beside(env: TextEnv, config: RunConfig, used: Sequence[Task]) -> Beside:
    """What `config` wants evaluated beside the reported tasks."""
    tasks = validation_tasks(env, config, used)
    validation = None if tasks is None else make_panel(config, tasks)
    elsewhere: dict[str, Elsewhere] = {}
    for name in other_environments(config):
        there = as_on(name, config)
        other, pool = make_envs(there)
        elsewhere[name] = Elsewhere(pool, make_panel(there, held_out_tasks(other, there)))
    return Beside(validation, config.eval_contexts, elsewhere)


def train_metrics(groups: Sequence[Group]) -> Metrics:
    """What the rollouts of an update say: shares over scored attempts, tokens per attempt."""
    attempts = [attempt for group in groups for attempt in group.trajectories]
    scored = [a for a in attempts if a.stop is not Stop.ERROR]
    tokens = [len(turn.completion.token_ids) for a in attempts for turn in a.turns]
    return {
        "train/success": _mean([float(a.feedback.success) for a in scored]),
        "train/score": _mean([a.feedback.score for a in scored]),
        "train/truncated": _mean([float(a.stop is Stop.LENGTH) for a in scored]),
        "train/errors": float(len(attempts) - len(scored)),
        "train/response_tokens": sum(tokens) / len(attempts),
    }


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else math.nan


def note_session(this: Run, tasks: Sequence[Task]) -> None:
    """Add this session to the manifest: a resumed run may have gone on elsewhere."""
    import torch

    if this.team.rank != 0:
        return
    path = this.recorder.folder / "manifest.json"
    sessions = read_json(path).get("sessions", [])
    facts = manifest(tasks, torch.get_num_threads(), this.config.model)
    if this.team.size > 1:
        facts["processes"] = this.team.size
    known = {"schema_version": schema.VERSION, **facts}
    told = {**known, "sessions": [*sessions, {"from_update": this.update, **facts}]}
    write_json(path, told, this.recorder.root)


def summarise(folder: Path, this: Run) -> Mapping[str, Any]:
    """What came out: first and last evaluation with limits, area under the curve, the ledger."""
    points = eval_points(reported(read_log(folder / "evals.jsonl").rows))
    kept = {point.episodes: point for point in points}
    budget = float(points[-1].episodes)
    area = math.nan
    if budget > 0:
        area = area_under_curve(list(kept), [p.mean for p in kept.values()], budget)
    return {
        "first": _facts(points[0]),
        "last": _facts(points[-1]),
        "auc_success_over_episodes": area,
        "ledger": this.ledger.as_row(),
    }


def _facts(point: EvalPoint) -> dict[str, Any]:
    interval = point.interval()
    return {
        "update": point.update,
        "episodes": point.episodes,
        "samples": point.samples,
        "errors": point.errors,
        "interval_95": [interval.low, interval.high],
        **point.metrics(),
    }
