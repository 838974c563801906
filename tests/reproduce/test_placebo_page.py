"""The placebo page: verdicts by method and text, cells, and the check of the manipulation."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from resd_bench.config import RunConfig
from resd_bench.records.runs import RunData
from resd_bench.reproduce import placebo
from resd_bench.reproduce.match_records import Gathered, family
from resd_bench.stats import EvalPoint
from resd_bench.sweep.definition import Trial, load_sweep
from tests.places import ROOT

ENVS, MODELS = ("finer", "manufactoria-has"), ("nano", "nano-rarest")


def a_run(
    env: str,
    model: str,
    seed: int,
    wins: int,
    equal: float | None,
    filler: float = 0.0,
    length: float = 0.9,
) -> RunData:
    """Of 40 tasks `wins` (and the seed) are solved after the last update, none before."""
    points = []
    for update, won in ((0, 0), (40, wins + seed % 3)):
        success = tuple((float(i < won),) for i in range(40))
        tasks = tuple(f"t{i}" for i in range(40))
        points.append(EvalPoint(update, 32 * update, 0, success, success, 0, 0.0, 0.0, tasks))
    row: dict[str, float] = {"update": 1}
    if equal is not None:
        row |= {"placebo/equal_by_chance": equal, "placebo/blank": filler}
        row |= {"placebo/length_ratio": length}
    settings = {"env": env, "method": "m", "model": model, "seed": seed}
    return RunData(Path(f"seed-{seed}"), settings, [row], points, {"state": "finished"})


def gathered(
    wins: dict[str, int], equal: float | None = 0.25, filler: float = 0.0, where: str = ""
) -> Gathered:
    """Runs with the check `equal` and `filler`, in every environment or in `where`."""
    trials, runs = list[Trial](), dict[int, RunData]()
    for variant, won in wins.items():
        for env in ENVS:
            for model in MODELS:
                for seed in range(5):
                    config = replace(RunConfig(), env=env, model=model, seed=seed)
                    trials.append(Trial(len(trials), variant, config))
                    told = (equal, filler) if where in ("", env) else (0.25, 0.0)
                    checked = told if "feedback" in variant else (None, 0.0)
                    runs[len(trials) - 1] = a_run(env, model, seed, won, *checked)
    return Gathered(trials, runs)


WINS = {"resd": 30, "resd-shuffled-feedback": 30, "resd-blank-feedback": 20}
WINS |= {"sdpo+ss": 20, "sdpo+ss-shuffled-feedback": 10, "sdpo+ss-blank-feedback": 10}


def test_content_matters_does_not_or_was_not_run() -> None:
    page = placebo.placebo(gathered(WINS))
    found = {(row["method"], row["text"]): row for row in page.rows}
    assert found["resd", "feedback"]["against shuffled"] == "does not matter"
    assert found["resd", "feedback"]["against blank"] == "matters"
    assert found["sdpo+ss", "feedback"]["against shuffled"] == "matters"
    assert found["sdpo+ss", "feedback"]["real - shuffled"] == 12.5
    assert found["resd", "playbook"]["against shuffled"] == "not run"
    assert next(iter(page.tables[0].columns[2].cells)) == "20"
    assert page.draw is not None
    page.draw()


@pytest.mark.parametrize(
    ("equal", "filler", "share"), [(0.6, 0.0, "40%"), (0.3, 0.3, "40%"), (None, 0.0, "0%")]
)
def test_where_little_was_replaced_there_is_no_verdict(
    equal: float | None, filler: float, share: str
) -> None:
    """Most texts equal, most replaced by filler for want of another, or no text at all."""
    rows = placebo.placebo(gathered(WINS, equal, filler, where="finer")).rows
    found = {(row["method"], row["text"]): row for row in rows}
    for method in ("resd", "sdpo+ss"):
        told = found[method, "feedback"]["against shuffled"]
        assert told == f"not judged: {share} of the texts replaced on finer, nano"
    # Filler is what a blank text is meant to be.
    blank = found["resd", "feedback"]["against blank"]
    assert (blank == "matters") == (filler > 0)


def test_texts_of_another_length_get_no_verdict() -> None:
    made = gathered(WINS)
    runs = {
        index: replace(run, metrics=[{**run.metrics[0], "placebo/length_ratio": 0.4}])
        for index, run in made.runs.items()
        if "shuffled" in made.trials[index].variant and run.settings["env"] == "finer"
    }
    made = replace(made, runs={**made.runs, **runs})
    found = {(row["method"], row["text"]): row for row in placebo.placebo(made).rows}
    told = found["resd", "feedback"]["against shuffled"]
    assert told == "not judged: texts of 40% of the real one's length on finer, nano"
    assert found["resd", "feedback"]["against blank"] == "matters"


def test_every_cell_says_how_much_was_exchanged() -> None:
    page = placebo.placebo(gathered(WINS))
    columns = [list(column.cells) for column in page.tables[1].columns]
    rows = [
        {"method": row[0], "text": row[1], "shown": row[4], "equal": row[7]}
        for row in zip(*columns, strict=True)
    ]
    own = [row for row in rows if row["method"] == "resd" and row["text"] == "feedback"]
    assert len(own) == 4 * 3
    assert {row["equal"] for row in own if row["shown"] == "shuffled"} == {"0.25"}
    assert {row["equal"] for row in own if row["shown"] == "real"} == {""}


def test_the_sweep_has_a_variant_for_every_contrast() -> None:
    """And a variant is what its name says."""
    trials = load_sweep(ROOT / "runs" / "nano" / "placebo.yaml").trials
    assert len(trials) == 260
    names = [family(trial.variant).removesuffix("-real-feedback") for trial in trials]
    by_name = {name: trial.config for name, trial in zip(names, trials, strict=True)}
    for contrast in placebo.CONTRASTS:
        real = by_name[contrast.method]
        for kind in placebo.KINDS:
            own = by_name[contrast.variant(kind)]
            assert own.method == real.method
            if contrast.text == "feedback":
                assert own.feedback == kind
                assert own.method_options == real.method_options
            else:
                option = f"{contrast.text}_shown"
                assert own.method_options == {**real.method_options, option: kind}
        assert real.feedback == "real"
