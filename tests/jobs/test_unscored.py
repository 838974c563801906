"""Where a mean leaves out attempts without a verdict, the mean with them as failures is given too.

And what would be another verdict with them as failures is none.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import replace
from io import StringIO
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resd_bench.cli import main
from resd_bench.commands.envs.calibrate import rarity_table
from resd_bench.config import RunConfig, resolve
from resd_bench.files.plain_console import PlainConsole
from resd_bench.jobs.difficulty import calibrate
from resd_bench.jobs.run import run
from resd_bench.monitoring.progress_bar import Progress
from resd_bench.records.log_files import read_log
from resd_bench.records.recorder import read_json
from resd_bench.records.runs import RunData, load_run
from resd_bench.report.comparisons import compare, compare_times, group_runs
from resd_bench.reproduce import table_cells
from resd_bench.stats import EvalPoint, eval_points, judge, make_pair
from tests.browser import Reader

Capture = pytest.CaptureFixture[str]
SMALL = {
    **{"env": "toy-flaky", "method": "toy-learner", "model": "scripted", "budget": "20ep"},
    **{"batch_size": 5, "inner_steps": 2, "eval_every": 2, "eval_samples": 2},
    "max_new_tokens": 20,
}


@pytest.fixture
def flaky(toy: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunConfig:
    """A run whose verifier breaks on every wrong answer to some tasks: no failure has a verdict."""
    own = toy.SayEnv.verify

    def verify(self: Any, task: Any, action: str) -> Any:
        found = own(self, task, action)
        if not found.success and task.id[-1] in "024":
            raise RuntimeError("the verifier broke")
        return found

    monkeypatch.setattr(toy.SayEnv, "verify", verify)
    return resolve({**SMALL, "env": "toy-say"}, {"out": str(tmp_path / "out"), "seed": 3})


def by_hand(folder: Path, update: int) -> tuple[float, float]:
    """Success over scored samples, and over all of them."""
    rows = [r for r in read_log(folder / "evals.jsonl") if r["update"] == update]
    scored = [r["success"] for r in rows if r["success"] is not None]
    assert len(scored) < len(rows)
    return sum(scored) / len(scored), sum(scored) / len(rows)


def shown(text: float) -> str:
    return f"{100 * text:.1f}%"


def test_a_runs_summary_and_metrics_say_both(flaky: RunConfig) -> None:
    folder = run(flaky).folder
    summary = read_json(folder / "summary.json")
    scored, counted = by_hand(folder, 4)
    last = summary["last"]
    assert last["per_task_mean@2"] == pytest.approx(scored)
    assert last["with_failures"]["per_task_mean@2"] == pytest.approx(counted)
    low, high = last["with_failures"]["interval_95"]
    assert low <= counted <= high
    areas = [summary[f"auc_success_over_episodes{end}"] for end in ("", "_with_failures")]
    assert areas[0] > areas[1]
    for row in read_log(folder / "metrics.jsonl"):
        attempts = 5
        wins = row["train/success"] or 0
        wins *= attempts - row["train/errors"]
        assert row["train/success_with_failures"] == pytest.approx(wins / attempts)
        assert row["train/score_with_failures"] == pytest.approx(wins / attempts)


def test_the_command_prints_both_after_a_run_and_after_an_evaluation(
    flaky: RunConfig, tmp_path: Path, capsys: Capture
) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(flaky.to_yaml())
    assert main(["run", "--config", str(file)]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    scored, counted = by_hand(flaky.folder(), 4)
    for text in (shown(scored), shown(counted), "with failures", "without verdict"):
        assert text in printed
    assert main(["eval", str(flaky.folder()), "--out", str(tmp_path / "rows.jsonl")]) == 0
    printed = capsys.readouterr().out
    for text in (shown(scored), shown(counted), "with failures"):
        assert text in printed
    assert main(["results", "show", str(tmp_path / "rows.jsonl"), "--markdown"]) == 0
    printed = capsys.readouterr().out
    assert shown(counted) in printed
    assert "with failures" in printed


def test_progress_says_both(flaky: RunConfig) -> None:
    point = eval_points(list(read_log(run(flaky).folder / "evals.jsonl")))[-1]
    console = PlainConsole(file=StringIO(), width=200)
    Progress(flaky, console).evaluated(point)
    said = console.file.getvalue()  # type: ignore[attr-defined]
    for value in by_hand(flaky.folder(), 4):
        assert shown(value) in said


def test_what_is_printed_before_learning_counts_both(flaky: RunConfig) -> None:
    flags = {"model": "scripted", "eval_split": "test", "eval_samples": 8, "max_new_tokens": 20}
    console = PlainConsole(width=220, file=StringIO())
    (found,) = calibrate(["toy-say"], flags)
    console.print(rarity_table([found], "scripted"))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert found.with_failures is not None
    assert found.with_failures.p0.mean < found.p0.mean or found.p0.mean == 0
    assert "with failures" in text


def test_marked_answers_are_summed_up_both_ways(
    toy: ModuleType, tmp_path: Path, capsys: Capture
) -> None:
    path = tmp_path / "answers.jsonl"
    answers = [("test-0", "test0"), ("test-1", "crash"), ("test-2", "crash"), ("test-3", "wrong")]
    path.write_text("".join(json.dumps({"task": t, "answer": a}) + "\n" for t, a in answers))
    assert main(["envs", "score", "toy-crash", str(path)]) == 0
    said = capsys.readouterr().err
    assert "50.0%" in said
    assert "without verdict 2, with them as failures 25.0%" in said


# Comparisons.


def a_run(method: str, seed: int, outcomes: Sequence[Sequence[float | None]]) -> RunData:
    """A run with an evaluation for each of `outcomes`, a task each."""
    rows = [
        {"update": 4 * i, "episodes": 40 * i, "generated_tokens": 0, "task": f"t{t}", "sample": 0}
        | {"success": value, "score": value}
        for i, own in enumerate(outcomes)
        for t, value in enumerate(own)
    ]
    settings = {"env": "e", "method": method, "model": "nano", "seed": seed}
    return RunData(Path(f"{method}-{seed}"), settings, [], eval_points(rows), {})


def outcomes(won: int, lost: int, missing: int) -> list[float | None]:
    return [1.0] * won + [0.0] * lost + [None] * missing


BEFORE = outcomes(2, 18, 0)
DODGES = (BEFORE, outcomes(4, 0, 16), outcomes(4, 0, 16))
"""Four successes of twenty: all failures are made to have no verdict."""
HONEST = (BEFORE, outcomes(10, 10, 0), outcomes(10, 10, 0))


@pytest.fixture
def dodging() -> dict[str, list[RunData]]:
    runs = [a_run(m, s, own) for m, own in (("a", HONEST), ("b", DODGES)) for s in range(5)]
    return group_runs(runs)


def test_a_verdict_that_attempts_without_one_decide_is_none(
    dodging: dict[str, list[RunData]],
) -> None:
    for measure in ("success", "area"):
        _, row = compare(dodging, 80, measure=measure)
        assert row.verdict == "inconclusive"
        assert "attempts without a verdict" in str(row.judged)
        assert row.with_failures is not None
        assert row.with_failures.mean < row.success.mean
    _, time = compare_times(dodging, 80)
    assert time.judged is None or time.judged.word == "inconclusive"


def test_a_verdict_that_stands_either_way_is_given() -> None:
    few = (BEFORE, outcomes(18, 1, 1), outcomes(18, 1, 1))
    runs = [a_run(m, s, own) for m, own in (("a", HONEST), ("b", few)) for s in range(5)]
    assert compare(group_runs(runs), 80)[1].verdict == "better"


def test_compare_prints_both_everywhere(tmp_path: Path, capsys: Capture) -> None:
    rows = [
        {"task": f"t{t}", "success": value, "method": method, "seed": seed, "episodes": 40 * i}
        for method, curve in (("a", HONEST), ("b", DODGES))
        for seed in range(5)
        for i, own in enumerate(curve)
        for t, value in enumerate(own)
    ]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert main(["compare", str(path), "--markdown", "--detail", "--out", str(tmp_path)]) == 0
    text = capsys.readouterr().out
    lines = [line for line in text.splitlines() if line.startswith("| b ")]
    assert len(lines) == 2
    assert all("with failures" in line for line in lines)
    assert "attempts without a verdict (b: 80)" in text
    for metric in ("pass@1", "any of the samples (best)", "beat its own start"):
        line = next(line for line in text.splitlines() if line.startswith(f"| {metric} "))
        assert "with failures" in line, line
    with (tmp_path / "compare.csv").open() as file:
        ends = [row for row in csv.DictReader(file) if row["label"] == "b"]
    assert {row["without_verdict"] for row in ends if row["update"] != "0"} == {"16"}
    assert float(ends[-1]["mean_with_failures"]) == pytest.approx(0.2)


def test_the_report_says_both(flaky: RunConfig, tmp_path: Path) -> None:
    for seed in (3, 4):
        run(replace(flaky, seed=seed))
    page = tmp_path / "report.html"
    assert main(["report", flaky.out, "--out", str(page)]) == 0
    data = json.loads(Reader(page.read_text(encoding="utf-8")).texts_of("script")[0])
    (row,) = data["results"]
    assert row["left_out"] > 0
    assert row["with_failures"]["mean"] < row["success"]["mean"]
    assert all(own["with_failures"] <= own["success"] for own in data["cells"]["runs"])
    assert "with failures" in json.dumps(data["tables"])


def test_pages_of_the_papers_tables_say_both(dodging: dict[str, list[RunData]]) -> None:
    found = table_cells.verdicts(dodging, "a")
    assert found["b"].word == "inconclusive"
    assert "attempts without a verdict" in str(found["b"])
    cell = table_cells.cell_of_runs(dodging["b"], "mean", "last")
    assert "with failures" in cell.shown()
    assert cell.row()["with failures"] == pytest.approx(20.0)
    assert "with failures" not in table_cells.cell_of_runs(dodging["a"], "mean", "last").row()


def test_a_card_of_what_was_trained_says_both(flaky: RunConfig) -> None:
    from resd_bench.jobs.export import _table

    data = load_run(run(flaky).folder)
    lines = list(_table(data.points, data.points[-1].update))
    assert "with failures" in lines[-1]
    assert "without verdict" in lines[-1]


# The numbers.

OUTCOMES = st.lists(
    st.lists(st.sampled_from([0.0, 1.0, None]), min_size=1, max_size=4), min_size=1, max_size=6
)


@given(OUTCOMES)
def test_failures_counted_the_rate_is_the_share_of_all_samples(
    values: list[list[float | None]],
) -> None:
    rows = [
        {"update": 0, "episodes": 0, "generated_tokens": 0, "task": str(t), "sample": s}
        | {"success": value, "score": value}
        for t, own in enumerate(values)
        for s, value in enumerate(own)
    ]
    (point,) = eval_points(rows)
    every = [value or 0.0 for own in values for value in own]
    rate = point.rate()
    assert rate.with_failures.mean == pytest.approx(sum(every) / len(every))
    assert rate.left_out == sum(value is None for own in values for value in own)
    counted = point.with_failures()
    assert counted.best == pytest.approx(
        sum(max(v or 0 for v in own) for own in values) / len(values)
    )
    assert counted.samples == len(every)
    assert not counted.mean > point.mean


def test_errors_of_unknown_tasks_count_too() -> None:
    point = EvalPoint(0, 0, 0, ((1.0,), (1.0,)), ((1.0,), (1.0,)), 2)
    assert point.with_failures().mean == 0.5


def test_equal_evidence_is_judged_once() -> None:
    pairs = {"e": [make_pair({"t": (1.0,)}, {"t": (0.0,)}) for _ in range(5)]}
    assert judge([pairs]) == judge([pairs], with_failures=[pairs])
