"""Evaluations in a second process are those that the run itself would have made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from resd_bench.config import RunConfig, resolve
from resd_bench.errors import UsageError
from resd_bench.evaluation.evaluator import Evaluator
from resd_bench.jobs import setup
from resd_bench.jobs.evaluation_process import EvaluationProcess, evaluating_apart
from resd_bench.jobs.run import run
from resd_bench.machine.cores import IdleCores
from tests.jobs.test_resume import SETTINGS, kill_and_resume, measured, tiny_model

BUILD = setup.build_policy


@pytest.fixture
def config(toy: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunConfig:
    """A run of a small language model that learns, and is evaluated after every other update."""
    monkeypatch.setattr(setup, "build_policy", BUILD)
    options = {"imitate_all": True}
    given = {**SETTINGS, "budget": "30ep", "eval_every": 2, "checkpoint_every": 1, "threads": 1}
    config = resolve(given, {"out": str(tmp_path / "here"), "eval_on": "here"})
    model = str(tiny_model(tmp_path / "model"))
    return replace(config, model=model, learning_rate=0.02, method_options=options)


def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The updates after which this process itself evaluates, from now on."""
    made: list[int] = []
    measure: Callable[..., Any] = Evaluator.measure

    def count(self: Evaluator, update: int, *args: Any, **options: Any) -> Any:
        made.append(update)
        return measure(self, update, *args, **options)

    monkeypatch.setattr(Evaluator, "measure", count)
    return made


@pytest.mark.slow
def test_a_run_measures_the_same_with_a_second_process_and_when_it_is_lost(
    config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = counted(monkeypatch)
    assert run(config).state == "finished"
    assert made == [0, 2, 4, 6]
    expected = measured(config.folder())
    apart = replace(config, out=str(tmp_path / "apart"), eval_on="cpu")
    assert run(apart).state == "finished"
    assert made == [0, 2, 4, 6, 6]
    assert measured(apart.folder()) == expected
    begin = EvaluationProcess.begin

    def begin_and_lose(self: EvaluationProcess, *args: Any) -> None:
        begin(self, *args)
        self._process.kill()

    monkeypatch.setattr(EvaluationProcess, "begin", begin_and_lose)
    lost = replace(apart, out=str(tmp_path / "lost"))
    assert run(lost).state == "finished"
    assert made[5:] == [0, 2, 4, 6]
    assert measured(lost.folder()) == expected


@pytest.mark.slow
def test_a_run_killed_while_a_second_process_evaluates_ends_with_the_same_measurements(
    config: RunConfig, tmp_path: Path
) -> None:
    options = {**config.method_options, "wait": 0.02}
    whole = replace(config, budget="120ep", method_options=options)
    assert run(whole).state == "finished"
    apart = replace(whole, out=str(tmp_path / "apart"), eval_on="cpu")
    assert kill_and_resume(apart, tmp_path, kills=2, seconds=0.8) > 0
    assert measured(apart.folder()) == measured(whole.folder())


class OfOneThread:
    """A policy whose model runs on one core."""

    threads = 1

    class model:
        class device:
            type = "cpu"


def cores(tmp_path: Path, idle: int, quota: str = "max 100000") -> IdleCores:
    """What has been idle where core 0 is busy, and core 1 has been idle for `idle` ticks."""
    stat, limit = tmp_path / "stat", tmp_path / "cpu.max"
    stat.write_text("cpu 0\ncpu0 9 0 9 500 0\ncpu1 9 0 9 700 0\nintr 1\n")
    limit.write_text(quota)
    looked = IdleCores(stat, tmp_path)
    stat.write_text(f"cpu 0\ncpu0 99 0 9 500 0\ncpu1 9 0 9 {700 + idle} 0\nintr 1\n")
    return looked


def test_a_second_process_is_started_only_where_another_core_is_idle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1}, raising=False)
    started: list[str] = []
    monkeypatch.setattr(EvaluationProcess, "__init__", lambda *a: started.append(a[2]))
    monkeypatch.setattr(EvaluationProcess, "close", lambda _: None)
    model: Any = OfOneThread()

    def starts(config: RunConfig, idle: IdleCores | None, policy: Any = model) -> bool:
        with evaluating_apart(config, policy, idle) as process:
            return process is not None

    auto = resolve({})
    assert starts(auto, cores(tmp_path, idle=10_000))
    assert started == ["cpu"]
    assert not starts(auto, cores(tmp_path, idle=5))
    assert not starts(auto, cores(tmp_path, idle=10_000, quota="100000 100000"))
    assert not starts(auto, cores(tmp_path, idle=10_000), policy=object())
    assert not starts(resolve({"eval_on": "here"}), cores(tmp_path, idle=10_000))
    assert starts(resolve({"eval_on": "cuda:1"}), cores(tmp_path, idle=0), policy=object())
    assert started[-1] == "cuda:1"
    assert not starts(auto, None)
    with pytest.raises(UsageError, match="--eval-on cpu needs a run of a single process"):
        starts(resolve({"eval_on": "cpu"}), None)
