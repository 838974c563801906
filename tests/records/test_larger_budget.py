"""A run is taken on to a larger budget, and then is what one to that budget would have been."""

from __future__ import annotations

import gzip
import shutil
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from resd_bench.config import RunConfig, resolve
from resd_bench.errors import UsageError
from resd_bench.jobs.run import run
from resd_bench.records.log_files import read_log
from resd_bench.records.recorder import LOGS, read_json, run_state

SETTINGS = {
    **{"env": "toy-say", "method": "toy-learner", "model": "scripted", "budget": "40ep"},
    **{"batch_size": 5, "eval_every": 4, "eval_samples": 2, "max_new_tokens": 20},
    **{"checkpoint_every": 3, "warmup_updates": 5},
}
CLOCK = {"seconds", "evaluation_seconds"}


@pytest.fixture
def short(toy: ModuleType, tmp_path: Path) -> RunConfig:
    return resolve(SETTINGS, {"out": str(tmp_path / "short")})


def rows(config: RunConfig, name: str, without: Any = CLOCK) -> list[dict[str, Any]]:
    found = list(read_log(config.folder() / name))
    return [{k: v for k, v in row.items() if k not in without} for row in found]


@pytest.mark.slow
@pytest.mark.parametrize("budget", ["80ep", "16upd", "0.08kep"])
def test_taken_on_it_measures_what_the_uninterrupted_run_does(
    short: RunConfig, budget: str
) -> None:
    longer = replace(short, budget=budget)
    whole = replace(longer, out=short.out + "whole")
    run(whole)
    run(short)
    assert run(longer, resume=True).state == "finished"
    for name in LOGS:
        assert rows(longer, name) == rows(whole, name)
    for name in ("first", "last", "auc_success_over_episodes"):
        a, b = (read_json(c.folder() / "summary.json")[name] for c in (longer, whole))
        assert a == b
    status = read_json(longer.folder() / "status.json")
    assert (status["state"], status["update"], status["digest"]) == (
        "finished",
        16,
        longer.digest(),
    )
    assert yaml.safe_load((longer.folder() / "config.yaml").read_text())["budget"] == budget
    assert [s["from_update"] for s in read_json(longer.folder() / "manifest.json")["sessions"]] == [
        0,
        8,
    ]
    assert run(longer).state == "already finished"


def test_the_evaluation_of_the_first_end_stays(short: RunConfig) -> None:
    first = replace(short, budget="30ep")
    longer = replace(short, budget="80ep")
    whole = replace(longer, out=short.out + "whole")
    run(whole)
    run(first)
    run(longer, resume=True)
    extra = [row for row in rows(longer, "evals.jsonl") if row["update"] == 6]
    assert len(extra) == 12
    others = [row for row in rows(longer, "evals.jsonl") if row["update"] != 6]
    assert others == rows(whole, "evals.jsonl")
    spent = {*CLOCK, "evaluation_tokens"}
    assert rows(longer, "metrics.jsonl", spent) == rows(whole, "metrics.jsonl", spent)


def test_a_run_whose_logs_were_compressed_is_taken_on_like_one_whose_were_not(
    short: RunConfig,
) -> None:
    longer = replace(short, budget="80ep")
    whole = replace(longer, out=short.out + "whole")
    run(whole)
    run(short)
    for name in LOGS:
        log = short.folder() / name
        log.with_name(f"{name}.gz").write_bytes(gzip.compress(log.read_bytes()))
        log.unlink()
    assert run(longer, resume=True).state == "finished"
    for name in LOGS:
        assert rows(longer, name) == rows(whole, name)
    assert not list(longer.folder().glob("*.gz"))


def test_without_resume_it_is_asked_for(short: RunConfig) -> None:
    run(short)
    before = (short.folder() / "config.yaml").read_bytes()
    with pytest.raises(UsageError, match=r"finished at --budget 40ep: add --resume.* 80ep.*--out"):
        run(replace(short, budget="80ep"))
    assert (short.folder() / "config.yaml").read_bytes() == before
    assert read_json(short.folder() / "status.json")["state"] == "finished"


@pytest.mark.parametrize("resume", [False, True])
@pytest.mark.parametrize("budget", ["20ep", "4upd", "35ep"])
def test_a_smaller_budget_is_refused_with_what_to_do(
    short: RunConfig, budget: str, resume: bool
) -> None:
    run(short)
    with pytest.raises(
        UsageError, match=rf"cannot be taken back.*compare --budget {budget}.*--out"
    ):
        run(replace(short, budget=budget), resume=resume)
    assert read_json(short.folder() / "status.json")["state"] == "finished"


@pytest.mark.parametrize("budget", ["36ep", "8upd", "40.0ep"])
def test_a_budget_that_ends_at_the_same_update_is_the_same_run(
    short: RunConfig, budget: str
) -> None:
    run(short)
    assert run(replace(short, budget=budget)).state == "already finished"


def test_an_unfinished_run_may_get_another_budget_that_it_has_not_spent(short: RunConfig) -> None:
    class Stop(BaseException):
        pass

    class Killer:
        def updated(self, row: dict[str, Any]) -> None:
            if row["update"] == 4:
                raise Stop

        def evaluated(self, point: Any) -> None:
            pass

    with pytest.raises(Stop):
        run(short, watchers=[Killer()])
    with pytest.raises(UsageError, match="cannot be taken back"):
        run(replace(short, budget="10ep"), resume=True)
    other = replace(short, budget="30ep")
    whole = replace(other, out=short.out + "whole")
    run(whole)
    assert run(other, resume=True).state == "finished"
    for name in LOGS:
        assert rows(other, name) == rows(whole, name)


def test_killed_on_the_way_it_goes_on_and_never_passes_for_finished(short: RunConfig) -> None:
    class Stop(BaseException):
        pass

    class Killer:
        def updated(self, row: dict[str, Any]) -> None:
            raise Stop

        def evaluated(self, point: Any) -> None:
            pass

    longer = replace(short, budget="80ep")
    run(short)
    with pytest.raises(Stop):
        run(longer, resume=True, watchers=[Killer()])
    assert run_state(longer, resume=True) != "finished"
    assert run(longer, resume=True).state == "finished"
    assert [row["update"] for row in rows(longer, "metrics.jsonl")] == list(range(1, 17))


def test_a_record_without_checkpoints_cannot_be_taken_on_and_is_left_alone(
    short: RunConfig,
) -> None:
    run(short)
    shutil.rmtree(short.folder() / "checkpoints")
    before = (short.folder() / "metrics.jsonl").read_bytes()
    with pytest.raises(UsageError, match="checkpoints are gone"):
        run(replace(short, budget="80ep"), resume=True)
    assert (short.folder() / "metrics.jsonl").read_bytes() == before


def test_other_settings_may_not_change_on_the_way(short: RunConfig) -> None:
    run(short)
    with pytest.raises(UsageError, match="learning_rate"):
        run(replace(short, budget="80ep", learning_rate=0.5), resume=True)


def test_a_warm_up_that_was_a_share_of_the_shorter_run_is_named(short: RunConfig) -> None:
    settings = {**SETTINGS, "warmup_updates": None, "warmup": 0.5}
    first = resolve(settings, {"out": short.out})
    run(first)
    longer = resolve(settings, {"out": short.out, "budget": "80ep"})
    assert (first.warmup_updates, longer.warmup_updates) == (4, 8)
    with pytest.raises(UsageError, match=r"4 there, 8 here\. .* to go on .* --warmup-updates 4\."):
        run(longer, resume=True)
    named = resolve({**SETTINGS, "warmup_updates": 4}, {"out": short.out, "budget": "80ep"})
    assert run(named, resume=True).state == "finished"
