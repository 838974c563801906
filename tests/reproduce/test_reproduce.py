"""The paper's cells next to ours: which records count, how verdicts read, what is run."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from resd_bench.cli import main
from resd_bench.commands import sweep
from resd_bench.config import RunConfig, resolve
from resd_bench.errors import UsageError
from resd_bench.jobs.run import run
from resd_bench.packaged_models import packaged_folder
from resd_bench.records.runs import RunData, load_run
from resd_bench.reproduce import (
    by_model,
    experiments,
    learning_curves,
    paper_tables,
    table_cells,
)
from resd_bench.reproduce.match_records import Gathered, Likeness, Records, gather
from resd_bench.reproduce.page import Page
from resd_bench.stats import EvalPoint
from resd_bench.sweep.definition import Trial
from tests.places import ROOT

Capture = pytest.CaptureFixture[str]


def point(update: int, wins: list[list[float]]) -> EvalPoint:
    success = tuple(tuple(own) for own in wins)
    names = tuple(f"t{i}" for i in range(len(wins)))
    return EvalPoint(
        update,
        32 * update,
        100 * update,
        success,
        success,
        0,
        1.0 * update,
        1e9,
        names,
        turns=320.0 * update,
    )


def a_run(method: str, seed: int, means: list[float], *, env: str = "manufactoria-has") -> RunData:
    """A run with ten tasks of four samples at updates 0, 8, ...: `means` in tenths."""
    points = [
        point(8 * u, [[float(i < round(10 * m))] * 4 for i in range(10)])
        for u, m in enumerate(means)
    ]
    settings = {"env": env, "method": method, "model": "nano", "seed": seed}
    metrics = [{"update": u, "seconds": float(u), "policy/loss": 1 / u} for u in range(1, 9)]
    return RunData(Path(f"{method}/seed-{seed}"), settings, metrics, points, {"state": "finished"})


def gathered(runs: dict[str, list[RunData]], config: RunConfig | None = None) -> Gathered:
    trials: list[Trial] = []
    found: dict[int, RunData] = {}
    for variant, own in runs.items():
        for seed, data in enumerate(own):
            base = config or RunConfig(env=data.env)
            trials.append(Trial(len(trials), variant, replace(base, env=data.env, seed=seed)))
            found[trials[-1].index] = data
    return Gathered(trials, found)


@pytest.fixture
def four() -> Gathered:
    """RESD and SDPO in the paper's order, SDPO+ss against it, a base model that is open."""
    means = {
        "base": [0.7, 0.5, 0.7, 0.5],
        "sdpo": [0.2, 0.3, 0.2, 0.2],
        "sdpo+ss": [0.9, 1.0, 1.0, 0.9],
        "resd": [0.6, 0.6, 0.6, 0.6],
    }
    return gathered(
        {k: [a_run(k, seed, [0.0, m]) for seed, m in enumerate(own)] for k, own in means.items()}
    )


def test_a_cell_is_reproduced_contradicted_or_open_by_the_sign_of_the_papers_difference(
    four: Gathered,
) -> None:
    found = paper_tables.environment_cells(four, "table2", "manufactoria-has", "mean", "last")
    assert found["sdpo"].verdict == table_cells.REPRODUCED
    assert found["sdpo+ss"].verdict == table_cells.CONTRADICTED
    assert found["base"].verdict.startswith(table_cells.INCONCLUSIVE)
    assert found["resd"].paper == 35.80
    assert found["sdpo"].ours is not None
    assert found["sdpo"].ours.mean == pytest.approx(0.225)


@pytest.mark.parametrize(
    ("env", "options", "same"),
    [
        ("manufactoria-has", {}, True),
        ("bouncingsim-medium", {}, True),
        ("finer", {"data": "folder"}, True),
        ("finer", {}, False),  # the set that ships is synthetic
        ("bouncingsim-basic", {}, False),
        ("textworld-coin", {}, False),
    ],
)
def test_a_verdict_names_the_paper_only_where_the_tasks_are_the_papers(
    env: str, options: dict[str, str], same: bool
) -> None:
    means = {"resd": [0.0, 0.9], "sdpo": [0.0, 0.1]}
    config = RunConfig(env=env, env_options=options)
    runs = {k: [a_run(k, seed, own, env=env) for seed in range(3)] for k, own in means.items()}
    some = gathered(runs, config)
    cells = paper_tables.environment_cells(some, "table2", env, "mean", "last")
    curves = {row["method"]: row for row in learning_curves.fig7(some).rows}
    word = table_cells.REPRODUCED if same else "worse"
    assert (cells["sdpo"].verdict, curves["sdpo"]["verdict"]) == (word, word)
    assert (cells["resd"].paper is not None) == same
    noted = any(env in note for note in paper_tables.table2(some).notes)
    assert noted == (not same)


# 499 of FiNER's 500 problems are distinct. Problems of manufactoria-has differ in their number of
# test cases, so those shares can be any.
TASKS = {"manufactoria-has": 132, "bouncingsim-easy": 100, "bouncingsim-medium": 100, "finer": 499}
CASES = {"bouncingsim-easy": 1500, "bouncingsim-medium": 1500, "finer": 1996}


def is_a_share(percent: float, count: int) -> bool:
    """Whether `percent`, rounded to two decimals, is a whole number out of `count`."""
    return round(round(percent * count / 100) * 100 / count, 2) == percent


def test_every_number_of_the_paper_is_a_share_of_its_tasks_or_cases() -> None:
    """Which a number copied wrongly seldom is."""
    two, three = paper_tables.paper()["table2"], paper_tables.paper()["table3"]
    for rows, counts in (
        (two["per_task"], TASKS),
        (two["per_test_case"], CASES),
        (three["per_test_case"], CASES),
    ):
        for env, (mean, best) in (cell for row in rows.values() for cell in row.items()):
            assert 0 <= mean <= best <= 100
            assert env not in counts or is_a_share(mean, 4 * counts[env]), (env, mean)
            assert env not in counts or is_a_share(best, counts[env]), (env, best)
    for name, (_, _, mean, best) in paper_tables.paper()["table5"].items():
        assert name == "metrics" or (is_a_share(mean, 400) and is_a_share(best, 100)), name


def test_tables_2_and_3_of_the_paper_agree_on_resd() -> None:
    full = paper_tables.paper()["table2"]["per_test_case"]["resd"]
    assert paper_tables.paper()["table3"]["per_test_case"]["resd"].items() <= full.items()


def test_the_three_rules_choose_three_checkpoints() -> None:
    data = a_run("resd", 0, [0.0, 0.8, 0.4, 0.5])
    validation = [point(u, [[float(u == 16)] * 4] * 5) for u in (0, 8, 16, 24)]
    data = replace(data, validation=validation)
    chosen = {rule: table_cells.choose_point(data, rule) for rule in table_cells.RULES}
    updates = {rule: found.update for rule, found in chosen.items() if found is not None}
    assert updates == {"last": 24, "validation": 16, "paper": 8}
    assert table_cells.choose_point(replace(data, validation=()), "validation") is None


def test_without_records_every_cell_is_not_run_and_the_paper_still_stands_there() -> None:
    trials = [Trial(0, "resd", RunConfig()), Trial(1, "sdpo", RunConfig(method="sdpo"))]
    page = paper_tables.table2(Gathered(trials, {}))
    assert {row["verdict"] for row in page.rows if row["method"] == "sdpo"} == {table_cells.NOT_RUN}
    assert page.rows[0]["paper"] == 35.80
    for one in experiments.EXPERIMENTS:
        assert isinstance(one.make(Gathered(trials, {})), Page)


@pytest.mark.slow
def test_every_page_is_made_and_saved_from_records(four: Gathered, tmp_path: Path) -> None:
    for one in experiments.EXPERIMENTS:
        page = one.make(four)
        files = {path.name for path in page.save(tmp_path / one.name, "a command")}
        assert f"{page.name}.md" in files
        assert "a command" in (tmp_path / one.name / f"{page.name}.md").read_text()
        assert page.draw is None or f"{page.name}.png" in files


def test_rows_of_a_page_say_what_the_table_says(four: Gathered, tmp_path: Path) -> None:
    page = paper_tables.table2(four)
    page.save(tmp_path, "")
    with (tmp_path / "table2.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 4 * 4 * 3
    resd = next(
        r for r in rows if (r["method"], r["metric"], r["rule"]) == ("resd", "mean", "last")
    )
    assert float(resd["paper"]) == 35.8
    assert float(resd["ours"]) == pytest.approx(60.0)


def with_samples(found: Gathered, count: int) -> Gathered:
    """The same runs, of whose samples of a task only so many are kept."""

    def fewer(point: EvalPoint) -> EvalPoint:
        kept = tuple(task[:count] for task in point.success)
        return replace(point, success=kept, score=kept)

    return Gathered(
        found.trials,
        {i: replace(run, points=[*map(fewer, run.points)]) for i, run in found.runs.items()},
    )


def test_tables_are_named_after_the_samples_that_the_records_have(four: Gathered) -> None:
    one = with_samples(four, 1)
    mixed = Gathered(four.trials, {**four.runs, 0: one.runs[0]})

    def titles(found: Gathered) -> list[str]:
        return [str(made.title) for made in paper_tables.table2(found).tables]

    assert [title.endswith("@4") for title in titles(four)] == [True] * 4
    assert titles(one) == ["per task, mean@1", "per test case, mean@1"]
    assert titles(mixed)[0] == "per task, mean@1 or 4"


def test_a_duel_is_fought_at_what_the_smaller_side_had_spent() -> None:
    long = [a_run("resd", seed, [0.0, 0.2, 0.9]) for seed in range(3)]
    short = [a_run("sft", seed, [0.0, 1.0]) for seed in range(3)]
    duel = learning_curves.at_equal({"resd": long, "sft": short}, "episodes")["sft"]
    assert (duel.budget, duel.own.mean) == (256, 1.0)
    assert duel.resd.mean == pytest.approx(0.2)
    assert duel.verdict.word == "better"


def test_a_page_of_curves_gives_the_area_and_the_end() -> None:
    means = {"resd": [0.0, 0.2, 0.8], "sdpo": [0.0, 0.1, 0.1]}
    runs = {k: [a_run(k, seed, own) for seed in range(3)] for k, own in means.items()}
    some = gathered(runs)
    missing = Trial(len(some.trials), "sdpo+ss", RunConfig(method="sdpo+ss"))
    page = learning_curves.fig7(replace(some, trials=[*some.trials, missing]))
    rows = {row["method"]: row for row in page.rows}
    assert rows["resd"]["ours"] == pytest.approx(30.0)
    assert rows["resd"]["last ours"] == pytest.approx(80.0)
    assert (rows["sdpo"]["last ours"], rows["sdpo"]["verdict"]) == (10.0, table_cells.REPRODUCED)
    assert (rows["sdpo+ss"]["last ours"], rows["sdpo+ss"]["verdict"]) == ("", table_cells.NOT_RUN)


def test_a_method_that_reads_no_feedback_stands_for_all_levels() -> None:
    place = by_model.PhaseRow("manufactoria-has", "nano")

    def at(method: str) -> list[int]:
        config = RunConfig(method=method, feedback_level=3)
        found = by_model.by_cell(gathered({method: [a_run(method, 0, [0.0, 0.5])]}, config))
        return [len(found.get((place, method, level), [])) for level in by_model.RARITY_LEVELS]

    assert at("sft") == [1, 1, 1, 1, 1]
    assert at("resd") == [0, 0, 0, 1, 0]


def test_rows_of_a_phase_diagram_go_from_common_to_rare_success(tmp_path: Path) -> None:
    starts = {"nano-rare": 0.1, "nano-common": 0.5, "nano": 0.3}
    found = [
        gathered({"resd": [a_run("resd", 0, [p, 0.9])]}, RunConfig(model=model))
        for model, p in starts.items()
    ]
    trials = [replace(one.trials[0], index=i) for i, one in enumerate(found)]
    page = by_model.phase(Gathered(trials, {i: one.runs[0] for i, one in enumerate(found)}))
    page.save(tmp_path, "")
    with (tmp_path / "phase.csv").open() as file:
        models = [row["model"] for row in csv.DictReader(file)]
    assert list(dict.fromkeys(models)) == ["nano-common", "nano", "nano-rare"]


def test_ahead_are_the_highest_mean_and_all_that_are_not_found_worse() -> None:
    means = {
        "sft": [0.9, 1.0, 0.9, 0.9],
        "resd": [0.9, 0.9, 0.9, 0.9],
        "grpo": [0.3, 0.2, 0.3, 0.2],
    }
    runs = {k: [a_run(k, i, [0.0, m]) for i, m in enumerate(own)] for k, own in means.items()}
    config = RunConfig(method="resd", model="nano")
    found = by_model.by_cell(gathered(runs, config))
    place = by_model.PhaseRow("manufactoria-has", "nano")
    level = config.feedback_level
    assert by_model.ahead(found, place, list(means), level) == ["sft", "resd"]
    assert by_model.ahead(found, place, [*means, "base"], level) == []
    assert by_model.ahead(found, place, list(means), level + 1) == []
    few = {"sft": runs["sft"][:1], "resd": runs["resd"], "grpo": runs["grpo"]}
    one_seed = by_model.by_cell(gathered(few, config))
    assert by_model.ahead(one_seed, place, list(means), level) == []


def test_names_of_leaders_fit_their_cells_and_can_be_read_at_800_pixels() -> None:
    names = ["resd", "sdpo+ss", "sdpo+ss-attempt", "sft-phase", "grpo-phase"]
    grids = {name: np.full((2, 5), 0.5) for name in names}
    figure = by_model._draw_phase(grids, [[names] * 5, [[]] * 5], ["finer", "other"])
    figure.canvas.draw()
    leaders, *maps = figure.axes[:6]
    cell = leaders.transData.transform((1, 1)) - leaders.transData.transform((0, 0))
    for text in leaders.texts:
        box = text.get_window_extent()
        assert box.width < abs(cell[0])
        assert box.height < abs(cell[1])
        assert float(text.get_fontsize()) / 72 * 800 / figure.get_figwidth() > 9
    assert [one.get_title() for one in maps] == [*names[:3], "sft", "grpo"]
    without = by_model._draw_phase(grids, [[[]] * 5] * 2, ["finer", "other"])
    assert len(without.axes) == len(figure.axes) - 1


def test_no_leader_is_named_where_nothing_succeeds() -> None:
    means = {"sft": [0.0] * 4, "resd": [0.0] * 4, "grpo": [0.0, 0.5, 0.0, 0.0]}
    runs = {k: [a_run(k, i, [0.0, m]) for i, m in enumerate(own)] for k, own in means.items()}
    config = RunConfig(method="resd", model="nano")
    found = by_model.by_cell(gathered(runs, config))
    place, level = by_model.PhaseRow("manufactoria-has", "nano"), config.feedback_level
    assert by_model.ahead(found, place, ["sft", "resd"], level) == []
    assert by_model.ahead(found, place, list(means), level) == ["grpo"]


def test_a_cell_that_no_trial_asks_for_is_empty_and_one_without_a_run_is_not_run() -> None:
    config = RunConfig(model="nano", feedback_level=2)
    runs = {"resd": [a_run("resd", 0, [0.1, 0.9])]}
    found = gathered(runs, config)
    missing = Trial(1, "resd", replace(config, feedback_level=4))
    page = by_model.phase(Gathered([*found.trials, missing], found.runs))
    shown = {row["feedback_level"]: row["verdict"] for row in page.rows}
    assert shown.keys() == {2, 4}
    [row] = zip(*(column.cells for column in page.tables[0].columns), strict=True)
    assert list(row)[3:] == ["", "", "90.0%", "", table_cells.NOT_RUN, "0 to 1"]


SMALL = {
    "env": "toy-say",
    "method": "toy-learner",
    "model": "scripted",
    "budget": "20ep",
    "batch_size": 5,
    "eval_every": 2,
    "eval_samples": 2,
    "max_new_tokens": 20,
}


def test_a_record_counts_by_its_settings_and_not_by_what_was_measured_besides(
    toy: ModuleType, tmp_path: Path
) -> None:
    config = resolve({**SMALL, "out": str(tmp_path / "anywhere")})
    folder, mine = run(config).folder, Likeness(config)
    assert mine.stands_in_for(Likeness(replace(config, eval_validation=3, eval_every=1)))
    assert not mine.stands_in_for(Likeness(replace(config, eval_samples=4)))
    assert not mine.stands_in_for(Likeness(replace(config, eval_contexts=True)))
    assert not mine.stands_in_for(Likeness(replace(config, eval_also="toy-count")))
    # A record that is older than hashes.
    (folder / "status.json").write_text(json.dumps({"state": "finished"}))
    made = folder / "manifest.json"
    made.write_text(json.dumps(json.loads(made.read_text()) | {"weights_sha256": None}))
    records = Records.scan([tmp_path])
    assert records.of(replace(config, seed=1)) is None
    found = records.of(config)
    assert found is not None
    assert found.folder == folder
    [trial] = [Trial(0, "plain", config)]
    assert gather([trial], records).missing == []


def test_a_record_counts_where_its_model_is_not_there_and_not_where_it_has_other_weights(
    toy: ModuleType, tmp_path: Path
) -> None:
    model = shutil.copytree(packaged_folder("nano"), tmp_path / "made")
    config = resolve({**SMALL, "model": str(model), "out": str(tmp_path / "runs")})
    run(config)
    assert Records.scan([tmp_path]).of(config) is not None
    model.rename(tmp_path / "elsewhere")
    assert Records.scan([tmp_path]).of(config) is not None
    shutil.copytree(packaged_folder("nano-rare"), model)
    assert Records.scan([tmp_path]).of(config) is None


def test_of_several_records_the_one_that_was_evaluated_alike_counts(
    toy: ModuleType, tmp_path: Path
) -> None:
    config = resolve({**SMALL, "out": str(tmp_path / "a")})
    plain = run(config).folder
    validated = replace(config, eval_validation=3, out=str(tmp_path / "b"))
    also = run(validated).folder
    records = Records.scan([tmp_path])
    for wanted, folder in ((config, plain), (validated, also)):
        found = records.of(wanted)
        assert found is not None
        assert found.folder == folder
    assert len(records.of(validated).validation) > 0  # type: ignore[union-attr]


def test_what_is_missing_is_run_and_nothing_else(
    toy: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    runs = tmp_path / "runs"
    runs.mkdir()
    out = tmp_path / "out"
    base = json.dumps({k: v for k, v in SMALL.items() if k not in ("env", "method")})
    text = f"out: {out}\nbase: {base}\nvariants: {{resd: {{method: toy-learner}}}}\n"
    (runs / "table2.yaml").write_text(text + "grid: {env: [toy-say], seed: 0-2}\n")
    started: list[int] = []

    def run_here(name: str, trials: list[Trial], *rest: object) -> tuple[int, list[object]]:
        for trial in trials:
            started.append(trial.config.seed)
            run(trial.config)
        return 0, []

    monkeypatch.setattr(sweep, "run_sweep", run_here)
    pages = tmp_path / "pages"
    arguments = ["reproduce", "table2", "--runs", str(runs), "--records", str(tmp_path / "none")]
    arguments += ["--out", str(pages)]
    assert main([*arguments, "--no-run"]) == 0
    assert started == []
    assert "not run" in capsys.readouterr().out
    assert main(arguments) == 0
    assert started == [0, 1, 2]
    before = (pages / "table2.csv").read_bytes()
    shutil.rmtree(out / "resd/toy-say/toy-learner/seed-1")
    assert main(arguments) == 0
    assert started == [0, 1, 2, 1]
    assert (pages / "table2.csv").read_bytes() == before


def test_unknown_names_are_answered_with_the_nearest() -> None:
    with pytest.raises(UsageError, match="Did you mean 'budgets'"):
        experiments.choose_experiments(["budget"])
    assert {one.name for one in experiments.choose_experiments(["all"])} >= {
        "table2",
        "table5",
        "fig8",
    }


@pytest.mark.slow
def test_sweeps_of_the_small_tier_exist_and_are_what_experiments_need() -> None:
    from resd_bench.sweep.definition import load_sweep

    folder = ROOT / "runs" / "nano"
    for one in experiments.EXPERIMENTS:
        variants = {trial.variant for trial in load_sweep(folder / f"{one.sweep}.yaml").trials}
        assert set(one.variants) <= variants, one.name


def test_runs_of_the_real_model_are_alike_and_are_not_started_unless_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    from resd_bench.sweep.definition import load_sweep

    trials = load_sweep(ROOT / "runs/smollm2/table2.yaml").trials
    (table,) = experiments.choose_experiments(["table2"])
    assert {trial.variant for trial in trials} <= set(table.variants)
    alike = {
        (c.model, c.env, c.budget, c.batch_size * (c.group_size or 0), c.lora_rank, c.learning_rate)
        for c in (trial.config for trial in trials)
    }
    assert len(alike) == 1
    monkeypatch.setattr(sweep, "run_sweep", lambda *given: pytest.fail("a run was started"))
    monkeypatch.chdir(tmp_path)
    arguments = ["reproduce", "table2", "--tier", "smollm2", "--records", str(tmp_path / "none")]
    assert main([*arguments, "--out", str(tmp_path)]) == 0
    assert "not run" in capsys.readouterr().out
    assert "--tier smollm2" in (tmp_path / "table2.md").read_text()


def test_percentages_of_a_cell_without_runs_are_blank() -> None:
    row = table_cells.Cell(1.0, None, table_cells.NOT_RUN).row()
    assert (row["ours"], row["low"], row["paper"]) == ("", "", 1.0)
    assert table_cells.verdicts({"resd": []}, "resd") == {}


def test_validation_and_other_panels_are_on_record_and_change_nothing(
    toy: ModuleType, tmp_path: Path
) -> None:
    config = resolve({**SMALL, "out": str(tmp_path / "plain")})
    more = replace(config, eval_validation=2, eval_also="toy-count", out=str(tmp_path / "more"))
    plain, rich = (load_run(run(each).folder) for each in (config, more))
    assert [p.success for p in plain.points] == [p.success for p in rich.points]
    assert [len(p.success) for p in rich.validation] == [2, 2, 2]
    assert [p.update for p in rich.extra["env:toy-count"]] == [0, 4]
    spent = [{**row} for data in (plain, rich) for row in data.metrics[-1:]]
    assert spent[0]["generated_tokens"] == spent[1]["generated_tokens"]
    assert spent[0]["evaluation_tokens"] < spent[1]["evaluation_tokens"]
    again = [load_run(d.folder).settings["eval_validation"] for d in (plain, rich)]
    assert again == [0, 2]


@pytest.mark.parametrize("also", ["toy-say", "toy-count,toy-count"])
def test_an_environment_is_evaluated_elsewhere_once_and_not_on_itself(
    toy: ModuleType, tmp_path: Path, also: str
) -> None:
    with pytest.raises(UsageError, match="give other environments than toy-say, once each"):
        run(resolve({**SMALL, "out": str(tmp_path), "eval_also": also}))


def test_tuned_settings_stand_next_to_default_ones_once_they_are_run(four: Gathered) -> None:
    nothing = Gathered([replace(t, variant=t.variant + "-tuned") for t in four.trials], {})
    page = paper_tables.table2(four)
    rows_before, tables_before = list(page.rows), len(page.tables)
    paper_tables.add_tuned(page, four, nothing)
    assert page.rows == rows_before
    assert len(page.tables) == tables_before

    better = {k: [a_run(k, s, [0.0, m]) for s, m in enumerate(own)] for k, own in TUNED.items()}
    tuned = gathered(better)
    missing = Trial(99, "resd-tuned", tuned.trials[0].config)
    paper_tables.add_tuned(page, four, replace(tuned, trials=[*tuned.trials, missing]))
    added = page.rows[len(rows_before) :]
    assert [row["rule"] for row in added[::2]] == ["last", "validation", "area"]
    areas = {row["method"]: row for row in added[4:]}
    assert areas["sdpo-tuned"]["ours"] == 40, "a straight line from 0 to 80%"
    assert areas["sdpo-tuned"]["verdict"] == "better"
    rows = {row["method"]: row for row in added[:2]}
    assert set(rows) == {"sdpo-tuned", "resd-tuned"}, "base and sdpo+ss have no tuned settings"
    assert rows["sdpo-tuned"]["ours"] == 80
    assert rows["sdpo-tuned"]["verdict"] == "better"
    assert rows["resd-tuned"]["ours"] == ""
    assert rows["resd-tuned"]["verdict"] == table_cells.NOT_RUN
    cells = [list(column.cells) for column in page.tables[-3].columns]
    assert [column[1] for column in cells[:1]] == ["sdpo"]
    assert str(cells[2][1]).startswith("22.5%")
    assert str(cells[3][1]).startswith("80.0%")
    assert cells[3][2] == table_cells.NOT_RUN


TUNED = {"sdpo-tuned": [0.8, 0.8, 0.8, 0.8]}
