"""Make `config.json`, the schema of config.yaml, from `RunConfig`.

    python -m resd_bench.records.schema.config_schema

A test checks that the file is up to date. Left out: options of methods and environments, which
plugins define.
"""

from __future__ import annotations

import json
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

from resd_bench.config import RunConfig
from resd_bench.options import field_help, field_types, json_schema
from resd_bench.records.schema import VERSION

PLACE = Path(__file__).parent / "config.json"
ALWAYS = ("env", "method", "model", "seed", "budget")
"""Settings that every record has; a setting that was added later is missing in old records, and
means its default."""


def config_schema() -> dict[str, Any]:
    """The schema of config.yaml; meanings are the docstrings that `run --help` shows."""
    helps, types = field_help(RunConfig), field_types(RunConfig)
    properties = {}
    for setting in fields(RunConfig):
        own = {"description": helps[setting.name], **json_schema(types[setting.name])}
        if setting.default is not MISSING:
            own["default"] = setting.default
        properties[setting.name] = own
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:resd-bench:record:{VERSION}:config",
        "title": "config.yaml",
        "description": "The resolved settings of a run; `run --config` takes it. Made from "
        "`RunConfig` by `python -m resd_bench.records.schema.config_schema`.",
        "type": "object",
        "required": list(ALWAYS),
        "properties": properties,
    }


def text() -> str:
    """The content of `config.json`."""
    return json.dumps(config_schema(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    PLACE.write_text(text(), encoding="utf-8")
    print(PLACE)
