"""A policy whose answers are a function of the prompt: no model, no learning."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from resd_bench.agent import State, TeacherKind
from resd_bench.budget import Ledger, Purpose
from resd_bench.types import Completion, Example, Messages, Metrics, PromptDialect, Sampling, Stop

if TYPE_CHECKING:
    from resd_bench.objective import Objective

LONGEST_SCORED = 2_000
"""Tokens of a completion that still fits a scripted policy's context when it is scored."""
Script = Callable[[str, int, int], str]
"""From the text of the last message, the seed and the number of the sample to the answer."""


@dataclass(frozen=True, slots=True)
class Call:
    """One request to a scripted policy."""

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
    dialect: PromptDialect = "compact"
    ledger: Ledger = field(default_factory=Ledger)
    calls: list[Call] = field(default_factory=list)
    updates: list[tuple[Example, ...]] = field(default_factory=list)
    """The examples of each update since the policy was made."""
    count: int = 0
    """Total number of updates; the content of a checkpoint."""
    teacher: tuple[TeacherKind, float] | None = None

    def sample(
        self, prompts: Sequence[Messages], *, n: int, sampling: Sampling, purpose: Purpose
    ) -> list[list[Completion]]:
        """Answer by the script, and charge the ledger."""
        self.calls.append(Call(tuple(prompts), n, sampling, purpose))
        return [
            [self._complete(messages, sampling, purpose, number, j) for j in range(n)]
            for number, messages in zip(sampling.numbers(len(prompts)), prompts, strict=True)
        ]

    def _complete(
        self, messages: Messages, sampling: Sampling, purpose: Purpose, i: int, j: int
    ) -> Completion:
        text = self.answer(messages[-1].content, sampling.seed + i, j)
        ids = tuple(ord(c) for c in text[: sampling.max_new_tokens])
        self.ledger.charge_sampling(purpose, sum(len(m.content) for m in messages), len(ids), 1)
        stop = Stop.LENGTH if len(text) > len(ids) else Stop.EOS
        return Completion("".join(map(chr, ids)), ids, (0.0,) * len(ids), stop)

    def score(
        self,
        prompts: Sequence[Messages],
        completions: Sequence[Completion],
        *,
        temperature: float = 1.0,
    ) -> list[tuple[float, ...]]:
        """Log-probabilities that depend on the length of the prompt and the token alone.

        () for completions of more than `LONGEST_SCORED` tokens.
        """
        return [
            ()
            if len(said.token_ids) > LONGEST_SCORED
            else tuple(
                -((len(chat[-1].content) * (token + 3)) % 11) / 8 for token in said.token_ids
            )
            for chat, said in zip(prompts, completions, strict=True)
        ]

    def use_teacher(self, kind: TeacherKind, ema_rate: float) -> None:
        """Remember that a teacher was asked for."""
        self.teacher = (kind, ema_rate)

    def update(
        self, examples: Sequence[Example], objective: Objective, *, batch_size: int
    ) -> Metrics:
        """Count the update; nothing is learned."""
        assert len(examples) <= batch_size, "more examples than the batch has samples"
        self.updates.append(tuple(examples))
        self.count += 1
        self.ledger.updates += 1
        return {"policy/examples": float(len(examples))}

    def state_dict(self) -> State:
        return {"count": self.count}

    def load_state_dict(self, state: State) -> None:
        self.count = int(state["count"])
