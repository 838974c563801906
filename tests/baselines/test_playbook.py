"""The playbook against the official text form and its rules."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resd_baselines.parse_replies import collapse_tags
from resd_baselines.playbook import EMPTY_TEXT, MISTAKES, Entry, Playbook, slug


def load(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def ids(playbook: Playbook) -> list[str]:
    return [entry.id for entry in playbook.entries]


def test_additions_equal_the_reference(fixtures: Path) -> None:
    for case in load(fixtures / "playbook_ops" / "apply_operations.json"):
        if not case["result"]["ok"]:
            continue
        additions = [
            (op.get("section", "general"), op.get("content", ""))
            for op in case["operations"]
            if op["type"] == "ADD"
        ]
        playbook = Playbook.parse(case["playbook"], next_id=case["next_id"]).extend(additions)
        assert [playbook.render(), playbook.next_id] == case["result"]["value"]


def test_slugs_and_statistics_equal_the_reference(fixtures: Path) -> None:
    for case in load(fixtures / "playbook_ops" / "section_slugs.json"):
        assert slug(case["section"]) == case["slug"]
    for case in load(fixtures / "playbook_ops" / "stats.json"):
        assert Playbook.parse(case["playbook"]).stats() == case["stats"]


def test_counts_and_dates_equal_the_reference(fixtures: Path) -> None:
    for case in load(fixtures / "playbook_ops" / "update_counts.json"):
        playbook = Playbook.parse(
            case["playbook"], last_used=case["bullet_last_used_before"], step=case["update_count"]
        )
        tags = collapse_tags(case["tags"])
        playbook = playbook.tag(tags.by_id, used=tags.used)
        assert playbook.render() == case["playbook_after"]
        assert dict(playbook.used) == case["bullet_last_used_after"]


def concise_cases(fixtures: Path) -> Iterator[Any]:
    for path in sorted((fixtures / "concise").glob("*.json")):
        yield load(path)


def check_selection(before: Playbook, after: Playbook, expected: Any) -> None:
    left = ids(after)
    assert set(expected["must_keep"]) <= set(left)
    assert not set(expected["must_remove"]) & set(left)
    pool = set(expected["random_pool"])
    assert len(pool & set(left)) == expected["keep_from_pool"]
    assert left == [name for name in ids(before) if name in left]


def test_concise_selects_what_the_reference_selects(fixtures: Path) -> None:
    compared = 0
    for case in concise_cases(fixtures):
        if case["call"] != "_concise_playbook" or case["method"] == "reset":
            continue
        given, expected = case["input"], case["expected"]
        before = Playbook.parse(
            given["playbook"], last_used=given["bullet_last_used"], step=given["current_step"]
        )
        assert {(e.id, e.section, e.helpful, e.harmful, e.content) for e in before.entries} == {
            (b["id"], b["section"], b["helpful"], b["harmful"], b["content"])
            for b in given["bullets"]
        }
        for seed in range(5):
            rng = np.random.default_rng(seed)
            after = before.concise(case["method"], given["max_bullets"], rng)
            check_selection(before, after, expected)
            assert len(after.entries) == expected["n_survivors"]
            if expected["deterministic"]:
                assert after.render() == expected["playbook"]
        compared += 1
    assert compared


def test_concise_triggers_when_the_reference_does(fixtures: Path) -> None:
    compared = 0
    for case in concise_cases(fixtures):
        if case["call"] != "_maybe_concise" or case["method"] == "reset":
            continue
        given, expected = case["input"], case["expected"]
        before = Playbook.parse(
            given["playbook"], last_used=given["bullet_last_used"], step=given["update_count"]
        )
        due = before.due(given["concise_frequency"], given["max_bullets"])
        assert bool(due) == expected["triggered"]
        assert due.frequency == bool(expected["frequency_trigger"])
        assert due.limit == bool(expected["limit_trigger"])
        if due:
            after = before.concise(
                case["method"], expected["effective_max"], np.random.default_rng(0)
            )
            check_selection(before, after, expected["selection"])
            assert set(after.used) == set(before.used) & set(ids(after))
        compared += 1
    assert compared


def test_ties_of_staleness_are_broken_at_random() -> None:
    text = "\n".join(["## OTHERS", *(f"[misc-{i:05d}] helpful=1 harmful=0 :: x" for i in range(6))])
    playbook = Playbook.parse(text, last_used={"misc-00000": 5}, step=6)
    kept = {
        tuple(ids(playbook.concise("staleness", 2, np.random.default_rng(s)))) for s in range(20)
    }
    assert len(kept) > 1
    assert all("misc-00000" in few for few in kept)


def test_operations_leave_the_original_as_it_was() -> None:
    original = Playbook().add(MISTAKES, "read the task")
    text, used = original.render(), dict(original.used)
    original.tag({"err-00001": "harmful"})
    original.add("others", "more")
    original.concise("prioritized", 0)
    assert (original.render(), dict(original.used)) == (text, used)


def test_entries_carry_their_section_counts_and_dates() -> None:
    playbook = Playbook(step=3).add("Common mistakes to avoid", " two\nlines ")
    playbook = playbook.tag({"err-00001": "helpful"})
    assert playbook.entries == (Entry("err-00001", MISTAKES, "two lines", 1, 0, 3),)


def test_an_overridden_tag_still_dates_its_entry() -> None:
    tags = collapse_tags(
        [{"id": "err-00001", "tag": "helpful"}, {"id": "err-00001", "tag": "neutral"}]
    )
    playbook = Playbook(used={"err-00001": 1}, step=4).tag(tags.by_id, used=tags.used)
    assert dict(playbook.used) == {"err-00001": 4}


def test_a_made_up_id_keeps_its_date_when_it_is_minted_for_real() -> None:
    playbook = Playbook(step=2).tag({"err-00001": "helpful"})
    minted = Playbook(playbook.lines, playbook.used, 1, 5).add(MISTAKES, "x")
    assert minted.entries[0].last_used == 2


def test_the_compact_form_numbers_entries_in_order() -> None:
    playbook = Playbook().extend([("others", "late"), (MISTAKES, "early")])
    assert playbook.render_compact() == "1 early\n2 late"
    assert playbook.numbers() == {1: "err-00002", 2: "misc-00001"}
    assert Playbook().render_compact() == ""


def test_only_a_new_playbook_has_headers_only() -> None:
    assert Playbook().headers_only
    assert Playbook().render() == EMPTY_TEXT
    assert not Playbook().add("others", "x").headers_only


def test_an_unknown_concise_method_is_refused() -> None:
    with pytest.raises(ValueError, match="staleness"):
        Playbook().concise("reset")  # type: ignore[arg-type]


OPERATIONS = st.lists(
    st.one_of(
        st.tuples(
            st.just("add"), st.sampled_from(["others", MISTAKES, "general", "?", ""]), st.text()
        ),
        st.tuples(
            st.just("tag"),
            st.sampled_from(["err-00001", "misc-00002", "gene-00003", "none-1"]),
            st.sampled_from(["helpful", "harmful", "neutral", "HELPFUL"]),
        ),
        st.tuples(
            st.just("concise"), st.sampled_from(["staleness", "prioritized"]), st.integers(0, 3)
        ),
    ),
    max_size=12,
)


@given(OPERATIONS)
def test_state_is_restored_exactly_after_any_operations(operations: list[Any]) -> None:
    playbook = Playbook(step=1)
    for kind, first, second in operations:
        if kind == "add":
            playbook = playbook.add(first, second)
        elif kind == "tag":
            playbook = playbook.tag({first: second})
        else:
            playbook = playbook.concise(first, second, np.random.default_rng(0))
        assert Playbook.parse(playbook.render()).render() == playbook.render()
        restored = Playbook.from_state(json.loads(json.dumps(playbook.to_state())))
        assert restored == playbook
        assert len(set(ids(playbook))) == len(ids(playbook))
