"""The factory language is read and run as the released machine does."""

from __future__ import annotations

import json
import random
import time
from collections import Counter
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resd_envs.manufactoria.machine import (
    ACCEPTED,
    COLOURS,
    PAINTERS,
    PULLERS,
    STEP_LIMIT,
    ParseError,
    Program,
    Run,
    encode,
    parse,
    try_parse,
)

DRAIN = """START start:
    NEXT a
PULLER_RB a:
    [R] a
    [B] a
    [EMPTY] end
END end"""


def _error(program: Program | ParseError) -> dict[str, Any] | None:
    if isinstance(program, Program):
        return None
    return {"kind": program.kind, "line": program.line, **program.detail}


def _run_record(tape: str, run: Run) -> dict[str, Any]:
    reason: dict[str, str] | None = None
    if run.reason is not None:
        reason = {"kind": run.reason.kind}
        if run.reason.node is not None:
            reason["node"] = run.reason.node
    return {
        "tape": tape,
        "finished": run.accepted,
        "final_tape": run.tape,
        "visited": len(run.visited),
        "last_nodes": list(run.visited[-5:]),
        "reason": reason,
    }


def test_programs_parse_and_run_as_in_the_reference(fixtures: Path) -> None:
    lines = (fixtures / "envs/manufactoria/programs.jsonl").read_text(encoding="utf-8")
    for record in map(json.loads, lines.splitlines()):
        program = try_parse(record["program"])
        found, wanted = _error(program), record["error"]
        if wanted and wanted["kind"] == "bad_condition" and wanted["condition"] is None:
            assert found is not None
            wanted["condition"] = found["condition"]
        assert found == wanted, record["id"]
        if isinstance(program, Program):
            assert len(program.nodes) == record["n_nodes"]
            for wanted_run in record["runs"]:
                tape = wanted_run["tape"]
                assert _run_record(tape, program.run(tape)) == wanted_run, record["id"]
                assert program.accepts(tape) == wanted_run["finished"], record["id"]


@pytest.mark.parametrize(
    ("text", "kind", "line"),
    [
        ("", "empty_program", None),
        ("# only\n\n  # comments", "empty_program", None),
        ("```\n```", "empty_program", None),
        ("START start\n    NEXT end\nEND end", "missing_colon", 1),
        ("START start # a: b\n    NEXT end\nEND end", "missing_colon", 1),
        ("START start:\n    NEXT end\nEND end:", "end_has_colon", 3),
        ("START start :\n    NEXT end\nEND end", "bad_declaration", 1),
        ("START start:\n   NEXT end\nEND end", "start_route_count", 1),
        ("START start:\n    NEXT a\nPULLER_RB a:\n   [R] a\nEND end", "bad_declaration", 4),
        ("START start:\n    GO end\nEND end", "bad_next_route", 2),
        ("START start:\n    [R] end\nEND end", "bad_next_route", 2),
        ("START start:\n    NEXT end\nPULLER_RB a:\n    NEXT end\nEND end", "bad_puller_route", 4),
        ("START start:\n    NEXT end\nPULLER_RB a:\n    [G] end\nEND end", "bad_condition", 3),
        ("START start:\n    NEXT end\n    NEXT end\nEND end", "start_route_count", 1),
        ("START start:\n    NEXT end\nEND end\n    NEXT end", "end_has_routes", 4),
        ("START start:\n    NEXT end\nEND start", "duplicate_id", 3),
        ("START begin:\n    NEXT end\nEND end", "start_bad_id", 1),
        ("START start:\n    NEXT end\nEND stop", "end_bad_id", 3),
        ("END end", "no_start", None),
        ("START start:\n    NEXT NONE", "no_end", None),
        ("START start:\n    NEXT a\nEND end", "undefined_target", 1),
    ],
)
def test_each_mistake_has_its_kind_and_line(text: str, kind: str, line: int | None) -> None:
    with pytest.raises(ParseError) as caught:
        parse(text)
    assert (caught.value.kind, caught.value.line) == (kind, line)
    assert str(line) in str(caught.value) or line is None


def test_of_two_bad_conditions_the_first_is_named() -> None:
    text = "START start:\n    NEXT end\nPULLER_RB a:\n    [G] end\n    [Y] end\nEND end"
    with pytest.raises(ParseError) as caught:
        parse(text)
    assert caught.value.detail == {"condition": "G", "node_type": "PULLER_RB"}


def test_an_indented_line_with_no_node_before_it_is_read_as_a_declaration() -> None:
    assert len(parse("# comment\n    START start:\n    NEXT end\nEND end").nodes) == 2


def test_of_repeated_conditions_the_first_counts() -> None:
    program = parse(DRAIN.replace("[B] a", "[R] NONE"))
    assert program.run("R").accepted
    assert program.accepts("R")
    assert not program.accepts("B")


def test_the_terminal_node_counts_as_a_visit() -> None:
    program = parse(DRAIN)
    for tape, accepted in (("R" * 997, True), ("R" * 998, False)):
        assert program.run(tape).accepted == program.accepts(tape) == accepted
        assert len(program.run(tape).visited) == 1000


def test_a_foreign_symbol_counts_as_neither_colour() -> None:
    assert parse(DRAIN).run("Rx").tape == "x"
    assert parse(DRAIN).accepts("Rx")


def test_the_target_END_is_unknown_unless_a_node_is_called_so() -> None:
    program = parse(DRAIN.replace("] end", "] END"))
    reason = program.run("").reason
    assert reason is not None
    assert (reason.kind, reason.node) == ("unknown_node", "END")
    declared = DRAIN.replace("] end", "] END") + "\nPAINTER_RED END:\n    NEXT end"
    assert parse(declared).run("").tape == "R"


_NAMES = ("a", "b", "c", "d")
_TARGETS = st.sampled_from([*_NAMES, "start", "end", "END", "NONE"])


@st.composite
def programs(draw: st.DrawFn) -> str:
    """Programs that parse: every node is declared, targets are free."""
    lines = ["START start:", f"    NEXT {draw(_TARGETS)}"]
    for name in _NAMES:
        node_type = draw(st.sampled_from([*PULLERS, *PULLERS, *PAINTERS]))
        lines.append(f"{node_type} {name}:")
        if node_type in PAINTERS:
            lines.append(f"    NEXT {draw(_TARGETS)}")
            continue
        conditions = st.sampled_from([*PULLERS[node_type], "EMPTY"])
        for condition in draw(st.lists(conditions, max_size=4)):
            lines.append(f"    [{condition}] {draw(_TARGETS)}")
    return "\n".join([*lines, "END end"])


@pytest.mark.slow
@settings(deadline=None, max_examples=300)
@given(programs(), st.text(COLOURS + "x", max_size=12), st.integers(0, 40) | st.just(1000))
def test_the_fast_machine_agrees_with_the_tracing_one(text: str, tape: str, steps: int) -> None:
    program = parse(text)
    run = program.run(tape, max_steps=steps)
    assert program.accepts(tape, max_steps=steps) == run.accepted
    kinds = ("routed_to_none", "unknown_node", "step_limit")
    outcome = program.outcome(encode(tape), max_steps=steps)
    expected = ACCEPTED if run.reason is None else 1 + kinds.index(run.reason.kind)
    assert outcome == expected
    assert run.accepted == (run.visited[-1:] == ("end",))


_TURNING = """START start:
    NEXT a
PULLER_RB a:
    [R] c
    [B] b
    [EMPTY] d
PULLER_YG d:
    [Y] e
    [G] end
    [EMPTY] NONE
PAINTER_BLUE b:
    NEXT a
PAINTER_YELLOW c:
    NEXT a
PAINTER_RED e:
    NEXT a
END end"""
"""Red and yellow turn into each other, blue stays, green accepts."""


def _random_painting_program(rng: random.Random) -> str:
    targets = [*_NAMES, *_NAMES, "start", "end", "NONE"]
    lines = ["START start:", "    NEXT a", "PAINTER_RED d:", f"    NEXT {rng.choice(targets)}"]
    for name in _NAMES[:3]:
        node_type = rng.choice([*PULLERS, *PULLERS, *PAINTERS])
        lines.append(f"{node_type} {name}:")
        conditions = [*PULLERS.get(node_type, ()), "EMPTY"] if node_type in PULLERS else ["NEXT"]
        for condition in conditions:
            bracketed = condition if condition == "NEXT" else f"[{condition}]"
            lines.append(f"    {bracketed} {rng.choice(targets)}")
    return "\n".join([*lines, "END end"])


def test_runs_that_repeat_are_told_from_those_that_only_come_by_again() -> None:
    rng = random.Random(0)
    tapes = ["", *COLOURS, *map("".join, product(COLOURS, repeat=2)), "RRBBY", "YRBRBRB" * 9 + "G"]
    ends = Counter[str]()
    for text in [_TURNING, *(_random_painting_program(rng) for _ in range(60))]:
        program = parse(text)
        for tape in tapes:
            run = program.run(tape)
            ends[run.reason.kind if run.reason else "accepted"] += 1
            assert program.accepts(tape) == run.accepted
            never_ends = run.reason is not None and run.reason.kind == "step_limit"
            assert (program.outcome(encode(tape)) == STEP_LIMIT) == never_ends
    assert min(ends["step_limit"], ends["accepted"], ends["routed_to_none"]) > 100
    assert len(parse(_TURNING).run(tapes[-1]).visited) > 64


def test_a_run_that_repeats_is_not_run_to_the_limit() -> None:
    program = parse(_TURNING)
    begin = time.process_time()
    assert program.outcome(encode("RB"), max_steps=10**9) == STEP_LIMIT
    assert time.process_time() - begin < 1


@settings(deadline=None, max_examples=150)
@given(programs(), st.sampled_from(["RB", "BRYG", "Rx"]), st.integers(0, 40))
def test_all_tapes_at_once_are_accepted_as_each_is_alone(
    text: str, colours: str, steps: int
) -> None:
    program = parse(text)
    found = program.accepted(colours, 3, steps)
    if found is None:
        assert any(f"{painter} " in text for painter in PAINTERS)
        return
    for length, verdicts in enumerate(found):
        tapes = ["".join(symbols) for symbols in product(colours, repeat=length)]
        assert list(verdicts) == [program.run(tape, steps).accepted for tape in tapes]


@given(st.text(max_size=200))
def test_any_text_is_a_program_or_a_parse_error(text: str) -> None:
    assert isinstance(try_parse(text), Program | ParseError)
