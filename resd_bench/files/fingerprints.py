"""A hash of a value's content, the same in every process, and how two identities differ."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import fields, is_dataclass
from functools import cache, cached_property, partial
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any

Identity = Mapping[str, str]
"""Hashes or versions by what they describe; whatever is unknown is absent."""


def fingerprint(value: Any) -> bytes:
    """SHA-256 of a value's content, the same in every process; fields of objects count.

    The order of mappings and sets does not matter; a list equals the same tuple, and an object the
    mapping of its fields. Code counts by its name, and an object without fields by its text, unless
    that is its address in memory.
    """
    try:
        text = _text(value, ())
    except RecursionError:
        text = "nested too deeply"
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


CODE = (type, FunctionType, BuiltinFunctionType, MethodType)


def _text(value: Any, around: tuple[int, ...]) -> str:
    """A value's content as text; `around` holds the objects that contain it."""
    if type(value) is str:
        # Most values are; checks of abstract classes would take longer than the rest.
        return f"{len(value)}:{value};"
    if value is None or isinstance(value, bool | int | float):
        return f"{value!r};"
    if isinstance(value, str):
        # The length is included so that no text can pass for another value.
        return f"{len(value)}:{value};"
    if isinstance(value, bytes):
        return f"b{value.hex()};"
    if id(value) in around:
        return "itself;"
    inside = (*around, id(value))
    kind: Any = type(value)
    if names := _field_names(kind):
        # As pairs would be: most objects are of this kind, and a pair costs a call.
        pairs = [f"[{len(n)}:{n};{_text(getattr(value, n), inside)}]" for n in names]
        return f"{{{''.join(sorted(pairs))}}}"
    ordered, parts = _parts(value)
    # Most parts are texts, which need no call either.
    texts = [f"{len(p)}:{p};" if type(p) is str else _text(p, inside) for p in parts]
    return f"[{''.join(texts)}]" if ordered else f"{{{''.join(sorted(texts))}}}"


def _parts(value: Any) -> tuple[bool, Iterable[Any]]:
    """The values that a value contains, and whether their order matters."""
    if isinstance(value, list | tuple):
        return True, value
    if isinstance(value, Mapping):
        return False, list(value.items())
    if isinstance(value, set | frozenset):
        return False, value
    if isinstance(value, Sequence):
        return True, list(value)
    if isinstance(value, partial):
        return True, ["partial", value.func, value.args, value.keywords]
    if isinstance(value, CODE):
        return True, ["code", value.__qualname__]
    if hasattr(value, "tolist"):
        return True, ["array", value.tolist()]
    if own := _fields(value):
        return False, list(own.items())
    text = repr(value)
    return True, [type(value).__qualname__, "" if " at 0x" in text else text]


@cache
def _field_names(kind: type) -> tuple[str, ...]:
    """Those of a dataclass that is nothing else; checking every object would take much longer."""
    if not is_dataclass(kind) or issubclass(kind, Mapping | Set | Sequence):
        return ()
    return () if hasattr(kind, "tolist") else tuple(field.name for field in fields(kind))


def _fields(value: Any) -> dict[str, Any]:
    """The fields of an object, without values that it has cached from them."""
    if is_dataclass(value):
        return {f.name: getattr(value, f.name) for f in fields(value)}
    slots = (name for kind in type(value).__mro__ for name in getattr(kind, "__slots__", ()))
    own = {name: getattr(value, name) for name in slots if hasattr(value, name)}
    own |= getattr(value, "__dict__", {})
    kind = type(value)
    return {k: v for k, v in own.items() if not isinstance(getattr(kind, k, None), cached_property)}


def differing(there: Identity, here: Identity) -> list[str]:
    """What both identities know and do not agree on, in words."""
    return [
        f"{key} ({_brief(there[key])} then, {_brief(here[key])} now)"
        for key in there
        if key in here and there[key] != here[key]
    ]


def _brief(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:12]}…"
