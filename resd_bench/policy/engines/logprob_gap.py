"""Whether an engine with its own weights samples from the model that is being trained.

There are two measures: a check that stops a run if the two are different models, and a metric of
how much their log-probabilities differ, which truncated importance weights correct for. Left out:
correcting anything; that is up to the objective.

Shapes: b sequences, T response tokens, n tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from resd_bench.distributed.process_group import SINGLE_PROCESS, ProcessGroup
from resd_bench.objective import Objective, TokenBatch, TokenObjective
from resd_bench.policy.engines.base import Generated, TrainedWeights, logprobs_of
from resd_bench.policy.trainer import response_logits
from resd_bench.seeds import stream
from resd_bench.types import Metrics, Sampling

GAP_TOLERANCE = {torch.float32: 0.01, torch.bfloat16: 0.3, torch.float16: 0.1}
"""Largest gap (nats) of a greedy token that rounding explains, by the engine's precision. 1e-5 was
measured in float32 and 0.09 in bfloat16; a different model is off by whole nats."""
PROMPT_TOKENS, NEW_TOKENS = 16, 8
GREEDY = Sampling(temperature=0.0, max_new_tokens=NEW_TOKENS)
TOKENS_PER_CALL = 16
"""Tokens per micro-batch whose gap is measured: sorting the vocabulary for all of them would cost
more than the loss."""

Sample = Callable[[Sequence[int], Sampling], Generated]
"""One continuation of a prompt, stop tokens ignored."""


@dataclass(frozen=True, slots=True)
class Gap:
    """How far an engine's continuation is from the trainer's model, in nats."""

    logprobs: float
    """Largest difference between a token's log-probabilities."""
    greedy: float
    """Largest margin by which the most likely token beats a sampled one; only rounding if the
    engine decodes greedily and is correct."""


def _probe(model: Any) -> list[int]:
    """A prompt of random tokens from the whole vocabulary, the same at every call."""
    rows = model.get_input_embeddings().weight.shape[0]
    ids: list[int] = stream(0, "agreement").integers(rows, size=PROMPT_TOKENS).tolist()
    return ids


@torch.no_grad()
def measure(weights: TrainedWeights, sample: Sample, sampling: Sampling = GREEDY) -> Gap:
    """Let the engine continue a fixed prompt, and score its continuation with the trainer."""
    prompt = _probe(weights.trained_model)
    said = sample(prompt, sampling)
    logits = weights.read(lambda model: response_logits(model, [prompt], [said.token_ids])[0])
    ids = torch.tensor(said.token_ids, device=logits.device)
    mine = logprobs_of(logits, ids, sampling)
    theirs = torch.tensor(said.logprobs, device=mine.device)
    behind = logits.max(-1).values - logits.gather(-1, ids[:, None])[:, 0]
    return Gap(float((mine - theirs).abs().max()), float(behind.max()))


class LogprobGap:
    """Measures the gap between the engine's log-probabilities and the trainer's in objectives."""

    def __init__(self) -> None:
        self._gaps: list[Tensor] = []

    def watching(self, objective: Objective, sampling: Sampling) -> Objective:
        """`objective`, with the gap measured; its tokens were sampled as `sampling` says."""
        if isinstance(objective, TokenObjective):
            per_token = self._watched(objective.per_token, sampling)
            return TokenObjective(per_token, objective.aggregation)
        return self._watched(objective, sampling)

    def _watched(self, objective: Objective, sampling: Sampling) -> Objective:
        def watched(batch: TokenBatch) -> Tensor:
            self._gaps.append(gaps(batch, sampling))
            return objective(batch)

        return watched

    def metrics(self, process_group: ProcessGroup = SINGLE_PROCESS) -> Metrics:
        """What all processes measured since the last call; empty if no log-probability was known.

        `policy/engine_logprob_gap` and `policy/engine_logprob_gap_max`: mean and largest absolute
        difference (nats) between the log-probability a token was sampled with and the trainer's,
        both after temperature and top-p, over up to 16 tokens of each micro-batch.
        """
        mine = torch.cat(self._gaps) if self._gaps else torch.empty(0)
        seen = torch.cat(process_group.gather(mine))
        self._gaps = []
        if not len(seen):
            return {}
        return {
            "policy/engine_logprob_gap": float(seen.mean()),
            "policy/engine_logprob_gap_max": float(seen.max()),
        }


@torch.no_grad()
def gaps(batch: TokenBatch, sampling: Sampling) -> Tensor:
    """Absolute gaps [n], float32, of at most `TOKENS_PER_CALL` tokens spread over `batch`.

    Those of sequences of weight 0 are not measured: nothing is learned from them, and one of
    several processes that has fewer than the others computes with such a sequence that nobody drew.
    """
    known = (batch.mask > 0) & ~torch.isnan(batch.behaviour_logprobs)
    known &= batch.weights[:, None] != 0
    at = known.nonzero()
    if len(at) > TOKENS_PER_CALL:
        at = at[torch.linspace(0, len(at) - 1, TOKENS_PER_CALL, device=at.device).long()]
    row, column = at.unbind(-1)
    logits = batch.student_logits.detach()[row, column].float()
    mine = logprobs_of(logits, batch.token_ids[row, column], sampling)
    return (mine - batch.behaviour_logprobs[row, column]).abs().cpu()
