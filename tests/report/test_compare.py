"""`compare`: verdicts at equal budget, on any axis, of our runs and of other people's JSONL."""

from __future__ import annotations

import csv
import itertools
import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from resd_bench.cli import main
from resd_bench.commands.compare import choose_axis
from resd_bench.errors import UsageError
from resd_bench.records.external import load_rows
from resd_bench.records.find_runs import find_runs
from resd_bench.records.runs import RunData
from resd_bench.report.comparisons import (
    by_environment,
    common_budget,
    compare,
    compare_times,
    group_runs,
    in_common_environments,
    without_repeats,
)
from resd_bench.report.figures import comparison
from resd_bench.report.metric_table import detail_table
from resd_bench.report.tables import (
    amount,
    compare_table,
    duration,
    learning_table,
    table_label,
    unfinished_runs,
)
from resd_bench.stats import EvalPoint, Interval, eval_points

Capture = pytest.CaptureFixture[str]


def rows(
    method: str, seed: int, curve: Iterable[float], *, rng: np.random.Generator, **more: Any
) -> list[dict[str, Any]]:
    """A run of another program: 40 tasks x 4 samples at each of its evaluations."""
    return [
        {
            "task": f"t{task}",
            "sample": sample,
            "success": int(rng.random() < p),
            "episodes": 100 * i,
            "generated_tokens": 5000 * i * (2 if method == "slow" else 1),
            "method": method,
            "seed": seed,
        }
        | more
        for i, p in enumerate(curve)
        for task in range(40)
        for sample in range(4)
    ]


def write(path: Path, lines: Iterable[Mapping[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


@pytest.fixture
def results(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    return write(
        tmp_path / "results.jsonl",
        [
            row
            for seed in range(3)
            for method, curve in (("slow", (0.1, 0.2, 0.3, 0.3)), ("fast", (0.1, 0.6, 0.6, 0.6)))
            for row in rows(method, seed, curve, rng=rng)
        ],
    )


def shown(table: Any) -> str:
    console = Console(width=220, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(table)
    return console.export_text()


def test_other_peoples_results_get_verdicts(results: Path, tmp_path: Path, capsys: Capture) -> None:
    assert main(["compare", str(results), "--out", str(tmp_path / "o"), "--detail"]) == 0
    printed = capsys.readouterr().out
    assert "success at 300 rollouts" in printed
    assert "better" in printed
    metrics = ("beat its own start", "pass@4", "restricted mean", "sign flips", "better than a")
    for metric in metrics:
        assert metric in printed
    with (tmp_path / "o/compare.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 2 * 3 * 4


def test_a_table_names_the_runs_that_are_unfinished_and_where_they_stopped(results: Path) -> None:
    groups = group_runs(find_runs([str(results)]))
    assert unfinished_runs(groups) == "", "what other programs say is not in question"
    slow, fast = groups.values()
    fast[1] = replace(
        fast[1],
        status={"state": "running"},
        settings={**fast[1].settings, "budget": "900ep"},
        metrics=[{"episodes": 300, "update": 5}],
    )
    slow[0] = replace(slow[0], status={"state": "finished"})
    text = unfinished_runs(groups)
    stopped = "running or killed after 300 rollouts (5 updates) of 900ep"
    assert text == f"unfinished: fast on results, seed 1, {stopped}"
    assert text in shown(compare_table(compare(groups, 300), "title", 300, unfinished=text))
    many = [replace(fast[1], settings={**fast[1].settings, "seed": n}) for n in range(9)]
    assert unfinished_runs({"fast": many}).endswith("of 900ep; and 3 more")


def test_budgets_on_another_axis_are_equal_on_that_axis(results: Path) -> None:
    groups = group_runs(find_runs([str(results)]))
    runs = [run for group in groups.values() for run in group]
    assert common_budget(runs, "tokens") == 15_000
    slow, fast = compare(groups, 10_000, "tokens")
    assert slow.success.mean == pytest.approx(0.2, abs=0.06)
    assert fast.success.mean == pytest.approx(0.6, abs=0.06)
    assert fast.verdict == "better"
    assert "success at 10k generated tokens" in shown(
        compare_table([slow, fast], "title", 10_000, "tokens")
    )


def test_areas_and_times_have_verdicts_too(results: Path) -> None:
    groups = group_runs(find_runs([str(results)]))
    slow, fast = compare(groups, 300, measure="area")
    assert slow.success.mean == pytest.approx((0.15 + 0.25 + 0.3) / 3, abs=0.04)
    assert fast.verdict == "better"
    times = compare_times(groups, 300)
    assert [time.reached for time in times] == [0, 3]
    # Three runs against three cannot be told apart by relabelling.
    assert str(times[1].judged).startswith("inconclusive (needs about")
    text = shown(learning_table([slow, fast], times, 300))
    assert ">300 (0/3)" in text
    assert "100 [100, >300] (3/3)" in text


def test_an_axis_that_was_not_recorded_is_refused_with_those_that_were(
    results: Path, capsys: Capture
) -> None:
    assert main(["compare", str(results), "--axis", "flops"]) == 2
    error = capsys.readouterr().err
    assert "does not say the flops of its evaluations" in error
    assert "--axis episodes or tokens" in error


@pytest.mark.parametrize(
    ("axis", "budget", "expected"),
    [
        (None, None, ("episodes", None)),
        (None, "640ep", ("episodes", 640)),
        (None, "2Mtok", ("tokens", 2e6)),
        (None, "3min", ("seconds", 180)),
        ("flops", "1e12", ("flops", 1e12)),
        ("updates", "40upd", ("updates", 40)),
        (None, "5kturn", ("turns", 5_000)),
    ],
)
def test_a_unit_names_its_axis(
    axis: str | None, budget: str | None, expected: tuple[str, float | None]
) -> None:
    assert choose_axis(axis, budget) == expected


@pytest.mark.parametrize(
    ("axis", "budget", "message"),
    [
        ("token", None, "Did you mean 'tokens'"),
        ("flops", "640ep", "is of the axis episodes"),
        (None, "much", "such as 1280ep"),
        (None, "nan", "a number, 0 or more"),
    ],
)
def test_a_budget_that_means_nothing_is_answered(
    axis: str | None, budget: str | None, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        choose_axis(axis, budget)


def test_a_budget_beyond_a_run_is_refused(results: Path, capsys: Capture) -> None:
    assert main(["compare", str(results), "--budget", "301"]) == 2
    assert "give at most 300, or leave out " in capsys.readouterr().err


def test_a_run_that_ends_far_before_the_others_is_named(tmp_path: Path, capsys: Capture) -> None:
    rng = np.random.default_rng(0)
    for name, curve, told in (("most", (0.1, 0.2, 0.3), False), ("toy", (0.1, 0.2), True)):
        lines = [
            row
            for method, own in (("whole", (0.1, 0.2, 0.3, 0.4)), (name, curve))
            for row in rows(method, 0, own, rng=rng)
        ]
        place = write(tmp_path / f"{name}.jsonl", lines)
        assert main(["compare", str(place), "--out", str(tmp_path)]) == 0
        err = capsys.readouterr().err
        assert ("compared at 100 rollouts, where " in err and "others reach 300" in err) == told


GOOD = {"task": "a", "sample": 0, "success": 1, "episodes": 0, "method": "m", "seed": 0}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"task": "a"', r"line 2 is not valid JSON \("),
        ("[" * 100_000, r"line 2 is not valid JSON"),
        ('{"success": NaN}', r"line 2 is not valid JSON \(NaN"),
        ("[1]", "line 2 is not a JSON object"),
        ('{"task": "a"}', "line 2 has no 'success'.*give the run folder instead"),
        (GOOD | {"sample": 1, "success": "yes"}, "line 2: 'success' is \"yes\": give 0, 1"),
        (GOOD | {"sample": 1, "success": 2}, "line 2: 'success' is 2: give 0, 1"),
        (GOOD | {"sample": 1, "seed": 1.5}, "line 2: 'seed' is 1.5: give a whole number"),
        (GOOD | {"sample": 1, "seed": 10**400}, "line 2: 'seed' is 1000"),
        (GOOD | {"sample": 1, "episodes": -1}, "line 2: 'episodes' is -1: give a number"),
        (GOOD | {"sample": 1, "episodes": None}, "line 2: 'episodes' is null"),
        (GOOD | {"sample": 1, "method": ""}, "line 2: 'method' is \"\": give a text"),
        (GOOD | {"sample": 1, "task": []}, r"line 2: 'task' is \[\]"),
        (GOOD | {"sample": 1, "split": "train"}, "line 2: 'split' is \"train\""),
        (GOOD, "line 2 repeats line 1"),
        (GOOD | {"sample": 1, "seconds": 3.5}, "line 2 and line 1 are of one checkpoint"),
    ],
)
def test_a_line_that_does_not_fit_is_named(
    tmp_path: Path, line: str | Mapping[str, Any], message: str
) -> None:
    text = line if isinstance(line, str) else json.dumps(line)
    path = tmp_path / "r.jsonl"
    path.write_text(json.dumps(GOOD) + "\n" + text + "\n")
    with pytest.raises(UsageError, match="(?s)r.jsonl " + message):
        load_rows(path)


def test_totals_that_fall_are_refused(tmp_path: Path) -> None:
    later = GOOD | {"update": 2, "episodes": 10}
    path = write(tmp_path / "r.jsonl", [GOOD | {"update": 3}, later])
    with pytest.raises(UsageError, match="episodes decreases while the update increases"):
        load_rows(path)
    with pytest.raises(UsageError, match="has no rows"):
        load_rows(write(tmp_path / "empty.jsonl", []))


def test_optional_columns_have_defaults(tmp_path: Path) -> None:
    lines = [
        {k: v for k, v in GOOD.items() if k != "sample"} | {"success": s} for s in (True, None)
    ]
    validation = GOOD | {"split": "validation", "success": 0.25, "unknown": 1}
    (run,) = load_rows(write(tmp_path / "mine.jsonl", [*lines, validation]))
    assert (run.env, run.setting, run.method, run.seed) == ("mine", "mine", "m", 0)
    assert run.lacks == {"updates", "tokens", "seconds", "flops", "turns"}
    assert (run.points[0].success, run.points[0].errors) == (((1.0,),), 1)
    assert run.validation[0].mean == 0.25


def test_hostile_names_neither_break_the_table_nor_the_figure(
    tmp_path: Path, capsys: Capture
) -> None:
    rng = np.random.default_rng(1)
    names = ["[/bold]$\\frac$", "\ud800\x1b[31m" + "x" * 500]
    lines = [row for name in names for row in rows(name, 0, (0.1, 0.2), rng=rng)]
    path = write(tmp_path / "r.jsonl", lines)
    assert main(["compare", str(path), "--out", str(tmp_path), "--detail"]) == 0
    assert "[/bold]" in capsys.readouterr().out
    assert len(table_label("x" * 500)) == 240


def test_a_log_of_a_run_folder_stands_for_the_run(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("env: e\nmethod: m\nmodel: nano\nseed: 4\n")
    eval_row = {k: GOOD[k] for k in ("task", "sample", "success", "episodes")}
    write(tmp_path / "evals.jsonl", [eval_row | {"update": 0, "generated_tokens": 0, "score": 1}])
    (run,) = find_runs([str(tmp_path / "*.jsonl")])
    assert (run.seed, run.folder) == (4, tmp_path)


def run_of(method: str, seed: int, curve: Iterable[float], env: str = "e", **more: Any) -> RunData:
    points = [
        EvalPoint(
            4 * i,
            100 * i,
            1000 * i,
            tuple((1.0,) if t < round(100 * p) else (0.0,) for t in range(100)),
            (),
            seconds=10.0 * i,
            flops=1e9 * i,
        )
        for i, p in enumerate(curve)
    ]
    settings = {"env": env, "method": method, "model": "nano", "seed": seed} | more
    return RunData(Path(f"{env}-{method}-{seed}"), settings, [], points, {})


def test_environments_are_pooled_and_count_alike() -> None:
    noise = (-0.02, 0.0, 0.02)
    runs = [
        run_of(method, s, (0.0, base + gain * (method == "b") + noise[s]), env, dialect=env)
        for env, base in (("easy", 0.5), ("hard", 0.1))
        for method, gain in (("a", 0.0), ("b", 0.3))
        for s in range(3)
    ]
    groups = group_runs(runs)
    assert list(groups) == ["a", "b"]
    a, b = compare(groups, 100)
    assert a.success.mean == pytest.approx(0.3)
    assert a.success.high < 0.4
    assert (b.verdict, b.difference and b.difference.n) == ("better", 6)


@pytest.mark.slow
def test_environments_that_not_all_groups_have_are_left_out(tmp_path: Path) -> None:
    runs = [run_of("a", 0, (0.0, 0.1)), run_of("a", 0, (0.0, 0.9), "f"), run_of("b", 0, (0.0, 0.1))]
    groups = in_common_environments(group_runs(runs))
    assert [run.env for group in groups.values() for run in group] == ["e", "e"]
    with pytest.raises(UsageError, match="no environment is common to all groups"):
        in_common_environments(group_runs(runs[1:]))
    assert comparison(group_runs(runs), "two environments", tmp_path / "c", "flops")[0].exists()


def test_of_a_run_and_its_repeats_the_one_that_got_furthest_is_compared() -> None:
    short, long, again = (run_of("a", 0, curve) for curve in ((0.0,), (0.0, 0.5), (0.0, 0.5)))
    other, elsewhere = run_of("a", 1, (0.0,)), run_of("a", 0, (0.0,), "f")
    kept, repeats = without_repeats([short, long, again, other, elsewhere])
    assert [id(run) for run in kept] == [id(run) for run in (long, other, elsewhere)]
    assert [(id(run), id(of)) for run, of in repeats] == [
        (id(short), id(long)),
        (id(again), id(long)),
    ]
    assert group_runs(kept) == {"a": kept}


def test_groups_without_a_common_environment_are_compared_in_each(
    tmp_path: Path, capsys: Capture
) -> None:
    rng = np.random.default_rng(0)
    lines = [
        row
        for method, env in (("a", "e"), ("b", "e"), ("b", "f"), ("c", "f"))
        for row in rows(method, 0, (0.0, 0.5), rng=rng, env=env)
    ]
    place = write(tmp_path / "runs.jsonl", lines)
    parts = by_environment(group_runs(find_runs([str(place)])))
    assert {env: list(groups) for env, groups in parts.items()} == {
        "e": ["a", "b"],
        "f": ["b", "c"],
    }
    assert main(["compare", str(place), "--out", str(tmp_path)]) == 0
    printed = capsys.readouterr()
    assert printed.err.startswith("no environment is common to all groups")
    assert printed.out.count("success at 100 rollouts") == 2
    for env in "ef":
        assert (tmp_path / f"compare-{env}.png").exists()
        assert (tmp_path / f"compare-{env}.csv").exists()


def test_groups_of_several_models_are_compared_within_each(tmp_path: Path, capsys: Capture) -> None:
    rng = np.random.default_rng(0)
    lines = [
        row
        for model, method in itertools.product(("x/one", "y/two"), ("a", "b"))
        for row in rows(method, 0, (0.0, 0.5), rng=rng, env="e", model=model)
    ]
    place = write(
        tmp_path / "runs.jsonl", [*lines, *rows("c", 0, (0, 1), rng=rng, env="e", model="y/two")]
    )
    command = ["compare", str(place), "--out", str(tmp_path)]
    assert main([*command, "--baseline", "b"]) == 0
    printed = capsys.readouterr()
    assert "the groups are of several models" in printed.err
    assert printed.out.count("verdict: not judged") == 0
    assert {path.name for path in tmp_path.glob("compare*.csv")} == {
        "compare-one.csv",
        "compare-two.csv",
    }
    # A method that one model lacks is the baseline of the other alone.
    assert main([*command, "--baseline", "c"]) == 0
    assert "difference to c" in capsys.readouterr().out
    assert main([*command, "--baseline", "d"]) == 2
    capsys.readouterr()
    assert main([*command, "--varies", "model"]) == 0
    assert "several models" not in capsys.readouterr().err
    assert (tmp_path / "compare.csv").exists()


def test_success_from_before_training_is_not_compared_with_success_after_some(
    tmp_path: Path, capsys: Capture
) -> None:
    rng = np.random.default_rng(0)
    often = [row for s in range(3) for row in rows("often", s, (0.0, 0.4, 0.8), rng=rng)]
    seldom = [row for s in range(3) for row in rows("seldom", s, (0.0, 0.4, 0.8), rng=rng)]
    same = [r | {"method": "same"} for s in range(3) for r in rows("x", s, (0.1,), rng=rng)]
    same += [r | {"episodes": 200, "generated_tokens": 9} for r in same]
    place = write(
        tmp_path / "r.jsonl", [*often, *(r for r in seldom if r["episodes"] != 100), *same]
    )
    command = ["compare", str(place), "--out", str(tmp_path), "--budget"]
    assert main([*command, "100"]) == 0
    at_100 = capsys.readouterr().out
    first = at_100[: at_100.index("area")]
    assert first.count("not judged") == 1
    assert "seldom was evaluated before training and next after 200 episodes" in " ".join(
        first.split()
    )
    assert main([*command, "200"]) == 0
    at_200 = capsys.readouterr().out
    assert "not judged" not in at_200[: at_200.index("area")]


def test_runs_on_other_numbers_of_tasks_are_compared_on_those_in_common(
    tmp_path: Path, capsys: Capture
) -> None:
    rng = np.random.default_rng(0)
    # Four easy tasks, and 36 that nobody solves: the few are the easy ones.
    all_tasks = [
        row | {"success": int(int(row["task"][1:]) < 4)}
        for seed in range(3)
        for row in rows("all", seed, (0.0, 0.0), rng=rng)
    ]
    few = [row | {"method": "few"} for row in all_tasks if int(row["task"][1:]) < 4]
    place = write(tmp_path / "r.jsonl", [*all_tasks, *few])
    command = ["compare", str(place), "--out", str(tmp_path)]
    assert main(command) == 0
    assert "not judged" in capsys.readouterr().out
    assert main([*command, "--varies", "eval_tasks"]) == 0
    assert "over the tasks that both groups were evaluated on" in capsys.readouterr().err
    groups = group_runs(find_runs([str(place)]))
    for varies, wanted in ((frozenset({"evaluated tasks"}), 0.0), (frozenset(), None)):
        row = compare(groups, 100, varies=varies)[1]
        assert row.success.mean == 1.0
        assert (None if row.difference is None else row.difference.mean) == wanted


def test_models_of_one_name_keep_files_of_their_own(tmp_path: Path, capsys: Capture) -> None:
    rng = np.random.default_rng(0)
    lines = [
        row
        for model in ("x/same", "y/same")
        for row in rows("a", 0, (0.0, 0.5), rng=rng, env="e", model=model)
    ]
    place = write(tmp_path / "runs.jsonl", lines)
    assert main(["compare", str(place), "--out", str(tmp_path)]) == 0
    names = {path.name for path in tmp_path.glob("compare*.csv")}
    assert names == {"compare-x-same.csv", "compare-y-same.csv"}


def test_differences_are_to_the_baseline_that_is_named(
    results: Path, tmp_path: Path, capsys: Capture
) -> None:
    command = ["compare", str(results), "--out", str(tmp_path)]
    for name in ("fast", "slow"):
        assert main([*command, "--baseline", name]) == 0
        assert f"difference to {name}" in capsys.readouterr().out
    assert main([*command, "--baseline", "fsat"]) == 2
    assert "Did you mean 'fast'?" in capsys.readouterr().err


def test_committed_folders_that_hold_repeats_can_be_compared(
    tmp_path: Path, capsys: Capture
) -> None:
    place = Path(__file__).parents[2] / "results/nano/bouncingsim-basic/grpo*/seed-0"
    assert main(["compare", str(place), "--out", str(tmp_path)]) == 0
    printed = capsys.readouterr()
    assert "left out, as runs of the same configuration and seed as others" in printed.err
    assert "batch_size=32" in printed.out


def test_seeds_that_never_succeed_print_the_count_of_one_run() -> None:
    (row,) = compare(group_runs([run_of("a", s, (0.0, 0.0)) for s in range(5)]), 100)
    assert (row.success.mean, row.success.low, row.success.n) == (0, 0, 100)
    assert row.success.high == pytest.approx(0.037, abs=1e-3)
    assert "0/100 (≤3.70%) each" in shown(compare_table([row], "title", 100))


def test_groups_without_a_common_seed_say_so() -> None:
    groups = group_runs([run_of("a", 0, (0.0, 0.1)), run_of("b", 1, (0.0, 0.9))])
    assert "no common seed" in shown(compare_table(compare(groups, 100), "t", 100))


def test_the_checkpoint_chosen_on_validation_is_reported_on_test() -> None:
    runs = []
    for seed in range(2):
        run = run_of("a", seed, (0.0, 0.6, 0.3))
        better_early = run_of("a", seed, (0.0, 0.5, 0.2)).points
        runs.append(replace(run, validation=better_early))
    groups = group_runs(runs)
    text = shown(detail_table(groups, compare(groups, 200), 200))
    assert "validation" in text
    assert "60.0%" in text


@pytest.mark.slow
def test_the_same_method_under_two_names_gets_no_verdict() -> None:
    rng = np.random.default_rng(23)
    words = []
    for _ in range(100):
        runs = [
            run_of(method, seed, (0.0, float(np.clip(rng.normal(0.4, 0.08), 0, 1))))
            for method in ("a", "the same")
            for seed in range(5)
        ]
        words.append(compare(group_runs(runs), 100)[1].verdict)
    assert words.count("inconclusive") >= 94


def test_a_planted_difference_of_twenty_points_gets_one_at_three_seeds() -> None:
    rng = np.random.default_rng(24)
    words = []
    for _ in range(50):
        runs = [
            run_of(method, seed, (0.0, float(rng.normal(p, 0.025))))
            for method, p in (("a", 0.3), ("b", 0.5))
            for seed in range(3)
        ]
        words.append(compare(group_runs(runs), 100)[1].verdict)
    assert words.count("better") >= 45


def test_amounts_and_durations_are_short() -> None:
    assert [amount(x) for x in (640, 15_000, 2_660_000, 2.66e13)] == [
        "640",
        "15k",
        "2.66M",
        "26.6T",
    ]
    inf = float("inf")
    assert duration(Interval(512, 320, inf, 5), 1280) == "512 [320, >1280]"
    assert duration(Interval(inf, 900, inf, 5), 1280) == ">1280 [900, …]"
    assert duration(Interval(inf, inf, inf, 5), 1280) == ">1280"


def test_what_environments_measure_beside_their_verdicts_is_in_the_detail() -> None:
    runs = []
    for seed in range(2):
        run = run_of("a", seed, (0.0, 0.5))
        measured = {"exhaustive_success": 0.125 + 0.25 * seed}
        points = [replace(point, measured=measured) for point in run.points]
        runs.append(replace(run, points=points))
    groups = group_runs(runs)
    text = shown(detail_table(groups, compare(groups, 100), 100))
    (line,) = [line for line in text.splitlines() if "exhaustive_success" in line]
    assert "25.0%" in line
    assert "exhaustive" not in shown(detail_table(group_runs([run]), compare(groups, 100), 100))


def test_a_column_called_metrics_may_hold_anything() -> None:
    told = [{"n": 1.0}, {"n": 0.0}, {}, "anything", None, {"n": "much"}, 3]
    point = {"update": 0, "episodes": 0, "generated_tokens": 0, "score": 1.0, "success": 1.0}
    lines = [point | {"task": str(n), "metrics": each} for n, each in enumerate(told)]
    assert eval_points(lines)[0].measured == {"n": 0.5}


def test_turns_are_numbers_in_the_detail_and_are_set_against_successes(
    tmp_path: Path,
) -> None:
    point = EvalPoint(
        8, 32, 100, ((1.0, 0.0), (0.0, 0.0)), ((1.0, 0.0),) * 2, 0, 1.0, 1.0, ("a", "b")
    )
    point = replace(point, measured={"turns": 7.5, "wasted_turns": 0.25}, turns=240.0)
    runs = {"m": [RunData(tmp_path, {"env": "e", "method": "m", "seed": 0}, [], [point], {})]}
    table = detail_table(runs, compare(runs, 240, "turns"), 240, "turns")
    names, cells = (list(column.cells) for column in table.columns)
    shown = dict(zip(names, cells, strict=True))
    assert shown["turns (environment)"] == "7.5"
    assert str(shown["wasted_turns (environment)"]).startswith("25.0%")
    assert shown["turns per success"] == "30.0"


def test_long_labels_leave_out_what_most_runs_of_the_method_have() -> None:
    usual: dict[str, Any] = {f"method.setting_number_{i}": 0.5 for i in range(8)}
    changed = [usual | {f"method.setting_number_{i}": 1.0} for i in range(8)]
    settings = [usual, usual | {"method.setting_number_0": 2.0}, *changed]
    runs = [run_of("resd", 0, (0.0, 0.5), **own) for own in settings]
    labels = list(group_runs([*runs, run_of("sft", 0, (0.0, 0.5))]))
    assert len(set(labels)) == len(runs) + 1
    assert labels[:3] == [
        "resd",
        "resd · method.setting_number_0=2.0",
        "resd · method.setting_number_0=1.0",
    ]
    # Short ones say everything.
    first = list(group_runs(runs[:2]))
    assert first == ["resd · method.setting_number_0=0.5", "resd · method.setting_number_0=2.0"]
