"""The only place that steps environments.

Single- and multi-turn episodes go through one loop in which all live episodes act together. An
environment that fails or does not respond in time ends its own episode, and the cause is recorded;
so does a policy whose context is full, since only sampled actions are taken. The run continues.
How environments are stepped is in `rollout/vector_env.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Protocol

from resd_bench.budget import Ledger, Purpose
from resd_bench.distributed.process_group import SINGLE_PROCESS, ProcessGroup
from resd_bench.env import context_full
from resd_bench.rollout.contract import checked_completions
from resd_bench.rollout.vector_env import (
    DEADLINE,
    EpisodeSlot,
    MakeEnv,
    Rank0VectorEnv,
    StepResult,
    Vector,
    make_vector,
)
from resd_bench.seeds import derive
from resd_bench.types import (
    Answer,
    Completion,
    Feedback,
    FeedbackLevel,
    Group,
    Message,
    Messages,
    Metrics,
    Sampling,
    Stop,
    Task,
    Trajectory,
    Turn,
    TurnFeedback,
)


class Act(Protocol):
    """How an agent answers prompts; `Agent.act` is one."""

    def __call__(
        self, prompts: Sequence[Messages], *, n: int, sampling: Sampling, purpose: Purpose
    ) -> list[list[Completion]]: ...


_UNSCORED = Feedback(reward=0.0, success=False, score=0.0, kind="environment_error")
"""Placeholder for a missing verdict; the trajectory's `stop` is `error`."""


@dataclass
class EnvPool:
    """Makes the environments of episodes and steps them."""

    make: MakeEnv
    deadline: float | None = DEADLINE
    """Time limit of one call to an environment, in seconds; None for no limit."""
    isolated: bool | None = None
    """Whether environments run in worker processes; None: as they declare."""
    workers: int = 0
    """Number of worker processes; 0: one per core, at most four."""
    process_group: ProcessGroup = SINGLE_PROCESS
    """The processes of the run; rank 0 steps the environments."""
    _vector: Vector | None = None

    @property
    def vector(self) -> Vector:
        """The vector environment, made when it is first needed."""
        if self._vector is None:
            make = partial(
                make_vector,
                self.make,
                deadline=self.deadline,
                isolated=self.isolated,
                workers=self.workers,
            )
            self._vector = (
                make() if self.process_group.size == 1 else Rank0VectorEnv(self.process_group, make)
            )
        return self._vector

    def close(self) -> None:
        """Close the environments and the threads or processes that run them."""
        if self._vector is not None:
            self._vector.close()
            self._vector = None


@dataclass
class _Episode:
    """One attempt in progress."""

    task: Task
    slot: EpisodeSlot
    messages: Messages = ()
    turns: list[Turn] = field(default_factory=list)
    feedback: Feedback = _UNSCORED
    stop: Stop = Stop.EOS
    error: str = ""
    live: bool = True
    unanswered: bool = False
    several: bool = False
    """Whether the environment has several turns."""
    level: int = FeedbackLevel.FAILURES
    """The environment's feedback level."""

    def begin(self, posed: StepResult) -> None:
        """Record the first observation."""
        if posed.error:
            self._fail(posed.error)
        else:
            self.messages = (Message("user", posed.observation),)
            level: Any = posed.info.get("feedback_level")
            if level in range(len(FeedbackLevel)):
                self.level = level

    def take_turn(self, completion: Completion, answer: StepResult) -> None:
        """Record an action and its result, which may end the episode."""
        told = answer.info.get("turn")
        note = told if isinstance(told, TurnFeedback) else None
        self.turns.append(Turn(self.messages, completion, note))
        self.several |= answer.max_turns > 1
        if answer.error:
            self._fail(answer.error)
        elif answer.last:
            self._end(answer, completion)
        elif len(self.turns) >= answer.max_turns:
            self._fail(f"RuntimeError: no verdict after {len(self.turns)} turns, its own limit")
        else:
            said = Message("assistant", completion.text)
            self.messages = (*self.messages, said, Message("user", answer.observation))

    def _end(self, answer: StepResult, completion: Completion) -> None:
        self.feedback = answer.info["feedback"]
        truncated = completion.stop is Stop.LENGTH
        self.stop = Stop.TURNS if answer.cut else Stop.LENGTH if truncated else Stop.EOS
        self.live = False

    def end_unanswered(self) -> None:
        """End as a failure, because the policy could not take the next turn."""
        self.feedback, self.stop, self.live = context_full(self.level), Stop.LENGTH, False
        self.unanswered = True

    def _fail(self, error: str) -> None:
        self.feedback, self.stop, self.live = _UNSCORED, Stop.ERROR, False
        self.error = error

    def trajectory(self) -> Trajectory:
        """The finished attempt."""
        turns = tuple(self.turns)
        unread = self.messages[-1].content if self.unanswered and turns else ""
        feedback = self.feedback
        if self.several and not self.error:
            counted = turn_metrics(turns, feedback.success)
            feedback = replace(feedback, metrics={**counted, **feedback.metrics})
        return Trajectory(
            self.task, turns, feedback, self.stop, self.error, self.unanswered, unread
        )


def turn_metrics(turns: Sequence[Turn], success: bool) -> Metrics:
    """Measurements of an episode of several turns, among those of its feedback.

    `turns` taken; `turns_to_success`, the same of a success; `wasted_turns` and `invalid_turns`,
    shares of the turns, where the environment says of turns what they did.
    """
    found: Metrics = {"turns": float(len(turns))}
    if success:
        found["turns_to_success"] = float(len(turns))
    kinds = [turn.feedback.kind if turn.feedback else "" for turn in turns]
    if any(kinds):
        found["wasted_turns"] = kinds.count("wasted") / len(turns)
        found["invalid_turns"] = kinds.count("invalid") / len(turns)
    return found


def roll_out(
    act: Act,
    envs: EnvPool,
    tasks: Sequence[Task],
    *,
    n: int,
    sampling: Sampling,
    purpose: Purpose,
    ledger: Ledger,
    seed: int,
    first_attempt: int = 0,
    stream: str = "env",
) -> list[Group]:
    """Attempt each task `n` times; groups in the order of `tasks`.

    Attempt a of a task, counted from `first_attempt`, gets the environment seed (seed, stream,
    task, a), the same for every method. Only `purpose="rollout"` is charged. An episode whose next
    turn the policy cannot sample ends as truncated, with the turns taken so far.
    """
    episodes = [
        _Episode(
            task, EpisodeSlot(derive(seed, stream, task.id, first_attempt + j), _asking_for(task))
        )
        for task in tasks
        for j in range(n)
    ]
    posed = envs.vector.reset([episode.slot for episode in episodes])
    for episode, answer in zip(episodes, posed, strict=True):
        episode.begin(answer)
    turn = 0
    while live := [episode for episode in episodes if episode.live]:
        seeded = replace(sampling, seed=derive(sampling.seed, "turn", turn))
        said = list(zip(live, _answers(act, live, n, seeded, purpose), strict=True))
        taken = [(episode, completion) for episode, completion in said if completion.sampled]
        unanswered = [episode for episode, completion in said if not completion.sampled]
        for episode in unanswered:
            episode.end_unanswered()
        envs.vector.leave([episode.slot for episode in unanswered])
        answers = envs.vector.step(
            [episode.slot for episode, _ in taken],
            [Answer(completion.text, completion.stop) for _, completion in taken],
        )
        for (episode, completion), answer in zip(taken, answers, strict=True):
            episode.take_turn(completion, answer)
        turn += 1
        if purpose == "rollout":
            ledger.env_steps += len(taken)
    if purpose == "rollout":
        ledger.episodes += len(episodes)
    done = [episode.trajectory() for episode in episodes]
    return [Group(task, tuple(done[i * n : i * n + n])) for i, task in enumerate(tasks)]


def _asking_for(task: Task) -> dict[str, str]:
    """The options of `reset`, with the split, since another may have a task of the same id."""
    return {"task": task.id, "split": task.split}


def _answers(
    act: Act, live: Sequence[_Episode], n: int, sampling: Sampling, purpose: Purpose
) -> list[Completion]:
    """One completion per live episode; equal prompts of a group are sent once, for n samples."""
    prompts = [episode.messages for episode in live]
    blocks = [prompts[i : i + n] for i in range(0, len(prompts), n)]
    if n > 1 and all(len(block) == n and len(set(block)) == 1 for block in blocks):
        prompts = [block[0] for block in blocks]
    else:
        n = 1
    answers = act(prompts, n=n, sampling=sampling, purpose=purpose)
    groups = checked_completions(answers, len(prompts), n)
    return [completion for group in groups for completion in group]
