"""Parses what a child sent into plain data: strict, bounded, without classes.

Nothing that a program chose is hashed here: sets and dicts stay sequences, so a flood of colliding
keys does no harm. A report is one JSON object with one key; see `resd_bench.sandbox.plain` for the
tags of values.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from itertools import accumulate
from typing import Any

from resd_bench.sandbox.plain import MAX_DEPTH, PlainDict, PlainSet

MAX_INT_LITERAL = 20
MAX_FLOAT_LITERAL = 40
MAX_HEX_DIGITS = 1 << 16
PRINTABLE_BITS = 14_284
"""Longer integers may have more than 4300 decimal digits, which Python refuses to print."""
STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)', re.DOTALL)
"""A string, or the rest of the line if one is never closed, so that no quote is tried twice."""
BRACKETS = b"[]{}"
NOT_BRACKETS = bytes(set(range(256)) - set(BRACKETS))
STEP = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}
NESTING = 4 * MAX_DEPTH + 8
"""Brackets that a value of `MAX_DEPTH` may need: a dict takes an object, a list and a pair."""


class BadWire(ValueError):
    """A line that no honest child sends; the message says what is wrong with it."""


class _Object(tuple[str, Any]):
    """A JSON object of one key."""

    __slots__ = ()


_NESTED = (list, _Object)


def read_report(line: bytes) -> tuple[str, Any]:
    """The key and the body of one line; BadWire if it is anything but one report."""
    tree = _parse(line)
    if type(tree) is not _Object:
        raise BadWire("not a report")
    return tree[0], tree[1]


def _parse(line: bytes) -> Any:
    _check_nesting(line)
    try:
        return DECODER.decode(line.decode("ascii"))
    except BadWire:
        raise
    except (ValueError, RecursionError, MemoryError) as error:
        raise BadWire(f"not JSON in ASCII ({type(error).__name__})") from None


def _check_nesting(line: bytes) -> None:
    # Checked before parsing, which recurses in C as deeply as the host's recursion limit allows.
    if line.count(b"[") + line.count(b"{") <= NESTING:
        return
    brackets = STRING.sub(b"", line).translate(None, NOT_BRACKETS)
    if max(accumulate(STEP[byte] for byte in brackets), default=0) > NESTING:
        raise BadWire("nested too deeply")


def _no_constant(text: str) -> Any:
    raise BadWire("a constant that is not JSON")


def _int(text: str) -> int:
    if len(text) > MAX_INT_LITERAL:
        raise BadWire("an integer literal that is too long")
    return int(text)


def _float(text: str) -> float:
    if len(text) > MAX_FLOAT_LITERAL:
        raise BadWire("a float literal that is too long")
    number = float(text)
    if not math.isfinite(number):
        raise BadWire("a float literal out of range")
    return number


def _object(pairs: list[tuple[str, Any]]) -> _Object:
    if len(pairs) != 1:
        raise BadWire(f"an object with {len(pairs)} keys")
    return _Object(pairs[0])


DECODER = json.JSONDecoder(
    parse_constant=_no_constant,
    parse_int=_int,
    parse_float=_float,
    object_pairs_hook=_object,
)


def value(tree: Any) -> Any:
    """The plain value of a parsed tree; BadWire for unknown tags and malformed bodies."""
    return Reader().value(tree)


class Reader:
    """Turns the parsed tree of one report into a plain value."""

    def __init__(self) -> None:
        self.unprintable = False
        """Whether it encountered an integer that is too long to print."""

    def value(self, tree: Any, depth: int = 0) -> Any:
        """The plain value of a tree; BadWire for unknown tags and malformed bodies."""
        if depth > MAX_DEPTH:
            raise BadWire("nested too deeply")
        if type(tree) is list:
            # Most values are numbers: a call for each would double the time.
            deeper = depth + 1
            return [self.value(i, deeper) if type(i) in _NESTED else i for i in tree]
        if type(tree) is not _Object:
            return tree
        tag, body = tree
        if tag in ("i", "f", "b"):
            return self._scalar(tag, body)
        if type(body) is not list:
            raise BadWire("a container without a list")
        if tag == "d":
            return PlainDict([self._pair(item, depth + 1) for item in body])
        if tag == "c":
            return _complex([self.value(part, depth + 1) for part in body])
        kind = _CONTAINERS.get(tag)
        if kind is None:
            raise BadWire("an unknown tag")
        return kind([self.value(item, depth + 1) for item in body])

    def _scalar(self, tag: str, body: Any) -> Any:
        if type(body) is not str:
            raise BadWire(f"the body of {tag!r} is not text")
        if tag == "f":
            if body not in ("nan", "inf", "-inf"):
                raise BadWire("an unknown float")
            return float(body)
        if tag == "b":
            if not re.fullmatch("(?:[0-9a-f]{2})*+", body):
                raise BadWire("bytes that are not hexadecimal")
            return bytes.fromhex(body)
        if len(body) > MAX_HEX_DIGITS or not re.fullmatch("-?0x[0-9a-f]++", body):
            raise BadWire("a malformed or too long integer")
        number = int(body, 16)
        self.unprintable |= number.bit_length() > PRINTABLE_BITS
        return number

    def _pair(self, tree: Any, depth: int) -> tuple[Any, Any]:
        if type(tree) is not list or len(tree) != 2:
            raise BadWire("a dict entry that is not a pair")
        return self.value(tree[0], depth), self.value(tree[1], depth)


_CONTAINERS: Mapping[str, type[tuple[Any, ...]]] = {"t": tuple, "s": PlainSet}


def _complex(parts: list[Any]) -> complex:
    # Integers are not allowed here, and some are too large to become floats.
    if len(parts) != 2 or not all(type(part) is float for part in parts):
        raise BadWire("a malformed complex number")
    return complex(*parts)
