"""Episodes of a run as data for a page: prompts, responses, feedback, and token traces.

An episode is named `TASK#ATTEMPT`; attempts at a task are counted over the whole run. Answers to
held-out tasks are shown in the same way, as far as their texts were kept. Left out: episodes of
kept records, which have no texts.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from resd_bench.parsing import visible_answer
from resd_bench.records.run_files import HELD_OUT, RunFiles
from resd_bench.records.runs import RunData
from resd_bench.report.html.page import clip
from resd_bench.report.html.playbooks import reflections_by_task
from resd_bench.report.tables import percent
from resd_bench.stats import EvalPoint

MAX_BYTES = 20_000_000
"""Maximum size of the episodes in a page, as JSON; later updates are left out."""
_MAX_CASES = 200
_MAX_NAME = 400
_MAX_TOKENS = 4096


def episode_id(row: Mapping[str, Any]) -> str:
    """`TASK#ATTEMPT` of an episode's row."""
    return f"{row['task']}#{row['attempt']}"


def traces(folder: Path) -> Mapping[int, Mapping[str, Any]]:
    """The traces that `--trace` recorded in a run folder, by update."""
    return RunFiles.at(folder).numbered("traces") if folder.is_dir() else {}


def episodes_data(
    rows: Iterable[Mapping[str, Any]],
    contexts: Mapping[int, Mapping[str, Any]],
    traced: Mapping[int, Mapping[str, Any]],
    per_update: int | None,
) -> dict[str, Any]:
    """Episodes for the viewer, at most `per_update` of each update, traced ones first.

    `left_out` counts those that are not shown. `rows` are in the order of updates, as runs log
    them, and are read one update at a time.
    """
    shown: list[dict[str, Any]] = []
    left_out = room = 0
    with_texts = (row for row in rows if "turns" in row)
    for update, played in groupby(with_texts, key=lambda row: int(row["update"])):
        own = list(played)
        examples = _by_episode(traced.get(update, {}))
        reflections = reflections_on(own, contexts.get(update, {}))
        for row in _choose(own, examples, per_update) if room < MAX_BYTES else ():
            told = _episode(row, reflections.get(id(row)), examples.get(episode_id(row), []))
            shown.append(told)
            room += len(json.dumps(told))
        left_out += len(own)
    weights = {update: trace.get("weights", {}) for update, trace in traced.items()}
    return {"list": shown, "left_out": left_out - len(shown), "weights": weights}


def evaluations_data(run: RunData, most: int) -> list[dict[str, Any]]:
    """The last evaluation of each kind, for the viewer, with at most `most` of its answers.

    One without texts is there with its rates only, except the reported one, whose rates the page
    has elsewhere.
    """
    points = {HELD_OUT: run.points, "validation": run.validation, **run.extra}
    said: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for row in () if run.files is None else run.files.answers():
        place = (str(row.get("panel", HELD_OUT)), int(row["update"]))
        said.setdefault(place, []).append({**row, "attempt": row["sample"]})
    found = []
    for name, own in points.items():
        texts = said.get((name, own[-1].update), []) if own else []
        if own and (texts or name != HELD_OUT):
            shown = episodes_data(texts, {}, {}, most)
            found.append({"part": clip(name, 80), "about": _rates_of(own), **shown})
    return found


def _rates_of(points: Sequence[EvalPoint]) -> str:
    """Success of the first and the last of some evaluations, in words."""
    first, last = points[0], points[-1]
    told = f"{_rate_of(last)} after {last.update} updates"
    return told if first is last else f"{_rate_of(first)} after {first.update} updates, {told}"


def _rate_of(point: EvalPoint) -> str:
    return f"{percent(point.rate().scored)} of {point.samples} samples succeeded"


def _by_episode(trace: Mapping[str, Any]) -> dict[str, list[Mapping[str, Any]]]:
    found: dict[str, list[Mapping[str, Any]]] = {}
    for example in trace.get("examples", ()):
        if "task" in example:
            found.setdefault(episode_id(example), []).append(example)
    return found


def _choose(
    rows: Sequence[Mapping[str, Any]], examples: Mapping[str, Any], most: int | None
) -> list[Mapping[str, Any]]:
    """Traced episodes, then successes and failures alternately, in the order they were played."""
    if most is None or len(rows) <= most:
        return list(rows)
    rank: dict[int, tuple[bool, int]] = {}
    seen = {True: 0, False: 0}
    for row in rows:
        outcome = bool(row["success"])
        rank[id(row)] = (episode_id(row) not in examples, seen[outcome])
        seen[outcome] += 1
    chosen = {id(row) for row in sorted(rows, key=lambda row: rank[id(row)])[:most]}
    return [row for row in rows if id(row) in chosen]


def reflections_on(
    rows: Sequence[Mapping[str, Any]], context: Mapping[str, Any]
) -> dict[int, dict[str, Any]]:
    """The reflection on each row, by identity; methods reflect on failures in order."""
    said = reflections_by_task(context)
    found = {}
    for row in rows:
        waiting = said.get(str(row["task"]))
        if waiting and not row["success"] and row.get("stop") != "error":
            found[id(row)] = waiting.pop(0)
    return found


def _episode(
    row: Mapping[str, Any],
    reflection: Mapping[str, Any] | None,
    examples: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    return {
        "id": clip(episode_id(row), _MAX_NAME),
        "update": row["update"],
        "task": clip(row["task"], _MAX_NAME),
        "attempt": row["attempt"],
        "success": bool(row["success"]),
        "score": row.get("score"),
        "kind": clip(row.get("kind", ""), 100),
        "stop": clip(row.get("stop", ""), 40),
        "error": clip(row.get("error", "")),
        "turns": [_turn(turn) for turn in row["turns"]],
        "feedback": clip(row.get("feedback", "")),
        "cases": [
            [clip(c["name"], 100), bool(c["passed"]), clip(c.get("kind", ""), 100)]
            for c in row.get("cases", [])[:_MAX_CASES]
        ],
        "reflection": reflection,
        "examples": [_example(example) for example in examples],
    }


def _turn(turn: Mapping[str, Any]) -> dict[str, Any]:
    answer = visible_answer(str(turn["response"]))
    return {
        "messages": _chat(turn["messages"]),
        "response": clip(turn["response"]),
        "answer": None if answer == turn["response"] else clip(answer),
        "tokens": turn.get("tokens"),
        "stop": clip(turn.get("stop", ""), 40),
    }


def _chat(messages: Iterable[Mapping[str, Any]]) -> list[list[str]]:
    return [[clip(m["role"], 20), clip(m["content"])] for m in messages]


def _example(example: Mapping[str, Any]) -> dict[str, Any]:
    teacher = example.get("teacher")
    return {
        **{key: example.get(key) for key in ("turn", "shed", "weight", "advantage", "left_out")},
        "teacher": None if teacher is None else _chat(teacher),
        "tokens": list(example.get("tokens", ()))[:_MAX_TOKENS],
    }
