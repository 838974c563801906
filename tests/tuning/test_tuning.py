"""Tuning: an equal number of trials for every method, chosen without a look at test tasks."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from resd_bench.cli import main
from resd_bench.config import RunConfig, resolve
from resd_bench.errors import UsageError
from resd_bench.jobs.run import run
from resd_bench.records.log_files import read_log
from resd_bench.records.runs import load_run
from resd_bench.report.verify import verify
from resd_bench.reproduce.match_records import Records
from resd_bench.sweep.definition import load_sweep
from resd_bench.tuning.choice import (
    MeasuredTrial,
    MethodTrials,
    Tried,
    measure_trials,
    validation_curve,
)
from resd_bench.tuning.definition import Tuning, load_tuning, spread
from resd_bench.tuning.page import as_json, make_page, tuned_sweep
from resd_bench.tuning.same import OWN, TAKEN, refuse_shared
from resd_bench.types import Split, Task
from tests.places import ROOT, TOY_PLUGIN

FILE: dict[str, Any] = {
    "base": {
        **{"model": "scripted", "budget": "40ep", "batch_size": 10},
        **{"eval_samples": 2, "max_new_tokens": 20},
    },
    "envs": ["toy-say", "toy-count"],
    "trials": 3,
    "evaluations": 2,
    "seeds": 1000,
    "knobs": {"warmup": [0, 0.25, 0.5], "batch": ["10x1", "5x1"]},
    "methods": {
        "plain": {"method": "toy-learner"},
        "forgetful": {"method": "toy-learner", "knobs": {"method.remember": [1, 2]}},
        "groups": {
            **{"method": "toy-group", "batch_size": 5},
            "knobs": {"batch": ["5x4", "5x2", "10x1"]},
        },
    },
}


SMALL: dict[str, Any] = {
    "base": {**FILE["base"], "batch_size": 2},
    "envs": ["toy-say"],
    "trials": 2,
    "knobs": {"warmup": [0, 0.25], "batch": ["2x1"]},
    "methods": {"plain": {"method": "toy-learner"}},
}
"""Two runs of twenty updates, which are enough to learn something."""


def written(folder: Path, **changes: Any) -> Path:
    path = folder / "tune.yaml"
    path.write_text(yaml.safe_dump({**FILE, "out": str(folder / "out"), **changes}))
    return path


@pytest.fixture
def tuning(toy: ModuleType, tmp_path: Path) -> Tuning:
    return load_tuning(written(tmp_path))


def test_every_method_has_as_many_different_trials_and_the_first_is_its_default(
    tuning: Tuning,
) -> None:
    assert {len(own) for own in tuning.methods.values()} == {3}
    assert len(tuning.runs) == 3 * 3 * 2
    assert len({run.folder for run in tuning.runs.values()}) == 18
    for method, (first, *others) in tuning.methods.items():
        own_runs = [run for key, run in tuning.runs.items() if key[0] == method]
        assert len({run.config.digest() for run in own_runs}) == 6
        own = {k: v for k, v in FILE["methods"][method].items() if k != "knobs"}
        asked = {**FILE["base"], **own, "env": "toy-say", "seed": 1000}
        expected = resolve({**asked, "eval_split": "validation"})
        config = tuning.runs[method, 0, "toy-say", 1000].config
        assert replace(config, eval_every=4).digest() == expected.digest()
        assert first.name == f"{method},default"
        assert [one.number for one in others] == [1, 2]


def test_runs_evaluate_validation_tasks_at_the_same_rollouts(tuning: Tuning) -> None:
    for trial in tuning.runs.values():
        config, each = trial.config, trial.config.batch_size * (trial.config.group_size or 1)
        assert (config.eval_split, config.eval_validation, config.eval_also) == (
            "validation",
            0,
            None,
        )
        assert config.eval_every * each == 20
        assert config.updates() == 40 / each


def test_the_file_alone_says_what_is_tried(toy: ModuleType, tmp_path: Path) -> None:
    names = [
        [one.name for own in load_tuning(written(tmp_path, draw=d)).methods.values() for one in own]
        for d in (0, 0, 1)
    ]
    assert names[0] == names[1] != names[2]


def test_a_sample_uses_every_value_about_equally_often_and_then_all_points() -> None:
    knobs = {"a": [1, 2, 3, 4], "b": [1, 2, 3], "c": "xyz"}
    points = list(spread(knobs, 0))
    assert len({tuple(point.values()) for point in points}) == len(points) == 36
    for key, values in knobs.items():
        counts = Counter(point[key] for point in points[:11])
        assert len(counts) == len(values)
        assert max(counts.values()) - min(counts.values()) <= 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"trials": -1}, "trials: give at least 1"),
        ({"seeds": "0-99999"}, "has 1,800,000 runs: give fewer"),
        ({"trials": 30}, "make 13 different runs, fewer than the 30 trials that every method gets"),
        ({"methods": {"a": {"method": "toy-learner", "trials": 9}}}, "trials cannot be given"),
        ({"base": {"eval_validation": 3}}, "eval_validation cannot be given"),
        ({"base": {"eval_split": "test"}}, "eval_split cannot be given"),
        ({"base": {"eval_also": "toy-count"}}, "eval_also cannot be given"),
        ({"base": {**FILE["base"], "budget": "45ep"}}, "a whole number of updates of 10"),
        ({"base": {**FILE["base"], "budget": "5Mtok"}}, "give a budget in rollouts"),
        ({"evaluations": 3}, "no 3 evaluations at equal distances"),
        ({"report": {"seeds": "998-1000"}}, "seed 1000 is of tuning and of the reported runs"),
        ({"knob": {}}, "unknown key of the tuning file .* Did you mean 'knobs'"),
        ({"envs": []}, "envs is missing"),
        (
            {"methods": {"a": {"knobs": {"top_p": [1], "temperature": [1], "grad_clip": [1]}}}},
            "a has 3 knobs of its own, grad_clip, temperature, top_p: a method may have 2",
        ),
        ({"methods": {"a": {"warmup": 0.5}}}, "a both fixes and turns warmup"),
        ({"knobs": {"batch": ["3x1"]}}, "batch 3x1: 40 rollouts are not a whole number"),
    ],
)
def test_mistakes_are_named(
    toy: ModuleType, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        load_tuning(written(tmp_path, **changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"base": {**FILE["base"], "eval-also": "toy-count"}}, "base: eval_also cannot be given"),
        ({"base": {**FILE["base"], "eval-validation": 3}}, "eval_validation cannot be given"),
        ({"methods": {"a": {"eval-also": "toy-count"}}}, "method a: eval_also cannot be given"),
        ({"knobs": {"eval-also": ["toy-count"]}}, "knobs: eval_also cannot be given"),
        ({"methods": {"a": {"knobs": {"eval-split": ["test"]}}}}, "a: eval_split cannot be given"),
        ({"base": {**FILE["base"], "batch-size": 5}}, "batch_size is given in two spellings"),
        (
            {"methods": {"a": {"method.remember": 1, "method_options": {"remember": 2}}}},
            "method a: method.remember is given in two spellings",
        ),
        ({"report": {"base": {"eval-tasks": 1, "eval_tasks": 2}}}, "eval_tasks is given in two"),
    ],
)
def test_a_key_in_another_spelling_is_the_same_key(
    toy: ModuleType, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        load_tuning(written(tmp_path, **changes))


def test_what_is_left_out_of_the_reported_runs_is_so_in_any_spelling(
    toy: ModuleType, tmp_path: Path
) -> None:
    base = {**FILE["base"], "eval-tasks": 2}
    del base["eval_samples"]
    base["eval-samples"] = 2
    tuning = load_tuning(written(tmp_path, base=base))
    assert {run.config.eval_tasks for run in tuning.runs.values()} == {2}
    found = {"plain": trials(tuning, [0.2, 0.6, 0.1])}
    sweep = tuned_sweep(tuning, found)
    assert sweep is not None
    assert sweep["base"].keys() == {"model", "budget", "max_new_tokens"}


SHARED: dict[str, tuple[Any, Any]] = {
    "budget": ("80ep", "40ep"),
    "model": ("scripted", "other"),
    "preset": ("paper", "release"),
    "max_new_tokens": (10, 20),
    "eval-tasks": (1, 2),
    "eval_samples": (1, 2),
    "eval_temperature": (0.5, 1.0),
    "eval_top_p": (0.5, 1.0),
    "feedback_level": (2, 4),
    "feedback": ("blank", "shuffled"),
    "grade": ("answer", "release"),
    "dialect": ("full", "compact"),
    "thinking": ("on", "off"),
    "context_limit": (500, 600),
    "precision": ("float32", "mixed"),
    "rollout_slots": (1, 2),
    "env.rare": (True, False),
    "engine": ("torch", "auto"),
}
"""Settings by which a method would get more than others, or be measured otherwise."""


@pytest.mark.parametrize("key", SHARED)
def test_no_method_gets_a_budget_or_a_measure_of_its_own(
    toy: ModuleType, tmp_path: Path, key: str
) -> None:
    one, other = SHARED[key]
    refused = key.replace("-", "_") + " cannot be given here: every method gets the same budget"
    for own in ({key: one}, {"knobs": {key: [one, other]}}):
        with pytest.raises(UsageError, match=refused):
            load_tuning(written(tmp_path, methods={"plain": {**own, "method": "toy-learner"}}))
    with pytest.raises(UsageError, match=refused):
        load_tuning(written(tmp_path, knobs={key: [one, other]}))


def test_they_can_be_given_for_all_methods(toy: ModuleType, tmp_path: Path) -> None:
    more = {"budget": "80ep", "eval_temperature": 0.5, "feedback_level": 2, "eval_tasks": 1}
    tuning = load_tuning(written(tmp_path, base={**FILE["base"], **more}))
    for trial in tuning.runs.values():
        assert {key: getattr(trial.config, key) for key in more} == more


def test_every_setting_is_shared_unless_it_says_how_a_method_learns() -> None:
    """So that a new one has to be named before methods may differ in it."""
    names = {field.name for field in fields(RunConfig)}
    assert OWN - {"batch"} < names
    for key in names - OWN - TAKEN - {"env_options", "engine_options"}:
        with pytest.raises(UsageError, match=f"{key} cannot be given here"):
            refuse_shared([key], "method a")


def test_methods_are_no_values_of_a_knob(toy: ModuleType, tmp_path: Path) -> None:
    knobs = {"method": ["toy-learner", "toy-group"]}
    with pytest.raises(UsageError, match="method cannot be a knob"):
        load_tuning(written(tmp_path, knobs=knobs, methods={"a": {}}))


@pytest.mark.parametrize(
    ("named", "message"),
    [
        ({"eval_also": "toy-count"}, "would run with eval_also toy-count, and tuning may look at"),
        ({"eval_split": "test"}, "would run with eval_split test"),
        ({"eval_validation": 2}, "would run with eval_validation 2"),
        ({"eval_contexts": True}, "would run with eval_contexts True"),
    ],
)
def test_the_runs_themselves_are_checked_before_any_starts(
    toy: ModuleType, tmp_path: Path, named: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        load_tuning(written(tmp_path), named=named)


def test_a_model_that_brings_one_method_a_longer_answer_is_refused(
    toy: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Settings of a model are by method, and come in below those of the file."""
    ours = {"eval_also": "toy-count", "methods": {"toy-group": {"eval_samples": 7}}}
    monkeypatch.setattr("resd_bench.models.small.settings_of", lambda model: dict(ours))
    tuning = load_tuning(written(tmp_path))
    assert {run.config.eval_also for run in tuning.runs.values()} == {None}
    base = {k: v for k, v in FILE["base"].items() if k != "eval_samples"}
    with pytest.raises(UsageError, match=r"with eval_samples 7, others with 4: .* in `base`"):
        load_tuning(written(tmp_path, base=base))


def test_the_embedded_models_file_is_108_runs_of_1280_rollouts() -> None:
    tuning = load_tuning(ROOT / "runs" / "nano" / "tune.yaml")
    assert len(tuning.runs) == 108
    for trial in tuning.runs.values():
        each = trial.config.batch_size * (trial.config.group_size or 1)
        assert trial.config.eval_every * each == 256


# No look at test tasks.


def tried(tuning: Tuning) -> dict[str, Any]:
    """All runs done, and what they come to."""
    for trial in tuning.runs.values():
        run(trial.config)
    return as_json(tuning, measure_trials(tuning, Records.scan([Path(tuning.out)])))


def logged(tuning: Tuning) -> list[Any]:
    logs = [t.folder / n for t in tuning.runs.values() for n in ("evals.jsonl", "metrics.jsonl")]
    clock = {"seconds", "evaluation_seconds"}
    return [[{k: row[k] for k in row.keys() - clock} for row in read_log(p)] for p in logs]


def other_tests(original: Any) -> Any:
    """The test tasks of an environment in another order, with other words."""

    def tasks(self: Any, split: Split) -> Sequence[Task]:
        found = original(self, split)
        if split != "test":
            return list(found)
        return [Task(f"other-{t.id}", split, f"{t.prompt}?", t.data) for t in found[::-1]]

    return tasks


def no_tests(original: Any) -> Any:
    """Reading a test task raises."""

    def tasks(self: Any, split: Split) -> Sequence[Task]:
        if split == "test":
            raise RuntimeError("a test task was asked for")
        return list(original(self, split))

    return tasks


@pytest.mark.parametrize("change", [other_tests, no_tests])
def test_test_tasks_make_no_difference(
    toy: ModuleType, tmp_path: Path, change: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    first = load_tuning(written(tmp_path / "a", **SMALL))
    before = tried(first)
    monkeypatch.setattr(toy.SayEnv, "tasks", change(toy.SayEnv.tasks))
    second = load_tuning(written(tmp_path / "b", **SMALL))
    assert tried(second) == before
    assert logged(second) == logged(first)
    assert before["methods"]["plain"]["chosen"]["all"]["area"] > 0


@pytest.mark.parametrize(
    "more", [{"eval_split": "test"}, {"eval_validation": 2}, {"eval_also": "toy-count"}]
)
def test_a_record_with_test_rows_is_refused(
    toy: ModuleType, tmp_path: Path, more: dict[str, Any]
) -> None:
    settings = {**FILE["base"], "env": "toy-say", "method": "toy-learner", "budget": "10ep"}
    split = {"eval_split": "test"} if "eval_validation" in more else {"eval_split": "validation"}
    config = resolve({**settings, **split, **more}, {"out": str(tmp_path)})
    run(config)
    with pytest.raises(UsageError, match=r"more than validation tasks .* nothing may be chosen"):
        validation_curve(load_run(config.folder()))


# The choice.


def trials(tuning: Tuning, areas: Sequence[float | str]) -> MethodTrials:
    """Trials of one method with these areas, in both environments; a word is a failure."""
    found = []
    for candidate, area in zip(tuning.methods["plain"], areas, strict=True):
        own = (
            MeasuredTrial(1000, 0.0, 0.0, area)
            if isinstance(area, str)
            else MeasuredTrial(1000, area, 1.0)
        )
        found.append(Tried(candidate, {"toy-say": [own], "toy-count": [own]}))
    return MethodTrials("plain", found, sum(not one.there for one in found))


def test_the_best_trial_is_chosen_and_of_equal_ones_the_earliest(tuning: Tuning) -> None:
    choice = trials(tuning, [0.2, 0.6, 0.6]).choose()
    assert choice is not None
    assert choice.best.candidate.number == 1
    assert [one.candidate.number for one in choice.ties] == [2]


def test_without_all_of_its_trials_nothing_is_chosen(tuning: Tuning) -> None:
    own = trials(tuning, [0.2, 0.6, float("nan")])
    assert own.choose() is None
    assert own.areas() == [0.2, 0.6]


def test_a_trial_that_failed_is_the_worst_and_is_shown(tuning: Tuning) -> None:
    own = trials(tuning, [0.2, "out of memory", 0.1])
    choice = own.choose()
    assert choice is not None
    assert choice.best.candidate.number == 0
    assert min(own.areas()) == 0
    found = {"plain": own}
    page = make_page(replace(tuning, methods={"plain": tuning.methods["plain"]}), found)
    assert any("out of memory" in note for note in page.notes)
    assert as_json(tuning, found)["methods"]["plain"]["trials"][1]["runs"]["toy-say"] == [
        {"seed": 1000, "area": 0.0, "final": 0.0, "failure": "out of memory"}
    ]


def test_a_run_that_ended_in_an_error_counts_as_failed(
    toy: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def diverged(*args: Any) -> Any:
        raise FloatingPointError("the loss is not finite")

    tuning = load_tuning(written(tmp_path))
    monkeypatch.setattr(toy.Learner, "learn", diverged)
    trial = tuning.runs["plain", 1, "toy-say", 1000]
    with pytest.raises(FloatingPointError):
        run(trial.config)
    found = measure_trials(tuning, Records.scan([Path(tuning.out)]))["plain"].trials
    assert found[1].runs["toy-say"][0].area == 0
    assert "the loss is not finite" in found[1].failures[0]
    assert not found[0].there


# The command.


@pytest.mark.slow
def test_the_command_runs_everything_once_and_its_pages_come_from_records_alone(
    toy: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(TOY_PLUGIN))
    file = written(tmp_path, **SMALL, report={"out": "reported", "seeds": "0-1"})
    tuning = load_tuning(file)
    before = tried(tuning)
    pages = tmp_path / "pages"
    assert main(["tune", str(file), "--no-run", "--pages", str(pages)]) == 0
    assert json.loads((pages / "tuning.json").read_text()) == before
    assert {path.suffix for path in pages.iterdir()} == {
        *(".md", ".json", ".csv", ".png", ".svg", ".yaml")
    }
    assert [check.problems for check in verify(pages)] == [[], []]
    page = (pages / "tuning.md").read_text()
    (pages / "tuning.md").write_text(page.replace("plain", "plane"))
    assert any(check.problems for check in verify(pages))
    sweep = load_sweep(pages / "tuned.yaml")
    best = before["methods"]["plain"]["chosen"]["all"]
    assert [str(trial) for trial in sweep.trials][:2] == [
        "plain-tuned · toy-say · seed 0",
        "plain-tuned · toy-say · seed 1",
    ]
    chosen = tuning.runs["plain", best["trial"], "toy-say", 1000].config
    reported = sweep.trials[0].config
    assert reported.eval_split == "test"
    same = replace(chosen, eval_split="test", eval_samples=4, seed=0, out=reported.out)
    assert same.digest() == reported.digest()
    capsys.readouterr()
    assert main(["tune", str(file), "--jobs", "1"]) == 0
    assert "2 runs: 2 there already" in capsys.readouterr().out
