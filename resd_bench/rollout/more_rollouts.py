"""What an agent rolls out in an update: the step's own attempts, and those it asks for on top.

Extra rollouts are charged and recorded like any other. Their number of the attempt counts from
`EXTRA` times the number of the update, so that none has the environment seed of an ordinary one.
Left out: rollouts with other samples a task than the step's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from resd_bench.agent import Agent, InContext
from resd_bench.budget import Budget, Ledger
from resd_bench.rollout.placebo import Placebo
from resd_bench.rollout.rollout import EnvPool, roll_out
from resd_bench.seeds import derive
from resd_bench.types import Group, Metrics, Step, Task, Trajectory

EXTRA = 1_000_000
"""More attempts than any run makes at a task."""


@dataclass(frozen=True, slots=True)
class Played:
    """Groups that were rolled out together."""

    groups: Sequence[Group]
    first_attempt: int
    """Number of the first attempt of each of them."""
    read: Sequence[Group]
    """The same groups, with the messages that the policy read."""
    notes: Sequence[Mapping[str, str]]
    """For each attempt, what records say of the feedback that its method saw instead."""


@dataclass
class UpdateRollouts:
    """The rollouts of one update; `resd_bench.agent.MoreRollouts` for the agent."""

    agent: Agent
    envs: EnvPool
    tasks: Sequence[Task]
    """All training tasks."""
    n: int
    """Attempts at each task."""
    step: Step
    ledger: Ledger
    budget: Budget
    seed: int
    placebo: Placebo = field(default_factory=Placebo)
    played: list[Played] = field(default_factory=list)
    exchanged: Metrics = field(default_factory=dict)
    """The placebo's check of the step's own rollouts."""

    @property
    def groups(self) -> list[Group]:
        """Everything rolled out so far."""
        return [group for own in self.played for group in own.groups]

    def first(self, tasks: Sequence[Task], first_attempt: int) -> list[Group]:
        """The step's own rollouts."""
        seen, self.exchanged = self._roll_out(tasks, first_attempt, self.step)
        return seen

    def play(self, tasks: Sequence[Task]) -> list[Group]:
        """Extra rollouts, see `MoreRollouts.play`."""
        if not tasks or not self._affordable(len(tasks) * self.n):
            return []
        number = len(self.played)
        seed = derive(self.step.sampling.seed, "extra", number)
        sampling = replace(self.step.sampling, seed=seed)
        step = replace(self.step, sampling=sampling, seed=derive(self.step.seed, "extra", number))
        seen, _ = self._roll_out(tasks, EXTRA * (step.update + 1) + number * self.n, step)
        return seen

    def _affordable(self, attempts: int) -> bool:
        """Whether a budget of rollouts has room for all, or another one for any."""
        if self.budget.unit == "ep":
            return self.budget.spent(self.ledger) + attempts <= self.budget.amount
        return not self.budget.exhausted(self.ledger)

    def _roll_out(
        self, tasks: Sequence[Task], first_attempt: int, step: Step
    ) -> tuple[list[Group], Metrics]:
        groups = roll_out(
            self.agent.act,
            self.envs,
            tasks,
            n=self.n,
            sampling=step.sampling,
            purpose="rollout",
            ledger=self.ledger,
            seed=self.seed,
            first_attempt=first_attempt,
        )
        seen, notes, exchanged = self.placebo.exchanged(groups, step.seed)
        self.played.append(Played(groups, first_attempt, as_read(self.agent, groups), notes))
        return list(seen), exchanged


def as_read(agent: Agent, groups: Sequence[Group]) -> Sequence[Group]:
    """`groups` with the messages that the policy read, which may show the agent's memory."""
    if not isinstance(agent, InContext):
        return groups
    return [
        replace(group, trajectories=tuple(_as_read(agent, own) for own in group.trajectories))
        for group in groups
    ]


def _as_read(agent: InContext, attempt: Trajectory) -> Trajectory:
    turns = [replace(turn, messages=agent.posed(turn.messages)) for turn in attempt.turns]
    return replace(attempt, turns=tuple(turns))
