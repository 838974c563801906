"""Traces: what an update made of each token, recorded as it happened or repeated later."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from resd_bench.cli import main
from resd_bench.config import RunConfig, resolve
from resd_bench.jobs.replay import replay
from resd_bench.jobs.run import run
from resd_bench.records.log_files import read_log
from resd_bench.report.html.episodes import traces

CLOCK = {"seconds", "evaluation_seconds"}
UPDATES = 3


def settings(out: Path, trace: int) -> RunConfig:
    values = {
        "method": "resd",
        "env": "manufactoria-has",
        "budget": f"{4 * UPDATES}ep",
        "batch_size": 4,
        "eval_tasks": 2,
        "eval_samples": 1,
        "eval_every": 0,
        "checkpoint_every": 2,
        "trace": trace,
        "out": str(out),
    }
    return resolve(values)


@pytest.fixture(scope="module")
def traced(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of the embedded model whose tokens were recorded."""
    config = settings(tmp_path_factory.mktemp("traced"), 64)
    run(config)
    return config.folder()


def loss(trace: dict[str, Any], update: dict[str, Any]) -> float:
    """The loss of the update out of its tokens: means of sequences over the attempts."""
    means = []
    for example in trace["examples"]:
        tokens = [token["loss"] for token in example["tokens"]]
        means.append(sum(tokens) / len(tokens))
    return float(sum(means) / update["signal/attempts"])


@pytest.mark.slow
def test_losses_of_tokens_add_up_to_the_loss_of_the_update(traced: Path) -> None:
    found, metrics = traces(traced), list(read_log(traced / "metrics.jsonl"))
    assert sorted(found) == [1, 2, 3]
    for row in metrics:
        trace = dict(found[row["update"]])
        assert len(trace["examples"]) == row["policy/examples"] > 0
        assert loss(trace, row) == pytest.approx(row["policy/loss"], abs=2e-5)


def test_tokens_say_what_was_sampled_and_what_the_teacher_saw(traced: Path) -> None:
    rows = {(r["task"], r["attempt"]): r for r in read_log(traced / "episodes.jsonl")}
    for trace in traces(traced).values():
        for example in trace["examples"]:
            row = rows[example["task"], example["attempt"]]
            text = "".join(token["text"] for token in example["tokens"])
            assert text.startswith(row["turns"][example["turn"]]["response"])
            (seen,) = example["teacher"]
            assert row["feedback"] in seen["content"]
            for token in example["tokens"]:
                assert token["student"] <= 1e-6
                best = math.log(max(token["teacher_top"][0][1], 1e-9))
                assert token["teacher"] <= best + 1e-3


@pytest.mark.slow
def test_looking_changes_no_measurement(traced: Path, tmp_path: Path) -> None:
    config = settings(tmp_path, 0)
    run(config)
    assert not (config.folder() / "traces").exists()
    for name in ("metrics.jsonl", "episodes.jsonl", "evals.jsonl"):
        blind, seen = (
            [{k: v for k, v in row.items() if k not in CLOCK} for row in read_log(path)]
            for path in (config.folder() / name, traced / name)
        )
        assert blind == seen


@pytest.mark.slow
def test_an_update_repeated_from_a_checkpoint_is_the_one_that_was_recorded(traced: Path) -> None:
    before = sorted(path.name for path in traced.rglob("*"))
    again = replay(traced, 3, 64)
    assert again["weights"] == {
        "after_updates": 2,
        "how": "repeated",
        "checkpoint": "update-00000002.ckpt",
        "same": [4, 4],
    }
    assert again["examples"] == traces(traced)[3]["examples"]
    assert sorted(path.name for path in traced.rglob("*")) == before


@pytest.mark.slow
def test_trace_shows_one_episode_with_its_tokens(
    traced: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    row = list(read_log(traced / "episodes.jsonl"))[2]
    name = f"{row['task']}#{row['attempt']}"
    save = tmp_path / "t.html"
    assert main(["trace", str(traced), "--episode", name, "--out", str(save)]) == 0
    printed = capsys.readouterr().out
    assert "scored after 0 updates, repeated from the start of the run" in printed
    assert "responses as recorded: 4 of 4" in printed
    beside = json.loads((tmp_path / "t.json").read_text())
    assert [(e["task"], e["attempt"]) for e in beside["episodes"]] == [(row["task"], 0)]
    assert "Update 1 of resd on manufactoria-has" in save.read_text()


def test_updates_and_episodes_that_are_not_there_are_named(
    traced: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments, said in (
        (["--update", "9"], "give --update 1 to 3"),
        (["--episode", "nothing#0"], "unknown episode 'nothing#0'"),
        (["--update", "1", "--episode", "a#0"], "give one of them"),
        (["--out", "t.pdf"], "give a file that ends in .html"),
    ):
        assert main(["trace", str(traced), *arguments]) == 2
        assert said in capsys.readouterr().err
    assert main(["trace", str(tmp_path)]) == 2
    assert "is not a run folder" in capsys.readouterr().err


def test_a_method_without_a_language_model_is_traced_without_tokens(
    toy: ModuleType, tmp_path: Path
) -> None:
    values = {"env": "toy-say", "method": "toy-learner", "model": "scripted", "budget": "10ep"}
    numbers = {"batch_size": 5, "max_new_tokens": 20, "trace": 2}
    options = {"method_options": {"imitate_all": True}, "out": str(tmp_path)}
    config = resolve({**values, **numbers, **options})
    run(config)
    for update, trace in traces(config.folder()).items():
        assert trace["weights"] == {"after_updates": update - 1, "how": "recorded"}
        assert [e["task"] for e in trace["examples"]] == [
            row["task"]
            for row in read_log(config.folder() / "episodes.jsonl")
            if row["update"] == update
        ][:2]
