"""For authors of environments and methods: a scripted policy, `check_env` and `check_agent`.

Checks raise AssertionError with the property that does not hold. They run in this process, so one
that hangs hangs the test: `resd_bench.check` examines an installed plugin under a deadline.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from resd_bench.agent import MethodSpec, State, TeacherKind
from resd_bench.budget import Ledger, Purpose
from resd_bench.env import TextEnv
from resd_bench.types import (
    Completion,
    Dialect,
    Example,
    FeedbackLevel,
    Messages,
    Metrics,
    Sampling,
    Split,
    Stop,
)

if TYPE_CHECKING:
    from resd_bench.policy.objective import Objective

Script = Callable[[str, int, int], str]
"""Text of the last message, seed and number of the sample in; the answer out."""

SPLITS: tuple[Split, ...] = ("train", "validation", "test")
LEFT_OUT = ("docs", "panel", "runaway", "budget")
"""Properties of `envs check` that `check_env` leaves out: to read, to install, to wait for."""


@dataclass(frozen=True, slots=True)
class Call:
    """One request a scripted policy got."""

    prompts: tuple[Messages, ...]
    n: int
    sampling: Sampling
    purpose: Purpose


@dataclass
class ScriptedPolicy:
    """A policy whose answers are a function of the prompt; an update only counts.

    Token ids are the code points of the answer, each with log-probability 0.
    """

    answer: Script
    dialect: Dialect = "compact"
    ledger: Ledger = field(default_factory=Ledger)
    calls: list[Call] = field(default_factory=list)
    updates: list[tuple[Example, ...]] = field(default_factory=list)
    """The examples of each update since the policy was made."""
    count: int = 0
    """Updates in all; what a checkpoint holds."""
    teacher: tuple[TeacherKind, float] | None = None

    def sample(
        self, prompts: Sequence[Messages], *, n: int, sampling: Sampling, purpose: Purpose
    ) -> list[list[Completion]]:
        """Answer by the script, charged to the ledger."""
        self.calls.append(Call(tuple(prompts), n, sampling, purpose))
        return [
            [self._complete(messages, sampling, purpose, i, j) for j in range(n)]
            for i, messages in enumerate(prompts)
        ]

    def _complete(
        self, messages: Messages, sampling: Sampling, purpose: Purpose, i: int, j: int
    ) -> Completion:
        text = self.answer(messages[-1].content, sampling.seed + i, j)
        ids = tuple(ord(c) for c in text[: sampling.max_new_tokens])
        self.ledger.charge_sampling(purpose, sum(len(m.content) for m in messages), len(ids), 1)
        stop = Stop.LENGTH if len(text) > len(ids) else Stop.EOS
        return Completion("".join(map(chr, ids)), ids, (0.0,) * len(ids), stop)

    def use_teacher(self, kind: TeacherKind, ema_rate: float) -> None:
        """Remember that a teacher was asked for."""
        self.teacher = (kind, ema_rate)

    def update(
        self, examples: Sequence[Example], objective: Objective, *, batch_size: int
    ) -> Metrics:
        """Count; nothing is learned."""
        assert len(examples) <= batch_size, "more examples than the batch has samples"
        self.updates.append(tuple(examples))
        self.count += 1
        self.ledger.updates += 1
        return {"policy/examples": float(len(examples))}

    def state_dict(self) -> State:
        return {"count": self.count}

    def load_state_dict(self, state: State) -> None:
        self.count = int(state["count"])


def check_env(env: TextEnv) -> None:
    """Prove what the harness relies on of an environment; AssertionError names what fails.

    The properties of `envs check` but `LEFT_OUT`, on fewer tasks. `env` is used as it is made, in
    its own dialect.
    """
    from resd_bench.check.environments import ENV_PROPERTIES
    from resd_bench.check.subject import Subject
    from resd_bench.check.verdict import Skipped

    def make(*, dialect: Dialect, feedback_level: int) -> TextEnv:
        made = copy.copy(env)
        made.feedback_level = FeedbackLevel(feedback_level)
        return made

    subject = Subject(env.name, make, dialects=(env.dialect,), seconds=0.5)
    for name, prove in ENV_PROPERTIES.items():
        if name not in LEFT_OUT:
            with contextlib.suppress(Skipped):
                prove(subject)


def check_agent(spec: MethodSpec, options: Mapping[str, Any] | None = None) -> None:
    """Prove what the harness relies on of a method; AssertionError names what fails.

    `options` are those of the method, by name. `methods check` does the same for an installed
    method, in a process of its own.
    """
    from resd_bench.check.methods import MethodSubject, prove_all

    for _ in prove_all(MethodSubject(spec.name, spec, options or {})):
        pass
