"""Where seeds split in two, `compare` counts the runs that took off; saturated ends rank nobody."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

from resd_bench.cli import main
from resd_bench.records.runs import RunData
from resd_bench.report.comparisons import compare, saturated_environments
from resd_bench.report.html.suite import suite
from resd_bench.report.tables import compare_table
from resd_bench.report.take_off_table import judge_ends, take_off_table, take_offs
from resd_bench.reproduce.table_cells import verdicts
from resd_bench.stats import EvalPoint
from tests.report.test_compare import rows, shown, write

Capture = pytest.CaptureFixture[str]


def a_run(method: str, seed: int, end: float, env: str = "e") -> RunData:
    """Ten tasks x 100 samples at 0 and 100 rollouts."""
    points = []
    for update, share in ((0, 0.0), (10, end)):
        won = round(100 * share)
        success = ((1.0,) * won + (0.0,) * (100 - won),) * 10
        names = tuple(f"t{i}" for i in range(10))
        points.append(EvalPoint(update, 10 * update, 0, success, success, tasks=names))
    settings = {"env": env, "method": method, "model": "", "seed": seed}
    return RunData(Path(f"{method}-{seed}.jsonl"), settings, [], points, {})


def groups(ends: Mapping[str, Sequence[float]], env: str = "e") -> dict[str, list[RunData]]:
    return {k: [a_run(k, s, end, env) for s, end in enumerate(own)] for k, own in ends.items()}


SURE, LOTTERY, NEVER = [0.9] * 5, [0.0, 0.0, 0.0, 0.0, 0.95], [0.01] * 5


def test_seeds_that_split_are_counted_and_judged_exactly() -> None:
    own = groups({"resd": SURE, "sft": LOTTERY})
    found = take_offs(own, 100)["e"]
    assert (found["resd"].count, found["sft"].count) == ("5/5", "1/5")
    assert found["sft"].verdict == "worse"
    text = shown(take_off_table({"e": found}, 100))
    assert "1/5: 20.0% [0.5, 71.6]" in text
    assert "-80 points" in text
    assert "Boschloo" in text


def test_nothing_is_shown_where_no_group_splits() -> None:
    assert take_offs(groups({"resd": SURE, "sdpo": NEVER}), 100) == {}
    assert "take_off" not in suite(groups({"resd": SURE, "sdpo": NEVER}), 100, "episodes")["tables"]
    assert "take_off" in suite(groups({"resd": SURE, "sft": LOTTERY}), 100, "episodes")["tables"]


def test_only_pairs_of_which_one_splits_are_judged_and_holm_is_over_these() -> None:
    found = judge_ends({"a": SURE, "b": LOTTERY, "c": NEVER, "d": SURE})
    assert [found[k].judged is None for k in "abcd"] == [True, False, True, True]
    found = judge_ends({"a": LOTTERY, "b": SURE, "c": NEVER})
    assert (found["b"].judged, found["c"].judged) != (None, None)
    assert found["b"].judged is not None
    assert found["b"].judged.p_holm == pytest.approx(2 * found["b"].judged.p)


def test_a_run_whose_end_has_no_verdict_did_neither_take_off_nor_not() -> None:
    nan = float("nan")
    found = judge_ends({"a": [*SURE, 0.05], "b": [nan] * 6, "c": [0.9, 0.05, nan]})
    assert [found[k].count for k in "abc"] == ["5/6", "0/0", "1/2"]
    assert (found["b"].judged, found["b"].verdict) == (None, "")
    assert "no verdict at the end" in shown(take_off_table({"e": found}, 100))
    # As failures they would be worse: then the verdict is contested.
    counted = {"a": SURE, "b": LOTTERY}
    assert judge_ends(counted)["b"].verdict == "worse"
    ends = {"a": SURE, "b": [nan] * 4 + [0.95], "c": LOTTERY}
    assert judge_ends(ends, {**ends, "b": LOTTERY})["b"].judged is None
    ends = {"a": LOTTERY, "b": [0.95] + [nan] * 4}
    assert judge_ends(ends, {"a": LOTTERY, "b": LOTTERY})["b"].count == "1/1"


def test_groups_without_a_run_on_an_environment_are_not_judged_there() -> None:
    both = {**groups({"resd": SURE}), "sft": [*groups({"sft": SURE})["sft"]]}
    both["sft"] += groups({"sft": LOTTERY}, "other")["sft"]
    found = take_offs(both, 100)
    assert list(found) == ["other"]
    assert (list(found["other"]), found["other"]["sft"].verdict) == (["sft"], "")
    found = take_offs({k: both[k] for k in ("sft", "resd")}, 100)
    assert list(found["other"]) == ["sft"]


def test_runs_that_were_measured_differently_are_not_judged() -> None:
    found = judge_ends({"a": SURE, "b": LOTTERY}, None, ["b"])
    assert (found["b"].judged, found["b"].verdict) == (None, "not judged: measured differently")


def test_ends_above_99_percent_are_saturated_and_get_no_ranking() -> None:
    full = groups({"resd": [1.0] * 5, "sft": [0.99, 1.0, 1.0, 1.0, 1.0]})
    almost = groups({"resd": [1.0] * 5, "sft": [0.98, 0.99, 0.99, 0.98, 0.98]})
    assert saturated_environments(full, 100) == ["e"]
    table = compare_table(compare(full, 100), "t", 100, saturated=["e"])
    assert "saturated" in shown(table)
    assert "e is saturated: every trained group ends above 99%" in shown(table)
    assert [row.verdict for row in compare(full, 100)] == ["", ""]
    assert saturated_environments(almost, 100) == []
    assert [row.verdict for row in compare(almost, 100)] == ["", "worse"]
    # How fast they got there is still told.
    assert not any(row.saturated for row in compare(full, 100, measure="area"))


def test_a_model_that_is_not_trained_does_not_make_a_ranking_of_saturated_ends() -> None:
    """Against it the others are judged; nobody is where all of them, it too, are at the top."""
    ends = {"resd": [1.0] * 5, "sft": [0.99, 1.0, 1.0, 1.0, 1.0]}
    for untrained in ("base", "ace"):
        low = groups({**ends, untrained: [0.01] * 5})
        assert saturated_environments(low, 100) == ["e"]
        assert [row.verdict for row in compare(low, 100)] == ["", "", "worse"]
        assert [row.saturated for row in compare(low, 100)] == [True, True, False]
        first = {k: low[k] for k in (untrained, "resd", "sft")}
        assert [row.verdict for row in compare(first, 100)] == ["", "better", "better"]
        assert [judged.word for judged in verdicts(low, "resd").values()] == ["", "worse"]
        against = verdicts(low, untrained)
        assert [judged.word for judged in against.values()] == ["better", "better"]
        high = groups({**ends, untrained: [1.0] * 5})
        assert all(row.saturated for row in compare(high, 100))
        assert all(judged.saturated for judged in verdicts(high, "resd").values())
    alone = groups({"base": [0.01] * 5, "sft": [1.0] * 5})
    assert saturated_environments(alone, 100) == []
    assert compare(alone, 100)[1].verdict == "better"
    gone = groups({**ends, "no-longer-installed": [0.01] * 5})
    assert saturated_environments(gone, 100) == []


def test_a_ranking_stands_while_one_environment_leaves_room() -> None:
    both = {
        k: [*groups({k: [1.0] * 5})[k], *groups({k: own}, "other")[k]]
        for k, own in (("resd", [0.9] * 5), ("sft", [0.5, 0.51, 0.5, 0.52, 0.5]))
    }
    assert saturated_environments(both, 100) == ["e"]
    rows_ = compare(both, 100)
    assert not any(row.saturated for row in rows_)
    assert rows_[1].verdict


def test_compare_shows_the_table(tmp_path: Path, capsys: Capture) -> None:
    rng = np.random.default_rng(0)
    curves = {"resd": [(0.0, 0.9)] * 5, "sft": [(0.0, end) for end in LOTTERY]}
    lines = [
        row
        for name, own in curves.items()
        for seed, curve in enumerate(own)
        for row in rows(name, seed, curve, rng=rng)
    ]
    path = write(tmp_path / "split.jsonl", lines)
    assert main(["compare", str(path), "--out", str(tmp_path)]) == 0
    assert "runs that took off" in capsys.readouterr().out
