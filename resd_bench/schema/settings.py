"""Make `config.json`, the schema of config.yaml, from `RunConfig`.

    python -m resd_bench.schema.settings

A test holds that the file is up to date. Left out: options of methods and environments, which
plugins define.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import MISSING, fields
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from resd_bench.config import RANGES, RunConfig, field_help
from resd_bench.ranges import Range
from resd_bench.schema import VERSION

PLACE = Path(__file__).parent / "config.json"
ALWAYS = ("env", "method", "model", "seed", "budget")
"""Settings of every record; one that is older than another setting lacks that, and means its
default."""
KINDS = {int: "integer", float: "number", str: "string", bool: "boolean"}


def config_schema() -> dict[str, Any]:
    """The schema of config.yaml; meanings are the docstrings that `run --help` shows."""
    helps, hints = field_help(RunConfig), get_type_hints(RunConfig)
    properties = {}
    for setting in fields(RunConfig):
        own = {"description": _one_line(helps[setting.name]), **_kind(hints[setting.name])}
        if setting.default is not MISSING:
            own["default"] = setting.default
        if setting.name in RANGES:
            own |= _limits(RANGES[setting.name])
        properties[setting.name] = own
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:resd-bench:record:{VERSION}:config",
        "title": "config.yaml",
        "description": "The resolved settings of a run; `run --config` takes it. Made from "
        "`RunConfig` by `python -m resd_bench.schema.settings`.",
        "type": "object",
        "required": list(ALWAYS),
        "properties": properties,
    }


def _limits(allowed: Range) -> dict[str, float]:
    low = "exclusiveMinimum" if allowed.without_low else "minimum"
    high = "exclusiveMaximum" if allowed.without_high else "maximum"
    limits = {low: allowed.low, high: allowed.high}
    return {name: limit for name, limit in limits.items() if math.isfinite(limit)}


def _one_line(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip()


def _kind(hint: Any) -> dict[str, Any]:
    if get_origin(hint) is dict:
        return {"type": "object"}
    if get_origin(hint) is Literal:
        return {"enum": list(get_args(hint))}
    if hint in KINDS:
        return {"type": KINDS[hint]}
    one, *rest = (option for option in get_args(hint) if option is not NoneType)
    if rest or NoneType not in get_args(hint):
        raise TypeError(f"a setting of the type {hint} has no schema yet: add it here")
    inside = _kind(one)
    if "enum" in inside:
        return {"enum": [*inside["enum"], None]}
    return {"type": [inside["type"], "null"]}


def text() -> str:
    """The content of `config.json`."""
    return json.dumps(config_schema(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    PLACE.write_text(text(), encoding="utf-8")
    print(PLACE)
