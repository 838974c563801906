"""One iteration of the optimiser of the package `gepa`, between values that a checkpoint can hold.

The package runs a loop of its own and keeps its state in a folder, as a pickle. Here it is called
for one iteration at a time in a folder of our own, so that a run can be stopped and gone on with
after any update. Texts, scores and the Pareto front are the package's business; what a text does in
rollouts, and how a new one is proposed, is the caller's.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from tempfile import TemporaryDirectory

from resd_baselines.archive_agent import Archive, NoRollouts
from resd_baselines.gepa_adapter import (
    COMPONENT,
    Adapter,
    Evaluate,
    ParentSelector,
    Silent,
    StopAfter,
    WholeBatch,
)
from resd_baselines.gepa_state import package, state_as_json, state_from_json


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
    """The archive after one iteration.

    It is unchanged without validation tasks, and where `evaluate` raises `NoRollouts`.

    The parent is evaluated on the tasks of `batch`, changed by `propose`, evaluated again, and
    evaluated on `validation` if that was an improvement. Without an archive, `start` is evaluated
    on `validation` first.
    """
    gepa = package()
    if not validation:
        return archive
    policy = gepa.strategies.eval_policy.FullEvaluationPolicy()
    # The start is evaluated once: later its scores are in the state.
    policy.get_seed_eval_batch = lambda loader: [] if archive else list(loader.all_ids())
    adapter = Adapter(gepa.EvaluationBatch, evaluate, propose)
    with TemporaryDirectory() as folder:
        if archive:
            state_from_json(archive.state).save(folder)
        try:
            gepa.optimize(
                seed_candidate={COMPONENT: start},
                trainset=list(batch),
                valset=list(validation),
                adapter=adapter,
                candidate_selection_strategy=ParentSelector(archive.parent if archive else 0),
                batch_sampler=WholeBatch(),
                val_evaluation_policy=policy,
                stop_callbacks=StopAfter(1),
                logger=Silent(),
                run_dir=folder,
                seed=seed,
                track_best_outputs=False,
            )
        except NoRollouts:
            return archive
        adapter.check()
        state = gepa.core.state.GEPAState.load(folder)
    front = gepa.strategies.candidate_selector.ParetoCandidateSelector(random.Random(seed))
    return Archive(
        state_as_json(state),
        tuple(candidate[COMPONENT] for candidate in state.program_candidates),
        tuple(state.program_full_scores_val_set),
        policy.get_best_program(state),
        front.select_candidate_idx(state),
    )
