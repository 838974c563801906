"""What the optimiser of the package `gepa` is given: a system to optimise, and its strategies."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

COMPONENT = "lessons"
"""Name of the one text that is optimised."""

Evaluate = Callable[[Sequence[str], str], list[float]]
"""Task ids and a text in, one score each out."""


class Adapter:
    """What the package asks of a system: evaluate a text on tasks, and propose another text."""

    def __init__(
        self, batch: Callable[..., Any], evaluate: Evaluate, propose: Callable[[str], str]
    ) -> None:
        self._batch, self._evaluate, self._propose = batch, evaluate, propose
        self._failure: Exception | None = None

    def evaluate(
        self, batch: list[str], candidate: dict[str, str], capture_traces: bool = False
    ) -> Any:
        scores = self._evaluate(batch, candidate[COMPONENT]) if batch else []
        traces = list(batch) if capture_traces else None
        return self._batch(outputs=list(batch), scores=scores, trajectories=traces)

    def make_reflective_dataset(
        self, candidate: dict[str, str], eval_batch: Any, components_to_update: list[str]
    ) -> dict[str, list[dict[str, Any]]]:
        """What a proposal is made from is known to whoever makes it."""
        return {
            name: [{"Inputs": one} for one in eval_batch.outputs] for name in components_to_update
        }

    def propose_new_texts(
        self, candidate: dict[str, str], reflective_dataset: Any, components_to_update: list[str]
    ) -> dict[str, str]:
        """A changed text; nothing where it is unchanged, which ends the iteration."""
        try:
            text = self._propose(candidate[COMPONENT])
        except Exception as error:
            # The package would log it and go on.
            self._failure = error
            raise
        return {} if text == candidate[COMPONENT] else {COMPONENT: text}

    def check(self) -> None:
        """Raise what went wrong in a proposal."""
        if self._failure is not None:
            raise self._failure


@dataclass(frozen=True, slots=True)
class ParentSelector:
    """Selects the text that the rollouts were made with."""

    place: int

    def select_candidate_idx(self, state: Any) -> int:
        return self.place


class WholeBatch:
    def next_minibatch_ids(self, loader: Any, state: Any) -> list[Any]:
        return list(loader.all_ids())


@dataclass
class StopAfter:
    """Stops after so many iterations."""

    left: int

    def __call__(self, state: Any) -> bool:
        self.left -= 1
        return self.left < 0


class Silent:
    def log(self, message: str) -> None:
        """Nothing is printed."""
