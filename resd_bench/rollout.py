"""The one place that steps environments.

Single- and multi-turn episodes go through one loop in which all live episodes act together. An
environment that fails ends its own episode with the cause on record; the run goes on. Left out:
environments in processes of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import gymnasium as gym

from resd_bench.budget import Ledger, Purpose
from resd_bench.seeds import derive
from resd_bench.types import (
    Completion,
    Feedback,
    Group,
    Message,
    Messages,
    Sampling,
    Stop,
    Task,
    Trajectory,
    Turn,
)


class Act(Protocol):
    """How an agent answers prompts; `Agent.act` is one."""

    def __call__(
        self, prompts: Sequence[Messages], *, n: int, sampling: Sampling, purpose: Purpose
    ) -> list[list[Completion]]: ...


TextGym = gym.Env[str, str]
MakeEnv = Callable[[], TextGym]

UNSCORED = Feedback(reward=0.0, success=False, score=0.0, kind="environment_error")
"""Stands where there is no verdict; the trajectory's `stop` is `error`."""

MAX_TURNS = 1000
"""Episodes of an environment that states no `max_turns` end here, as an error."""


@dataclass
class EnvPool:
    """Environments to be used again: a fresh one for each live episode would be slow to make."""

    make: MakeEnv
    idle: list[TextGym] = field(default_factory=list)

    def take(self) -> TextGym:
        """An environment nobody else holds."""
        return self.idle.pop() if self.idle else self.make()

    def give(self, env: TextGym) -> None:
        """Hand an environment back; never one that failed."""
        self.idle.append(env)

    def close(self) -> None:
        """Close what is idle."""
        while self.idle:
            self.idle.pop().close()


@dataclass
class Episode:
    """One attempt under way."""

    task: Task
    seed: int
    env: TextGym | None = None
    messages: Messages = ()
    turns: list[Turn] = field(default_factory=list)
    feedback: Feedback = UNSCORED
    stop: Stop = Stop.EOS
    error: str = ""
    live: bool = True

    def begin(self, pool: EnvPool) -> None:
        """Pose the task."""
        try:
            self.env = pool.take()
            observation, _ = self.env.reset(seed=self.seed, options={"task": self.task.id})
            self.messages = (Message("user", observation),)
        except Exception as error:
            self._fail(error)

    def take_turn(self, completion: Completion, pool: EnvPool) -> None:
        """Act once; ends the episode where the environment says so."""
        self.turns.append(Turn(self.messages, completion))
        try:
            assert self.env is not None
            observation, _, over, cut, info = self.env.step(completion.text)
            if over or cut:
                self._end(info, completion, cut, pool)
            elif len(self.turns) >= getattr(self.env.unwrapped, "max_turns", MAX_TURNS):
                raise RuntimeError(f"no verdict after {len(self.turns)} turns, its own limit")
            else:
                answer = Message("assistant", completion.text)
                self.messages = (*self.messages, answer, Message("user", observation))
        except Exception as error:
            self._fail(error)

    def _end(self, info: dict[str, Any], completion: Completion, cut: bool, pool: EnvPool) -> None:
        if not isinstance(info.get("feedback"), Feedback):
            raise RuntimeError("the episode ended without info['feedback']")
        self.feedback = info["feedback"]
        truncated = completion.stop is Stop.LENGTH
        self.stop = Stop.TURNS if cut else Stop.LENGTH if truncated else Stop.EOS
        self.live = False
        assert self.env is not None
        pool.give(self.env)
        self.env = None

    def _fail(self, error: Exception) -> None:
        self.feedback, self.stop, self.live = UNSCORED, Stop.ERROR, False
        self.error = f"{type(error).__name__}: {error}"
        # Its state is unknown now: not handed back, and not trusted to close either.
        self.env = None

    def trajectory(self) -> Trajectory:
        """The finished attempt."""
        return Trajectory(self.task, tuple(self.turns), self.feedback, self.stop, self.error)


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

    Attempt a of a task gets the environment seed (seed, stream, task, a), counted from
    `first_attempt`: the same for every method. Only `purpose="rollout"` is charged.
    """
    episodes = [
        Episode(task, derive(seed, stream, task.id, first_attempt + j))
        for task in tasks
        for j in range(n)
    ]
    for episode in episodes:
        episode.begin(envs)
    turn = 0
    while live := [episode for episode in episodes if episode.live]:
        seeded = replace(sampling, seed=derive(sampling.seed, "turn", turn))
        answers = _answers(act, live, n, seeded, purpose)
        for episode, completion in zip(live, answers, strict=True):
            episode.take_turn(completion, envs)
        turn += 1
        if purpose == "rollout":
            ledger.env_steps += len(live)
    if purpose == "rollout":
        ledger.episodes += len(episodes)
    done = [episode.trajectory() for episode in episodes]
    return [Group(task, tuple(done[i * n : i * n + n])) for i, task in enumerate(tasks)]


def _answers(
    act: Act, live: Sequence[Episode], n: int, sampling: Sampling, purpose: Purpose
) -> list[Completion]:
    """One completion per live episode; equal prompts of a group are sent once, n samples each."""
    prompts = [episode.messages for episode in live]
    blocks = [prompts[i : i + n] for i in range(0, len(prompts), n)]
    if n > 1 and all(len(block) == n and len(set(block)) == 1 for block in blocks):
        prompts = [block[0] for block in blocks]
    else:
        n = 1
    answers = act(prompts, n=n, sampling=sampling, purpose=purpose)
    return [completion for group in answers for completion in group]
