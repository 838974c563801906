"""The main job: run one method on one environment to a budget.

Stream tasks, roll out, learn, evaluate, record. Everything is derived from the seed, names and the
number of the update, so a run that is killed and resumed measures what it would have otherwise.
Left out: sweeps. A run may have several processes (`process_group`); all of them come through here.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from resd_bench.agent import Agent, Charged, Collects, Policy
from resd_bench.budget import Ledger
from resd_bench.config import RunConfig
from resd_bench.distributed.join import join
from resd_bench.distributed.process_group import SINGLE_PROCESS, ProcessGroup
from resd_bench.errors import UsageError, explaining_disk
from resd_bench.evaluation.evaluator import Evaluator, Measured
from resd_bench.evaluation.extra import ExtraEvaluations
from resd_bench.evaluation.held_out import EvalSet, environment_errors, why_not
from resd_bench.jobs import setup
from resd_bench.jobs.evaluation_process import (
    EvaluationProcess,
    EvaluationRequest,
    evaluating_apart,
    pack,
)
from resd_bench.jobs.setup import (
    BuildPolicy,
    Setup,
    closing,
    make_agent,
    make_eval_set,
    note_session,
    set_up,
    take_over,
)
from resd_bench.jobs.summary import summarise, train_metrics
from resd_bench.machine.cores import IdleCores
from resd_bench.monitoring.faults import About, FaultMonitor, FaultRule, firing
from resd_bench.monitoring.interrupts import Signals
from resd_bench.records.checkpoints import Checkpoint
from resd_bench.records.log_files import LogRow
from resd_bench.records.recorder import (
    Recorder,
    episode_rows,
    open_together,
    recover_together,
    refuse_held,
    run_state,
    write_json,
)
from resd_bench.rollout.contract import checked_context, checked_metrics
from resd_bench.rollout.more_rollouts import UpdateRollouts
from resd_bench.rollout.placebo import Placebo, length_of
from resd_bench.rollout.rollout import EnvPool
from resd_bench.seeds import derive, stream
from resd_bench.stats import EvalPoint, eval_points
from resd_bench.tracing.tracer import Tracer, traced
from resd_bench.types import Group, Metrics, Sampling, Step, Task

_UNSCORED = 8
"""Consecutive training episodes without a verdict after which the run ends."""


class Watcher(Protocol):
    """An observer of a run: a progress bar, a tracker."""

    def updated(self, row: LogRow) -> None:
        """An update is done; `row` is its line in metrics.jsonl."""
        ...

    def evaluated(self, point: EvalPoint) -> None:
        """An evaluation is done."""
        ...


@runtime_checkable
class SeesStart(Protocol):
    """A watcher that is told what is about to run."""

    def starting(
        self, policy: Policy, train: Sequence[Task], held_out: int, turns: int, done: int
    ) -> None:
        """Everything is loaded, and `done` updates are done."""
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
    """Notes for the user, e.g. on what resuming moved."""


def step_of(config: RunConfig, update: int) -> Step:
    """The position of an update in a run."""
    batch, inner = divmod(update, config.inner_steps)
    seed = derive(config.seed, "sampler", "rollout", update)
    sampling = Sampling(config.temperature, config.top_p, config.max_new_tokens, seed)
    return Step(update, batch, inner, sampling, derive(config.seed, "method", update))


def batch_of(tasks: Sequence[Task], config: RunConfig, batch: int) -> tuple[int, list[Task]]:
    """The epoch and the tasks of batch number `batch`, the same for every method.

    An incomplete batch at the end of an epoch is left out, as in the paper.
    """
    epoch, position = divmod(batch, len(tasks) // config.batch_size)
    order = list(range(len(tasks)))
    if config.task_order == "shuffled":
        order = stream(config.seed, "tasks", epoch).permutation(len(tasks)).tolist()
    start = position * config.batch_size
    return epoch, [tasks[i] for i in order[start : start + config.batch_size]]


@dataclass
class Run:
    """A run in progress."""

    config: RunConfig
    agent: Agent
    ledger: Ledger
    envs: EnvPool
    train: Sequence[Task]
    eval_set: EvalSet
    recorder: Recorder
    watchers: Sequence[Watcher] = ()
    tracer: Tracer | None = None
    """Records the examples of an update, if requested."""
    extra: ExtraEvaluations = field(default_factory=ExtraEvaluations)
    process_group: ProcessGroup = SINGLE_PROCESS
    placebo: Placebo = field(default_factory=Placebo)
    monitor: FaultMonitor = field(default_factory=FaultMonitor)
    faults: list[FaultRule] = field(default_factory=list)
    """Rules that the last update says have held for long enough."""
    update: int = 0
    """Updates done."""
    evaluated: int = -1
    """Update after which the last evaluation was made."""
    evaluated_elsewhere: int = -1
    """Update after which the last evaluation on other environments was made."""
    unscored: int = 0
    """Training episodes without a verdict since the last update with one."""
    apart: EvaluationProcess | None = None
    """Evaluates in the meantime, if anybody does."""
    held: list[LogRow] = field(default_factory=list)
    """Rows of metrics.jsonl that say what the evaluation under way has taken."""
    owes_checkpoint: bool = False
    """Whether one is due as soon as the evaluation under way is done."""

    def step(self) -> Step:
        """The position of the next update in the run."""
        return step_of(self.config, self.update)

    def advance(self) -> None:
        """One update: fresh rollouts on the current batch, and learning from them."""
        start, step = time.perf_counter(), self.step()
        n = self.config.group_size or 1
        epoch, tasks = batch_of(self.train, self.config, step.batch)
        first_attempt = (epoch * self.config.inner_steps + step.inner) * n
        rollouts = self.rollouts(n, step)
        groups: Sequence[Group] = rollouts.first(tasks, first_attempt)
        if isinstance(self.agent, Collects):
            groups = self.agent.collect(groups, step, rollouts)
        learned = checked_metrics(self.agent.learn(groups, step), self.config.method)
        self.update += 1
        self.ledger.updates = self.update
        self.ledger.seconds += time.perf_counter() - start
        if self.tracer is not None:
            # Tracing is not part of training.
            self.ledger.seconds -= self.tracer.seconds
            examples = self.tracer.take(rollouts.played)
            self.recorder.trace(self.update, traced(self.update, examples, how="recorded"))
        # A budget in minutes must end at the same update in all processes.
        self.ledger.seconds = self.process_group.broadcast_from_rank0(lambda: self.ledger.seconds)
        self._record(rollouts, {**learned, **rollouts.exchanged}, step)
        self._check_verdicts(rollouts.groups)

    def rollouts(self, n: int, step: Step) -> UpdateRollouts:
        """What is rolled out in `step`, `n` attempts at each task."""
        return UpdateRollouts(
            self.agent,
            self.envs,
            self.train,
            n,
            step,
            self.ledger,
            self.config.parsed_budget(),
            self.config.seed,
            self.placebo,
        )

    def _record(self, rollouts: UpdateRollouts, learned: Metrics, step: Step) -> None:
        row: LogRow = {"update": self.update, "batch": step.batch, "inner": step.inner}
        row |= self.ledger.as_row() | train_metrics(rollouts.groups)
        if taken := sorted(row.keys() & learned.keys()):
            raise UsageError(
                f"{self.config.method}: learn() gave the metric {taken[0]!r}, which is the run's "
                "own: give it another name, such as method/name"
            )
        row |= learned
        row |= self.monitor.updated(row)
        self.faults = firing(row)
        episodes = [
            {**one, **note}
            for own in rollouts.played
            for one, note in zip(
                episode_rows(own.read, self.update, own.first_attempt), own.notes, strict=True
            )
        ]
        self.recorder.log("episodes.jsonl", episodes)
        self.recorder.context(
            self.update, checked_context(self.agent.context(), self.config.method)
        )
        self.held.append(row)
        self._log_held()
        for watcher in self.watchers:
            watcher.updated(row)

    def _check_verdicts(self, groups: Sequence[Group]) -> None:
        """UsageError if the environment has failed in every recent episode."""
        errors, played = environment_errors(groups), sum(len(g.trajectories) for g in groups)
        self.unscored = self.unscored + played if len(errors) == played else 0
        ended = self.config.parsed_budget().exhausted(self.ledger)
        if self.unscored >= (min(_UNSCORED, self.ledger.episodes) if ended else _UNSCORED):
            raise UsageError(
                f"none of the last {self.unscored} training episodes got a verdict, up to update "
                f"{self.update}. {why_not(errors)}, then continue with --resume"
            )

    @property
    def evaluator(self) -> Evaluator:
        """What is evaluated, as it is now."""
        return Evaluator(self.agent, self.ledger, self.envs, self.eval_set, self.extra)

    def evaluate(
        self, *, reported: bool = True, elsewhere: bool = False, here: bool = False
    ) -> None:
        """Measure held-out success now, with `elsewhere` also, or only, that on other environments.

        Where a second process evaluates, this begins it, unless it is to be `here`.
        """
        if self.apart is not None and not here:
            self.collect(wait=True)
            self._begin_apart(elsewhere)
        else:
            done = self.evaluator.measure(
                self.update, self.ledger, reported=reported, elsewhere=elsewhere
            )
            self.collect(wait=True)
            self._log_evaluation(done)
        self.evaluated = self.update
        self.evaluated_elsewhere = self.update if elsewhere else self.evaluated_elsewhere

    def evaluate_if_due(self) -> None:
        """Evaluate where that is due, but for the last time, which is up to `finish`."""
        if self.due(self.config.eval_every) and not self.config.parsed_budget().exhausted(
            self.ledger
        ):
            self.evaluate()

    def _begin_apart(self, elsewhere: bool) -> None:
        assert self.apart is not None
        state = pack(self.agent.state_dict())
        self.apart.begin(EvaluationRequest(self.update, elsewhere, replace(self.ledger), state))

    def collect(self, *, wait: bool = False) -> None:
        """Log the evaluation under way, if it is done; with `wait`, wait for it."""
        done = None if self.apart is None else self.apart.result(self.evaluator, wait=wait)
        if done is None:
            return
        self._log_evaluation(done)
        if self.owes_checkpoint:
            self.checkpoint()

    def _log_evaluation(self, done: Measured) -> None:
        self.ledger.evaluation_tokens += done.tokens
        self.ledger.evaluation_seconds += done.seconds
        for row in self.held:
            row["evaluation_tokens"] += done.tokens
            row["evaluation_seconds"] += done.seconds
        for rows in ([*done.rows, *done.extra], done.elsewhere):
            if rows:
                self.recorder.evaluation(done.update, rows)
        self._log_held()
        for watcher in self.watchers if done.rows else ():
            watcher.evaluated(eval_points(done.rows)[0])

    def _log_held(self) -> None:
        """Log what is held back, unless an evaluation is under way."""
        if self.held and (self.apart is None or self.apart.pending is None):
            self.recorder.log("metrics.jsonl", self.held)
            self.held = []

    def checkpoint(self, *, wait: bool = False) -> None:
        """Save everything that is needed to continue from here.

        It relies on all evaluations so far: while one is under way, it is put off, or, with `wait`,
        waits for it.
        """
        self.owes_checkpoint = False
        self.collect(wait=wait)
        self.owes_checkpoint = self.apart is not None and self.apart.pending is not None
        if self.owes_checkpoint:
            return
        state = {
            "agent": self.agent.state_dict(),
            "ledger": {f.name: getattr(self.ledger, f.name) for f in fields(Ledger)},
            "evaluated": self.evaluated,
            "evaluated_elsewhere": self.evaluated_elsewhere,
            "unscored": self.unscored,
            "placebo": self.placebo.state_dict(),
            "faults": dict(self.monitor.held),
        }
        self.recorder.checkpoint(self.update, state)
        # Only now: a run that is killed before goes back to an earlier evaluation.
        self.recorder.drop_answers()
        self.recorder.status("running", **self.progress())

    def restore(self, checkpoint: Checkpoint) -> None:
        """Continue from a checkpoint."""
        take_over(self.agent, checkpoint, self.recorder.folder)
        # In place: policy and methods hold this object.
        for name, value in checkpoint.state["ledger"].items():
            setattr(self.ledger, name, value)
        self.update = checkpoint.update
        self.evaluated = int(checkpoint.state["evaluated"])
        # Older checkpoints do not have this number.
        self.evaluated_elsewhere = int(checkpoint.state.get("evaluated_elsewhere", 0))
        self.unscored = int(checkpoint.state.get("unscored", 0))
        self.placebo.load_state_dict(checkpoint.state.get("placebo", ()))
        self.monitor.held = dict(checkpoint.state.get("faults", {}))

    def progress(self) -> dict[str, Any]:
        """The current state of the run."""
        return {
            "update": self.update,
            "episodes": self.ledger.episodes,
            "generated_tokens": self.ledger.generated_tokens,
            "seconds": self.ledger.seconds,
        }

    def signal(self, signals: Signals) -> int:
        """The signal that any process of the run has received; 0 if none has."""
        return max(self.process_group.gather(signals.received))

    def due(self, every: int) -> bool:
        """Whether something that happens every `every` updates happens now; never for 0."""
        return every > 0 and self.update % every == 0


def loop(run: Run, interrupted: Callable[[], bool], fail_fast: bool = False) -> bool:
    """Run to the budget; False if `interrupted` stopped it before.

    With `fail_fast` a UsageError ends a run that cannot learn.
    """
    budget = run.config.parsed_budget()
    if run.evaluated < 0:
        run.evaluate(elsewhere=True)
        run.checkpoint()
    elif run.evaluated != run.update:
        # The checkpoint was written between an update and its evaluation.
        run.evaluate_if_due()
    while not budget.exhausted(run.ledger):
        if interrupted():
            run.checkpoint(wait=True)
            return False
        run.advance()
        run.collect()
        if fail_fast and run.process_group.broadcast_from_rank0(lambda: bool(run.faults)):
            run.checkpoint(wait=True)
            raise UsageError(f"--fail-fast: update {run.update}, {run.faults[0].text}")
        run.evaluate_if_due()
        if run.due(run.config.checkpoint_every):
            run.checkpoint()
    finish(run)
    return True


def finish(run: Run) -> None:
    """What has not been evaluated after the last update, and a checkpoint.

    Nothing is left to do in the meantime: an evaluation of before may still be under way.
    """
    reported, elsewhere = (u != run.update for u in (run.evaluated, run.evaluated_elsewhere))
    if reported or elsewhere:
        run.evaluate(reported=reported, elsewhere=elsewhere, here=True)
    run.checkpoint(wait=True)


@explaining_disk()
def run(
    config: RunConfig,
    *,
    resume: bool = False,
    fail_fast: bool = False,
    watchers: Sequence[Watcher] = (),
    policy: BuildPolicy | None = None,
) -> Outcome:
    """Run `config` to its budget, or resume it; UsageError for what the user can fix.

    `fail_fast` ends a run that cannot learn, see `resd_bench.monitoring.faults`.
    """
    idle, process_group = IdleCores(), join(config.device)
    # First, since to resume what is running is no advice.
    process_group.broadcast_from_rank0(lambda: refuse_held(config.folder()))
    made = set_up(config, process_group)
    if process_group.broadcast_from_rank0(lambda: run_state(config, resume=resume)) == "finished":
        notes = process_group.broadcast_from_rank0(made.refuse_other_content)
        return Outcome(config.folder(), "already finished", notes=notes)
    # Before the folder is created: a model that cannot be loaded must not leave one behind.
    tracer = Tracer(config.trace) if config.trace else None
    build = policy or setup.build_policy
    model, agent = make_agent(config, tracer.around(build) if tracer else build, made.env)
    # Only now: the commit of a model on the Hub is known once it is loaded.
    notes = process_group.broadcast_from_rank0(made.refuse_other_content)
    recorder = open_together(config, process_group, resume=resume)
    usual = process_group.size == 1 and build.__module__ == setup.__name__
    apart = evaluating_apart(config, model, idle if usual else None)
    with closing(recorder, made), Signals() as signals, apart as second:
        checkpoint = recover_together(recorder, process_group)
        this = Run(
            config,
            agent,
            model.ledger,
            made.envs,
            made.train,
            make_eval_set(config, made.held_out),
            recorder,
            watchers,
            tracer,
            made.extra,
            process_group,
            Placebo(config.feedback, length_of(model)),
            FaultMonitor(About.of(config)),
            apart=second,
        )
        start_session(this, checkpoint, notes, made, model)
        if not loop(this, lambda: this.signal(signals) != 0, fail_fast):
            recorder.status("interrupted", **this.progress())
            return Outcome(recorder.folder, "interrupted", this.signal(signals), recorder.notes)
        conclude(this, model)
    return Outcome(recorder.folder, "finished", notes=recorder.notes)


def start_session(
    run: Run, checkpoint: Checkpoint | None, notes: Sequence[str], made: Setup, model: Policy
) -> None:
    """Go on from a checkpoint, if there is one; note the session, and tell whoever watches."""
    recorder = run.recorder
    if checkpoint is not None:
        run.restore(checkpoint)
        recorder.notes.append(f"resumed after update {checkpoint.update}")
    recorder.notes += notes
    if run.process_group.rank == 0:
        note_session(recorder, made, run.update, run.process_group.size)
    recorder.status("running", **run.progress())
    for watcher in run.watchers:
        if isinstance(watcher, SeesStart):
            watcher.starting(model, made.train, len(made.held_out), made.env.max_turns, run.update)


def conclude(run: Run, model: Policy) -> None:
    """Sum up a run that has spent its budget."""
    recorder = run.recorder
    if run.process_group.rank == 0:
        told = summarise(recorder.folder, run.ledger)
        write_json(recorder.folder / "summary.json", told, recorder.root)
    recorder.status("finished", **run.progress())
    if isinstance(model, Charged):
        recorder.notes.append(model.spending())
