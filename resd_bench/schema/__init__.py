"""What a run writes, field by field: JSON Schemas, which are data of this package.

One schema a file of the run directory; for a log it is that of a line. `docs/records.md` is made
from them. A new field leaves the version as it is: readers pass over what they do not know. A field
that goes, or means something else, makes a new version. `config.json` is made from `RunConfig`:

    python -m resd_bench.schema.settings

Left out: contexts and checkpoints, whose content is the method's; and a validator: the schemas are
JSON Schema 2020-12, which `jsonschema` and its like in other languages read.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from resd_bench.plugins import near_miss

VERSION = 1
"""Version of the records that runs write, in `manifest.json`; records without one are of 1."""

NAMES = (
    *("config", "manifest", "status", "summary"),
    *("metrics", "evals", "episodes", "kept_episodes"),
)
"""The schemas, in the order of the document."""

Schema = Mapping[str, Any]


def load(name: str) -> dict[str, Any]:
    """The schema called `name`; UsageError where there is none."""
    if name not in NAMES:
        raise near_miss("schema", name, NAMES)
    text = files("resd_bench.schema").joinpath(f"{name}.json").read_text(encoding="utf-8")
    loaded: dict[str, Any] = json.loads(text)
    return loaded


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a record, for a reader."""

    name: str
    """With the names of what it is in before it: `turns[].tokens`."""
    type: str
    always: bool
    """Whether every record has it, those older than it included."""
    meaning: str


def fields(schema: Schema) -> Iterator[Field]:
    """Every field of a schema and of the objects in it, in order."""
    yield from _fields(schema, schema, "")


def _fields(schema: Schema, whole: Schema, prefix: str) -> Iterator[Field]:
    required = schema.get("required", ())
    named = {**schema.get("properties", {}), **schema.get("patternProperties", {})}
    for key, raw in named.items():
        own = _resolved(raw, whole)
        # A pattern is for programs; its title is for readers.
        name = prefix + (key if key in schema.get("properties", {}) else f"*{own['title']}*")
        yield Field(name, _type(own, whole), key in required, own["description"])
        if "items" in own:
            yield from _fields(_resolved(own["items"], whole), whole, f"{name}[].")
        yield from _fields(own, whole, f"{name}.")


def _resolved(schema: Schema, whole: Schema) -> Schema:
    if "$ref" not in schema:
        return schema
    target = whole["$defs"][schema["$ref"].removeprefix("#/$defs/")]
    return {**target, **{key: value for key, value in schema.items() if key != "$ref"}}


TYPES = {
    "integer": "whole number",
    "boolean": "true or false",
    "string": "text",
    "array": "list",
    "null": "null",
}


def _type(schema: Schema, whole: Schema) -> str:
    if "enum" in schema:
        return ", ".join("null" if value is None else f"`{value}`" for value in schema["enum"])
    kinds = schema.get("type", "anything")
    names = [TYPES.get(kind, kind) for kind in ([kinds] if isinstance(kinds, str) else kinds)]
    if "items" in schema:
        inside = _type(_resolved(schema["items"], whole), whole)
        names[names.index("list")] = f"list of {inside}"
    return " or ".join(names)


def as_markdown(schema: Schema) -> str:
    """The fields of a schema as a Markdown table."""
    lines = ["| field | type | always | meaning |", "|---|---|---|---|"]
    for field in fields(schema):
        name = field.name if field.name.startswith("*") else f"`{field.name}`"
        cells = [name, field.type, "yes" if field.always else "", field.meaning]
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines)
