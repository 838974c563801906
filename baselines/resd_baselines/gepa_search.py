"""One iteration of the optimiser of the package `gepa`, between values that a checkpoint can hold.

The package runs a loop of its own and keeps its state in a folder, as a pickle. Here it is called
for one iteration at a time in a folder of our own, so that a run can be stopped and gone on with
after any update; what is kept is JSON, since a checkpoint from elsewhere must not run code. Texts,
scores and the Pareto front are the package's business; what a text does in rollouts, and how a new
one is proposed, is the caller's.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from tempfile import TemporaryDirectory
from typing import Any

from resd_bench.errors import UsageError, install_extra
from resd_bench.files import reading

COMPONENT = "lessons"
"""Name of the one text that is optimised."""
DROPPED: Mapping[str, Any] = {
    "full_program_trace": [],
    "best_outputs_valset": None,
    "evaluation_cache": None,
}
"""Parts of the package's state that grow, and that no iteration reads."""

Evaluate = Callable[[Sequence[str], str], list[float]]
"""Task ids and a text in, one score each out; `NoRollouts` where they cannot be paid for."""


class NoRollouts(Exception):
    """The budget has no room for an evaluation; the iteration is void."""


@dataclass(frozen=True, slots=True)
class Archive:
    """The texts found so far."""

    state: str
    """The package's state as JSON."""
    texts: tuple[str, ...]
    scores: tuple[float, ...]
    """Mean score of each text on the validation tasks."""
    best: int
    """The text of the highest mean."""
    parent: int
    """The text that the next iteration starts from, drawn from the Pareto front."""


def package() -> Any:
    """The package; UsageError says how to install it."""
    try:
        import gepa
    except ImportError as error:
        raise UsageError(
            f"the method gepa needs the package gepa ({error}): {install_extra('gepa')}"
        ) from error
    return gepa


def iterate(
    archive: Archive | None,
    *,
    start: str,
    batch: Sequence[str],
    validation: Sequence[str],
    evaluate: Evaluate,
    propose: Callable[[str], str],
    seed: int,
) -> Archive | None:
    """The archive after one iteration; unchanged where the budget had no room for it.

    The parent is evaluated on the tasks of `batch`, changed by `propose`, evaluated again, and
    evaluated on `validation` if that was an improvement. Without an archive, `start` is evaluated
    on `validation` first.
    """
    gepa = package()
    kind, policy = gepa.core.state.GEPAState, gepa.strategies.eval_policy.FullEvaluationPolicy()
    # The start is evaluated once: later its scores are in the state.
    policy.get_seed_eval_batch = lambda loader: [] if archive else list(loader.all_ids())
    adapter = _Adapter(gepa.EvaluationBatch, evaluate, propose)
    with TemporaryDirectory() as folder:
        if archive:
            held = kind.__new__(kind)
            held.__dict__.update(_decoded(reading.parse_json(archive.state)))
            held.save(folder)
        try:
            gepa.optimize(
                seed_candidate={COMPONENT: start},
                trainset=list(batch),
                valset=list(validation),
                adapter=adapter,
                candidate_selection_strategy=_Parent(archive.parent if archive else 0),
                batch_sampler=_WholeBatch(),
                val_evaluation_policy=policy,
                stop_callbacks=_After(1),
                logger=_Silent(),
                run_dir=folder,
                seed=seed,
                track_best_outputs=False,
            )
        except NoRollouts:
            return archive
        adapter.check()
        state = kind.load(folder)
    front = gepa.strategies.candidate_selector.ParetoCandidateSelector(random.Random(seed))
    return Archive(
        json.dumps(_encoded({**vars(state), **DROPPED})),
        tuple(candidate[COMPONENT] for candidate in state.program_candidates),
        tuple(state.program_full_scores_val_set),
        policy.get_best_program(state),
        front.select_candidate_idx(state),
    )


class _Adapter:
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
class _Parent:
    """Selects the text that the rollouts were made with."""

    place: int

    def select_candidate_idx(self, state: Any) -> int:
        return self.place


class _WholeBatch:
    def next_minibatch_ids(self, loader: Any, state: Any) -> list[Any]:
        return list(loader.all_ids())


@dataclass
class _After:
    """Stops after so many iterations."""

    left: int

    def __call__(self, state: Any) -> bool:
        self.left -= 1
        return self.left < 0


class _Silent:
    def log(self, message: str) -> None:
        """Nothing is printed."""


def _encoded(value: Any) -> Any:
    """Values as JSON; sets, tuples and mappings whose keys are numbers survive."""
    if isinstance(value, dict):
        return {"map": [[_encoded(k), _encoded(v)] for k, v in value.items()]}
    if isinstance(value, set | frozenset):
        return {"set": sorted(value)}
    if isinstance(value, list | tuple):
        return [_encoded(one) for one in value]
    return value


def _decoded(value: Any) -> Any:
    """What `_encoded` was given, tuples as lists."""
    if isinstance(value, list):
        return [_decoded(one) for one in value]
    if isinstance(value, dict):
        if "set" in value:
            return set(value["set"])
        return {_decoded(k): _decoded(v) for k, v in value["map"]}
    return value
