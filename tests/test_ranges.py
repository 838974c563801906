"""Numbers that people give lie in a range, exactly as given; others are refused with the range."""

from __future__ import annotations

import json
import math
from dataclasses import fields
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resd_bench import plugins
from resd_bench.budget import Budget
from resd_bench.cli import main
from resd_bench.config import RunConfig, method_config, resolve
from resd_bench.errors import UsageError
from resd_bench.options import coerce, field_types, range_of
from resd_bench.records.external import load_rows

BIG = 2**53 + 1
METHODS = (
    *("base", "grpo", "dr-grpo", "dapo", "rlsd", "rlcsd", "resd", "resd-then-grpo", "hero"),
    *("sdpo", "sdpo+ss", "opsd", "sft", "ace", "gepa"),
)


def kinds(hint: Any) -> set[Any]:
    several = get_origin(hint) in (Union, UnionType)
    return set(get_args(hint) if several else (hint,)) - {NoneType}


def numbers(config: type) -> list[str]:
    hints = get_type_hints(config)
    return [f.name for f in fields(config) if kinds(hints[f.name]) & {int, float}]


SETTINGS = numbers(RunConfig)
METHOD_NUMBERS = [
    (method, name) for method in METHODS for name in numbers(plugins.method(method).config)
]


def test_every_number_among_the_settings_has_a_range() -> None:
    types = field_types(RunConfig)
    assert all(range_of(types[name]) for name in SETTINGS)


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize(
    "value", ["nan", "inf", "-inf", "1e999", "-1", True, [1], {"a": 1}, "much"]
)
def test_a_setting_that_is_no_number_of_its_range_is_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(UsageError, match=rf"^{name}: expected "):
        resolve({name: value})


@pytest.mark.parametrize(("method", "name"), METHOD_NUMBERS)
@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "-1", True, [1], "much"])
def test_an_option_of_a_method_that_is_no_number_of_its_range_is_refused_by_name(
    method: str, name: str, value: Any
) -> None:
    with pytest.raises(UsageError, match=name):
        resolve({"method": method, "method_options": {name: value}})


@pytest.mark.parametrize(("method", "name"), METHOD_NUMBERS)
def test_options_that_are_made_by_hand_are_held_to_their_ranges_too(method: str, name: str) -> None:
    config = plugins.method(method).config
    for value in (math.nan, math.inf, -1, True):
        with pytest.raises(ValueError, match=name):
            config(**{name: value})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"group_size": 0}, "group_size: expected a value at least 1, got 0"),
        ({"group_size": "0"}, "group_size: expected a value at least 1, got 0"),
        ({"batch_size": 0}, "batch_size: expected a value at least 1"),
        ({"learning_rate": 1.5}, "learning_rate: expected a value from 0 to 1"),
        ({"learning_rate": "1e38"}, "learning_rate: expected a value from 0 to 1"),
        ({"top_p": 0}, r"top_p: expected a value in \(0, 1\]"),
        ({"method": "grpo", "method.importance_cap": 0}, "importance_cap.*above 0"),
        ({"method": "resd", "method.importance_cap": 0}, "importance_cap.*above 0"),
        ({"method": "sdpo", "method.ema_rate": 0}, r"ema_rate.*in \(0, 1\]"),
        ({"method": "sdpo", "method.ema_rate": 1.5}, r"ema_rate.*in \(0, 1\]"),
        ({"method": "sdpo", "method.mixture": 1}, r"mixture.*in \(0, 1\)"),
        ({"method": "grpo", "method.dual_clip": 1}, "dual_clip.*above 1"),
        ({"method": "grpo", "method.clip_low": 1.5}, "clip_low.*from 0 to 1"),
        ({"method": "resd", "method.max_entries": 0}, "max_entries.*at least 1"),
        ({"method": "resd", "method.concise_frequency": 0}, "concise_frequency.*at least 1"),
        ({"method": "sft", "method.buffer_size": 0}, "buffer_size.*at least 1"),
    ],
)
def test_the_range_is_told(given: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        resolve(given)


def test_the_command_line_refuses_a_group_of_none(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "--group-size", "0", "--dry-run"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "at least 1" in error


def test_none_still_leaves_an_option_out() -> None:
    assert (
        resolve({"method": "grpo", "method.importance_cap": "none"}).method_options[
            "importance_cap"
        ]
        is None
    )
    assert resolve({"method": "grpo", "group_size": "none"}).group_size == 8


def test_a_plugins_options_are_finite_too() -> None:
    from dataclasses import dataclass

    @dataclass(frozen=True)
    class Options:
        rate: float = 0.5

    with pytest.raises(UsageError, match=r"method\.rate: expected a finite number"):
        method_config(Options, {"rate": "nan"}, "theirs")


@given(st.floats(), st.floats(), st.floats(), st.booleans(), st.booleans())
def test_a_range_holds_what_it_says(
    low: float, high: float, value: float, without_low: bool, without_high: bool
) -> None:
    from resd_bench.options import Range

    own = Range(low, high, without_low, without_high)
    inside = math.isfinite(value) and low <= value <= high
    inside = inside and not (without_low and value == low)
    assert (value in own) == (inside and not (without_high and value == high))


@pytest.mark.parametrize("text", ["9" * 400 + "ep", "0ep", "-1ep", "infep", "nanmin", "1e9ep"])
def test_a_budget_without_end_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="positive number"):
        Budget.parse(text)


# Whole numbers are exact.


@given(st.integers(-(2**70), 2**70))
def test_a_whole_number_is_what_was_given(number: int) -> None:
    assert coerce("x", number, int) == coerce("x", str(number), int) == number


@given(st.integers(2**53, 2**70))
def test_a_float_that_may_be_another_whole_number_is_refused(number: int) -> None:
    for value in (float(number), repr(float(number)), f"{number}.0"):
        with pytest.raises(UsageError, match="x: expected a whole number"):
            coerce("x", value, int)


def test_two_seeds_stay_two(tmp_path: Path) -> None:
    configs = [resolve({"seed": seed, "out": str(tmp_path)}) for seed in (BIG, BIG - 1)]
    assert [config.seed for config in configs] == [BIG, BIG - 1]
    assert configs[0].folder() != configs[1].folder()
    assert RunConfig.from_yaml(configs[0].to_yaml()).seed == BIG


ROW = {"task": "a", "success": 1, "episodes": 0, "method": "m"}


def test_two_seeds_in_other_peoples_rows_stay_two(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    rows = [ROW | {"seed": seed} for seed in (BIG, BIG - 1)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert [run.seed for run in load_rows(path)] == [BIG, BIG - 1]


@pytest.mark.parametrize("column", ["seed", "sample", "update", "episodes"])
def test_a_number_that_went_through_floats_is_refused_with_its_line(
    tmp_path: Path, column: str
) -> None:
    path = tmp_path / "rows.jsonl"
    row = ROW | {"seed": 0} | {column: float(BIG)}
    path.write_text(json.dumps(ROW | {"seed": 1}) + "\n" + json.dumps(row) + "\n")
    with pytest.raises(UsageError, match=rf"rows.jsonl line 2: '{column}' is"):
        load_rows(path)


def test_a_page_tells_large_seeds_apart(tmp_path: Path) -> None:
    """A script reads numbers as floats."""
    from tests.browser import Reader

    path = tmp_path / "rows.jsonl"
    rows = [ROW | {"seed": seed} for seed in (BIG, BIG - 1)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert main(["report", str(path), "--out", str(tmp_path / "r.html")]) == 0
    text = Reader((tmp_path / "r.html").read_text()).texts_of("script")[0]
    data = json.loads(text, parse_int=float)
    assert len({str(run["seed"]) for run in data["runs"]}) == 2
