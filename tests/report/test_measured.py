"""Only runs that were measured alike are judged; others are named with what differs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from resd_bench.cli import main
from resd_bench.config import RunConfig, flatten, resolve
from resd_bench.errors import UsageError
from resd_bench.records.find_runs import find_runs
from resd_bench.records.runs import RunData, load_run
from resd_bench.report.comparisons import compare, compare_times, group_runs
from resd_bench.report.measured import evaluated_elsewhere
from resd_bench.reproduce import learning_curves, table_cells
from tests.browser import Reader
from tests.vouched import vouch

Capture = pytest.CaptureFixture[str]
HASHES = {name: letter * 64 for name, letter in (("a", "a"), ("b", "b"), ("c", "c"))}


def write_run(
    place: Path,
    *,
    curve: Iterable[float] = (0.1, 0.2, 0.3),
    tasks: int = 20,
    samples: int = 2,
    every: int = 4,
    manifest: Mapping[str, Any] | None = None,
    drop: Iterable[str] = (),
    **settings: Any,
) -> Path:
    """A run folder: at update i * `every`, a share of the tasks is solved in all samples."""
    place.mkdir(parents=True)
    asked = {"method": "sft", "model": "nano", "env": "manufactoria-has", **settings}
    config = yaml.safe_load(resolve(asked).to_yaml())
    for name in drop:
        head, _, tail = name.partition(".")
        del (config["method_options"] if tail else config)[tail or head]
    (place / "config.yaml").write_text(yaml.safe_dump(config))
    facts = {"task_panel_sha256": HASHES["a"], "weights_sha256": HASHES["a"]}
    (place / "manifest.json").write_text(json.dumps({**facts, **(manifest or {})}))
    rows = [
        {"update": every * i, "episodes": 10 * every * i, "generated_tokens": 100 * i}
        | {"task": f"t{t}", "sample": s, "success": float(t < round(p * tasks)), "score": 1.0}
        for i, p in enumerate(curve)
        for t in range(tasks)
        for s in range(samples)
    ]
    (place / "evals.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    updates = [{"update": u, "seconds": u, "flops": u} for u in range(1, every * 2 + 1)]
    (place / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in updates))
    return vouch(place)


BETTER = (0.1, 0.6, 0.9)


def two_methods(
    folder: Path, first: Mapping[str, Any], second: Mapping[str, Any], seeds: int = 4
) -> list[RunData]:
    """Runs of `sft` and better ones of `grpo`, each with settings of its own."""
    for seed in range(seeds):
        write_run(folder / "one" / str(seed), seed=seed, **first)
        other = {"method": "grpo", "curve": BETTER, **second}
        write_run(folder / "two" / str(seed), seed=seed, **other)
    return find_runs([str(folder / "one"), str(folder / "two")])


def word(runs: list[RunData], measure: Any = "success") -> str:
    """The verdict on the second method at the end of all runs."""
    _, second = compare(group_runs(runs), 80, measure=measure)
    return second.verdict


def test_runs_that_were_measured_alike_are_judged(tmp_path: Path) -> None:
    runs = two_methods(tmp_path, {}, {})
    assert (word(runs), word(runs, "area")) == ("better", "better")
    assert str(compare_times(group_runs(runs), 80)[1].judged) == "better"


UNLIKE: Mapping[str, Mapping[str, Any]] = {
    "eval_temperature": {"eval_temperature": 0.6},
    "eval_top_p": {"eval_top_p": 0.5},
    "max_new_tokens": {"max_new_tokens": 64},
    "eval_split": {"eval_split": "validation"},
    "eval_samples": {"eval_samples": 8},
    "eval_tasks": {"eval_tasks": 10},
    "dialect": {"dialect": "full"},
    "feedback_level": {"feedback_level": 5},
    "context_limit": {"context_limit": 4000},
    "thinking": {"thinking": "off"},
    "env.length": {"env_options": {"length": 3}},
    "weights": {"manifest": {"weights_sha256": HASHES["b"]}},
    "tasks": {"manifest": {"task_panel_sha256": HASHES["b"]}},
    "evaluation_seeds": {"manifest": {"seed_streams": {"evaluation": "another rule"}}},
    "evaluated tasks": {"tasks": 21},
    "samples a task": {"samples": 3},
}


@pytest.mark.slow
@pytest.mark.parametrize("what", UNLIKE)
def test_runs_that_were_measured_differently_get_no_verdict_and_the_difference_is_named(
    tmp_path: Path, capsys: Capture, what: str
) -> None:
    first = {"manifest": {"seed_streams": {"evaluation": "a rule"}}}
    runs = two_methods(tmp_path, first, {**first, **UNLIKE[what]})
    assert (word(runs), word(runs, "area")) == ("", "")
    assert compare_times(group_runs(runs), 80)[1].judged is None
    places = [str(tmp_path / name) for name in ("one", "two")]
    assert main(["compare", *places, "--detail", "--markdown", "--out", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert what in printed
    row = next(line for line in printed.splitlines() if line.startswith("| grpo"))
    assert "points" not in row
    assert "better" not in printed.replace("better than", "")


def test_a_difference_in_training_is_what_is_compared(tmp_path: Path) -> None:
    second = {"learning_rate": 0.0, "temperature": 0.5, "batch_size": 4, "weight_decay": 0.5}
    assert word(two_methods(tmp_path, {}, second)) == "better"


@pytest.mark.slow
def test_what_differs_on_purpose_can_be_named(tmp_path: Path, capsys: Capture) -> None:
    model = {"model": "nano-common", "manifest": {"weights_sha256": HASHES["b"]}}
    two_methods(tmp_path, {}, {**model, "feedback_level": 1})
    command = ["compare", *(str(tmp_path / name) for name in ("one", "two")), "--markdown"]
    command += ["--out", str(tmp_path)]
    assert main([*command, "--varies", "model"]) == 0
    assert "| better |" not in capsys.readouterr().out
    assert main([*command, "--varies", "model,feedback-level"]) == 0
    assert "| better |" in capsys.readouterr().out
    assert main([*command, "--varies", "modle"]) == 2
    assert "Did you mean 'model'" in capsys.readouterr().err


def test_one_seed_that_was_measured_differently_spoils_its_group(tmp_path: Path) -> None:
    runs = two_methods(tmp_path, {}, {})
    odd = write_run(tmp_path / "odd", seed=9, curve=BETTER, method="grpo", tasks=21)
    assert word([*runs, load_run(odd)]) == ""


def test_models_of_one_name_and_other_weights_are_not_pooled(tmp_path: Path) -> None:
    runs = two_methods(tmp_path, {}, {})
    other: dict[str, Any] = {"manifest": {"weights_sha256": HASHES["b"]}, "curve": BETTER}
    for seed in (4, 5):
        write_run(tmp_path / "one" / str(seed), seed=seed, **other)
    runs = find_runs([str(tmp_path)])
    groups = group_runs(runs)
    assert [len(group) for group in groups.values()] == [4, 2, 4]
    assert sum("weights=" in label for label in groups) == 2


@pytest.mark.parametrize("name", ["model.weights", "model.commit"])
def test_large_models_and_those_of_the_hub_are_told_apart_by_what_is_known_of_them(
    tmp_path: Path, name: str
) -> None:
    one, two, three = (
        {"manifest": {"weights_sha256": None, "identity": {name: value}}} for value in "xyx"
    )
    assert word(two_methods(tmp_path / "unlike", one, two)) == ""
    assert word(two_methods(tmp_path / "alike", one, three)) == "better"


def test_weights_that_are_not_on_record_are_not_those_that_are(tmp_path: Path) -> None:
    for seed in range(4):
        write_run(tmp_path / "one" / str(seed), seed=seed)
    old = write_run(tmp_path / "old", seed=4, curve=BETTER)
    (old / "manifest.json").write_text(json.dumps({"task_panel_sha256": HASHES["a"]}))
    vouch(old)
    assert len(group_runs(find_runs([str(tmp_path)]))) == 2


def test_equal_weights_under_two_names_are_one_model(tmp_path: Path) -> None:
    copy = tmp_path / "copy of nano"
    copy.mkdir()
    runs = two_methods(tmp_path / "runs", {}, {})
    folder = tmp_path / "runs" / "one" / "9"
    write_run(folder, seed=9)
    settings = yaml.safe_load((folder / "config.yaml").read_text())
    (folder / "config.yaml").write_text(yaml.safe_dump({**settings, "model": str(copy)}))
    vouch(folder)
    groups = group_runs([*runs, load_run(folder)])
    assert [len(group) for group in groups.values()] == [5, 4]


@pytest.mark.parametrize("gained", ["method.buffer_size", "eval_top_p", "trace"])
def test_a_record_from_before_an_option_had_its_default(tmp_path: Path, gained: str) -> None:
    for seed in range(2):
        write_run(tmp_path / "new" / str(seed), seed=seed)
    default = {**flatten({"method_options": {"buffer_size": 64}}), "eval_top_p": 0.95, "trace": 0}
    for seed in (2, 3):
        place = write_run(tmp_path / "old" / str(seed), seed=seed, drop=[gained])
        assert gained.rpartition(".")[2] not in (place / "config.yaml").read_text()
    assert len(group_runs(find_runs([str(tmp_path)]))) == 1, default[gained]


def test_a_record_from_before_an_option_differs_from_another_value_of_it(tmp_path: Path) -> None:
    write_run(tmp_path / "old", seed=0, drop=["method.buffer_size"])
    write_run(tmp_path / "new", seed=1, method_options={"buffer_size": 3})
    assert len(group_runs(find_runs([str(tmp_path)]))) == 2


def test_the_same_number_written_otherwise_is_the_same(tmp_path: Path) -> None:
    runs = two_methods(tmp_path, {}, {})
    path = tmp_path / "one" / "0" / "config.yaml"
    path.write_text(path.read_text().replace("eval_temperature: 1.0", "eval_temperature: 1"))
    vouch(path.parent)
    assert word(find_runs([str(tmp_path / "one"), str(tmp_path / "two")])) == "better"
    assert len(runs) == 8


def test_curves_of_other_grids_are_not_held_against_each_other(tmp_path: Path) -> None:
    """The same learning looks worse by its area where it was evaluated at both ends only."""
    for seed in range(4):
        write_run(tmp_path / "one" / str(seed), seed=seed, curve=(0.0, 0.9, 0.9))
        ends: dict[str, Any] = {"curve": (0.0, 0.9), "every": 8, "eval_every": 0}
        write_run(tmp_path / "two" / str(seed), seed=seed, method="grpo", **ends)
    runs = find_runs([str(tmp_path / "one"), str(tmp_path / "two")])
    assert word(runs) == "inconclusive"
    assert word(runs, "area") == ""
    assert compare_times(group_runs(runs), 80)[1].judged is None


@pytest.mark.parametrize(
    ("updates", "alike"),
    [
        ((0, 4, 8, 12, 16), True),
        ((0, 4, 8, 12, 14), True),  # the budget ends between two evaluations
        ((0, 8, 16, 24, 32), False),
        ((0, 4, 8, 16), False),
        ((0, 4, 12), False),
        ((0, 16), False),
        ((0,), False),
    ],
)
def test_runs_of_one_budget_of_tokens_need_only_be_evaluated_equally_often(
    tmp_path: Path, updates: tuple[int, ...], alike: bool
) -> None:
    """Of two methods one needs twice the tokens for an update, and so gets half as many."""
    write_run(tmp_path / "one", curve=(0.0, 0.5, 0.9), method="sft")
    other = write_run(tmp_path / "two", curve=[0.1] * len(updates), method="grpo")
    rows = [json.loads(line) for line in (other / "evals.jsonl").read_text().splitlines()]
    for row in rows:
        at = updates[row["update"] // 4]
        row |= {"update": at, "episodes": 10 * at, "generated_tokens": 12 * at}
    (other / "evals.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    vouch(other)
    groups = list(group_runs(find_runs([str(tmp_path)])).values())
    told = evaluated_elsewhere(groups, 200, "tokens")
    assert told == [] if alike else "different points" in told[0]
    assert evaluated_elsewhere(groups, 200, "episodes")


def test_seconds_of_other_machines_are_not_held_against_each_other(tmp_path: Path) -> None:
    machines = [{"hardware": {"processor": name, "cores": 2}} for name in ("fast", "slow")]
    runs = two_methods(tmp_path, {"manifest": machines[0]}, {"manifest": machines[1]})
    groups = group_runs(runs)
    assert compare(groups, 8, "seconds")[1].verdict == ""
    assert compare(groups, 80, "episodes")[1].verdict == "better"


def test_runs_that_differ_in_their_budget_alone_are_one_group(tmp_path: Path) -> None:
    for seed in range(3):
        budget = "80ep" if seed else "160ep"
        write_run(tmp_path / str(seed), seed=seed, budget=budget)
    assert len(group_runs(find_runs([str(tmp_path)]))) == 1
    write_run(tmp_path / "again", seed=1, budget="160ep")
    assert len(group_runs(find_runs([str(tmp_path)]))) == 2


def test_other_peoples_rows_of_other_tasks_get_no_verdict(tmp_path: Path, capsys: Capture) -> None:
    rows = [
        {"task": f"{prefix}{t}", "success": float(t < wins), "episodes": 0}
        | {"method": method, "seed": seed}
        for method, prefix, wins in (("a", "t", 2), ("b", "u", 18))
        for seed in range(4)
        for t in range(20)
    ]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert main(["compare", str(path), "--markdown", "--out", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert "| better |" not in printed
    assert "evaluated tasks" in printed


def test_the_report_names_what_was_measured_differently(tmp_path: Path) -> None:
    two_methods(tmp_path, {}, {"eval_temperature": 0.6})
    page = tmp_path / "report.html"
    places = [str(tmp_path / name) for name in ("one", "two")]
    assert main(["report", *places, "--out", str(page)]) == 0
    data = json.loads(Reader(page.read_text(encoding="utf-8")).texts_of("script")[0])
    (row,) = (row for row in data["results"] if row["label"] == "grpo")
    assert (row["verdict"], row["difference"]) == ("", None)
    assert row["unlike"] == ["eval_temperature 1.0 | 0.6"]
    assert data["cells"]["unlike"] == [["sft", "grpo"]]


def test_pages_of_the_paper_judge_only_what_was_measured_alike(tmp_path: Path) -> None:
    two_methods(tmp_path, {}, {"feedback_level": 1})
    groups = {k: find_runs([str(tmp_path / k)]) for k in ("one", "two")}
    (found,) = table_cells.verdicts(groups, "one").values()
    assert table_cells.compare_with_paper(found, 1.0) == (
        "not judged: measured differently: feedback_level 3 | 1"
    )
    (found,) = table_cells.verdicts(groups, "one", varies=["feedback_level"]).values()
    assert table_cells.compare_with_paper(found, 1.0) == table_cells.REPRODUCED
    duel = learning_curves.at_equal({"resd": groups["one"], "sft": groups["two"]}, "episodes")[
        "sft"
    ]
    assert "feedback_level 3 | 1" in str(duel)


def test_a_page_of_two_task_sets_under_one_name_is_not_judged(tmp_path: Path) -> None:
    two_methods(tmp_path, {}, {})
    other: dict[str, Any] = {"manifest": {"task_panel_sha256": HASHES["b"]}}
    write_run(tmp_path / "one" / "9", seed=9, **other)
    groups = {k: find_runs([str(tmp_path / k)]) for k in ("one", "two")}
    (found,) = table_cells.verdicts(groups, "one").values()
    assert "tasks aaaaaaaa | bbbbbbbb" in str(found)


def test_old_manifests_are_said_once_not_to_be_compared(tmp_path: Path, capsys: Capture) -> None:
    two_methods(tmp_path, {}, {})
    command = ["compare", *(str(tmp_path / name) for name in ("one", "two"))]
    assert main([*command, "--out", str(tmp_path)]) == 0
    assert capsys.readouterr().err.count("was not compared") == 1


@pytest.mark.parametrize("name", ["tasks.test", "code.env.manufactoria-has", "model.tokenizer"])
def test_content_that_newer_manifests_hold_is_compared(tmp_path: Path, name: str) -> None:
    one, two = ({"manifest": {"identity": {name: value}}} for value in ("x", "y"))
    assert word(two_methods(tmp_path, one, two)) == ""


def test_code_of_a_method_tells_its_runs_apart(tmp_path: Path) -> None:
    for seed in range(2):
        identity = {"identity": {"code.method": f"version {seed}"}}
        write_run(tmp_path / str(seed), seed=seed, manifest=identity)
    assert len(group_runs(find_runs([str(tmp_path)]))) == 2


@pytest.mark.parametrize("seed", ["abc", "1.5", "true", "[1]"])
def test_a_record_whose_seed_is_no_number_is_named(tmp_path: Path, seed: str) -> None:
    place = write_run(tmp_path / "run", seed=3)
    path = place / "config.yaml"
    path.write_text(path.read_text().replace("seed: 3", f"seed: {seed}"))
    vouch(place)
    with pytest.raises(UsageError, match=r"config.yaml: seed: expected a whole number"):
        load_run(place)


def test_every_setting_is_of_training_or_of_the_measurement() -> None:
    """A new setting must be thought about: is what is measured another thing with it?"""
    from resd_bench.report.measured import MEASUREMENT, UNSEEN

    settings = set(flatten(vars(RunConfig())))
    training = {
        *("env", "method", "preset", "budget", "batch_size", "group_size", "inner_steps"),
        *("task_order", "temperature", "top_p", "learning_rate", "warmup"),
        *("warmup_updates", "feedback"),  # a placebo is never in an evaluation
        *("weight_decay", "grad_clip", "engine", "precision", "lora_rank", "lora_alpha"),
        *("gradient_checkpointing", "teacher_precision", "teacher_offload", "attention"),
        *("device", "device_map", "threads", "rollout_slots"),
    }
    assert settings - MEASUREMENT - UNSEEN == training
