"""The two protocols: a policy is a language model to sample and train; an agent learns with it.

The harness gives a method a `Policy`; the method gives the harness an `Agent`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

from resd_bench.budget import Ledger, Purpose
from resd_bench.types import (
    Completion,
    Example,
    Group,
    Messages,
    Metrics,
    PromptDialect,
    Sampling,
    Step,
    Task,
)

if TYPE_CHECKING:
    from resd_bench.objective import Objective

State = dict[str, Any]
"""A value that `torch.save` can write, from which `load_state_dict` resumes exactly."""

TeacherKind = Literal["ema", "frozen"]


class Policy(Protocol):
    """A language model with an engine, an optimiser and, on demand, a teacher."""

    dialect: PromptDialect
    """How to word prompts for this model."""
    ledger: Ledger

    def sample(
        self, prompts: Sequence[Messages], *, n: int, sampling: Sampling, purpose: Purpose
    ) -> list[list[Completion]]:
        """Sample `n` completions of each prompt, charged to the ledger under `purpose`."""
        ...

    def score(
        self,
        prompts: Sequence[Messages],
        completions: Sequence[Completion],
        *,
        temperature: float = 1.0,
    ) -> list[tuple[float, ...]]:
        """Log-probability (nats) of each token of each completion after its prompt.

        Under the present weights, at a temperature above 0; charged as scored tokens. () where a
        completion is empty, or does not fit the context after its prompt.
        """
        ...

    def use_teacher(self, kind: TeacherKind, ema_rate: float) -> None:
        """Keep a teacher from now on: a copy of the current weights, frozen or moving."""
        ...

    def update(
        self, examples: Sequence[Example], objective: Objective, *, batch_size: int
    ) -> Metrics:
        """Take one optimiser step on the sum of per-sequence losses divided by `batch_size`.

        `batch_size` also counts samples without an example (they contribute 0). Without any example
        nothing is trained, but the update still counts.
        """
        ...

    def state_dict(self) -> State: ...

    def load_state_dict(self, state: State) -> None: ...


@runtime_checkable
class Charged(Protocol):
    """A policy whose answers are paid for."""

    def spending(self) -> str:
        """How many tokens its answers took so far, and what they cost, in one sentence."""
        ...


class MoreRollouts(Protocol):
    """What a method may roll out in a step beyond what the step brings; see `Collects`."""

    tasks: Sequence[Task]
    """All training tasks of the run."""

    def play(self, tasks: Sequence[Task]) -> list[Group]:
        """Attempt each of `tasks` as often as the step does, answered by the agent's `act`.

        Charged and recorded like the step's own. [] where the budget has no room for all of them:
        nothing is played then.
        """
        ...


class Agent(Protocol):
    """The interface of a method to the harness."""

    def act(
        self, prompts: Sequence[Messages], *, n: int, sampling: Sampling, purpose: Purpose
    ) -> list[list[Completion]]:
        """Answer each prompt `n` times."""
        ...

    def learn(self, groups: Sequence[Group], step: Step) -> Metrics:
        """One inner update on fresh groups."""
        ...

    def context(self) -> Mapping[str, Any]:
        """What the method wrote and stored in its last update, as JSON."""
        ...

    def state_dict(self) -> State: ...

    def load_state_dict(self, state: State) -> None: ...


@runtime_checkable
class Contextual(Protocol):
    """An agent with a memory that it could put into prompts, but learns to do without."""

    def contexts(
        self, groups: Sequence[Group], sampling: Sampling
    ) -> Mapping[str, Mapping[str, str]]:
        """For each context, by name: replacements for tasks' first prompts, by the first prompt.

        `groups` holds the latest attempts at the tasks; anything sampled meanwhile has the purpose
        `evaluation`. Nothing is learned or stored.
        """
        ...


@runtime_checkable
class Collects(Protocol):
    """An agent that decides on the way how many rollouts it learns from."""

    def collect(self, groups: Sequence[Group], step: Step, more: MoreRollouts) -> Sequence[Group]:
        """What `learn` gets in place of `groups`, the step's own; called right before it."""
        ...


@runtime_checkable
class InContext(Protocol):
    """An agent whose policy is shown a memory, in rollouts and in every evaluation alike.

    Its `act` asks the policy `posed(messages)` for each chat. What a success rate of such an agent
    measures is the policy with its memory.
    """

    def posed(self, messages: Messages) -> Messages:
        """What the policy reads in place of `messages` now."""
        ...


@runtime_checkable
class SeesReferences(Protocol):
    """An agent that learns from reference solutions; its `MethodSpec` says so."""

    def use_references(self, reference: Callable[[Task], str]) -> None:
        """Take reference solutions from `reference`, which gives "" where a task has none."""
        ...


@dataclass(frozen=True, slots=True)
class Load:
    """The most a method asks of the policy for each attempt; `run --dry-run` adds it up."""

    samples: int = 0
    """Number of texts that the method itself samples: reflections, curation."""
    teacher: bool = False
    """Whether a teacher scores the attempt."""
    shown: int = 0
    """Number of completion-length texts in the teacher's prompt besides the task."""
    shown_tokens: int = 0
    """Further tokens in that prompt: a playbook, feedback."""
    scores: int = 0
    """Times that the policy itself scores the attempt, after prompts that show as many texts."""
    memory_tokens: int = 0
    """Tokens of a memory that every prompt shows, in rollouts and in evaluations."""


def no_load(options: Any) -> Load:
    """The load of a method that only trains on its attempts."""
    return Load()


SEES_REFERENCE = "sees reference solutions"
"""What is said of a method with `sees_reference` wherever it is named."""


@dataclass(frozen=True, slots=True)
class MethodSpec:
    """The object that an entry point of the group `resd_bench.methods` refers to."""

    name: str
    summary: str
    """One sentence for `methods list`."""
    config: type
    """A frozen dataclass of the method's options; field docstrings are their help."""
    build: Callable[[Policy, Any], Agent]
    """Makes the agent from a policy and an instance of `config`."""
    group_size: int = 1
    """Default number of rollouts per task in a step (N)."""
    presets: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Options by preset name (`paper`, `release`); {} means the defaults of `config`."""
    learns: bool = True
    """Whether it trains the policy at all; one that does not is not told that it cannot."""
    load: Callable[[Any], Load] = no_load
    """The method's load on the policy, from an instance of `config`."""
    former: Mapping[str, Any] = field(default_factory=dict)
    """Options about attempts with several turns that were added later, at what runs did before: a
    record of such an environment that lacks one has this value, not the default."""
    sees_reference: bool = False
    """Whether it learns from reference solutions (`SeesReferences`): an upper bound, not a method
    to compare others with. Lists, cards, records and tables say so."""
    check_installed: Callable[[], object] | None = None
    """UsageError where a package that it needs is not installed; None if it needs none."""
