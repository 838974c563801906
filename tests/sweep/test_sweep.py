"""Sweeps: what a file means, and that crashes, kills and Ctrl-C lose nothing."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from resd_bench.cli import main
from resd_bench.commands.sweep import choose_trials, keep_finished, run_sweep
from resd_bench.errors import UsageError
from resd_bench.jobs.run import run
from resd_bench.records.log_files import read_log
from resd_bench.records.recorder import LOGS
from resd_bench.records.run_files import RunFiles
from resd_bench.sweep.definition import Trial, load_sweep
from resd_bench.sweep.launch import LocalLauncher, RayLauncher
from resd_bench.sweep.scheduler import Scheduler, make_jobs
from tests.places import TOY_PLUGIN

CLOCK = {"seconds", "evaluation_seconds"}
"""What differs between any two runs."""

FILE = """
out: {out}
base: {{model: scripted, budget: 40ep, batch_size: 5, eval_every: 2, eval_samples: 2,
       max_new_tokens: 20, checkpoint_every: 2}}
variants:
  plain: {{method: toy-learner}}
  forgetful: {{method: toy-learner, method.remember: 1, grid: {{feedback_level: [1, 3]}}}}
grid:
  env: [toy-say, toy-count]
  seed: 0-1
overrides:
  - when: {{env: toy-count, seed: 1}}
    set: {{eval_samples: 3}}
"""

CHILD = """
import sys
from pathlib import Path
import toy_plugin
from resd_bench.config import RunConfig
from resd_bench.jobs.run import run
config = RunConfig.from_yaml(Path(sys.argv[1]).read_text())
outcome = run(config, resume=True, policy=toy_plugin.policy)
sys.exit(128 + outcome.signal if outcome.signal else 0)
"""


@pytest.fixture
def file(toy: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PYTHONPATH", str(TOY_PLUGIN))
    path = tmp_path / "small.yaml"
    path.write_text(FILE.format(out=tmp_path / "out"))
    return path


def child(config: Path) -> list[str]:
    return [sys.executable, "-c", CHILD, str(config)]


def measured(folder: Path) -> dict[str, list[dict[str, Any]]]:
    return {
        name: [{k: v for k, v in row.items() if k not in CLOCK} for row in read_log(folder / name)]
        for name in LOGS
    }


def slow(trials: Sequence[Trial], wait: float) -> list[Trial]:
    """The trials with updates that take time, so that there is something to interrupt."""
    return [
        replace(
            t, config=replace(t.config, method_options={**t.config.method_options, "wait": wait})
        )
        for t in trials
    ]


def test_a_sweep_is_every_variant_at_every_point_of_its_grid(file: Path) -> None:
    trials = load_sweep(file).trials
    assert [trial.index for trial in trials] == list(range(12))
    assert [str(trial) for trial in trials[:5]] == [
        "plain · toy-say · seed 0",
        "plain · toy-say · seed 1",
        "plain · toy-count · seed 0",
        "plain · toy-count · seed 1",
        "forgetful,feedback_level=1 · toy-say · seed 0",
    ]
    assert len({trial.folder for trial in trials}) == 12
    assert trials[4].config.method_options["remember"] == 1
    assert [trial.config.eval_samples for trial in trials[:4]] == [2, 2, 2, 3]


def test_a_model_in_a_grid_names_the_folder_by_what_tells_it_apart(tmp_path: Path) -> None:
    file = tmp_path / "models.yaml"
    models = ["nano-rare", "out/first/model", "out/second/model", "org/third"]
    file.write_text(f"grid: {{model: {json.dumps(models)}}}")
    variants = [trial.variant for trial in load_sweep(file).trials]
    assert variants == [f"resd,model={name}" for name in ("nano-rare", "first", "second", "third")]
    assert [trial.config.model for trial in load_sweep(file).trials] == models


def test_two_models_of_one_name_are_not_run_into_one_folder(tmp_path: Path) -> None:
    file = tmp_path / "models.yaml"
    file.write_text("grid: {model: [here/mine/model, there/mine/model]}")
    with pytest.raises(UsageError, match="both write to"):
        load_sweep(file)


def test_what_has_all_settings_of_an_exclusion_is_left_out(file: Path) -> None:
    before = load_sweep(file).trials
    file.write_text(
        file.read_text()
        + "exclude:\n"
        + "  - {feedback_level: 1, env: toy-say}\n"
        + "  - {method.remember: 1, seed: [0, 1], env: toy-count}\n"
    )
    left = load_sweep(file).trials
    assert [str(trial) for trial in left] == [
        str(trial)
        for trial in before
        if str(trial).startswith(("plain", "forgetful,feedback_level=3 · toy-say"))
    ]
    assert [trial.index for trial in left] == list(range(6))
    file.write_text(file.read_text() + "  - {variant: plain, seed: 1}\n")
    left = load_sweep(file).trials
    assert [str(trial) for trial in left if trial.config.seed == 1] == [
        "forgetful,feedback_level=3 · toy-say · seed 1"
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("exclude: {env: a}", "exclude: give a list"),
        ("exclude: [{}]", "exclude: give a list"),
        ("exclude: [finer]", "exclude: expected `key: value` lines"),
        ("exclude: [{env: manufactoria-has}]", "has no run"),
        ("bases: {}", "unknown key of the sweep .* Did you mean 'base'"),
        ("base: {methd: toy-learner}", "Did you mean 'method'"),
        ("base: {out: x}", "is a key of the sweep itself"),
        ("grid: {seed: a-b}", "not a list of numbers: give 0,1,2 or 0-4"),
        ("grid: {env: []}", "is empty"),
        ("variants: {a/b: {}}", "cannot name a folder"),
        ("variants: {a: {method: toy-learner}}\ngrid: {env: [toy-say, toy-say]}", "both write to"),
        ("overrides: {when: 1}", "give a list"),
        ("variants: [a]", "expected `key: value` lines"),
    ],
)
def test_a_wrong_file_is_answered_with_what_is_wrong(
    toy: ModuleType, tmp_path: Path, text: str, message: str
) -> None:
    path = tmp_path / "wrong.yaml"
    path.write_text(text)
    with pytest.raises(UsageError, match=message):
        load_sweep(path)


def test_one_index_of_a_list_is_one_task_of_an_array_job(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["sweep", str(file), "--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    chosen = choose_trials(load_sweep(file), "3")
    assert [str(chosen[0].folder)] == [lines[3].split("\t")[-1]]
    assert [trial.index for trial in choose_trials(load_sweep(file), "0-2,7")] == [0, 1, 2, 7]
    with pytest.raises(UsageError, match="has runs 0 to 11"):
        choose_trials(load_sweep(file), "12")


@pytest.mark.slow
def test_a_killed_worker_is_taken_up_again_and_measures_what_an_uninterrupted_run_does(
    file: Path, tmp_path: Path
) -> None:
    [trial] = slow(load_sweep(file).trials[:1], 0.05)
    whole = replace(trial.config, out=str(tmp_path / "whole"))
    run(whole)
    jobs = make_jobs([trial], tmp_path / "jobs")
    killed: list[int] = []

    def kill_once(now: Sequence[Any]) -> None:
        log = trial.folder / "metrics.jsonl"
        if not killed and log.exists() and len(log.read_bytes().splitlines()) >= 3:
            killed.append(now[0].handle.process.pid)
            os.kill(killed[0], signal.SIGKILL)

    Scheduler(jobs, LocalLauncher(1, child), watch=kill_once, period=0.01).run()
    assert killed
    assert (jobs[0].state, jobs[0].starts) == ("finished", 2), jobs[0].reason
    assert measured(trial.folder) == measured(whole.folder())
    again = make_jobs([trial], tmp_path / "jobs")
    Scheduler(again, LocalLauncher(1, child), period=0.01).run()
    assert (again[0].state, again[0].starts) == ("there already", 0)
    keep_finished(again, tmp_path / "kept")
    kept = tmp_path / "kept/toy-say/plain/seed-0"
    assert (kept / "evals.jsonl.columns.xz").exists()
    assert not (kept / "answers").exists()
    keep_finished(again, tmp_path / "said", answers=True)
    said = RunFiles.at(tmp_path / "said/toy-say/plain/seed-0").answers()
    assert said
    assert said == RunFiles.at(trial.folder).answers()


def test_answers_are_kept_only_where_records_are(file: Path) -> None:
    assert main(["sweep", str(file), "--answers"]) == 2


@pytest.mark.slow
def test_ctrl_c_lets_every_run_save_and_the_next_sweep_goes_on(file: Path, tmp_path: Path) -> None:
    trials = slow(load_sweep(file).trials[:2], 0.3)
    jobs = make_jobs(trials, tmp_path / "jobs")
    asked = threading.Event()

    def interrupt(now: Sequence[Any]) -> None:
        if not asked.is_set() and all((t.folder / "metrics.jsonl").exists() for t in trials):
            asked.set()
            os.kill(os.getpid(), signal.SIGINT)

    received = Scheduler(jobs, LocalLauncher(2, child), watch=interrupt, period=0.02).run()
    assert received == signal.SIGINT
    for job in jobs:
        status = json.loads((job.trial.folder / "status.json").read_text())
        assert (job.state, status["state"]) == ("interrupted", "interrupted")
        assert 0 < status["update"] < 8


def crash(config: Path) -> list[str]:
    return [sys.executable, "-c", "import sys; print('out of luck'); sys.exit(1)"]


def test_a_trial_that_keeps_crashing_fails_with_its_last_words(file: Path, tmp_path: Path) -> None:
    jobs = make_jobs(load_sweep(file).trials[:1], tmp_path / "jobs")
    Scheduler(jobs, LocalLauncher(1, crash), retries=1, period=0.01).run()
    assert (jobs[0].state, jobs[0].starts) == ("failed", 2)
    assert "exit code 1; out of luck" in jobs[0].reason


def test_a_mistake_of_the_users_is_not_tried_again(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(config: Path) -> list[str]:
        return [sys.executable, "-c", "import sys; print('error: no'); sys.exit(2)"]

    received, jobs = run_sweep("s", load_sweep(file).trials[:1], LocalLauncher(1, refuse), 5)
    assert (received, jobs[0].state, jobs[0].starts) == (0, "failed", 1)
    assert jobs[0].reason == "error: no"
    assert "error: no" in capsys.readouterr().err


def test_a_run_ends_with_the_sweep_that_started_it(tmp_path: Path) -> None:
    if sys.platform != "linux":
        pytest.skip("PARENT'S DEATH IS NOT SIGNALLED: Linux only")
    log = tmp_path / "log"
    sleeper = f"""
import sys
from pathlib import Path
from resd_bench.sweep.launch import LocalLauncher
child = LocalLauncher(1, lambda c: [sys.executable, "-c", "import time; time.sleep(60)"])
print(child.start(Path("x"), Path({str(log)!r})).process.pid, flush=True)
"""
    import subprocess

    parent = subprocess.run([sys.executable, "-c", sleeper], capture_output=True, text=True)
    pid, limit = int(parent.stdout), time.monotonic() + 20
    while Path(f"/proc/{pid}").exists() and time.monotonic() < limit:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        if state == "Z":
            break
        time.sleep(0.05)
    else:
        assert not Path(f"/proc/{pid}").exists(), "the child outlived its parent"


def test_without_ray_its_launcher_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UsageError, match=r"pip install .*\[sweep\]"):
        RayLauncher()


@pytest.mark.slow
def test_a_ray_cluster_runs_a_trial_to_its_end(file: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="RAY ABSENT: pip install '.[sweep]'")
    received, jobs = run_sweep("s", load_sweep(file).trials[:2], RayLauncher(command=child), 0)
    assert (received, [job.state for job in jobs]) == (0, ["finished", "finished"])


BATCHES = """
out: {out}
base: {{model: scripted, budget: 40ep, method: toy-learner, env: toy-say}}
grid: {{batch: [10x1, 5x2, 5x1]}}
"""


def test_tasks_by_rollouts_is_an_axis_at_equal_rollouts(
    toy: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "batches.yaml"
    path.write_text(BATCHES.format(out=tmp_path))
    trials = load_sweep(path).trials
    assert [trial.variant for trial in trials] == [
        f"toy-learner,batch={own}" for own in ("10x1", "5x2", "5x1")
    ]
    assert [(t.config.batch_size, t.config.group_size) for t in trials] == [(10, 1), (5, 2), (5, 1)]
    assert [trial.config.updates() for trial in trials] == [4, 4, 8]
    assert main(["sweep", str(path), "--list"]) == 0
    assert capsys.readouterr().out.splitlines()[2].split("\t")[-2] == "8 updates of 5x1"


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        ("3x1", "40 rollouts are not a whole number of updates of 3"),
        ("32", "give tasks x rollouts, such as 4x8"),
        ("0x4", "give tasks x rollouts"),
    ],
)
def test_a_batch_that_does_not_divide_the_budget_is_refused(
    toy: ModuleType, tmp_path: Path, batch: str, message: str
) -> None:
    path = tmp_path / "batches.yaml"
    path.write_text(BATCHES.format(out=tmp_path).replace("10x1", batch))
    with pytest.raises(UsageError, match=message):
        load_sweep(path)


def test_a_sweep_takes_the_variants_of_another_file(toy: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "tuned.yaml").write_text("variants: {a: {method: toy-learner, method.remember: 2}}")
    path = tmp_path / "other.yaml"
    path.write_text("base: {model: scripted, env: toy-say}\nvariants: tuned.yaml\n")
    [trial] = load_sweep(path).trials
    assert (trial.variant, trial.config.method_options["remember"]) == ("a", 2)
