"""A run's playbook over time, as data for a page: additions, tags, evictions and texts.

Reads `context/` of a run folder. A method that keeps a list of entries under `playbook` gets a time
machine, whatever else it keeps. Left out: contexts of other shapes, which are ignored.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from resd_bench.records.run_files import RunFiles
from resd_bench.report.html.page import clip

MAX_SAID = 48
"""Maximum number of reflections, and of curations, shown of one update."""
_SAID_CHARS = 4000


def contexts(folder: Path) -> Mapping[int, Mapping[str, Any]]:
    """What the method wrote, by number of the update (from 1)."""
    return RunFiles.at(folder).numbered("context") if folder.is_dir() else {}


def time_machine(by_update: Mapping[int, Mapping[str, Any]]) -> dict[str, Any] | None:
    """The states of a playbook, one per update; None if no update has one."""
    entries: dict[str, dict[str, Any]] = {}
    states = []
    for update, context in sorted(by_update.items()):
        held = _entries(context.get("playbook"))
        for entry in held:
            known = entries.setdefault(
                entry["id"],
                {"section": entry["section"], "content": entry["content"], "born": update},
            )
            known["last"] = update
        states.append(
            {
                "update": update,
                "held": [[e["id"], e["helpful"], e["harmful"]] for e in held],
                "added": _names(context.get("added")),
                "evicted": _names(context.get("evicted")),
                "reflections": [_reflection(r) for r in _dicts(context.get("reflections"))],
                "curations": [_curation(c) for c in _dicts(context.get("curations"))],
            }
        )
    spoken = any(state["held"] or state["reflections"] for state in states)
    return {"entries": entries, "states": states} if spoken else None


def reflections_by_task(context: Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """The reflections of an update by task, in the order of its failed attempts."""
    found: dict[str, list[dict[str, Any]]] = {}
    every = context.get("reflections")
    for said in every if isinstance(every, list) else ():
        if isinstance(said, dict):
            found.setdefault(str(said.get("task", "")), []).append(_reflection(said))
    return found


def _dicts(value: Any) -> list[dict[str, Any]]:
    return [v for v in value if isinstance(v, dict)][:MAX_SAID] if isinstance(value, list) else []


def _names(value: Any) -> list[str]:
    return [clip(v, 80) for v in value] if isinstance(value, list) else []


def _entries(value: Any) -> list[dict[str, Any]]:
    rows = [v for v in value if isinstance(v, dict)] if isinstance(value, list) else []
    return [
        {
            "id": clip(row.get("id", ""), 80),
            "section": clip(row.get("section", ""), 120),
            "content": clip(row.get("content", ""), _SAID_CHARS),
            "helpful": _count(row.get("helpful")),
            "harmful": _count(row.get("harmful")),
        }
        for row in rows
    ]


def _count(value: Any) -> int:
    return int(value) if isinstance(value, int) else 0


def _reflection(row: Mapping[str, Any]) -> dict[str, Any]:
    tags = row.get("tags")
    pairs: Sequence[tuple[Any, Any]] = list(tags.items()) if isinstance(tags, dict) else []
    return {
        "task": clip(row.get("task", ""), 300),
        "text": clip(row.get("text", ""), _SAID_CHARS),
        "parsed": row.get("parsed") is not False,
        "tags": [[clip(name, 80), clip(tag, 20)] for name, tag in pairs[:200]],
    }


def _curation(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "task": clip(row.get("task", ""), 300),
        "text": clip(row.get("text", ""), _SAID_CHARS),
        "parsed": row.get("parsed") is not False,
        "additions": [clip(a.get("content", ""), 1000) for a in _dicts(row.get("additions"))],
    }
