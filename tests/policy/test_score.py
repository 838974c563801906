"""Scoring a text: log-probabilities against a plain forward pass, whatever the batches."""

from __future__ import annotations

import pytest
import torch

from resd_bench.budget import Ledger
from resd_bench.objective import TokenBatch, TokenObjective
from resd_bench.policy import trainer
from resd_bench.policy.config import PolicyConfig
from resd_bench.policy.lm_policy import LMPolicy
from resd_bench.policy.micro_batches import Limits, TokenizedExample
from resd_bench.policy.score import score
from resd_bench.types import Completion, Example, user
from tests.policy import tiny


def rows() -> list[TokenizedExample]:
    made = []
    for number, (prompt, response) in enumerate([(5, 3), (20, 1), (2, 17), (9, 9), (5, 3)]):
        p, r = tiny.prompts([prompt, response], seed=number)
        made.append(TokenizedExample(p, r, None, (), 0.0, 1.0))
    return made


@torch.no_grad()
def plainly(model: torch.nn.Module, row: TokenizedExample, temperature: float) -> list[float]:
    """One forward pass for every token, in float64."""
    found = []
    for t, token in enumerate(row.response):
        ids = torch.tensor([[*row.prompt, *row.response[:t]]])
        logits = model(input_ids=ids, use_cache=False).logits[0, -1].double() / temperature
        found.append(float(logits[token] - logits.logsumexp(-1)))
    return found


@pytest.mark.parametrize("temperature", [1.0, 0.6])
@pytest.mark.parametrize("limits", [Limits(1 << 20, 1 << 30), Limits(30, 1 << 30), Limits(1, 1)])
def test_scores_are_those_of_a_plain_forward_pass(temperature: float, limits: Limits) -> None:
    model = tiny.model().eval()
    found = score(model, rows(), temperature, limits)
    for row, values in zip(rows(), found, strict=True):
        assert values == pytest.approx(plainly(model, row, temperature), abs=1e-5)


def test_a_policy_scores_what_fits_and_charges_it() -> None:
    ledger = Ledger()
    policy = LMPolicy(tiny.model(), tiny.tokenizer(), PolicyConfig(context_limit=24), ledger)
    said = [Completion("", (5, 6, 7)), Completion("", ()), Completion("", (3,) * 24)]
    found = policy.score([user("one"), user("one"), user("one")], said)
    assert [len(values) for values in found] == [3, 0, 0]
    ids = policy.codec.prompt_ids(user("one"))
    row = TokenizedExample(ids, said[0].token_ids, None, (), 0.0, 1.0)
    assert found[0] == pytest.approx(plainly(policy.model, row, 1.0), abs=1e-5)
    assert ledger.scored_tokens == len(ids) + 3
    assert policy.score([], []) == []


def test_advantages_of_tokens_reach_the_objective() -> None:
    policy = LMPolicy(tiny.model(), tiny.tokenizer())
    seen: list[torch.Tensor] = []

    def watch(batch: TokenBatch) -> torch.Tensor:
        seen.append(batch.advantages)
        return batch.student_logits.sum((1, 2)) * 0

    said = [Completion("", (5, 6, 7)), Completion("", (8, 9))]
    own = Example(user("one"), said[0], token_advantages=(0.5, -1.0, 2.0))
    policy.update([own, Example(user("two"), said[1], advantage=3.0)], watch, batch_size=2)
    found = sorted(torch.cat([one.flatten() for one in seen]).tolist())
    assert found in ([-1.0, 0.0, 0.5, 2.0, 3.0, 3.0], [-1.0, 0.5, 2.0, 3.0])
    seen.clear()
    policy.update([Example(user("two"), said[1], advantage=3.0)], watch, batch_size=2)
    assert [one.tolist() for one in seen] == [[3.0]], "one for a sequence, as before"


def test_a_loss_in_pieces_sees_the_advantage_of_each_token() -> None:
    model = tiny.model()
    one = rows()[2]
    values = torch.linspace(-1, 1, 17).tolist()
    row = TokenizedExample(one.prompt, one.response, None, (), 0.0, 1.0, values)

    def per_token(batch: TokenBatch) -> torch.Tensor:
        advantages = batch.advantages.reshape(batch.token_ids.shape)
        logits = batch.student_logits
        chosen = logits.gather(-1, batch.token_ids[..., None])[..., 0]
        return advantages * (chosen - logits.logsumexp(-1))

    objective = TokenObjective(per_token)
    whole = objective(trainer.token_batch(model, None, [row])).sum()
    pieces = trainer.loss_in_pieces(model, None, [row], objective, logits=1)
    assert float(pieces.detach()) == pytest.approx(float(whole.detach()), rel=1e-4)
