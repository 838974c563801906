"""What a run writes, field by field: JSON Schemas, which are data of this package.

There is one schema for each file of the run directory; that of a log describes a line.
`docs/records.md` is made from them. Adding a field does not change the version, since readers
ignore unknown fields. Removing a field, or changing its meaning, makes a new version. `config.json`
is made from `RunConfig`:

    python -m resd_bench.records.schema.config_schema

Left out: contexts and checkpoints, whose content depends on the method; and validation other than
of types: the schemas are JSON Schema 2020-12, for which every language has validators.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from resd_bench.errors import near_miss

VERSION = 1
"""Version of the records that runs write, in `manifest.json`; records without it have 1."""

SCHEMAS = (
    *("config", "manifest", "status", "summary"),
    *("metrics", "evals", "answers", "episodes", "kept_episodes"),
)
"""The schemas, in the order of the document."""

Schema = Mapping[str, Any]


def load(name: str) -> dict[str, Any]:
    """The schema called `name`; UsageError if there is none."""
    if name not in SCHEMAS:
        raise near_miss("schema", name, SCHEMAS)
    text = files("resd_bench.records.schema").joinpath(f"{name}.json").read_text(encoding="utf-8")
    loaded: dict[str, Any] = json.loads(text)
    return loaded


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a record, for a reader."""

    name: str
    """Including the names of enclosing fields: `turns[].tokens`."""
    type: str
    always: bool
    """Whether every record has it, including old ones."""
    meaning: str


def fields(schema: Schema) -> Iterator[Field]:
    """Every field of a schema and of the objects in it, in order."""
    yield from _fields(schema, schema, "")


def _fields(schema: Schema, whole: Schema, prefix: str) -> Iterator[Field]:
    required = schema.get("required", ())
    named = {**schema.get("properties", {}), **schema.get("patternProperties", {})}
    for key, raw in named.items():
        own = _resolved(raw, whole)
        # Programs use the pattern; readers see its title.
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


_KINDS: Mapping[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
}
"""The Python types that `json` returns for each type."""


def mistyped(name: str, row: Mapping[str, Any]) -> str | None:
    """The first field of a record of schema `name` that has a wrong type, in words; else None.

    Missing fields and ranges of numbers are not checked.
    """
    own = _loaded(name)
    return _mistyped(row, own, own, "")


@cache
def _loaded(name: str) -> dict[str, Any]:
    return load(name)


def _mistyped(value: Any, raw: Schema, whole: Schema, where: str) -> str | None:
    own = _resolved(raw, whole)
    if not _is_of(value, own):
        return f"{where or 'it'} is {json.dumps(value)[:60]}: expected {_type(own, whole)}"
    inside: list[tuple[str, Any, Schema]] = []
    if isinstance(value, dict):
        fields_ = ((key, item, _schema_of(key, own)) for key, item in value.items())
        inside = [(f"{where}.{k}".lstrip("."), item, s) for k, item, s in fields_ if s is not None]
    elif isinstance(value, list) and "items" in own:
        inside = [(f"{where}[{i}]", item, own["items"]) for i, item in enumerate(value)]
    found = (_mistyped(item, schema, whole, place) for place, item, schema in inside)
    return next((problem for problem in found if problem), None)


def _schema_of(key: str, own: Schema) -> Schema | None:
    """The schema of a field, None if it is not described."""
    found: Schema | None = own.get("properties", {}).get(key)
    patterns = own.get("patternProperties", {}).items()
    return found or next((s for pattern, s in patterns if re.search(pattern, key)), None)


def _is_of(value: Any, own: Schema) -> bool:
    if "enum" in own:
        return value in own["enum"]
    kinds = own.get("type")
    if kinds is None:
        return True
    allowed = [kind for k in ([kinds] if isinstance(kinds, str) else kinds) for kind in _KINDS[k]]
    return type(value) in allowed


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


def records_page(schema: Schema) -> str:
    """The fields of a schema as a Markdown table."""
    lines = ["| field | type | always | meaning |", "|---|---|---|---|"]
    for field in fields(schema):
        name = field.name if field.name.startswith("*") else f"`{field.name}`"
        cells = [name, field.type, "yes" if field.always else "", field.meaning]
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines)
