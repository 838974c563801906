"""Plain values to and from their wire format: JSON with one-key objects for what JSON lacks.

`t` tuple, `d` dict, `s` set, `i` big integer, `f` NaN and infinities, `b` bytes, `c` complex. Runs
in the parent for arguments and in the child, next to the program, for results; what the child sends
is a claim, which `resd_bench.sandbox.wire` parses strictly. Imports only the standard library.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any

MAX_DEPTH = 60
EXACT_INT = 1 << 53
"""JSON parsers agree on integers below this."""
_PLAIN: tuple[type, ...] = (
    str,
    bool,
    int,
    float,
    list,
    tuple,
    dict,
    complex,
    bytes,
    bytearray,
    deque,
    set,
    frozenset,
)


APPLICABLE: Mapping[str, Callable[[Any], Any]] = {
    function.__name__: function
    for function in (
        *(list, tuple, set, frozenset, dict, str, int, float, bool),
        *(sorted, len, sum, min, max, any, all, abs),
    )
}
"""What a call may apply to a returned value, for example to an iterator."""


class PlainSet(tuple[Any, ...]):
    """The elements of a set, in the order they came; never hashed."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "{" + ", ".join(map(repr, self)) + "}" if self else "set()"


class PlainDict(tuple[tuple[Any, Any], ...]):
    """The (key, value) pairs of a dict, in the order they came; never hashed."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "{" + ", ".join(f"{key!r}: {item!r}" for key, item in self) + "}"


class NotPlain(Exception):
    """A value that cannot cross: the message names its type."""


def encode(value: Any, max_values: int) -> Any:
    """A tree that `json.dumps` accepts; subclasses of plain types lose their class.

    NotPlain for any other type, more than `max_values` values, or nesting that is too deep.
    """
    return _Encoder(max_values).encode(value, 0)


class _Encoder:
    def __init__(self, max_values: int) -> None:
        self.left = max_values

    def encode(self, value: Any, depth: int) -> Any:
        self.left -= 1
        if self.left < 0:
            raise NotPlain("too many values")
        if depth > MAX_DEPTH:
            raise NotPlain("nested too deeply")
        if value is None:
            return None
        # Neither isinstance nor `in`: they use the value's __class__ and its class's __eq__.
        kind = type(value)
        base: Any = next((plain for plain in _PLAIN if issubclass(kind, plain)), None)
        if base is None:
            return self.encode(_from_numpy(value), depth + 1)
        # Use the methods of the base class, never those of the value's class.
        if base is bool or base is str:
            return base.__str__(value) if base is str else value
        if base is int:
            whole = int.__int__(value)
            return whole if -EXACT_INT < whole < EXACT_INT else {"i": hex(whole)}
        if base is float:
            return _encode_float(float.__float__(value))
        if base is complex:
            number = complex.__complex__(value)
            return {"c": [_encode_float(number.real), _encode_float(number.imag)]}
        if base is bytes or base is bytearray:
            return {"b": base.hex(value)}
        return self.container(value, base, depth + 1)

    def container(self, value: Any, base: type, depth: int) -> Any:
        kind = type(value)
        if base is dict or kind is PlainDict:
            pairs = value if kind is PlainDict else dict.items(value)
            return {"d": [[self.encode(k, depth), self.encode(v, depth)] for k, v in pairs]}
        items = [self.encode(item, depth) for item in _items(value, base)]
        if base in (set, frozenset) or kind is PlainSet:
            return {"s": items}
        return {"t": items} if base is tuple else items


def _items(value: Any, base: Any) -> Iterable[Any]:
    items: Iterable[Any] = base.__iter__(value)
    return items


def _encode_float(number: float) -> Any:
    if number - number == 0:
        return number
    return {"f": "nan" if number != number else "inf" if number > 0 else "-inf"}


def _from_numpy(value: Any) -> Any:
    module = getattr(type(value), "__module__", "")
    if type(module) is str and module.split(".")[0] == "numpy" and hasattr(value, "tolist"):
        return value.tolist()
    raise NotPlain(f"a value of type {type(value).__name__} is not plain data")


def decode(tree: Any) -> Any:
    """The value of a tree that `encode` made from trusted arguments."""
    if isinstance(tree, list):
        return [decode(item) for item in tree]
    if not isinstance(tree, dict):
        return tree
    ((tag, body),) = tree.items()
    if tag == "i":
        return int(body, 16)
    if tag == "f":
        return float(body)
    if tag == "b":
        return bytes.fromhex(body)
    if tag == "c":
        return complex(decode(body[0]), decode(body[1]))
    if tag == "d":
        return {decode(key): decode(item) for key, item in body}
    return (tuple if tag == "t" else set)(decode(item) for item in body)
