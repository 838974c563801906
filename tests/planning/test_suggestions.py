"""What would make a run fit, and how long it takes at measured rates."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from resd_bench.agent import Load
from resd_bench.cli import main
from resd_bench.commands.plan import refuse_as_run_does
from resd_bench.config import RunConfig
from resd_bench.errors import UsageError
from resd_bench.planning import architecture
from resd_bench.planning.hours import Rates, read_rates, told_hours
from resd_bench.planning.memory import Lengths, Machine, Tokens, fits, memory
from resd_bench.planning.suggestions import CHANGES, what_fits
from resd_bench.records.run_files import EVALS, METRICS, RunFiles
from tests.places import ROOT

MODEL = architecture.read("Qwen/Qwen3-4B-Thinking-2507")
LONG, TEACHER = Lengths(prompt=1000, completion=4096), Load(samples=2, teacher=True)
EIGHT = Machine(8, 80e9)
CONFIG = RunConfig(precision="mixed", batch_size=32, context_limit=8192)


def anything(config: RunConfig, machine: Machine) -> None:
    """Refuses nothing."""


def planned(flags: str, machine: Machine = EIGHT) -> bool:
    plan = CONFIG, machine
    for change in CHANGES:
        if change.flag in flags:
            plan = change.on(*plan)
    return fits(memory(plan[0], MODEL, LONG, TEACHER, plan[1]), plan[1])


def numbers(told: str) -> tuple[float, float, float, float]:
    """The hours of a line: all, of training, of evaluating, and of all GPUs."""
    found = re.search(r"hours: (\S+) \((\S+) training, (\S+) evaluating\), (\S+) \w+-hours", told)
    assert found is not None
    whole, training, evaluating, of_all = map(float, found.groups())
    return whole, training, evaluating, of_all


def test_each_suggestion_fits_and_none_of_fewer_flags_does() -> None:
    assert not planned("")
    found = what_fits(CONFIG, MODEL, LONG, TEACHER, EIGHT, refuse_as_run_does)
    assert found
    size = found[0].count("--")
    assert {flags.count("--") for flags in found} == {size}
    assert all(planned(flags) for flags in found)
    for fewer in itertools.combinations(CHANGES, size - 1):
        flags = " ".join(change.flag for change in fewer)
        assert ("--fsdp" in flags and "--device-map" in flags) or not planned(flags)


def test_what_a_run_refuses_is_not_suggested() -> None:
    def refuse(config: RunConfig, machine: Machine) -> None:
        if machine.shared or config.lora_rank:
            raise UsageError("refused")

    found = what_fits(CONFIG, MODEL, LONG, TEACHER, EIGHT, refuse)
    assert not any("--fsdp" in flags or "--lora" in flags for flags in found)
    one = what_fits(CONFIG, MODEL, LONG, TEACHER, replace(EIGHT, gpus=1), anything)
    assert not any("--fsdp" in flags or "--device-map" in flags for flags in one)
    assert what_fits(CONFIG, MODEL, LONG, TEACHER, Machine(8, 1e9), anything) == []


def test_flags_that_a_run_refuses_together_are_not_suggested_together() -> None:
    for count in (2, 3):
        for changes in itertools.combinations(CHANGES, count):
            plan = CONFIG, EIGHT
            for change in changes:
                plan = change.on(*plan)
            flags = " ".join(change.flag for change in changes)
            if "--fsdp" in flags and ("--device-map" in flags or "--teacher" in flags):
                with pytest.raises(UsageError):
                    refuse_as_run_does(*plan)
            else:
                refuse_as_run_does(*plan)


def test_hours_follow_from_rates() -> None:
    rates, machine = read_rates("2e14,3000"), Machine(8, None)
    assert rates == Rates(2e14, 3000)
    config = replace(CONFIG, budget="10upd", eval_every=5)
    tokens = Tokens(rollouts=0, own=0, scored=0, trained=5, evaluation=3000 * 3600, read=0)
    one_update = tokens.flops(MODEL.active, adapter=False) / 2e14 / 3600
    told = told_hours(config, MODEL, tokens, 100, machine, rates)
    whole, training, evaluating, gpu_hours = numbers(told)
    assert training == pytest.approx(10 * one_update / 8, rel=0.01)
    # Before training, after five updates and at the end: an hour each on one GPU.
    assert evaluating == pytest.approx(3 / 8, rel=0.01)
    assert whole == pytest.approx(training + evaluating, rel=0.01)
    assert gpu_hours == pytest.approx(8 * whole, rel=0.01)
    assert "completions of the expected length" in told


def test_rates_of_a_run_give_back_its_own_time() -> None:
    folder = ROOT / "results/nano/bouncingsim-basic/sft/seed-0"
    files = RunFiles.at(folder)
    row, config = files.rows(METRICS)[-1], files.config()
    # The last row leaves out the evaluation after the last update, so one fewer is planned.
    less = replace(config, budget=f"{row['update']}upd", eval_validation=0)
    made = Tokens(1, 0, 0, 0, 1, 0)
    evaluated = Counter(r["update"] for r in files.rows(EVALS) if not r.get("panel"))
    held_out = evaluated[0] // config.eval_samples
    told = told_hours(less, MODEL, made, held_out, Machine(), read_rates(str(folder)))
    _, training, evaluating, _ = numbers(told)
    assert training == pytest.approx(row["seconds"] / 3600, rel=0.01)
    before = [r for r in files.rows(EVALS) if r["update"] < row["update"]]
    share = sum(evaluated.values()) / len(before)
    assert evaluating == pytest.approx(row["evaluation_seconds"] / 3600 * share, rel=0.01)
    assert f"as {folder} took" in told
    other = replace(less, method="resd")
    assert f"rates of {folder}" in told_hours(
        other, MODEL, made, held_out, Machine(), read_rates(str(folder))
    )


@pytest.mark.parametrize("text", ["", "nope", "1e14", "0,5", "-1,5", "nan,3", "1,2,3"])
def test_rates_that_are_none_are_refused(text: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="FLOPs and evaluated tokens a second"):
        read_rates(text or "no-such-folder")
    with pytest.raises(UsageError, match="not a run folder"):
        read_rates(str(tmp_path))


def test_a_dry_run_gives_hours_at_the_rates_it_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    plan = [
        "run",
        "--dry-run",
        "--env",
        "manufactoria-has",
        "--method",
        "sft",
        "--budget",
        "1280ep",
    ]
    assert main([*plan, "--gpus", "8", "--rates", "1e9,100"]) == 0
    line = next(line for line in capsys.readouterr().out.splitlines() if "hours:" in line)
    whole, *_, gpu_hours = numbers(line)
    assert gpu_hours == pytest.approx(8 * whole, rel=0.01)
    assert main([*plan[:1], *plan[2:], "--rates", "1e9,100"]) == 2
    assert "need --dry-run" in capsys.readouterr().err
