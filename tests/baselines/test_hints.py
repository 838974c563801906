"""RLSD, RLCSD and OPSD: token advantages against plain loops, and what the teachers are shown."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from resd_baselines.grpo import GRPO
from resd_baselines.losses import (
    contrasted_advantages,
    hint_contrast,
    policy_gradient_objective,
    reweighted_advantages,
)
from resd_baselines.opsd import OPSD
from resd_baselines.rlcsd import RLCSD
from resd_baselines.rlsd import RLSD
from resd_bench.agent import MethodSpec
from resd_bench.objective import TokenBatch
from resd_bench.testing import ScriptedPolicy
from resd_bench.types import Group, Sampling, Step
from tests.baselines.test_methods import attempt, group, make, step, teacher_texts


def draws(seed: int, *shape: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 1.5 * torch.randn(shape, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("advantage", [0.7, -1.3])
@pytest.mark.parametrize(("clip", "mix"), [(0.2, 0.5), (0.2, 1.0), (1.0, 0.25), (0.0, 1.0)])
def test_the_weights_of_rlsd_are_those_of_a_loop(advantage: float, clip: float, mix: float) -> None:
    gain = draws(1, 40)
    expected = []
    for value in gain.tolist():
        ratio = math.exp(value) if advantage > 0 else 1 / math.exp(value)
        bounded = min(max(ratio, 1 - clip), 1 + clip)
        expected.append(advantage * (1 - mix) + advantage * mix * bounded)
    found = reweighted_advantages(advantage, gain, clip=clip, mix=mix)
    assert found.tolist() == pytest.approx(expected, rel=1e-12)
    assert (found * advantage >= 0).all(), "the reward alone says which way"
    assert reweighted_advantages(advantage, gain, mix=0.0).tolist() == [advantage] * 40


def test_the_contrast_averages_the_probabilities_of_wrong_hints() -> None:
    right, wrong = -draws(2, 9).abs(), -draws(3, 4, 9).abs()
    expected = [
        math.log(math.exp(right[t]) / (sum(math.exp(wrong[k, t]) for k in range(4)) / 4))
        for t in range(9)
    ]
    assert hint_contrast(right, wrong).tolist() == pytest.approx(expected, rel=1e-12)
    assert hint_contrast(right, right[None].expand(3, 9)).abs().max() < 1e-12


@pytest.mark.parametrize("advantage", [0.4, -0.2])
@pytest.mark.parametrize("threshold", [0.02, 0.3, 2.0])
def test_the_two_paths_of_rlcsd_are_those_of_a_loop(advantage: float, threshold: float) -> None:
    evidence = draws(4, 30)
    changed, rest = [], []
    for value in evidence.tolist():
        change = 0.5 * math.tanh(value / 1.3)
        if abs(change) > threshold:
            moved = advantage + change
            changed.append(max(moved, 0.0) if advantage > 0 else min(moved, 0.0))
        else:
            rest.append(advantage)
    mean = [sum(some) / len(some) if some else 0.0 for some in (rest, changed)]
    found = contrasted_advantages(advantage, evidence, threshold=threshold)
    assert float(found.mean()) == pytest.approx(mean[0] + 0.5 * mean[1], rel=1e-12)
    assert (found * advantage >= 0).all()


def test_the_gradient_of_token_advantages_is_that_of_a_loop() -> None:
    z = draws(5, 2, 6, 7).requires_grad_()
    ids = torch.tensor([[0, 1, 2, 3, 4, 5], [6, 5, 4, 3, 0, 0]])
    mask = torch.tensor([[1.0] * 6, [1.0] * 4 + [0.0] * 2], dtype=torch.float64)
    advantages, weights = draws(6, 2, 6), torch.tensor([1.0, 0.5], dtype=torch.float64)
    options: Any = {"clip_low": 0.2, "clip_high": 0.28, "dual_clip": 3.0}
    objective = policy_gradient_objective(**options, importance_cap=None, temperature=0.7)
    batch = TokenBatch(z, None, ids, mask, torch.full((2, 6), math.nan), advantages, weights)
    (found,) = torch.autograd.grad(objective(batch).sum(), z)
    expected = torch.zeros_like(found)
    for b in range(2):
        length = int(mask[b].sum())
        for t in range(length):
            p = (z[b, t].detach() / 0.7).softmax(-1)
            for v in range(7):
                slope = (float(v == ids[b, t]) - float(p[v])) / 0.7
                expected[b, t, v] = -float(weights[b] * advantages[b, t]) * slope / length
    assert torch.allclose(found, expected, atol=1e-12)


def mixed() -> list[Group]:
    won = [attempt("a", True, text="right one"), attempt("a", True, text="right two")]
    lost = [attempt("a", False, text="wrong one"), attempt("a", False, text="wrong two")]
    alone = [attempt("b", True, text="only"), attempt("b", False, text="wrong three")]
    return [group(*won, *lost), group(*alone)]


class Scoring(ScriptedPolicy):
    """Remembers what it was asked to score."""

    def score(self, prompts: Any, completions: Any, **how: Any) -> Any:
        self.scored = [
            *getattr(self, "scored", []),
            *(
                (chat[-1].content, said.text)
                for chat, said in zip(prompts, completions, strict=True)
            ),
        ]
        return super().score(prompts, completions, **how)


def learned(spec: MethodSpec, update: int = 0, **options: Any) -> Scoring:
    policy = Scoring(lambda prompt, seed, j: "")
    place = Step(update, 0, 0, Sampling(seed=1, max_new_tokens=50), seed=3)
    spec.build(policy, spec.config(**options)).learn(mixed(), place)
    return policy


def test_the_teacher_of_rlsd_sees_a_success_of_another_attempt_at_the_task() -> None:
    policy = learned(RLSD)
    shown = {said: text for text, said in policy.scored if "<solution>" in text}
    assert shown.keys() == {"right one", "right two", "wrong one", "wrong two", "wrong three"}
    assert "right two" in shown["right one"]
    assert "right one" in shown["right two"]
    assert "only" in shown["wrong three"]
    examples = {e.completion.text: e for e in policy.updates[0]}
    assert examples["only"].token_advantages == (), "there is no other success to show"
    for said, example in examples.items():
        values = example.token_advantages or (example.advantage,)
        assert all(value * example.advantage > 0 for value in values), said
        assert all(abs(value / example.advantage - 1) <= 0.1 + 1e-9 for value in values), said
    assert len(set(examples["wrong one"].token_advantages)) > 1


def test_rlsd_ends_as_grpo() -> None:
    late, plain = learned(RLSD, update=50), learned(GRPO)
    for mine, own in zip(late.updates[0], plain.updates[0], strict=True):
        assert set(mine.token_advantages) <= {own.advantage}
        assert mine.advantage == own.advantage
    stays = learned(RLSD, update=500, decay_updates=0)
    assert any(len(set(e.token_advantages)) > 1 for e in stays.updates[0])


def test_the_hints_of_rlcsd_are_others_and_worded_alike() -> None:
    policy = learned(RLCSD)
    by_target: dict[str, list[str]] = {}
    for text, said in policy.scored:
        by_target.setdefault(said, []).append(text)
    assert by_target.keys() == {"right one", "right two", "wrong one", "wrong two"}
    first, *rest = by_target["wrong one"]
    assert "right" in first
    assert [text.replace("wrong two", "X") for text in rest] == [
        first.replace("right one", "X").replace("right two", "X")
    ]
    assert not any(said in text for said, texts in by_target.items() for text in texts)
    examples = {e.completion.text: e for e in policy.updates[0]}
    assert examples["only"].token_advantages == examples["wrong three"].token_advantages == ()
    assert examples["right one"].token_advantages


def test_a_hint_that_does_not_fit_leaves_the_advantage_as_it_is() -> None:
    class Narrow(Scoring):
        def score(self, prompts: Any, completions: Any, **how: Any) -> Any:
            return [() for _ in prompts]

    for spec in (RLSD, RLCSD):
        policy = Narrow(lambda prompt, seed, j: "")
        spec.build(policy, spec.config()).learn(mixed(), step())
        assert policy.updates[0]
        assert all(e.token_advantages == () and e.advantage for e in policy.updates[0])


def test_the_teacher_of_opsd_sees_the_reference_and_tasks_without_one_are_counted() -> None:
    policy, agent = make(OPSD)
    agent.use_references(lambda task: "the reference" if task.id == "a" else "")
    metrics = agent.learn(mixed(), step())
    assert metrics["opsd/references"] == metrics["signal/examples"] == 4 / 6
    texts = teacher_texts(policy)
    assert len(texts) == 4
    assert all("<solution>\nthe reference" in text for text in texts)
    assert not any("too short" in text for text in texts), "no feedback beside it"
    assert policy.teacher == ("frozen", 1e-4)


def test_only_opsd_says_that_it_sees_reference_solutions() -> None:
    assert OPSD.sees_reference
    assert not any(spec.sees_reference for spec in (RLSD, RLCSD, GRPO))
    assert "sees reference solutions" in OPSD.summary
