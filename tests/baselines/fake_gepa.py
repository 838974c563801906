"""As much of the package `gepa` as one iteration touches, so that tests need not have it."""

from __future__ import annotations

import pickle
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest


@dataclass
class EvaluationBatch:
    outputs: list[Any]
    scores: list[float]
    trajectories: list[Any] | None = None


class GEPAState:
    """Texts and their scores on each validation task."""

    def __init__(self, candidate: dict[str, str], scores: dict[int, float]) -> None:
        self.program_candidates = [candidate]
        self.prog_candidate_val_subscores = [scores]
        self.front = {place: {0} for place in scores}

    @property
    def program_full_scores_val_set(self) -> list[float]:
        return [sum(own.values()) / len(own) for own in self.prog_candidate_val_subscores]

    def save(self, folder: str) -> None:
        (Path(folder) / "gepa_state.bin").write_bytes(pickle.dumps(vars(self)))

    @staticmethod
    def load(folder: str) -> GEPAState:
        state = GEPAState.__new__(GEPAState)
        state.__dict__.update(pickle.loads((Path(folder) / "gepa_state.bin").read_bytes()))
        return state


class _Loader:
    def __init__(self, items: list[str]) -> None:
        self.items = items

    def all_ids(self) -> list[int]:
        return list(range(len(self.items)))


class ParetoCandidateSelector:
    def __init__(self, rng: Any) -> None:
        self.rng = rng

    def select_candidate_idx(self, state: GEPAState) -> int:
        return int(self.rng.choice(sorted(set.union(*state.front.values()))))


class FullEvaluationPolicy:
    def get_best_program(self, state: GEPAState) -> int:
        scores = state.program_full_scores_val_set
        return scores.index(max(scores))


def optimize(
    *,
    seed_candidate: dict[str, str],
    trainset: list[str],
    valset: list[str],
    adapter: Any,
    candidate_selection_strategy: Any,
    batch_sampler: Any,
    val_evaluation_policy: Any,
    stop_callbacks: Any,
    run_dir: str,
    **rest: Any,
) -> None:
    """Mutate, accept what is strictly better, until told to stop; the state is in `run_dir`."""
    asked = val_evaluation_policy.get_seed_eval_batch(_Loader(valset))
    scores = adapter.evaluate([valset[i] for i in asked], seed_candidate).scores
    there = (Path(run_dir) / "gepa_state.bin").is_file()
    first = dict(zip(asked, scores, strict=True))
    state = GEPAState.load(run_dir) if there else GEPAState(seed_candidate, first)
    while not stop_callbacks(state):
        state.save(run_dir)
        place = candidate_selection_strategy.select_candidate_idx(state)
        parent = state.program_candidates[place]
        batch = [trainset[i] for i in batch_sampler.next_minibatch_ids(_Loader(trainset), state)]
        before = adapter.evaluate(batch, parent, capture_traces=True)
        if all(score >= 1 for score in before.scores):
            continue
        names = list(parent)
        shown = adapter.make_reflective_dataset(parent, before, names)
        try:
            texts = adapter.propose_new_texts(parent, shown, names)
        except Exception:
            continue
        if not texts:
            continue
        child = {**parent, **texts}
        after = adapter.evaluate(batch, child, capture_traces=True)
        if sum(after.scores) > sum(before.scores):
            own = adapter.evaluate(valset, child).scores
            state.program_candidates.append(child)
            last = len(state.program_candidates) - 1
            for number, score in enumerate(own):
                best = max(s[number] for s in state.prog_candidate_val_subscores)
                if score >= best:
                    state.front[number] = {last} | (state.front[number] if score == best else set())
            state.prog_candidate_val_subscores.append(dict(enumerate(own)))
    state.save(run_dir)


def install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `import gepa` find this for the length of a test."""
    found = {"gepa": ModuleType("gepa"), "gepa.core": ModuleType("gepa.core")}
    for name in ("core.state", "strategies", "strategies.candidate_selector"):
        found[f"gepa.{name}"] = ModuleType(f"gepa.{name}")
    found["gepa.strategies.eval_policy"] = ModuleType("gepa.strategies.eval_policy")
    for module in found.values():
        module.__dict__.update(
            optimize=optimize,
            EvaluationBatch=EvaluationBatch,
            GEPAState=GEPAState,
            ParetoCandidateSelector=ParetoCandidateSelector,
            FullEvaluationPolicy=FullEvaluationPolicy,
        )
    for name, module in found.items():
        if "." in name:
            above, _, last = name.rpartition(".")
            setattr(found[above], last, module)
        monkeypatch.setitem(sys.modules, name, module)
