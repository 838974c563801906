"""A run is resumed, evaluated and examined only with the content that it began with."""

from __future__ import annotations

import importlib
import json
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from resd_bench import plugins
from resd_bench.cli import main
from resd_bench.config import RunConfig, resolve
from resd_bench.errors import UsageError
from resd_bench.files.fingerprints import differing
from resd_bench.jobs.evaluate import score_run
from resd_bench.jobs.replay import replay
from resd_bench.jobs.run import run
from resd_bench.records.checkpoints import checkpoint_files
from resd_bench.records.content import identity, plugin_version
from resd_bench.records.recorder import read_json, write_json

SMALL = {
    **{"method": "toy-learner", "model": "scripted", "budget": "20ep", "batch_size": 5},
    **{"inner_steps": 2, "eval_every": 2, "eval_samples": 1, "max_new_tokens": 20},
}


class Stop(BaseException):
    """What a kill looks like from inside."""


class Killer:
    """Ends the process after an update."""

    def __init__(self, after: int) -> None:
        self.after = after

    def updated(self, row: dict[str, Any]) -> None:
        if row["update"] == self.after:
            raise Stop

    def evaluated(self, point: Any) -> None:
        pass


def interrupt(config: RunConfig, after: int = 2) -> None:
    with pytest.raises(Stop):
        run(config, watchers=[Killer(after)])


def items(count: int, word: str = "cost") -> str:
    """FiNER items in sentences of their own."""
    return "".join(
        json.dumps(
            {
                "context": f'entity "{n}" in sentence: "The {word} of {n} was {n} dollars."\n',
                "target": f"Tag{n}",
            }
        )
        + "\n"
        for n in range(count)
    )


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    for number, split in enumerate(("train", "validation", "test")):
        (folder / f"{split}.jsonl").write_text(items(8, f"{split}{number}"))
    return folder


@pytest.fixture
def config(toy: ModuleType, tmp_path: Path, data: Path) -> RunConfig:
    """A run on tasks that are read from a file."""
    settings = {**SMALL, "env": "finer", "env_options": {"data": str(data)}}
    return resolve(settings, {"out": str(tmp_path / "out")})


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("split", ["train", "test"])
def test_tasks_that_changed_under_their_path_end_the_resumption_and_nothing_is_touched(
    config: RunConfig, data: Path, split: str
) -> None:
    interrupt(config)
    before = contents(config.folder())
    (data / f"{split}.jsonl").write_text(items(8, "price"))
    with pytest.raises(UsageError, match=rf"other content.*tasks\.{split}.*another --out"):
        run(config, resume=True)
    after = contents(config.folder())
    after.pop(".lock", None), before.pop(".lock", None)
    assert after == before


def test_one_changed_answer_in_the_middle_of_a_file_is_seen(config: RunConfig, data: Path) -> None:
    interrupt(config)
    path = data / "test.jsonl"
    path.write_text(path.read_text().replace("Tag3", "Tag4"))
    with pytest.raises(UsageError, match=r"tasks\.test"):
        run(config, resume=True)


def test_tasks_in_another_order_are_other_tasks(config: RunConfig, data: Path) -> None:
    interrupt(config)
    path = data / "train.jsonl"
    path.write_text("".join(sorted(path.read_text().splitlines(keepends=True), reverse=True)))
    with pytest.raises(UsageError, match=r"tasks\.train"):
        run(config, resume=True)


def test_validation_tasks_count_where_they_are_used(config: RunConfig, data: Path) -> None:
    used = replace(config, eval_validation=2, out=config.out + "2")
    for each in (config, used):
        interrupt(each)
    (data / "validation.jsonl").write_text(items(8, "price"))
    assert run(config, resume=True).state == "finished"
    with pytest.raises(UsageError, match=r"tasks\.validation"):
        run(used, resume=True)


def test_a_file_that_was_written_again_as_it_was_is_the_same(config: RunConfig, data: Path) -> None:
    interrupt(config)
    moved = data.with_name("moved")
    shutil.copytree(data, moved)
    shutil.rmtree(data)
    shutil.copytree(moved, data)
    assert run(config, resume=True).state == "finished"


def test_a_finished_run_of_other_tasks_is_not_taken_for_this_one(
    config: RunConfig, data: Path
) -> None:
    run(config)
    assert run(config).state == "already finished"
    (data / "test.jsonl").write_text(items(8, "price"))
    with pytest.raises(UsageError, match=r"tasks\.test"):
        run(config)


def test_tasks_on_other_environments_count(
    toy: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flags = {"out": str(tmp_path), "eval_also": "toy-count", "eval_tasks": 2}
    config = resolve({**SMALL, "env": "toy-say"}, flags)
    interrupt(config)
    monkeypatch.setattr(toy.CountEnv, "tasks", lambda self, split: toy.SayEnv().tasks(split)[1:])
    with pytest.raises(UsageError, match=r"tasks\.toy-count"):
        run(config, resume=True)


def test_content_that_the_text_of_a_task_hides_is_seen(
    toy: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tests of a problem need not be in its `repr`."""
    config = resolve({**SMALL, "env": "toy-say"}, {"out": str(tmp_path)})
    own = toy.SayEnv.tasks

    def with_hidden(tests: list[int]) -> Callable[[Any, Any], Any]:
        return lambda self, split: [
            replace(t, data={**t.data, "problem": Hidden(tests)}) for t in own(self, split)
        ]

    monkeypatch.setattr(toy.SayEnv, "tasks", with_hidden([1, 2]))
    interrupt(config)
    monkeypatch.setattr(toy.SayEnv, "tasks", with_hidden([1, 3]))
    with pytest.raises(UsageError, match=r"tasks\.train"):
        run(config, resume=True)


class Hidden:
    """A problem that shows nothing of itself."""

    def __init__(self, tests: list[int]) -> None:
        self.tests = tests

    def __repr__(self) -> str:
        return "Hidden()"


def test_files_that_an_environment_plays_from_count(
    toy: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    game = tmp_path / "game.json"
    game.write_text("one")
    monkeypatch.setattr(toy.SayEnv, "files_of", lambda self, tasks: [game])
    config = resolve({**SMALL, "env": "toy-say"}, {"out": str(tmp_path / "out")})
    interrupt(config)
    game.write_text("two")
    with pytest.raises(UsageError, match=r"tasks\.test"):
        run(config, resume=True)
    game.write_text("one")
    assert run(config, resume=True).state == "finished"


MODEL_FILES = {
    "model.safetensors": b"weights",
    "config.json": b'{"layers": 2}',
    "tokenizer.json": b"{}",
    "chat_template.jinja": b"{{ messages }}",
    "README.md": b"about",
}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    for name, content in MODEL_FILES.items():
        (folder / name).write_bytes(content)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("model.safetensors", r"model\.weights"),
        ("config.json", r"model\.config"),
        ("tokenizer.json", r"model\.tokenizer"),
        ("chat_template.jinja", r"model\.tokenizer"),
    ],
)
def test_a_model_folder_that_changed_ends_the_resumption(
    toy: ModuleType, tmp_path: Path, model: Path, name: str, what: str
) -> None:
    settings = {**SMALL, "env": "toy-say", "model": str(model)}
    config = resolve(settings, {"out": str(tmp_path / "out")})
    interrupt(config)
    (model / name).write_bytes(MODEL_FILES[name] + b" ")
    with pytest.raises(UsageError, match=what):
        run(config, resume=True)
    (model / name).write_bytes(MODEL_FILES[name])
    (model / "README.md").write_text("more about it")
    assert run(config, resume=True).state == "finished"


def test_eval_refuses_a_checkpoint_of_other_tasks_and_takes_what_is_asked_for(
    config: RunConfig, data: Path
) -> None:
    run(config)
    assert score_run(config.folder(), None, {"eval_samples": 2, "eval_tasks": 3}).point.samples == 6
    (data / "test.jsonl").write_text(items(8, "price"))
    with pytest.raises(UsageError, match=r"tasks\.test.*--set"):
        score_run(config.folder(), None, {})
    # Another split is what it was, and other data were asked for.
    assert score_run(config.folder(), None, {"eval_split": "train"}).point.samples == 8
    elsewhere = data.with_name("elsewhere")
    shutil.copytree(data, elsewhere)
    assert score_run(config.folder(), None, {}, [f"env.data={elsewhere}"]).point.samples == 8


def test_eval_refuses_another_model_under_the_same_name(
    toy: ModuleType, tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = {**SMALL, "env": "toy-say", "model": str(model)}
    config = resolve(settings, {"out": str(tmp_path / "out")})
    run(config)
    (model / "model.safetensors").write_bytes(b"others")
    assert main(["eval", str(config.folder())]) == 2
    assert "model.weights" in capsys.readouterr().err


def test_an_update_is_repeated_only_with_the_same_tasks(config: RunConfig, data: Path) -> None:
    run(config)
    assert replay(config.folder(), 2, 1)["update"] == 2
    (data / "train.jsonl").write_text(items(8, "price"))
    with pytest.raises(UsageError, match=r"tasks\.train"):
        replay(config.folder(), 2, 1)


@pytest.mark.parametrize("kept", ["task_panel_sha256", "weights_sha256"])
def test_an_old_manifest_is_compared_as_far_as_it_goes_and_says_so_once(
    toy: ModuleType, tmp_path: Path, model: Path, kept: str
) -> None:
    settings = {**SMALL, "env": "toy-say", "model": str(model)}
    config = resolve(settings, {"out": str(tmp_path / "out")})
    interrupt(config)
    path = config.folder() / "manifest.json"
    manifest = read_json(path)
    del manifest["identity"]
    write_json(path, {**manifest, kept: "0" * 64})
    with pytest.raises(UsageError, match="other content"):
        run(config, resume=True)
    write_json(path, manifest)
    notes = run(config, resume=True).notes
    assert sum("was not compared" in note for note in notes) == 1


def test_what_a_run_began_with_stands_in_its_manifest(config: RunConfig) -> None:
    folder = run(config).folder
    known = read_json(folder / "manifest.json")["identity"]
    assert {"tasks.train", "tasks.test", "code.env.finer", "code.method", "prompts"} <= set(known)
    assert checkpoint_files(folder / "checkpoints")


@pytest.mark.parametrize(
    ("method", "depends"),
    [
        *(("sft", False), ("grpo", False), ("base", False), ("resd", True), ("sdpo", True)),
        *(("ace", True), ("rlsd", True), ("toy-learner", True)),
    ],
)
def test_a_run_depends_on_prompts_only_if_its_method_may_use_them(
    toy: ModuleType, method: str, depends: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = resolve({"method": method, "env": "toy-say", "model": "scripted"})
    env = plugins.make_env("toy-say")
    then = identity(config, env)
    assert ("prompts" in then) == depends
    monkeypatch.setattr(
        "resd_bench.records.content.prompts_hash", lambda dialect: "of other prompts"
    )
    now = identity(config, env)
    assert bool(differing(then, now)) == depends
    # Records from before have the hash of all prompts, whatever their method used.
    assert bool(differing({**then, "prompts": "of all prompts"}, now)) == depends


PLUGIN = """
from toy_plugin import SayEnv
from resd_bench.types import Feedback

class Env(SayEnv):
    name = "changing-say"

    def verify(self, task, action):
        return Feedback({reward}, True, 1.0)
"""


def install(folder: Path, version: str, reward: str) -> None:
    """Write a plug-in to a folder that is on the path."""
    about = folder / "changing_plugin-0.dist-info"
    about.mkdir(exist_ok=True)
    (about / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: changing-plugin\nVersion: {version}\n"
    )
    (about / "entry_points.txt").write_text(
        "[resd_bench.envs]\nchanging-say = changing_plugin:Env\n"
    )
    (folder / "changing_plugin.py").write_text(PLUGIN.format(reward=reward))
    plugins.installed.cache_clear()


@pytest.mark.slow
@pytest.mark.parametrize(("version", "reward"), [("2", "1.0"), ("1", "0.5")])
def test_another_version_of_a_plugin_or_other_code_of_it_ends_the_resumption(
    toy: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str, reward: str
) -> None:
    folder = tmp_path / "plugin"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delitem(sys.modules, "changing_plugin", raising=False)
    install(folder, "1", "1.0")
    config = resolve({**SMALL, "env": "changing-say"}, {"out": str(tmp_path / "out")})
    interrupt(config)
    install(folder, version, reward)
    with pytest.raises(UsageError, match=r"code\.env\.changing-say"):
        run(config, resume=True)
    install(folder, "1", "1.0")
    assert run(config, resume=True).state == "finished"


ENGINE_PLUGIN = """
from dataclasses import dataclass

from resd_bench.policy.engines.hf import HfEngine
from resd_bench.policy.engines.registry import EngineSpec

@dataclass(frozen=True)
class Options:
    said: str = "nothing"

class Engine(HfEngine):
    {code} = 1

def build(setup):
    return Engine(setup.model, setup.stop_ids, setup.pad_id)

ENGINE = EngineSpec("changing-engine", "of a plug-in", build, config=Options)
"""


def install_engine(folder: Path, code: str) -> None:
    """Write a plug-in with an engine to a folder that is on the path."""
    about = folder / "changing_engine-0.dist-info"
    about.mkdir(exist_ok=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: changing-engine\nVersion: 1\n")
    (about / "entry_points.txt").write_text(
        "[resd_bench.engines]\nchanging-engine = changing_engine:ENGINE\n"
    )
    (folder / "changing_engine.py").write_text(ENGINE_PLUGIN.format(code=code))
    plugins.installed.cache_clear()


@pytest.mark.slow
def test_other_code_or_other_options_of_an_engine_end_the_resumption(
    toy: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "plugin"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delitem(sys.modules, "changing_engine", raising=False)
    install_engine(folder, "one")
    asked = {"out": str(tmp_path / "out"), "engine": "changing-engine"}
    config = resolve({**SMALL, "env": "toy-say"}, asked, ["engine.said=this"])
    assert config.engine_options == {"said": "this"}
    interrupt(config)
    install_engine(folder, "two")
    with pytest.raises(UsageError, match=r"code\.engine"):
        run(config, resume=True)
    install_engine(folder, "one")
    with pytest.raises(UsageError, match=r"engine\.said: 'this' there, 'nothing' here"):
        run(resolve({**SMALL, "env": "toy-say"}, asked), resume=True)
    assert run(config, resume=True).state == "finished"


@pytest.fixture
def few_games(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[ModuleType]:
    """Text games of which there are eight, in a cache of their own."""
    pytest.importorskip("textworld", reason="TEXTWORLD ABSENT: pip install '.[textworld]'")
    from resd_envs.textworld import env, games

    monkeypatch.setenv("RESD_BENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(games, "SIZES", {"train": 5, "validation": 1, "test": 2})
    env._tasks.cache_clear()
    yield games
    env._tasks.cache_clear()


@pytest.mark.slow
def test_games_that_were_made_anew_and_otherwise_end_the_resumption(
    toy: ModuleType, tmp_path: Path, few_games: ModuleType
) -> None:
    settings = {**SMALL, "env": "textworld-coin-easy", "dialect": "compact", "budget": "10ep"}
    config = resolve(settings, {"out": str(tmp_path / "out")})
    interrupt(config, after=1)
    (state, *_) = sorted(few_games.cache_folder().glob("*.json"))
    before = state.read_text()
    state.write_text(before.replace("coin", "cone"))
    with pytest.raises(UsageError, match=r"tasks\.(train|test)"):
        run(config, resume=True)
    # Made anew from their recipes they are the same.
    shutil.rmtree(few_games.cache_folder())
    assert run(config, resume=True).state == "finished"


@pytest.mark.parametrize("kind", ["envs", "methods", "engines"])
def test_every_file_of_a_plug_ins_package_is_part_of_its_code(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also one that the plug-in's module imports, without that it is imported here."""
    package, about = tmp_path / f"whole_{kind}", tmp_path / f"whole_{kind}-0.dist-info"
    for folder in (package / "inner", about):
        folder.mkdir(parents=True)
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: whole-{kind}\nVersion: 1\n")
    (about / "entry_points.txt").write_text(
        f"[resd_bench.{kind}]\nwhole-{kind} = whole_{kind}.face:THING\n"
    )
    files = ["__init__.py", "face.py", "_private.py", "inner/kernel.py", "inner/prompt.md"]
    for name in files:
        (package / name).write_text("raise RuntimeError\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    plugins.installed.cache_clear()

    def version() -> str:
        importlib.invalidate_caches()
        return plugin_version(f"resd_bench.{kind}", f"whole-{kind}")

    seen = [version()]
    for name in files[1:]:
        (package / name).write_text("raise ValueError\n")
        seen.append(version())
    (package / "output.bin").write_text("not code")
    assert len(set(seen)) == len(seen) == 5
    assert version() == seen[-1]
    monkeypatch.undo()
    plugins.installed.cache_clear()
