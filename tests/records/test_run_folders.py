"""Run folders tell runs apart, and what began under an older name goes on there."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from resd_bench.cli import main
from resd_bench.config import RunConfig, resolve
from resd_bench.records.log_files import read_log
from resd_bench.records.recorder import read_status

SMALL: Mapping[str, Any] = {
    **{"env": "toy-say", "method": "toy-learner", "model": "scripted", "budget": "10ep"},
    **{"batch_size": 5, "eval_samples": 1, "max_new_tokens": 20, "warmup_updates": 0},
}
DEFAULT = Path("runs-out/manufactoria-has/resd/seed-0")


def words(**flags: Any) -> list[str]:
    named = {**SMALL, **flags}
    return ["run", *(w for k, v in named.items() for w in (f"--{k.replace('_', '-')}", str(v)))]


@pytest.fixture
def here(toy: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("flags", "sets", "name"),
    [
        ({}, [], "resd"),
        ({"model": "nano"}, ["method.max_entries=24"], "resd"),
        ({"budget": "2560ep", "warmup_updates": "3", "keep_texts": "all"}, [], "resd"),
        ({"model": "nano-rare"}, [], "resd@nano-rare"),
        ({"model": "/data/my model\x1b"}, [], "resd@my-model-"),
        ({"model": "out/mine/model"}, [], "resd@mine"),
        ({"preset": "release"}, [], "resd,release"),
        ({}, ["method.use_playbook=false", "learning_rate=1e-5"], "resd,learning_rate=1e-05,use_"),
        ({"model": "nano-rare", "eval_tasks": "3"}, [], "resd@nano-rare,eval_tasks=3"),
    ],
)
def test_the_name_says_what_is_not_the_default(
    flags: dict[str, str], sets: list[str], name: str
) -> None:
    folder = resolve({}, flags, sets).folder()
    assert folder.name == "seed-0"
    assert folder.parent.name.startswith(name)
    assert (folder == DEFAULT) == (name == "resd")
    assert len(folder.parts) == len(DEFAULT.parts)


def test_many_settings_give_a_short_name_of_their_own() -> None:
    sets = [f"{k}=0.5" for k in ("temperature", "top_p", "eval_temperature", "eval_top_p")]
    sets += ["method.max_entries=9", "method.use_playbook=false", "batch_size=7", "inner_steps=3"]
    names = {resolve({}, {}, [*sets, f"eval_samples={n}"]).folder().parent.name for n in (1, 2, 3)}
    assert len(names) == 3
    assert max(map(len, names)) <= 110


def test_under_an_out_of_ones_own_nothing_is_added() -> None:
    own = resolve({}, {"model": "nano-rare", "out": "mine"})
    assert own.folder() == Path("mine/manufactoria-has/resd/seed-0")


def test_a_run_with_another_setting_is_neither_refused_nor_mixed_up(here: Path) -> None:
    assert main(words()) == 0
    assert main([*words(), "--set", "method.remember=7"]) == 0
    assert main([*words(), "--set", "method.remember=7", "--resume"]) == 0
    found = sorted(path.parent.parent.name for path in Path("runs-out").rglob("config.yaml"))
    usual = "toy-learner@scripted,batch_size=5,max_new_tokens=20,eval_samples=1"
    assert found == [usual, f"{usual},remember=7"]


def test_a_run_that_began_under_the_plain_name_goes_on_there(here: Path) -> None:
    config = resolve(SMALL)
    plain = Path("runs-out/toy-say/toy-learner/seed-0")
    assert config.folder() != plain
    assert main(words()) == 0
    plain.parent.mkdir()
    shutil.move(config.folder(), plain)
    longer = replace(config, budget="20ep")
    assert config.folder() == longer.folder() == plain
    assert resolve(SMALL, {"eval_samples": 2}).folder() != plain
    assert main([*words(budget="20ep"), "--resume"]) == 0
    assert read_status(plain)["episodes"] == 20
    assert len(list(read_log(plain / "metrics.jsonl"))) == 4


def test_the_name_is_no_part_of_the_configuration() -> None:
    config = resolve({}, {"model": "nano-rare"})
    before = (config.to_yaml(), config.digest())
    assert config.distinction
    assert (config.to_yaml(), config.digest()) == before
    assert RunConfig.from_yaml(before[0]) == config
