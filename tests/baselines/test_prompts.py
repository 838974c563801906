"""Prompts: filled literally, in the order of the paper, in both dialects."""

from __future__ import annotations

import pytest

from resd_baselines.prompts import PACK, fill
from resd_bench.types import Dialect

DIALECTS: tuple[Dialect, ...] = ("full", "compact")
TEACHER = ("prompt", "playbook", "previous_trial", "feedback", "reflection", "solution")


def teacher(dialect: Dialect, **values: str) -> str:
    return PACK.teacher(dialect, **(dict.fromkeys(TEACHER, "") | {"prompt": "QUESTION"} | values))


def test_a_value_that_looks_like_a_field_is_not_expanded() -> None:
    assert fill("{a} {b}", a="{b}", b="{a}\\1") == "{b} {a}\\1"
    for dialect in DIALECTS:
        assert "{playbook} {x}" in teacher(dialect, feedback="{playbook} {x}")


def test_missing_and_unused_fields_are_errors() -> None:
    with pytest.raises(ValueError, match="'b'"):
        fill("{a} {b}", a="")
    with pytest.raises(ValueError, match="'c'"):
        fill("{a}", a="", c="")


@pytest.mark.parametrize("dialect", DIALECTS)
def test_the_teacher_reads_its_sections_in_the_order_of_the_paper(dialect: Dialect) -> None:
    values = {name: f"<<{name}>>" for name in TEACHER}
    text = teacher(dialect, **values)
    places = [text.index(value) for value in values.values()]
    assert places == sorted(places)


def test_empty_sections_keep_their_headings_in_the_full_dialect() -> None:
    headings = [line for line in teacher("full").splitlines() if line.startswith("# ")]
    assert len(headings) == 6
    assert headings == [
        line
        for line in teacher("full", playbook="p", feedback="f", solution="s").splitlines()
        if line.startswith("# ")
    ]


def test_empty_sections_vanish_in_the_compact_dialect() -> None:
    assert teacher("compact") == "QUESTION\nagain: QUESTION"
    text = teacher("compact", playbook="1 a", previous_trial="y", reflection="r", feedback=" \n")
    assert text == ("QUESTION\n<playbook>\n1 a\n<attempt>\ny\n<reflection>\nr\nagain: QUESTION")


def test_the_compact_prompts_are_what_the_embedded_model_was_trained_on() -> None:
    asked = {"prompt": "Q", "response": "y", "playbook": ""}
    assert PACK.reflect("compact", feedback="f", **asked) == (
        "Q\n<attempt>\ny\n<feedback>\nf\n<reflect>"
    )
    assert PACK.tag("compact", **asked) == "Q\n<attempt>\ny\n<tag>"
    assert PACK.curate("compact", reflection="r", playbook="1 a") == (
        "<curate>\n<playbook>\n1 a\n<reflection>\nr\n<lesson>"
    )


@pytest.mark.parametrize("dialect", DIALECTS)
def test_every_prompt_shows_everything_it_is_given(dialect: Dialect) -> None:
    shown = {name: f"<<{name}>>" for name in ("prompt", "response", "playbook")}
    reflect = PACK.reflect(dialect, feedback="<<feedback>>", **shown)
    assert all(value in reflect for value in [*shown.values(), "<<feedback>>"])
    assert all(value in PACK.tag(dialect, **shown) for value in shown.values())
    sdpo = PACK.sdpo_teacher(dialect, prompt="Q", previous_trial="Y", solution="S", feedback="F")
    assert all(value in sdpo for value in "QYSF")
    curate = PACK.curate(dialect, prompt="Q", reflection="R1", playbook="B1", stats="{}")
    assert "R1" in curate
    assert "B1" in curate


def test_sdpo_shows_only_the_task_where_nothing_else_is_known() -> None:
    text = PACK.sdpo_teacher("full", prompt="QUESTION", previous_trial="", solution="", feedback="")
    assert text.startswith("QUESTION\n")
    assert "earlier attempt" not in text


def test_an_unknown_dialect_is_refused() -> None:
    with pytest.raises(ValueError, match="compact"):
        PACK.tag("short", prompt="", response="", playbook="")  # type: ignore[arg-type]
