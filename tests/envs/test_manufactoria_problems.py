"""Problems mean what the released ones mean, and are the same everywhere."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from statistics import mean
from typing import Any

import pytest

from resd_bench.errors import UsageError
from resd_envs.manufactoria.problems import (
    MAX_TESTS,
    WORD_FAMILIES,
    Problem,
    compact_prompt,
    content_hash,
    expected,
    expected_verdicts,
    has_split,
    make_problem,
    words,
)

HAS_FAMILIES = ("contains_count", "contains_ordered", "contains_substring")


def _records(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_expectations_agree_with_the_reference(fixtures: Path) -> None:
    for record in _records(fixtures / "envs/manufactoria/problems.jsonl"):
        if record["group"] == "X":
            continue
        for case in Problem.from_record(record).tests:
            accepted, output = expected(record["family"], record["params"], case.input)
            assert accepted == case.expected_accepted, (record["id"], case)
            assert (output is not None) == case.check_output, (record["id"], case)
            assert (output or "") == case.expected_output, (record["id"], case)


def test_names_and_criteria_agree_with_the_reference(fixtures: Path) -> None:
    for record in _records(fixtures / "envs/manufactoria/problems.jsonl"):
        if record["family"] in (*HAS_FAMILIES, *WORD_FAMILIES):
            made = make_problem(record["family"], record["params"])
            wording = f"{made.name}\n{made.criteria}".encode()
            assert hashlib.sha256(wording).hexdigest() == record["wording_sha256"], record["id"]


def test_the_split_and_its_order_are_the_papers(fixtures: Path) -> None:
    records = _records(fixtures / "envs/manufactoria/has_split.jsonl")
    train, test = has_split()
    assert (len(train), len(test)) == (742, 132)
    assert len(records) == 874
    for record in records:
        spec = (train if record["split"] == "train" else test)[record["position"]]
        assert (spec.family, spec.params) == (record["family"], record["params"])


def test_substring_BRBR_is_row_378() -> None:
    assert has_split()[0][378] == ("contains_substring", {"sequence": "BRBR"})


def test_tests_have_the_statistics_of_the_released_recipe() -> None:
    counts: dict[str, list[int]] = {family: [] for family in HAS_FAMILIES}
    accepting: dict[str, list[float]] = {family: [] for family in HAS_FAMILIES}
    longest = 0
    for spec in [*has_split()[0], *has_split()[1]]:
        tests = make_problem(spec.family, spec.params).tests
        counts[spec.family].append(len(tests))
        accepting[spec.family].append(mean(case.expected_accepted for case in tests))
        longest = max(longest, *(len(case.input) for case in tests))
    wanted = {"contains_count": (21.5, 0.31), "contains_ordered": (27.2, 0.43)}
    wanted["contains_substring"] = (27.9, 0.30)
    for family, (count, accepted) in wanted.items():
        assert mean(counts[family]) == pytest.approx(count, abs=0.5)
        assert mean(accepting[family]) == pytest.approx(accepted, abs=0.02)
    assert longest <= 39


@pytest.mark.parametrize(
    ("family", "params"),
    [
        *((family, {"sequence": word}) for family in WORD_FAMILIES for word in ("R", "GYGYRB")),
        ("contains_count", {"requirements": [["G", 3]]}),
        ("contains_count", {"requirements": [["R", 1], ["B", 2], ["Y", 1], ["G", 3]]}),
    ],
)
def test_generated_tests_are_labelled_right_and_hold_both_verdicts(
    family: str, params: Mapping[str, Any]
) -> None:
    tests = make_problem(family, params).tests
    assert 10 <= len(tests) <= MAX_TESTS
    assert len({case.input for case in tests}) == len(tests)
    assert {case.expected_accepted for case in tests} == {True, False}
    for case in tests:
        assert expected(family, params, case.input) == (case.expected_accepted, None)
    verdicts = bytes(case.expected_accepted for case in tests)
    assert expected_verdicts(family, params, [case.input for case in tests]) == verdicts


def test_the_content_hash_ignores_order_and_extra_keys() -> None:
    one = {"requirements": [["R", 1], ["G", 5]], "ordered": False}
    other = {"requirements": [("G", 5), ("R", 1)]}
    assert content_hash("contains_count", one) == content_hash("contains_count", other)
    hashes = {spec.hash for length in (1, 2, 3) for spec in words("contains_ordered", 1, length)}
    assert len(hashes) == 84


def test_the_same_problem_has_the_same_tests() -> None:
    one = make_problem("contains_count", {"requirements": [["R", 1], ["G", 5]]})
    other = make_problem("contains_count", {"requirements": [["G", 5], ["R", 1]]})
    assert list(one.tests) == list(other.tests)


def test_compact_prompts_spell_the_problem() -> None:
    assert compact_prompt("contains_substring", {"sequence": "RBYG"}) == "substring R B Y G"
    count = {"requirements": [["R", 2], ["B", 1]]}
    assert compact_prompt("contains_count", count) == "count R R B"
    assert compact_prompt("exact_sequence", {"sequence": "RB"}) == "exact R B"


@pytest.mark.parametrize(
    ("family", "params"),
    [
        ("regex_pattern", {"pattern_parts": [["Y", "?"]]}),
        ("contains_ordered", {}),
        ("contains_ordered", {"sequence": "RX"}),
        ("contains_count", {"requirements": [["R", 1], ["R", 2]]}),
        ("contains_count", {"requirements": [["R", 2], ["B", 0]]}),
    ],
)
def test_a_problem_that_cannot_be_made_is_a_usage_error(
    family: str, params: Mapping[str, Any]
) -> None:
    with pytest.raises(UsageError):
        make_problem(family, params)


def test_a_record_without_tests_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="tests"):
        Problem.from_record({"id": "x"})


@pytest.mark.parametrize(
    ("params", "tape", "output"),
    [
        ({"operation": "not", "operand": None}, "", "BBBBBBBB"),
        ({"operation": "not", "operand": None}, "BBBBBBBB", ""),
        ({"operation": "not", "operand": None}, "BBBBBBBBB", ""),
        ({"operation": "subtract", "operand": 3}, "BB", ""),
        ({"operation": "floor_div", "operand": 2}, "BRBR", "BR"),
        ({"operation": "add", "operand": 1}, "RRB", "BR"),
    ],
)
def test_numbers_are_binary_tapes(params: Mapping[str, Any], tape: str, output: str) -> None:
    assert expected("numerical_operations", params, tape) == (True, output)
    assert expected_verdicts("numerical_operations", params, [tape]) is None
