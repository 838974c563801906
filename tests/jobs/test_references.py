"""A method that sees reference solutions says so wherever it is named; no other one gets any."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from resd_bench import plugins
from resd_bench.agent import SEES_REFERENCE
from resd_bench.cli import main
from resd_bench.config import RunConfig, resolve
from resd_bench.jobs import setup
from resd_bench.jobs.export import export
from resd_bench.jobs.run import run
from resd_bench.records.run_files import RunFiles
from resd_bench.records.runs import load_run
from resd_bench.report.comparisons import group_runs
from resd_bench.report.tables import run_table
from resd_bench.reproduce.match_records import Gathered
from resd_bench.sweep.definition import Trial
from resd_bench.testing import ScriptedPolicy


class Savable(ScriptedPolicy):
    def save(self, folder: str | Path) -> None:
        (Path(folder) / "weights").write_text("")


@pytest.fixture
def policies(monkeypatch: pytest.MonkeyPatch, toy: ModuleType) -> list[Savable]:
    made: list[Savable] = []

    def build(config: RunConfig) -> Savable:
        made.append(Savable(lambda prompt, seed, j: f"no{seed % 5}{j}"))
        return made[-1]

    monkeypatch.setattr(setup, "build_policy", build)
    return made


def config(out: Path, method: str) -> RunConfig:
    settings: dict[str, Any] = {"env": "toy-say", "method": method, "model": "scripted"}
    settings |= {"out": str(out), "dialect": "compact", "budget": "5ep", "batch_size": 5}
    return resolve({**settings, "eval_samples": 1})


def test_records_tables_and_cards_say_what_opsd_sees(
    policies: list[Savable], tmp_path: Path
) -> None:
    settings = {method: config(tmp_path, method) for method in ("opsd", "sdpo")}
    folders = {method: run(own).folder for method, own in settings.items()}
    runs = {method: load_run(folder) for method, folder in folders.items()}
    taught = [e.teacher_messages[0].content for e in policies[0].updates[0] if e.teacher_messages]
    assert len(taught) == 5
    assert all("<solution>" in text for text in taught)
    manifest = RunFiles.at(folders["opsd"]).json("manifest.json")
    assert manifest["sees"] == SEES_REFERENCE == manifest["sessions"][0]["sees"]
    assert "sees" not in RunFiles.at(folders["sdpo"]).json("manifest.json")
    assert list(group_runs(list(runs.values()))) == [f"opsd ({SEES_REFERENCE})", "sdpo"]
    assert SEES_REFERENCE in str(run_table(runs["opsd"]).title)
    assert SEES_REFERENCE not in str(run_table(runs["sdpo"]).title)
    trials = [Trial(n, v, settings[v]) for n, v in enumerate(runs)]
    (note,) = Gathered(trials, dict(enumerate(runs.values()))).unfair()
    assert SEES_REFERENCE in note
    assert "upper bound" in note
    assert (
        SEES_REFERENCE in (export(folders["opsd"], tmp_path / "a").folder / "README.md").read_text()
    )
    assert (
        SEES_REFERENCE
        not in (export(folders["sdpo"], tmp_path / "b").folder / "README.md").read_text()
    )


def test_the_lists_of_methods_say_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["methods", "list"]) == 0
    text = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert text.count("(sees") == 1
    assert main(["methods", "info", "opsd"]) == 0
    assert SEES_REFERENCE in " ".join(capsys.readouterr().out.split())


def test_only_a_method_that_says_so_gets_references(
    policies: list[Savable], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    env = plugins.make_env("toy-say")
    monkeypatch.setattr(type(env), "oracle", lambda self, task: "the reference")
    for method, expected in (("opsd", True), ("sdpo", False)):
        _, agent = setup.make_agent(config(tmp_path, method), env=env)
        reference = getattr(agent, "_reference", lambda task: "")
        assert bool(reference(env.tasks("train")[0])) == expected
    silent = replace(plugins.method("opsd"), sees_reference=False)
    settings = config(tmp_path, "opsd")
    with monkeypatch.context() as patched:
        patched.setattr(plugins, "method", lambda name: silent)
        _, agent = setup.make_agent(settings, env=env)
    assert agent._reference(env.tasks("train")[0]) == ""  # type: ignore[attr-defined]
    _, unlearning = setup.make_agent(config(tmp_path, "opsd"))
    assert unlearning._reference(env.tasks("train")[0]) == ""  # type: ignore[attr-defined]


def test_an_environment_without_an_oracle_has_no_references(toy: ModuleType) -> None:
    class Silent(toy.SayEnv):  # type: ignore[misc,name-defined]
        def oracle(self, task: Any) -> str:
            raise NotImplementedError

    env = Silent()
    assert env.reference(env.tasks("train")[0]) == ""
    assert toy.SayEnv().reference(env.tasks("train")[0]) == toy.SayEnv().oracle(
        env.tasks("train")[0]
    )
