"""Answers to held-out tasks: what is kept is what was graded, and keeping it changes nothing."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from resd_bench.budget import Purpose
from resd_bench.cli import main
from resd_bench.config import RunConfig, resolve
from resd_bench.errors import UsageError
from resd_bench.evaluation.grade_answers import grade, read_answers
from resd_bench.jobs.run import run
from resd_bench.plugins import make_env
from resd_bench.records.archive import keep
from resd_bench.records.find_runs import find_runs
from resd_bench.records.log_files import read_log
from resd_bench.records.recorder import to_line
from resd_bench.records.run_files import RunFiles
from resd_bench.testing import ScriptedPolicy
from resd_bench.types import Completion, Messages, Sampling, Stop

SETTINGS = {
    **{"env": "toy-count", "method": "toy-learner", "model": "scripted", "budget": "40ep"},
    **{"batch_size": 5, "eval_every": 4, "eval_samples": 2, "max_new_tokens": 20},
    **{"eval_validation": 2, "eval_also": "toy-say"},
}


@pytest.fixture
def config(toy: ModuleType, tmp_path: Path) -> RunConfig:
    return resolve(SETTINGS, {"out": str(tmp_path / "last")})


def said(config: RunConfig) -> list[dict[str, Any]]:
    return RunFiles.at(config.folder()).answers()


def texts(config: RunConfig) -> list[str]:
    return sorted(path.name for path in (config.folder() / "answers").glob("*"))


def test_what_is_kept_is_what_was_graded_in_the_last_evaluation(config: RunConfig) -> None:
    run(config)
    rows = said(config)
    assert {(r["update"], r.get("panel")) for r in rows} == {
        (8, None),
        (8, "validation"),
        (8, "env:toy-say"),
    }
    logged = list(read_log(config.folder() / "evals.jsonl"))
    assert len(rows) == sum(row["update"] == 8 for row in logged) == 12 + 4 + 12
    for row in rows:
        env = make_env("toy-say" if row.get("panel") == "env:toy-say" else "toy-count")
        line = to_line({"task": row["task"], "turns": row["turns"]})
        [marked] = grade(env, read_answers([line], "the row"))
        assert marked["success"] == row["success"]
    # Both outcomes, and several turns, or the comparison would show nothing.
    assert {row["success"] for row in rows} == {0.0, 1.0}


def test_keeping_texts_changes_no_row_and_says_of_which_evaluations(config: RunConfig) -> None:
    every = {k: replace(config, keep_texts=k, out=config.out + k) for k in ("last", "all", "none")}
    logs = []
    for own in every.values():
        run(own)
        logs.append((own.folder() / "evals.jsonl").read_bytes())
    assert logs[0] == logs[1] == logs[2]
    assert b'"turns": [' not in logs[0]
    assert len({own.digest() for own in every.values()}) == 1
    assert texts(every["last"]) == ["update-0008.jsonl.gz"]
    assert texts(every["all"]) == [f"update-000{u}.jsonl.gz" for u in (0, 4, 8)]
    assert not texts(every["none"])
    assert not said(every["none"])
    assert said(every["last"]) == [row for row in said(every["all"]) if row["update"] == 8]


def test_texts_that_changed_are_refused(config: RunConfig) -> None:
    run(config)
    (path,) = (config.folder() / "answers").glob("*")
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(UsageError, match="answers is damaged"):
        said(config)


def test_until_a_checkpoint_covers_the_next_evaluation_the_last_one_can_be_read(
    config: RunConfig,
) -> None:
    """A run that dies after its second evaluation still holds the texts of its first."""

    class Dies:
        def updated(self, row: Any) -> None: ...

        def evaluated(self, point: Any) -> None:
            if point.update == 4:
                raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power cut"):
        run(replace(config, checkpoint_every=3), watchers=[Dies()])
    assert {row["update"] for row in said(config)} == {0}
    run(replace(config, checkpoint_every=3), resume=True)
    assert {row["update"] for row in said(config)} == {8}


def test_a_kept_record_has_texts_only_where_they_are_asked_for(
    config: RunConfig, tmp_path: Path
) -> None:
    run(config)
    runs = find_runs([str(config.folder())])
    [plain] = keep(runs, tmp_path / "a")
    [whole] = keep(runs, tmp_path / "b", answers=True)
    assert not (plain / "answers").exists()
    assert RunFiles.at(plain).answers() == []
    RunFiles.at(whole).check()
    assert RunFiles.at(whole).answers() == said(config)
    with pytest.raises(UsageError, match="leave out --answers"):
        keep(find_runs([str(plain)]), tmp_path / "c", answers=True)


def test_rows_of_eval_hold_answers_that_can_be_graded_again(
    config: RunConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(config)
    rows = tmp_path / "rows.jsonl"
    assert main(["eval", str(config.folder()), "--samples", "2", "--out", str(rows)]) == 0
    sampled = [json.loads(line) for line in rows.read_bytes().splitlines()]
    held_out = [row for row in said(config) if "panel" not in row]
    for again, kept in zip(sampled, held_out, strict=True):
        assert {k: again[k] for k in ("task", "sample", "turns", "feedback", "cases")} == {
            k: kept[k] for k in ("task", "sample", "turns", "feedback", "cases")
        }


class ShortContext(ScriptedPolicy):
    """Has room for two turns: what follows the second is read by nobody."""

    def _complete(
        self, messages: Messages, sampling: Sampling, purpose: Purpose, i: int, j: int
    ) -> Completion:
        if len(messages) > 3:
            return Completion("", stop=Stop.LENGTH)
        return super()._complete(messages, sampling, purpose, i, j)


@pytest.mark.parametrize("slots", [0, 3])
def test_an_episode_that_fills_the_context_is_recorded_to_the_last_word_it_was_told(
    config: RunConfig, slots: int, capsys: pytest.CaptureFixture[str]
) -> None:
    short = replace(
        config, rollout_slots=slots, budget="10ep", eval_also=None, eval_validation=0, eval_every=0
    )
    run(short, policy=lambda _: ShortContext(lambda prompt, seed, j: "1"))
    episodes = list(read_log(short.folder() / "episodes.jsonl"))
    for row in [*episodes, *said(short)]:
        assert [turn["response"] for turn in row["turns"]] == ["1", "1"]
        assert row["unread"] == "go on after 1"
    assert {(row["stop"], row["kind"], row["success"], row["error"]) for row in episodes} == {
        ("length", "truncated", False, "")
    }
    [last] = list(read_log(short.folder() / "metrics.jsonl"))[-1:]
    assert (last["env_steps"], last["train/unanswered"]) == (2 * len(episodes), 1.0)
    assert main(["show", str(short.folder())]) == 0
    assert "go on after 1" in capsys.readouterr().out.split("unread")[1]
