"""The ledger and the budget: what is charged, and when a run must stop."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resd_bench.budget import Budget, Ledger


@pytest.mark.parametrize(
    ("text", "amount", "unit"),
    [
        ("1280ep", 1280, "ep"),
        ("5Mtok", 5e6, "tok"),
        ("1.5ktok", 1500, "tok"),
        (" 30 min", 30, "min"),
        ("40upd", 40, "upd"),
        ("5kturn", 5_000, "turn"),
    ],
)
def test_budgets_are_read(text: str, amount: float, unit: str) -> None:
    assert Budget.parse(text) == Budget(amount, unit)  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["", "12", "ep", "0ep", "-3ep", "3 epochs", "1e3ep"])
def test_other_budgets_are_refused_with_examples(text: str) -> None:
    with pytest.raises(ValueError, match="such as 1280ep"):
        Budget.parse(text)


@given(st.integers(0, 10**6), st.integers(0, 10**6), st.integers(1, 10**7))
def test_evaluation_is_never_charged(prompt: int, new: int, parameters: int) -> None:
    ledger = Ledger()
    ledger.charge_sampling("evaluation", prompt, new, parameters)
    assert ledger == Ledger(evaluation_tokens=new)


def test_all_generated_tokens_count_the_method_s_own() -> None:
    ledger = Ledger()
    ledger.charge_sampling("rollout", 10, 5, 3)
    ledger.charge_sampling("reflection", 10, 7, 3)
    assert ledger.generated_tokens == 12
    assert ledger.flops == 2 * 3 * (15 + 17)
    assert Budget.parse("12tok").exhausted(ledger)
    assert not Budget.parse("13tok").exhausted(ledger)


def test_a_ledger_comes_back_from_its_row() -> None:
    ledger = Ledger(episodes=3, sampled_tokens=4, reflection_tokens=5, seconds=1.5, flops=2e9)
    assert Ledger.from_row({**ledger.as_row(), "train/success": 0.5}) == ledger
