"""The two protocols: a policy is a language model one can sample and train, an agent learns.

`Policy` is what the harness gives a method; `Agent` is what a method gives the harness.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

from resd_bench.budget import Ledger, Purpose
from resd_bench.types import Completion, Dialect, Example, Group, Messages, Metrics, Sampling, Step

if TYPE_CHECKING:
    from resd_bench.objective import Objective

State = dict[str, Any]
"""What `torch.save` can write and `load_state_dict` needs to go on as if nothing had happened."""

TeacherKind = Literal["ema", "frozen"]


class Policy(Protocol):
    """A language model with an engine, an optimiser and, on demand, a teacher."""

    dialect: Dialect
    """How to word prompts for this model."""
    ledger: Ledger

    def sample(
        self, prompts: Sequence[Messages], *, n: int, sampling: Sampling, purpose: Purpose
    ) -> list[list[Completion]]:
        """Sample `n` completions of each prompt, charged to the ledger under `purpose`."""
        ...

    def use_teacher(self, kind: TeacherKind, ema_rate: float) -> None:
        """Keep a teacher from now on: a copy of the present weights, frozen or moving."""
        ...

    def update(
        self, examples: Sequence[Example], objective: Objective, *, batch_size: int
    ) -> Metrics:
        """Take one optimiser step on the sum of per-sequence losses divided by `batch_size`.

        `batch_size` counts samples that gave no example too (they contribute 0). With no example
        nothing is trained, and the update still counts.
        """
        ...

    def state_dict(self) -> State: ...

    def load_state_dict(self, state: State) -> None: ...


class Agent(Protocol):
    """What every method offers the harness."""

    def act(
        self, prompts: Sequence[Messages], *, n: int, sampling: Sampling, purpose: Purpose
    ) -> list[list[Completion]]:
        """Answer each prompt `n` times."""
        ...

    def learn(self, groups: Sequence[Group], step: Step) -> Metrics:
        """One inner update on fresh groups."""
        ...

    def context(self) -> Mapping[str, Any]:
        """What the method wrote and remembered in its last update, as JSON."""
        ...

    def state_dict(self) -> State: ...

    def load_state_dict(self, state: State) -> None: ...


@runtime_checkable
class Contextual(Protocol):
    """An agent that remembers things which it could show itself, and learns to do without."""

    def contexts(
        self, groups: Sequence[Group], sampling: Sampling
    ) -> Mapping[str, Mapping[str, str]]:
        """By name of a context, other words for the first prompt of tasks, by that prompt.

        `groups` is how the tasks were just attempted; whatever is sampled on the way has the
        purpose `evaluation`. Nothing is learned or remembered.
        """
        ...


@dataclass(frozen=True, slots=True)
class Load:
    """What a method asks of the policy for each attempt, at most; `run --dry-run` adds it up."""

    samples: int = 0
    """Texts of its own that it samples: reflections, curation."""
    teacher: bool = False
    """Whether a teacher scores the attempt."""
    shown: int = 0
    """Texts as long as a completion that the teacher's prompt shows beside the task."""
    shown_tokens: int = 0
    """Further tokens that it shows: a playbook, feedback."""


def no_load(options: Any) -> Load:
    """Of a method that only trains on its attempts."""
    return Load()


@dataclass(frozen=True, slots=True)
class MethodSpec:
    """What a plugin of the group `resd_bench.methods` names."""

    name: str
    summary: str
    """One sentence for `methods list`."""
    config: type
    """A frozen dataclass of the method's options; field docstrings are their help."""
    build: Callable[[Policy, Any], Agent]
    """Make the agent from a policy and an instance of `config`."""
    group_size: int = 1
    """Rollouts per task in a step (N) unless the user says otherwise."""
    presets: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Options by preset name (`paper`, `release`); {} means the defaults of `config`."""
    learns: bool = True
    """Whether it trains the policy at all; one that does not is not told that it cannot."""
    load: Callable[[Any], Load] = no_load
    """What the method asks of the policy, from an instance of `config`."""
