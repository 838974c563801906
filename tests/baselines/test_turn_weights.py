"""Attempts with several turns: what each counts in the loss, and what older records did."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from resd_baselines.grpo import DR_GRPO, GRPO
from resd_baselines.hero import HERO
from resd_baselines.losses import distillation_objective, success_rate_weights
from resd_baselines.resd import RESD
from resd_baselines.self_distillation import SDPO, SDPO_SS
from resd_baselines.sft import SFT
from resd_bench.agent import MethodSpec
from resd_bench.config import RunConfig, resolve
from resd_bench.objective import TokenBatch
from resd_bench.report.measured import complete
from resd_bench.reproduce.match_records import Likeness
from resd_bench.testing import ScriptedPolicy
from resd_bench.types import (
    Completion,
    Example,
    Feedback,
    Group,
    Sampling,
    Step,
    Task,
    Trajectory,
    Turn,
    TurnFeedback,
    TurnKind,
    user,
)

LEARNERS = pytest.mark.parametrize(
    "spec", [RESD, HERO, SDPO, SDPO_SS, SFT, GRPO], ids=lambda spec: spec.name
)
STEP = Step(0, 0, 0, Sampling(seed=1, max_new_tokens=9), seed=2)
TURNS = ((True, 3), (True, 7), (False, 12), (False, 12), (False, 11))
"""Whether each attempt succeeds, and how many turns it has."""


class Recording(ScriptedPolicy):
    """Keeps what every update was asked to average over."""

    def __init__(self) -> None:
        super().__init__(lambda prompt, seed, j: "cause: early\nlesson: go on", "compact")
        self.counts: list[int] = []

    def update(self, examples: Sequence[Example], objective: Any, *, batch_size: int) -> Any:
        self.counts.append(batch_size)
        return super().update(examples, objective, batch_size=batch_size)


def attempt(number: int, success: bool, turns: int) -> Trajectory:
    task = Task(f"t{number}", "train", "question", {})
    said = [Completion(f"go {number}", (1, 2, 3 + number), (-0.5,) * 3) for _ in range(turns)]
    verdict = Feedback(float(success), success, float(success), text="" if success else "lost")
    return Trajectory(task, tuple(Turn(user(f"room {i}"), c) for i, c in enumerate(said)), verdict)


def learned(
    spec: MethodSpec, attempts: Sequence[tuple[bool, int]] = TURNS, **options: Any
) -> tuple[list[Example], int]:
    """What one update of `spec` trains on, and what it averages over."""
    policy = Recording()
    agent = spec.build(policy, spec.config(**options))
    made = tuple(attempt(i, *one) for i, one in enumerate(attempts))
    # SFT keeps one success of each task.
    each = [(one,) for one in made] if spec is SFT else [made]
    agent.learn([Group(few[0].task, few) for few in each], STEP)
    return list(policy.updates[-1]), policy.counts[-1]


def totals(examples: Sequence[Example]) -> dict[int, float]:
    """The sum of an attempt's weights over its turns, by its number."""
    found: dict[int, float] = {}
    for example in examples:
        number = example.completion.token_ids[-1] - 3
        found[number] = found.get(number, 0.0) + example.weight
    return found


def share_of_successes(weights: dict[int, float]) -> float:
    won = sum(weights[i] for i, (success, _) in enumerate(TURNS) if success)
    return won / sum(weights.values())


def test_successes_have_the_share_that_equation_2_gives_them_whatever_their_turns() -> None:
    examples, count = learned(RESD)
    weights = totals(examples)
    rate = 2 / 5
    raw = [1 - rate if success else rate for success, _ in TURNS]
    expected = [w / np.mean(raw) for w in raw]
    mean_turns = count / len(TURNS)
    assert list(weights.values()) == pytest.approx([mean_turns * w for w in expected], rel=1e-12)
    assert share_of_successes(weights) == pytest.approx(0.5, abs=1e-12)
    assert count == sum(turns for _, turns in TURNS)


def test_by_turns_long_failures_outweigh_short_successes() -> None:
    examples, count = learned(RESD, turn_weighting="turn")
    assert count == sum(turns for _, turns in TURNS)
    share = share_of_successes(totals(examples))
    assert share == pytest.approx(10 * 0.6 / (10 * 0.6 + 35 * 0.4), abs=1e-12)


@LEARNERS
def test_every_attempt_counts_alike(spec: MethodSpec) -> None:
    options: dict[str, Any] = {"success_rate_weighting": False} if spec is RESD else {}
    examples, count = learned(spec, **options)
    averaged = 2 if spec is SFT else len(TURNS)
    assert list(totals(examples).values()) == pytest.approx(
        [count / averaged] * len(totals(examples))
    )
    by_turn, again = learned(spec, turn_weighting="turn", **options)
    assert {example.weight for example in by_turn} == {1.0}
    assert (len(by_turn), again) == (len(examples), count)


@LEARNERS
def test_attempts_of_one_turn_measure_the_same_either_way(spec: MethodSpec) -> None:
    single = [(success, 1) for success, _ in TURNS]
    attempt_, turn = (learned(spec, single, turn_weighting=w) for w in ("attempt", "turn"))
    assert attempt_ == turn


def test_without_division_by_lengths_no_number_of_turns_divides_either() -> None:
    """Dr. GRPO: every token of the batch has the same factor, 1 / (attempts x limit)."""
    examples, count = learned(DR_GRPO)
    limit, long, short = STEP.sampling.max_new_tokens, 12, 3
    factors = [example.weight / count for example in examples]
    assert factors == pytest.approx([1 / (len(TURNS) * limit)] * len(factors), rel=1e-12)
    assert totals(examples)[2] / totals(examples)[0] == pytest.approx(long / short)
    by_turn, _ = learned(DR_GRPO, turn_weighting="turn")
    assert {example.weight for example in by_turn} == {1 / limit}


def float64_loss(logits: np.ndarray, teacher: np.ndarray, attempts: Sequence[Sequence[int]]) -> Any:
    """Mean over attempts of Eq. 2's weight x the mean over turns of the mean reverse KL."""

    def log_softmax(z: np.ndarray) -> np.ndarray:
        return np.asarray(z - np.log(np.exp(z).sum(-1, keepdims=True)))

    p, q = log_softmax(logits), log_softmax(teacher)
    kl_NT = (np.exp(p) * (p - q)).sum(-1)
    rate = np.mean([success for success, _ in TURNS])
    raw = [1 - rate if success else rate for success, _ in TURNS]
    losses = [
        w / np.mean(raw) * np.mean([kl_NT[i].mean() for i in turns])
        for w, turns in zip(raw, attempts, strict=True)
    ]
    return np.mean(losses)


def test_the_loss_is_the_mean_over_attempts_of_the_mean_over_their_turns() -> None:
    examples, count = learned(RESD)
    rng = np.random.default_rng(0)
    logits, teacher = rng.normal(size=(2, len(examples), 3, 9))
    objective = distillation_objective(
        divergence="reverse_kl",
        mixture=0.5,
        top_k=None,
        tail=False,
        clip_low=None,
        clip_high=None,
        importance_cap=None,
        aggregation="mean",
        temperature=1.0,
    )
    n = len(examples)
    batch = TokenBatch(
        torch.tensor(logits),
        torch.tensor(teacher),
        torch.zeros(n, 3, dtype=torch.int64),
        torch.ones(n, 3, dtype=torch.float64),
        torch.full((n, 3), torch.nan),
        torch.zeros(n),
        torch.tensor([example.weight for example in examples], dtype=torch.float64),
    )
    numbers = [example.completion.token_ids[-1] - 3 for example in examples]
    attempts = [[i for i, own in enumerate(numbers) if own == k] for k in range(len(TURNS))]
    assert [len(own) for own in attempts] == [turns for _, turns in TURNS]
    loss = float(objective(batch).sum()) / count
    assert loss == pytest.approx(float64_loss(logits, teacher, attempts), rel=1e-12)


def test_a_class_of_short_attempts_had_36_percent_of_the_weight_by_turns() -> None:
    """Successes of 6.9 turns, failures of 12, each class half of the weight by Eq. 2."""
    success = torch.tensor([True] * 10 + [False] * 30)
    turns = np.where(success.numpy(), 6.9, 12)
    weights = success_rate_weights(success).numpy()
    assert (weights * turns)[:10].sum() / (weights * turns).sum() == pytest.approx(0.365, abs=1e-3)
    assert weights[:10].sum() / weights.sum() == pytest.approx(0.5)


def old_record(env: str) -> RunConfig:
    """A configuration as it was written before there was the option."""
    lines = resolve({"env": env, "method": "resd"}).to_yaml().splitlines()
    assert any("turn_weighting: attempt" in line for line in lines)
    return RunConfig.from_yaml("\n".join(x for x in lines if "turn_weighting" not in x))


def test_a_record_without_the_option_weighed_turns_and_does_not_stand_in_for_one_with_it() -> None:
    now = resolve({"env": "guess-number", "method": "resd"})
    old = old_record("guess-number")
    assert old.method_options["turn_weighting"] == "turn"
    assert not Likeness(old).stands_in_for(Likeness(now))
    asked = resolve({"env": "guess-number", "method": "resd", "method.turn_weighting": "turn"})
    assert Likeness(old).stands_in_for(Likeness(asked))
    assert RunConfig.from_yaml(now.to_yaml()) == now


def test_a_record_of_attempts_with_one_turn_is_the_same_as_before() -> None:
    now = Likeness(resolve({"env": "finer", "method": "resd"}))
    assert Likeness(old_record("finer")).stands_in_for(now)


@pytest.mark.parametrize(("env", "expected"), [("guess-number", "turn"), ("finer", "attempt")])
def test_records_of_both_kinds_are_compared_by_what_they_did(env: str, expected: str) -> None:
    old = {"method": "resd", "env": env, "budget": "8ep"}
    new = {**old, "method.turn_weighting": "attempt"}
    assert complete([old, new])[0]["method.turn_weighting"] == expected


def test_by_turn_nothing_in_vain_is_credited_with_a_success_and_failures_are_as_before() -> None:
    kinds: tuple[TurnKind, ...] = ("changed", "wasted", "invalid", "changed")

    def noted(number: int, success: bool) -> Trajectory:
        made = attempt(number, success, len(kinds))
        notes = [TurnFeedback(kind) for kind in kinds]
        turns = zip(made.turns, notes, strict=True)
        return replace(made, turns=tuple(replace(turn, feedback=note) for turn, note in turns))

    won, lost = noted(0, True), noted(1, False)
    for spec in (SFT, GRPO):
        found = {}
        for credit in ("attempt", "turn"):
            policy = Recording()
            spec.build(policy, spec.config(turn_credit=credit)).learn(
                [Group(won.task, (won, lost))], STEP
            )
            examples = policy.updates[-1]
            own = [e.messages[-1].content for e in examples if e.completion.token_ids[-1] == 3]
            others = [e for e in examples if e.completion.token_ids[-1] == 4]
            found[credit] = own
            assert len(others) == (4 if spec is GRPO else 0)
            assert all(e.advantage < 0 for e in others)
        assert found == {
            "attempt": ["room 0", "room 1", "room 2", "room 3"],
            "turn": ["room 0", "room 3"],
        }


def test_a_success_of_turns_in_vain_alone_is_not_imitated_and_no_error() -> None:
    won = attempt(0, True, 2)
    vain = replace(won, turns=tuple(replace(t, feedback=TurnFeedback("wasted")) for t in won.turns))
    policy = Recording()
    agent = SFT.build(policy, SFT.config(turn_credit="turn"))
    for _ in range(2):
        assert agent.learn([Group(won.task, (vain,))], STEP)["sft/buffer"] == 0
    agent.learn([Group(won.task, (won,))], STEP)
    kept = policy.updates[-1]
    agent.learn([Group(won.task, (vain,))], STEP)
    assert [e.completion for e in policy.updates[-1]] == [e.completion for e in kept]
    assert len(kept) == 2


def test_a_teacher_that_may_see_nothing_teaches_nothing() -> None:
    blind: dict[str, Any] = {
        **dict.fromkeys(("use_solution", "use_feedback", "use_reflection"), False),
        **dict.fromkeys(("use_playbook", "use_previous_trial"), False),
    }
    assert learned(RESD, **blind)[0] == []
    assert learned(RESD, **{**blind, "use_solution": True})[0] != []
