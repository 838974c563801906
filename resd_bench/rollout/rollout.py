"""The only place that steps environments.

Single- and multi-turn episodes go through one loop in which all live episodes act together, or a
limited number of them (`rollout/slots.py`). An environment that fails or does not respond in time
ends its own episode, and the cause is recorded; so does a policy whose context is full, since only
sampled actions are taken. The run continues.
How environments are stepped is in `rollout/vector_env.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol

from resd_bench.budget import Ledger, Purpose
from resd_bench.distributed.process_group import SINGLE_PROCESS, ProcessGroup
from resd_bench.errors import UsageError
from resd_bench.rollout.contract import checked_completions
from resd_bench.rollout.episode import RunningEpisode, begin_all, take_turns
from resd_bench.rollout.slots import play_in_slots
from resd_bench.rollout.vector_env import (
    DEADLINE,
    EpisodeSlot,
    MakeEnv,
    Rank0VectorEnv,
    Vector,
    make_vector,
)
from resd_bench.seeds import derive
from resd_bench.types import (
    Completion,
    Group,
    Messages,
    Sampling,
    Task,
)


class Act(Protocol):
    """How an agent answers prompts; `Agent.act` is one."""

    def __call__(
        self, prompts: Sequence[Messages], *, n: int, sampling: Sampling, purpose: Purpose
    ) -> list[list[Completion]]: ...


@dataclass
class EnvPool:
    """Makes the environments of episodes and steps them."""

    make: MakeEnv
    deadline: float | None = DEADLINE
    """Time limit of one call to an environment, in seconds; None for no limit."""
    isolated: bool | None = None
    """Whether environments run in worker processes; None: as they declare."""
    workers: int = 0
    """Number of worker processes, or most steps at once; 0: one per core, at most four."""
    process_group: ProcessGroup = SINGLE_PROCESS
    """The processes of the run; rank 0 steps the environments."""
    slots: int = 0
    """Episodes under way at a time, see `rollout/slots.py`; 0: all, turn by turn together."""
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
    turn the policy cannot sample ends as truncated, with the turns taken so far. With slots, an
    answer's random stream is named by task, attempt and turn, else by its place among the prompts.
    """
    episodes = [
        RunningEpisode(
            task,
            EpisodeSlot(derive(seed, stream, task.id, attempt), _asking_for(task)),
            attempt,
        )
        for task in tasks
        for attempt in range(first_attempt, first_attempt + n)
    ]
    if envs.slots:
        _play_in_slots(act, envs, episodes, sampling, purpose, ledger)
    else:
        _play_together(act, envs, episodes, n, sampling, purpose)
    if purpose == "rollout":
        ledger.episodes += len(episodes)
        ledger.env_steps += sum(len(episode.turns) for episode in episodes)
    done = [episode.trajectory() for episode in episodes]
    return [Group(task, tuple(done[i * n : i * n + n])) for i, task in enumerate(tasks)]


def _play_together(
    act: Act,
    envs: EnvPool,
    episodes: Sequence[RunningEpisode],
    n: int,
    sampling: Sampling,
    purpose: Purpose,
) -> None:
    """Play all episodes at once, turn by turn."""
    begin_all(envs.vector, episodes)
    turn = 0
    while live := [episode for episode in episodes if episode.live]:
        seeded = replace(sampling, seed=derive(sampling.seed, "turn", turn))
        prompts = [episode.messages for episode in live]
        take_turns(envs.vector, live, _answers(act, prompts, n, seeded, purpose))
        turn += 1


def _play_in_slots(
    act: Act,
    envs: EnvPool,
    episodes: Sequence[RunningEpisode],
    sampling: Sampling,
    purpose: Purpose,
    ledger: Ledger,
) -> None:
    """Play all episodes, `envs.slots` at a time; see `rollout/slots.py`.

    UsageError where no first prompt can be answered, and nothing has been sampled before.
    """
    unused = not (ledger.generated_tokens or ledger.evaluation_tokens)
    play_in_slots(
        lambda prompts, how: _answers(act, prompts, 1, how, purpose),
        envs.vector,
        episodes,
        slots=envs.slots,
        sampling=sampling,
        in_thread=envs.process_group.size == 1,
    )
    if unused and episodes and all(one.unanswered and not one.turns for one in episodes):
        raise UsageError(
            f"no task leaves room for {sampling.max_new_tokens} new tokens in this model's "
            "context: give a smaller --max-new-tokens, or a --model with a longer context"
        )


def _asking_for(task: Task) -> dict[str, str]:
    """The options of `reset`, with the split, since another may have a task of the same id."""
    return {"task": task.id, "split": task.split}


def _answers(
    act: Act, prompts: Sequence[Messages], n: int, sampling: Sampling, purpose: Purpose
) -> list[Completion]:
    """One completion for each prompt; equal prompts of a group are sent once, for n samples."""
    blocks = [prompts[i : i + n] for i in range(0, len(prompts), n)]
    if n > 1 and all(len(block) == n and len(set(block)) == 1 for block in blocks):
        prompts = [block[0] for block in blocks]
    else:
        n = 1
    answers = act(prompts, n=n, sampling=sampling, purpose=purpose)
    groups = checked_completions(answers, len(prompts), n)
    return [completion for group in groups for completion in group]
