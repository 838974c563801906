"""Log-probabilities of given completions, without a gradient: how likely a model finds a text.

Left out: whole distributions, which a training step compares by itself.

Shapes: b sequences, T response tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from resd_bench.policy.chunked_loss import head_of
from resd_bench.policy.micro_batches import BatchLimits, TokenizedExample, micro_batches
from resd_bench.policy.trainer import response_logits, response_states


@torch.no_grad()
def score(
    model: Any, rows: Sequence[TokenizedExample], temperature: float, limits: BatchLimits
) -> list[tuple[float, ...]]:
    """For each row, the log-probability (nats) of each token of its response after its prompt.

    Logits are divided by `temperature`, above 0.
    """
    vocabulary = model.get_output_embeddings().weight.shape[0]
    places = {id(row): place for place, row in enumerate(rows)}
    found: list[tuple[float, ...]] = [()] * len(rows)
    for batch in micro_batches(rows, vocabulary, limits):
        logprobs = _logprobs(model, batch, temperature, max(1, limits.logits // vocabulary))
        for row, values in zip(batch, logprobs.tolist(), strict=True):
            found[places[id(row)]] = tuple(values[: len(row.response)])
    return found


def _logprobs(
    model: Any, rows: Sequence[TokenizedExample], temperature: float, size: int
) -> Tensor:
    """[b, T]; the logits of no more than `size` tokens of each sequence at a time."""
    prompts, responses = [row.prompt for row in rows], [row.response for row in rows]
    head = head_of(model)
    read = response_logits if head is None else response_states
    states = read(model, prompts, responses)
    width = states.shape[1]
    ids = torch.tensor([[*r, *[0] * (width - len(r))] for r in responses], device=states.device)
    pieces = [slice(start, start + size) for start in range(0, width, size)]
    made = []
    for piece in pieces:
        logits = states[:, piece] if head is None else head(states[:, piece])
        logits = logits.float() / temperature
        chosen = logits.gather(-1, ids[:, piece, None].to(logits.device))[..., 0]
        made.append(chosen - logits.logsumexp(-1))
    return torch.cat(made, dim=1)
