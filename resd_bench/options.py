"""Options as fields of a dataclass: the type with its range, and the meaning in a docstring below.

    @dataclass(frozen=True)
    class MyOptions(InRanges):
        window: Annotated[int, POSITIVE] = 4
        \"\"\"Updates that success is averaged over.\"\"\"

The field alone determines how text is converted (`coerce`), the range check, the wording of
`--help` and of errors, and the JSON Schema; pydantic does the work, and is imported only when a
value is converted. Left out: which options there are.
"""

from __future__ import annotations

import ast
import inspect
import math
import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from functools import cache, partial, reduce
from itertools import pairwise
from operator import or_
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, get_args, get_origin
from typing import get_type_hints as _hints

from resd_bench.errors import UsageError, near_miss

if TYPE_CHECKING:
    from pydantic import TypeAdapter

EXACT = 2**53
"""Whole numbers up to this are exact as floats; beyond it, some become equal."""
_OUTSIDE = ("greater_than", "greater_than_equal", "less_than", "less_than_equal", "finite_number")
"""Pydantic's error types for numbers outside their range."""


@dataclass(frozen=True, slots=True)
class Range:
    """Finite numbers from `low` to `high`, possibly without the end points.

    As metadata in `Annotated`, pydantic reads it through the protocol of annotated-types.
    """

    low: float = -math.inf
    high: float = math.inf
    without_low: bool = False
    without_high: bool = False

    def __contains__(self, value: object) -> bool:
        """Whether `value` is a finite number in the range; true and false are not numbers."""
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        # A whole number of 400 digits is finite, but does not fit a float.
        finite = isinstance(value, int) or math.isfinite(value)
        above = value > self.low if self.without_low else value >= self.low
        below = value < self.high if self.without_high else value <= self.high
        return finite and above and below

    def __str__(self) -> str:
        """`at least 1`, `above 0`, `in (0, 1]`, `from 0 to 5`."""
        if math.isinf(self.high):
            return f"above {self.low:.10g}" if self.without_low else f"at least {self.low:.10g}"
        if not (self.without_low or self.without_high):
            return f"from {self.low:.10g} to {self.high:.10g}"
        left, right = "(" if self.without_low else "[", ")" if self.without_high else "]"
        return f"in {left}{self.low:.10g}, {self.high:.10g}{right}"

    @property
    def __is_annotated_types_grouped_metadata__(self) -> Literal[True]:
        return True

    def __iter__(self) -> Iterator[object]:
        """The bounds of annotated-types that mean the same."""
        from annotated_types import Ge, Gt, Le, Lt

        if math.isfinite(self.low):
            yield Gt(self.low) if self.without_low else Ge(self.low)
        if math.isfinite(self.high):
            yield Lt(self.high) if self.without_high else Le(self.high)


POSITIVE, NOT_NEGATIVE, ABOVE_0 = Range(1), Range(0), Range(0, without_low=True)
SHARE, NUCLEUS = Range(0, 1), Range(0, 1, without_low=True)
NEVER_ALL = Range(0, 1, without_high=True)


@cache
def field_types(kind: Any) -> Mapping[str, Any]:
    """The type of each field of a dataclass, with its `Range` if it has one."""
    return _hints(kind, include_extras=True)


def range_of(hint: Any) -> Range | None:
    """The range that `Annotated` gives a type; None without one."""
    if get_origin(hint) is not Annotated:
        return None
    return next((own for own in get_args(hint)[1:] if isinstance(own, Range)), None)


class InRanges:
    """A dataclass whose numbers are checked against the ranges of their fields when it is made."""

    def __post_init__(self) -> None:
        own: Any = type(self)
        for name, hint in field_types(own).items():
            value, allowed = getattr(self, name), range_of(hint)
            if allowed is not None and value is not None and value not in allowed:
                raise ValueError(f"{name}: expected a value {allowed}, got {value!r}")


@cache
def field_help(kind: type) -> dict[str, str]:
    """The docstring under each field of a dataclass, inherited ones included, as one line."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(kind)))
    body = tree.body[0].body if isinstance(tree.body[0], ast.ClassDef) else []
    found: dict[str, str] = {}
    for parent in filter(is_dataclass, reversed(kind.__bases__)):
        found |= field_help(parent)
    for node, after in pairwise(body):
        if not (isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)):
            continue
        if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
            found[node.target.id] = " ".join(str(after.value.value).split())
    return found


# Conversion.


def coerce(name: str, value: Any, hint: Any) -> Any:
    """`value`, often a string, as the type `hint`; UsageError says what was expected."""
    from pydantic import ValidationError

    try:
        return _adapter(hint).validate_python(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
    if first["type"] not in _OUTSIDE:
        raise UsageError(f"{name}: expected {_describe(hint)}, got {value!r}")
    allowed = range_of(hint)
    wanted = f"a value {allowed}" if allowed else "a finite number"
    raise UsageError(f"{name}: expected {wanted}, got {first['input']!r}")


def options_from(kind: type, given: Mapping[str, Any], group: str, name: str) -> Any:
    """The dataclass `kind` made from `given`, the options of the `group` (method) called `name`.

    UsageError for an option that is unknown, ill-typed or out of range.
    """
    hints = field_types(kind)
    known = [f.name for f in fields(kind)]
    for key in given:
        if key not in known:
            raise near_miss(
                f"option of {group} {name}", key, known, f"resd-bench {group}s info {name}"
            )
    values = {k: coerce(f"{group}.{k}", v, hints[k]) for k, v in given.items()}
    try:
        return kind(**values)
    except (TypeError, ValueError) as error:
        raise UsageError(f"{group} {name}: {error}. Check --set {group}.NAME=VALUE") from None


def json_schema(hint: Any) -> dict[str, Any]:
    """The JSON Schema of the type `hint`."""
    return _flat(_adapter(hint).json_schema())


def _flat(schema: Mapping[str, Any]) -> dict[str, Any]:
    """A schema without pydantic's nesting: `null` is one of the types or values."""
    kept = {key: own for key, own in schema.items() if key != "additionalProperties"}
    if "const" in kept:
        kept["enum"] = [kept.pop("const")]
    if "enum" in kept:
        kept.pop("type", None)
    options = kept.pop("anyOf", None)
    if options is None:
        return kept
    one, null = map(_flat, options)
    if "enum" in one:
        return {"enum": [*one["enum"], None]}
    return {**one, "type": [one["type"], null["type"]]}


@cache
def _adapter(hint: Any) -> TypeAdapter[Any]:
    from pydantic import ConfigDict, TypeAdapter

    settings = ConfigDict(
        allow_inf_nan=False, arbitrary_types_allowed=True, coerce_numbers_to_str=True
    )
    return TypeAdapter(_as_written(hint), config=settings)


def _as_written(hint: Any) -> Any:
    """`hint` for pydantic, so that it accepts what people write: `none`, `1e3`, `a,b`.

    It then refuses what pydantic accepts too easily: true as a number, and a float that may have
    been a different whole number.
    """
    from pydantic import BeforeValidator, InstanceOf

    if get_origin(hint) is Annotated:
        base, *metadata = get_args(hint)
        return _with(base, tuple(metadata))
    origin, inner = get_origin(hint) or hint, get_args(hint)
    if origin in (Union, UnionType):
        return _with(hint, ())
    if origin is Literal:
        return Annotated[hint, BeforeValidator(partial(_chosen, inner))]
    if hint is str:
        return Annotated[str, BeforeValidator(_text)]
    if hint in (int, float):
        return Annotated[hint, BeforeValidator(_whole if hint is int else _number)]
    if origin in (tuple, list):
        of = tuple(own if own is ... else _as_written(own) for own in inner)
        return Annotated[origin[of] if of else origin, BeforeValidator(_listed)]
    known = hint in (Any, bool, NoneType) or origin in (dict, Mapping)
    instance: Any = InstanceOf
    return hint if known else instance[hint]


def _with(hint: Any, metadata: tuple[Any, ...]) -> Any:
    """A type, or each type of a union, with `metadata`, as in `_as_written`."""
    from pydantic import BeforeValidator, Field

    if get_origin(hint) not in (Union, UnionType):
        # Bounds come before the conversion of text, so that they apply to the number.
        own = _as_written(hint)
        read = own.__metadata__ if get_origin(own) is Annotated else ()
        return Annotated[hint, *metadata, *read] if metadata else own
    options = [_with(own, metadata) for own in get_args(hint) if own is not NoneType]
    several: Any = reduce(or_, options)
    one: Any = Annotated[several, Field(union_mode="left_to_right")] if options[1:] else several
    if NoneType not in get_args(hint):
        return one
    optional: Any = one | None
    return Annotated[optional, BeforeValidator(_none)]


def _none(value: Any) -> Any:
    return None if isinstance(value, str) and value in ("none", "null", "None", "") else value


def _chosen(choices: Sequence[Any], value: Any) -> Any:
    """The choice that `value` is or spells."""
    return next((own for own in choices if value == own or str(value) == str(own)), value)


def _listed(value: Any) -> Any:
    return value.split(",") if isinstance(value, str) else value


def _text(value: Any) -> Any:
    if isinstance(value, bytes | bytearray):
        raise ValueError("bytes are not text")
    return value


def _number(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("true and false are not numbers")
    return value


def _whole(value: Any) -> int:
    """An exact whole number: one that went through a float must be small enough to be exact."""
    if isinstance(_number(value), int):
        return int(value)
    if isinstance(value, str) and re.fullmatch(r"\s*[+-]?\d[\d_]*\s*", value):
        return int(value)
    try:
        number = float(value)
        whole = int(number)
    except (TypeError, OverflowError) as error:
        raise ValueError(str(error)) from None
    if number != whole or abs(number) >= EXACT:
        raise ValueError("not a whole number, exactly")
    return whole


def names_in(text: str | None) -> list[str]:
    """The names in a list such as `a,b,c`; none if `text` is None."""
    return [part.strip() for part in (text or "").split(",") if part.strip()]


NUMBERS = re.compile(r"\s*([0-9]{1,19})(?:-([0-9]{1,19}))?\s*")
MOST_NUMBERS = 100_000


def whole_numbers(name: str, text: str) -> list[int]:
    """The numbers of a list such as `3`, `0-4` or `0,2-4`; UsageError names what is wrong."""
    ranges = [NUMBERS.fullmatch(part) for part in text.split(",")]
    spans = [range(int(own[1]), int(own[2] or own[1]) + 1) for own in ranges if own]
    if not all(ranges) or not all(spans):
        raise UsageError(f"{name}: {text!r} is not a list of numbers: give 0,1,2 or 0-4")
    if sum(map(_length, spans)) > MOST_NUMBERS:
        raise UsageError(f"{name}: {text!r} is too long: give at most {MOST_NUMBERS:,} numbers")
    numbers = [number for span in spans for number in span]
    if len(set(numbers)) < len(numbers):
        raise UsageError(f"{name}: {text!r} has a number twice: give 0,1,2 or 0-4")
    return numbers


def _length(span: range) -> int:
    # `len` cannot count beyond 2^63.
    return span.stop - span.start


# Words.

_NAMES: Mapping[Any, str] = {
    **{int: "a whole number", float: "a number", str: "text", bool: "true or false"},
    **{NoneType: "none", dict: "a mapping", list: "a list", tuple: "a list"},
}


def notation(hint: Any) -> str:
    """A type with its range for a table: `integer, at least 1, or none`."""
    if (allowed := range_of(hint)) is not None:
        kind, *none = notation(get_args(hint)[0]).split(" or ")
        return ", or ".join([f"{kind} {allowed}", *none])
    hint = get_args(hint)[0] if get_origin(hint) is Annotated else hint
    if get_origin(hint) in (Union, UnionType):
        return " or ".join(notation(option) for option in get_args(hint))
    if get_origin(hint) is Literal:
        return "|".join(map(str, get_args(hint)))
    names = {int: "integer", str: "text", bool: "true|false", NoneType: "none"}
    return names.get(hint, str(getattr(hint, "__name__", hint)))


def _describe(hint: Any) -> str:
    """What to write for the type `hint`: `a whole number or none`."""
    if get_origin(hint) is Annotated:
        return _describe(get_args(hint)[0])
    if get_origin(hint) in (Union, UnionType):
        return " or ".join(_describe(option) for option in get_args(hint))
    if get_origin(hint) is Literal:
        return " or ".join(repr(choice) for choice in get_args(hint))
    return _NAMES.get(get_origin(hint) or hint, str(getattr(hint, "__name__", hint)))
