"""The paper's experiments as files: written by their table, true to the paper, ready to run."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from resd_bench import plugins
from resd_bench.cli import main
from resd_bench.config import RunConfig, load_file, resolve
from resd_bench.sweep.definition import load_sweep
from resd_bench.tuning.definition import load_tuning
from tests.places import ROOT

FOLDERS = [ROOT / "runs/paper", ROOT / "runs/release"]
FILES = sorted(path for folder in FOLDERS for path in folder.rglob("*.yaml"))
TASKS = ("manufactoria-has", "bouncingsim-easy", "bouncingsim-medium", "finer")
METHODS = {
    *("base", "sdpo", "sdpo-ss", "grpo", "resd"),
    *("resd-no-reflection", "resd-no-playbook", "resd-no-solution-buffer"),
}


def config(name: str) -> RunConfig:
    return resolve(load_file(ROOT / "runs" / f"{name}.yaml"))


@pytest.fixture(scope="module")
def maker() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_paper", ROOT / "runs/make_paper.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # A dataclass looks its module up.
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def finer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in the form of the data that cannot ship, as large as the paper's."""
    folder = tmp_path_factory.mktemp("finer")
    for split, count in (("train", 1000), ("test", 500)):
        rows = [
            {"context": f"{split} question {n}\nOptions: A, B.", "target": "A,B,A,B"}
            for n in range(count)
        ]
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / f"{split}.jsonl").write_text(lines)
    return folder


def test_all_methods_on_all_tasks_are_there_for_both_presets() -> None:
    for folder in FOLDERS:
        for task in TASKS:
            assert {path.stem for path in (folder / task).iterdir()} == METHODS


def test_the_files_are_what_the_table_writes(maker: ModuleType) -> None:
    written = dict(maker.files())
    assert set(written) == set(FILES)
    for path, text in written.items():
        assert path.read_text(encoding="utf-8") == text, path


@pytest.mark.slow
@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT / "runs")))
def test_each_file_passes_a_dry_run_on_a_node_of_eight_gpus(
    path: Path,
    finer: Path,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    data = ["--set", f"env.data={finer}"] if path.parent.name == "finer" else []
    machine = ["--gpus", "8", "--gpu-memory", "141GB"]
    assert main(["run", "--config", str(path), "--dry-run", *machine, *data]) == 0
    printed = capsys.readouterr().out
    assert "training:" in printed
    assert "not estimated" not in printed
    assert list(tmp_path.iterdir()) == []


def test_no_two_files_write_to_the_same_folder() -> None:
    folders = [resolve(load_file(path)).folder() for path in FILES]
    assert len(set(folders)) == len(folders)


def test_the_paper_files_hold_the_papers_numbers(fixtures: Path) -> None:
    numbers = json.loads((fixtures / "paper/settings.json").read_text())
    shared = numbers["settings"]
    for task, own in shared["per_task"].items():
        for method in ("resd", "sdpo", "grpo"):
            _check(config(f"paper/{task}/{method}"), shared, own, numbers["tasks"][task])


def _check(
    run: RunConfig, shared: dict[str, Any], own: dict[str, Any], task: dict[str, Any]
) -> None:
    options = run.method_options
    assert run.model == task["model"]
    assert run.budget == f"{task['train'] // 32 * 4}upd"
    assert (run.batch_size, run.inner_steps) == (shared["batch_size"], shared["inner_steps_K"])
    assert run.group_size == shared["rollouts_per_prompt_N"][run.method]
    assert (run.temperature, run.top_p) == (shared["temperature"], shared["top_p"])
    assert run.learning_rate == shared["learning_rate"]
    assert run.warmup_updates == shared["warmup_steps"]
    assert run.eval_samples == shared["eval_samples"]
    assert run.max_new_tokens == own["max_response"]
    if run.method in ("resd", "sdpo"):
        assert options["teacher"] == "ema"
        assert options["ema_rate"] == own.get("teacher_ema_rate", shared["teacher_ema_rate"])
        assert options["divergence"] == own["divergence"]
        assert options["clip_low"] == shared["clip_ratio_low"]
        assert options["clip_high"] == own.get("clip_ratio_high", shared["clip_ratio_high"])
        assert options["top_k"] == shared["distillation_top_k"]
    if run.method == "resd":
        assert options["max_entries"] == own["max_entries"]
        assert options["concise_method"] == own["concise"]
        assert options["concise_frequency"] == shared["concise_every_F"]
        assert options["success_rate_weighting"] == own["rebalancing"]
        exponents = options["success_exponent"], options["failure_exponent"]
        assert exponents == (shared["rebalancing_alpha"], shared["rebalancing_beta"])


@pytest.mark.parametrize("name", TASKS[:3])
def test_one_epoch_is_as_many_updates_as_the_environment_has_batches(name: str) -> None:
    tasks = len(plugins.make_env(name).tasks("train"))
    assert config(f"paper/{name}/resd").budget == f"{tasks // 32 * 4}upd"


def test_the_release_differs_where_its_scripts_do() -> None:
    first = config("release/manufactoria-has/resd")
    assert first.method_options["clip_high"] is None
    assert first.method_options["concise_method"] == "staleness"
    assert first.method_options["success_rate_weighting"] is True
    finer = config("release/finer/sdpo")
    assert finer.learning_rate == 1e-5
    assert finer.env_options["partial_credit"] is True
    assert config("release/finer/grpo").learning_rate == 1e-6
    for task in TASKS:
        run = config(f"release/{task}/resd")
        assert run.eval_temperature == 0.6
        assert run.method_options["teacher"] == "frozen"
        assert run.method_options["feedback_with_solution"] is False
        assert run.method_options["concise_after_curation"] is True


@pytest.mark.slow
def test_sweeps_that_write_to_one_folder_mean_the_same_run() -> None:
    known: dict[Path, tuple[str, dict[str, Any]]] = {}
    for file in sorted((ROOT / "runs/nano").glob("*.yaml")):
        tuned = "methods" in load_file(file)
        for trial in (load_tuning(file).sweep if tuned else load_sweep(file)).trials:
            meant = trial.config.of_results()
            other, first = known.setdefault(trial.folder, (file.name, meant))
            assert meant == first, f"{trial.folder} is another run in {other} than in {file.name}"
    assert len(known) > 2000


def test_an_ablation_differs_from_resd_in_its_option_and_its_folder_only() -> None:
    options = {
        "no-reflection": "use_reflection",
        "no-playbook": "use_playbook",
        "no-solution-buffer": "use_solution_buffer",
    }
    for task in TASKS:
        whole = config(f"paper/{task}/resd").of_results()
        for name, option in options.items():
            part = config(f"paper/{task}/resd-{name}").of_results()
            differs = {key for key in whole if whole[key] != part[key]}
            assert differs - {"eval_also"} == {f"method.{option}"}
            assert part[f"method.{option}"] is False


def test_without_finers_data_a_run_says_where_they_belong(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = ROOT / "runs/paper/finer/resd.yaml"
    assert main(["run", "--config", str(path), "--dry-run"]) == 2
    assert "no FiNER data at 'data/finer'" in capsys.readouterr().err
    assert "github.com/ace-agent/ace" in path.read_text()
