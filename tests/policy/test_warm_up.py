"""A warm-up is a share of the run, also of one that makes fewer updates than its budget says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resd_bench.budget import Budget, Ledger
from resd_bench.config import RunConfig, resolve
from resd_bench.jobs.run import run
from resd_bench.policy.build import policy_config
from resd_bench.policy.config import PolicyConfig
from resd_bench.policy.lm_policy import LMPolicy
from resd_bench.policy.trainer import warmed_up
from resd_bench.records.log_files import read_log
from resd_bench.types import Sampling, user
from tests.policy import tiny

SFT = {"env": "manufactoria-has", "method": "sft", "model": "nano"}
RARE = {"env": "manufactoria-has", "method": "dapo", "model": "nano-rarest", "budget": "64ep"}
RARE |= {"batch_size": "2", "group_size": "2", "warmup": "0.25", "learning_rate": "1e-3"}
RARE |= {"eval_samples": "1", "eval_every": "0", "eval_tasks": "1", "max_new_tokens": "48"}
RARE |= {"checkpoint_every": "1"}


def rates_of(config: RunConfig, *spent: Ledger) -> list[float]:
    """The rates of a run that has spent so much as each of its updates ends."""
    pace, begun, found = config.pace(), Ledger(), []
    for update, now in enumerate(spent):
        # Seconds and updates are counted only after it.
        seen = Ledger(now.episodes, now.env_steps, now.sampled_tokens, updates=update)
        seen.seconds = begun.seconds
        done = max(update, pace.done(begun, seen))
        found.append(warmed_up(1.0, done, config.warmup_updates or 0, True))
        begun = now
        begun.updates = update + 1
    return found


@given(st.integers(1, 40), st.integers(1, 9), st.floats(0, 1, exclude_max=True), st.data())
def test_a_run_with_the_planned_updates_has_exactly_the_rates_of_its_updates(
    batch: int, group: int, share: float, data: st.DataObject
) -> None:
    episodes = data.draw(st.integers(1, 60 * batch * group))
    for budget in (f"{episodes}ep", f"{1 + episodes % 60}upd"):
        given = {"budget": budget, "batch_size": batch, "group_size": group, "warmup": share}
        config = resolve({**SFT, **given})
        planned, warm = config.updates() or 0, config.warmup_updates or 0
        spent = [Ledger((n + 1) * batch * group) for n in range(planned)]
        rates = rates_of(config, *spent)
        assert rates == [warmed_up(1.0, n, warm, True) for n in range(planned)]
        assert rates[-1] == 1.0


@pytest.mark.parametrize("warmup", ["0.25", "0.9"])
@pytest.mark.parametrize(
    ("budget", "each"),
    [
        ("64ep", Ledger(episodes=32)),
        ("900turn", Ledger(env_steps=225)),
        ("4Mtok", Ledger(sampled_tokens=900_000)),
        ("1min", Ledger(seconds=14.0)),
        ("1min", Ledger(seconds=1.0)),
        ("4Mtok", Ledger(sampled_tokens=3_000_000)),
    ],
)
def test_the_last_update_has_the_whole_rate_whatever_the_unit_of_the_budget(
    budget: str, each: Ledger, warmup: str
) -> None:
    config = resolve({**SFT, "batch_size": 4, "budget": budget, "warmup": warmup})
    limit, spent = Budget.parse(budget), list[Ledger]()
    while not spent or not limit.exhausted(spent[-1]):
        n = len(spent) + 1
        spent.append(
            Ledger(
                n * each.episodes,
                n * each.env_steps,
                n * each.sampled_tokens,
                seconds=n * each.seconds,
            )
        )
    rates = rates_of(config, *spent)
    assert (rates[0], rates[-1]) == (0.0, 1.0)
    assert rates == sorted(rates)
    if warmup == "0.25":
        assert rates[-2] == 1.0 or len(rates) == 2


def test_the_policy_goes_by_what_was_spent_before_the_updates_own_rollouts() -> None:
    config = resolve({**SFT, "batch_size": 4, "budget": "64ep", "warmup_updates": 8})
    ledger = Ledger()
    subject = LMPolicy(
        tiny.model(),
        tiny.tokenizer(),
        PolicyConfig(learning_rate=0.5, warmup_updates=8, pace=policy_config(config).pace),
        ledger,
    )

    def rate(*played: int) -> Any:
        for episodes in played:
            subject.sample([user("a")], n=1, sampling=Sampling(max_new_tokens=1), purpose="rollout")
            ledger.episodes += episodes
        return subject.update([], lambda b: -b.student_logits.mean((1, 2)), batch_size=1)[
            "policy/lr"
        ]

    assert rate(4, 8) == 0.0
    assert rate(4) == 0.5 * 3 / 8
    assert rate(4, 4, 4, 4) == 0.5 * 4 / 8
    assert rate(4) == 0.5


def metrics(folder: Path) -> list[dict[str, Any]]:
    clock = ("seconds", "evaluation_seconds")
    return [
        {k: v for k, v in row.items() if k not in clock}
        for row in read_log(folder / "metrics.jsonl")
    ]


def test_dynamic_sampling_does_not_keep_a_run_from_its_peak_rate_and_resumed_it_is_the_same(
    tmp_path: Path,
) -> None:
    """64 rollouts are 16 updates, or 4 where no group has variance."""

    class Killer:
        def updated(self, row: dict[str, Any]) -> None:
            if row["update"] == 2:
                raise KeyboardInterrupt

        def evaluated(self, point: Any) -> None:
            pass

    whole = run(resolve(RARE, {"out": str(tmp_path / "whole")})).folder
    rates = [row["policy/lr"] for row in metrics(whole)]
    assert len(rates) < 16
    assert (rates[0], rates[-1]) == (0.0, 1e-3)
    config = resolve(RARE, {"out": str(tmp_path / "killed")})
    with pytest.raises(KeyboardInterrupt):
        run(config, watchers=[Killer()])
    assert metrics(run(config, resume=True).folder) == metrics(whole)
