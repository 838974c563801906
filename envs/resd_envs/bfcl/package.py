"""Scenarios and tools of the installed package bfcl-eval, read as text.

Nothing of the package is imported, so its other dependencies, which conflict with ours, need not
be there. Left out: its categories other than `multi_turn_base`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from resd_bench.errors import UsageError
from resd_bench.files import reading
from resd_bench.plugins import Check

PACKAGE = "bfcl-eval"
INSTALL = "pip install --no-deps bfcl-eval==2026.3.23"
"""An extra cannot name it: what it depends on conflicts with what we depend on."""
NAME = "BFCL_v4_multi_turn_base.json"
SOURCES: Mapping[str, str] = {
    "GorillaFileSystem": "gorilla_file_system",
    "MathAPI": "math_api",
    "MessageAPI": "message_api",
    "TicketAPI": "ticket_api",
    "TradingBot": "trading_bot",
    "TravelAPI": "travel_booking",
    "TwitterAPI": "posting_api",
    "VehicleControlAPI": "vehicle_control",
}
"""The module of each class, and the file that describes its functions."""
_OWN_IMPORT = re.compile(r"^from bfcl_eval\.\S+ import \([^)]*\)\n", re.MULTILINE)
_BELONGS = re.compile(r"^This tool belongs to .*? Tool description: ", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Scenario:
    """Requests that a user makes one after another, and the calls that fulfil each."""

    id: str
    requests: tuple[str, ...]
    truth: tuple[tuple[str, ...], ...]
    """Calls, as the package writes them, for each request."""
    config: Mapping[str, Any]
    """State that each class begins with."""
    classes: tuple[str, ...]
    excluded: tuple[str, ...]
    """Functions that are not offered."""


def find_package() -> Path:
    """The folder of the installed package; UsageError where it is missing."""
    spec = find_spec("bfcl_eval")
    for place in (spec.submodule_search_locations if spec else None) or ():
        if (Path(place) / "data" / NAME).is_file():
            return Path(place)
    raise UsageError(f"bfcl needs the package bfcl-eval: {INSTALL}")


def bfcl_checks() -> list[Check]:
    """What `resd-bench doctor` says of the package."""
    try:
        find_package()
        return [Check("bfcl", True, version(PACKAGE))]
    except (UsageError, PackageNotFoundError):
        return [Check("bfcl", False, "not installed (optional)", INSTALL)]


@cache
def scenarios(folder: Path) -> tuple[Scenario, ...]:
    """All scenarios, in the order of the package."""
    answers = {
        row["id"]: row["ground_truth"] for row in _rows(folder / "data/possible_answer" / NAME)
    }
    return tuple(
        Scenario(
            id=row["id"],
            requests=tuple(turn[0]["content"] for turn in row["question"]),
            truth=tuple(map(tuple, answers[row["id"]])),
            config=row["initial_config"],
            classes=tuple(row["involved_classes"]),
            excluded=tuple(row.get("excluded_function", ())),
        )
        for row in _rows(folder / "data" / NAME)
    )


@cache
def source_of(folder: Path, name: str) -> str:
    """The source of a class, without imports from its own package."""
    place = folder / "eval_checker/multi_turn_eval/func_source_code" / f"{SOURCES[name]}.py"
    return _OWN_IMPORT.sub("", reading.read_text(place))


@cache
def functions_of(folder: Path, name: str) -> Sequence[Mapping[str, Any]]:
    """What a class offers, as the package describes it."""
    return _rows(folder / "data/multi_turn_func_doc" / f"{SOURCES[name]}.json")


def describe(function: Mapping[str, Any], *, brief: bool) -> str:
    """A function for a reader: its signature; unless `brief`, what it and its parameters mean."""
    parameters = function["parameters"]["properties"]
    required = set(function["parameters"].get("required", ()))
    words = [
        name if name in required else f"{name}={about.get('default')!r}"
        for name, about in parameters.items()
    ]
    head = f"{function['name']}({', '.join(words)})"
    if brief:
        return head
    lines = [f"{head}: {_BELONGS.sub('', function['description'])}"]
    lines += [
        f"    {name} ({about['type']}): {about.get('description', '')}".rstrip()
        for name, about in parameters.items()
    ]
    return "\n".join(lines)


def _rows(path: Path) -> list[dict[str, Any]]:
    lines = reading.read_bytes(path).splitlines()
    return [reading.parse_json(line) for line in lines if line.strip()]
