"""The main job: run one method on one environment to a budget.

Stream tasks, roll out, learn, evaluate, record. Everything is derived from the seed, names and the
number of the update, so a run that was killed and resumed measures the same as one that was not.
Left out: sweeps. A run may have several processes (`team`); all of them come through here.
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, fields
from functools import cache, partial
from pathlib import Path
from typing import Any, Protocol

from resd_bench import plugins, schema
from resd_bench.agent import Agent, Policy
from resd_bench.budget import Ledger
from resd_bench.bystander import open_together, recover_together
from resd_bench.checkpoints import Checkpoint
from resd_bench.config import RunConfig, method_config
from resd_bench.contract import checked_context, checked_metrics, checked_tasks
from resd_bench.env import SPLITS, TextEnv
from resd_bench.evaluate import (
    Panel,
    environment_errors,
    eval_rows,
    evaluate,
    panel_sampling,
    why_not,
)
from resd_bench.fingerprints import Identity
from resd_bench.identity import identity, refuse_changed
from resd_bench.manifest import content_hash, manifest, panel_hash
from resd_bench.panels import Beside, Elsewhere, as_on, other_environments, validation_tasks
from resd_bench.plugins import UsageError, explaining_disk
from resd_bench.record import (
    Recorder,
    Row,
    episode_rows,
    has_measured,
    look,
    write_json,
)
from resd_bench.redaction import redact
from resd_bench.rollout import EnvPool, roll_out
from resd_bench.run_files import EVALS, RunFiles, check_evals
from resd_bench.seeds import derive, stream
from resd_bench.signals import Signals
from resd_bench.stats import EvalPoint, area_under_curve, eval_points, mean_both, reported
from resd_bench.team import ALONE, Team, by_first, join
from resd_bench.trace import Tracer, traced
from resd_bench.types import Group, Metrics, Sampling, Split, Step, Stop, Task, Trajectory

UNSCORED = 8
"""Training episodes in a row that may have no verdict before an update of such ends the run."""

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


def take_over(agent: Agent, checkpoint: Checkpoint, folder: Path) -> None:
    """Load what a checkpoint of the run in `folder` holds; UsageError where it does not fit."""
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
    """One environment to ask for tasks, and a pool to roll out in."""
    make = partial(
        plugins.make_env,
        config.env,
        grade=config.grade,
        **{"dialect": config.dialect, "feedback_level": config.feedback_level},
        **config.env_options,
    )
    try:
        env, pool = make(), EnvPool(make, config.step_seconds, team=join(config.device))
    except (TypeError, ValueError) as error:
        raise UsageError(f"environment {config.env}: {error}. Check --set env.NAME=VALUE") from None
    if env.verify_seconds is not None and config.step_seconds <= env.verify_seconds:
        warnings.warn(
            f"step_seconds = {config.step_seconds:g}, but {config.env} may take "
            f"{env.verify_seconds:g} s to answer: what takes longer than step_seconds fails",
            stacklevel=2,
        )
    return env, pool


def held_out_tasks(env: TextEnv, config: RunConfig) -> Sequence[Task]:
    """The tasks to evaluate on; UsageError where there are none, or two tasks have one id."""
    refuse_equal_ids(env, config)
    held_out = checked_tasks(env, config.eval_split)
    if not held_out:
        raise UsageError(f"{config.env} has no {config.eval_split} tasks: give --eval-split")
    return held_out[: config.eval_tasks]


def choose_tasks(env: TextEnv, config: RunConfig) -> tuple[Sequence[Task], Sequence[Task]]:
    """Training and evaluation tasks; UsageError where they overlap or do not suffice."""
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
                "held-out success would be meaningless; the environment must be mended"
            )
    return train, held_out


def refuse_equal_ids(env: TextEnv, config: RunConfig) -> None:
    """UsageError where two tasks have one id, in a split or across splits."""
    used = {"train", config.eval_split, *["validation"] * bool(config.eval_validation)}
    seen: dict[str, Split] = {}
    for split in SPLITS:
        for task in _tasks_of(env, split, split in used):
            if task.id in seen:
                raise UsageError(
                    f"{config.env}: the id {task.id!r} names two tasks, one of {seen[task.id]} and "
                    f"one of {split}, which rows of records could not tell apart: mend the "
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
    evaluated_elsewhere: int = -1
    """Update after which the last one on other environments was made."""
    unscored: int = 0
    """Training episodes without a verdict since the last update that has one."""

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
        learned = checked_metrics(self.agent.learn(groups, step), self.config.method)
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
        self._check_verdicts(groups)

    def _record(
        self, groups: Sequence[Group], learned: Metrics, step: Step, first_attempt: int
    ) -> None:
        row: Row = {"update": self.update, "batch": step.batch, "inner": step.inner}
        row |= self.ledger.as_row() | train_metrics(groups)
        if taken := sorted(row.keys() & learned.keys()):
            raise UsageError(
                f"{self.config.method}: learn() gave the metric {taken[0]!r}, which is the run's "
                "own: give it another name, such as method/name"
            )
        row |= learned
        self.recorder.log("episodes.jsonl", episode_rows(groups, self.update, first_attempt))
        self.recorder.context(
            self.update, checked_context(self.agent.context(), self.config.method)
        )
        self.recorder.log("metrics.jsonl", [row])
        for watcher in self.watchers:
            watcher.updated(row)

    def _check_verdicts(self, groups: Sequence[Group]) -> None:
        """UsageError where the environment has failed in every episode for a while, or for good."""
        errors, played = environment_errors(groups), sum(len(g.trajectories) for g in groups)
        self.unscored = self.unscored + played if len(errors) == played else 0
        ended = self.config.parsed_budget().exhausted(self.ledger)
        if self.unscored >= (min(UNSCORED, self.ledger.episodes) if ended else UNSCORED):
            raise UsageError(
                f"none of the last {self.unscored} training episodes got a verdict, up to update "
                f"{self.update}. {why_not(errors)}, then go on with --resume"
            )

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
        self.evaluated_elsewhere = self.update

    def checkpoint(self) -> None:
        """Save everything that going on from here needs."""
        state = {
            "agent": self.agent.state_dict(),
            "ledger": {f.name: getattr(self.ledger, f.name) for f in fields(Ledger)},
            "evaluated": self.evaluated,
            "evaluated_elsewhere": self.evaluated_elsewhere,
            "unscored": self.unscored,
        }
        self.recorder.checkpoint(self.update, state)
        self.recorder.status("running", **self.progress())

    def restore(self, checkpoint: Checkpoint) -> None:
        """Go on from a checkpoint."""
        take_over(self.agent, checkpoint, self.recorder.folder)
        # In place: policy and methods hold this very ledger.
        for name, value in checkpoint.state["ledger"].items():
            setattr(self.ledger, name, value)
        self.update = checkpoint.update
        self.evaluated = int(checkpoint.state["evaluated"])
        # Checkpoints that are older than this number say nothing of the last evaluation.
        self.evaluated_elsewhere = int(checkpoint.state.get("evaluated_elsewhere", 0))
        self.unscored = int(checkpoint.state.get("unscored", 0))

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
    if run.evaluated_elsewhere != run.update:
        run.evaluate_elsewhere()
    run.checkpoint()
    return True


@explaining_disk()
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
    used = [*train, *held_out]
    beside = make_beside(env, config, used)
    about = cache(partial(identity_of, config, env, beside))
    if team.same(lambda: look(config, resume=resume)) == "finished":
        notes = team.same(lambda: refuse_other_content(config, about, used))
        return Outcome(config.folder(), "already finished", notes=notes)
    # Before the folder is made: a model that cannot be loaded must leave nothing behind.
    tracer = Tracer(config.trace) if config.trace else None
    build = policy or build_policy
    model, agent = make_agent(config, tracer.around(build) if tracer else build)
    # Not before: what the Hub has of a model is known when it is here.
    notes = team.same(lambda: refuse_other_content(config, about, used))
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
        recorder.notes += notes
        note_session(this, used, about)
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
            # Where the disk is full or the folder gone, the first error is the one to tell.
            with suppress(OSError, UsageError):
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
        elsewhere[name] = Elsewhere(pool, make_panel(there, held_out_tasks(other, there)), other)
    return Beside(validation, config.eval_contexts, elsewhere)


def train_metrics(groups: Sequence[Group]) -> Metrics:
    """What the rollouts of an update say: shares over scored attempts, tokens per attempt.

    Where attempts have no verdict, `train/success_with_failures` and `train/score_with_failures`
    count them as failures. Under `env/` the means of what the environment measured beside its
    verdicts.
    """
    attempts = [attempt for group in groups for attempt in group.trajectories]
    scored = [a for a in attempts if a.stop is not Stop.ERROR]
    errors = len(attempts) - len(scored)
    tokens = [len(turn.completion.token_ids) for a in attempts for turn in a.turns]
    success, least = mean_both([float(a.feedback.success) for a in scored], errors)
    score, least_score = mean_both([a.feedback.score for a in scored], errors)
    return {
        "train/success": success,
        "train/success_with_failures": least,
        "train/score": score,
        "train/score_with_failures": least_score,
        "train/truncated": _mean([float(a.stop is Stop.LENGTH) for a in scored]),
        "train/unanswered": _mean([float(a.unanswered) for a in scored]),
        "train/errors": float(errors),
        "train/response_tokens": sum(tokens) / len(attempts),
        **{f"env/{name}": value for name, value in mean_metrics(scored).items()},
    }


def mean_metrics(attempts: Sequence[Trajectory]) -> Metrics:
    """The mean of each further number that environments measured, over attempts that have it."""
    found: dict[str, list[float]] = {}
    for attempt in attempts:
        for name, value in attempt.feedback.metrics.items():
            found.setdefault(name, []).append(value)
    return {name: _mean(values) for name, values in sorted(found.items())}


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else math.nan


def identity_of(config: RunConfig, env: TextEnv, beside: Beside) -> Identity:
    """What the run is about now, by content."""
    there = {name: (own.env, own.panel.tasks) for name, own in beside.elsewhere.items()}
    return identity(config, env, there)


def content_of(config: RunConfig) -> tuple[Identity, Sequence[Task]]:
    """What a run of `config` would be about now, and the tasks of training and evaluation."""
    env, envs = make_envs(config)
    train, held_out = choose_tasks(env, config)
    beside = make_beside(env, config, used := [*train, *held_out])
    try:
        return identity_of(config, env, beside), used
    finally:
        envs.close()
        beside.close()


def refuse_other_content(
    config: RunConfig, about: Callable[[], Identity], used: Sequence[Task]
) -> list[str]:
    """UsageError where the run in the folder of `config` began with other content.

    `about` says what it would be about now, `used` are the tasks of training and evaluation. What
    the user should know beside.
    """
    if not has_measured(config.folder()):
        return []
    remedy = "restore it, or give another --out for a new run"
    return refuse_changed(config.folder(), {**about(), "tasks": panel_hash(used)}, remedy)


def note_session(this: Run, tasks: Sequence[Task], about: Callable[[], Identity]) -> None:
    """Add this session to the manifest: a resumed run may have gone on elsewhere."""
    import torch

    if this.team.rank != 0:
        return
    path = this.recorder.folder / "manifest.json"
    sessions = RunFiles.at(this.recorder.folder).json("manifest.json").get("sessions", [])
    model, revision = this.config.model, this.config.model_revision
    facts = manifest(tasks, torch.get_num_threads(), model, revision, about())
    if this.team.size > 1:
        facts["processes"] = this.team.size
    known = {"schema_version": schema.VERSION, **facts}
    told = {**known, "sessions": [*sessions, {"from_update": this.update, **facts}]}
    write_json(path, told, this.recorder.root)


def summarise(folder: Path, this: Run) -> Mapping[str, Any]:
    """What came out: first and last evaluation with limits, area under the curve, the ledger."""
    rows = check_evals(RunFiles.at(folder).rows(EVALS), folder / EVALS)
    points = eval_points(reported(rows))
    counted = [point.with_failures() for point in points]
    areas = {"auc_success_over_episodes": _area(points)}
    if counted != points:
        areas["auc_success_over_episodes_with_failures"] = _area(counted)
    return {
        "first": _facts(points[0]),
        "last": _facts(points[-1]),
        **areas,
        "ledger": this.ledger.as_row(),
    }


def _area(points: Sequence[EvalPoint]) -> float:
    """Area under the curve of success over episodes; NaN for a run without training."""
    kept = {point.episodes: point for point in points}
    budget = float(points[-1].episodes)
    if budget <= 0:
        return math.nan
    return area_under_curve(list(kept), [p.mean for p in kept.values()], budget)


def _facts(point: EvalPoint) -> dict[str, Any]:
    """An evaluation; with attempts without a verdict, all rates with them as failures too."""
    facts = {"update": point.update, "episodes": point.episodes}
    facts |= {"samples": point.samples, "errors": point.errors} | _rates(point)
    return facts if not point.errors else facts | {"with_failures": _rates(point.with_failures())}


def _rates(point: EvalPoint) -> dict[str, Any]:
    interval = point.interval()
    return {"interval_95": [interval.low, interval.high], **point.metrics()}
