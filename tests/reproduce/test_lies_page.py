"""The page on wrong lessons: every cell with its manipulation check."""

from __future__ import annotations

from dataclasses import replace

from matplotlib.figure import Figure

from resd_bench.records.runs import RunData
from resd_bench.reproduce import own_experiments
from resd_bench.reproduce.match_records import Gathered
from resd_bench.sweep.definition import load_sweep
from tests.places import ROOT
from tests.reproduce.test_reproduce import a_run


def checked(run: RunData, exchanged: float, left: list[float]) -> RunData:
    """A run of two updates with ten reflections each."""
    rows = [
        {
            "update": update,
            "resd/reflections": 10.0,
            "resd/exchanged_reflections": 10 * exchanged,
            "resd/seeded_entries": count,
        }
        for update, count in enumerate(left, 1)
    ]
    return replace(run, metrics=rows)


def test_the_page_shows_what_was_exchanged_and_what_is_left_of_given_lessons() -> None:
    trials = [
        trial
        for trial in load_sweep(ROOT / "runs/nano/lies.yaml").trials
        if (trial.config.env, trial.config.model) == ("finer", "nano")
    ]
    runs = {}
    for trial in trials:
        lies = float(trial.config.method_options.get("lies", 0.0))
        run = a_run("resd", trial.config.seed, [0.0, 0.9 - 0.6 * lies], env="finer")
        runs[trial.index] = checked(run, lies, [8.0, 8 - 6 * lies])
    page = own_experiments.lies(Gathered(trials, runs))
    rows = {(row["playbook"], row["lies"]): row for row in page.rows}
    assert len(rows) == 9
    assert {start for start, _ in rows} == {"empty", "right", "wrong"}
    assert rows["wrong", 0.5]["exchanged"] == "50.0%"
    assert rows["wrong", 1.0]["left"] == "8.0 to 2.0"
    assert rows["empty", 1.0]["verdict"] == "worse"
    assert rows["right", 0.0]["verdict"] != "worse"
    assert page.draw is not None
    assert isinstance(page.draw(), Figure)


def test_files_of_the_sweep_exist_and_are_of_its_environment() -> None:
    for trial in load_sweep(ROOT / "runs/nano/lies.yaml").trials:
        options = trial.config.method_options
        named = [options[key] for key in ("lies_file", "seed_playbook") if options[key]]
        assert all((ROOT / name).is_file() and trial.config.env in name for name in named)
        assert bool(options["lies"]) == bool(options["lies_file"])
