"""Python assertions read as data: what is called, with which arguments, and the expected result.

    assert candidate([1, 2], k=3) == [2, 1]

Nothing is executed. An assertion in a form that is not listed in `cases_of` raises `Unconvertible`:
a test that cannot be kept out of the child is not run at all.
"""

from __future__ import annotations

import ast
import builtins
import math
import operator
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from resd_bench.sandbox.plain import APPLICABLE, NotPlain, encode
from resd_envs.arithmetic import BINARY
from resd_envs.python_functions.problem import Case, Comparison

MAX_SIZE = 1_000_000
"""Maximum elements or characters of a constant."""
MAX_BITS = 100_000
"""Maximum bits of an intermediate whole number; Python writes at most 4,300 digits in the end."""
MOST_ALIKE = 5000
"""Maximum elements of a set with the same hash."""
MAX_WORK = 5_000_000
"""Maximum elements and characters of all values of a test together."""


class Unconvertible(Exception):
    """A test in an unknown form; the message quotes it."""


def parse(source: str) -> ast.Module:
    """The syntax tree of a test; Unconvertible if it does not parse."""
    try:
        return ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError, OverflowError) as error:
        raise Unconvertible(f"a test that does not parse: {type(error).__name__}") from None


def cases_of(body: Sequence[ast.stmt], function: str) -> tuple[Case, ...]:
    """Cases of the assertions in `body` about `function`.

    Calls on constant arguments, compared by `==`, `!=` or `is` with a constant, by `math.isclose`
    or `abs(call - constant) < tolerance`, or used as true or false; the call may be inside `set`,
    `sorted`, `len`, `list` and the like (`APPLICABLE`). Assignments of constants are followed;
    imports and bare strings are skipped.
    """
    reader = _Reader(function)
    cases = [case for statement in body for case in reader.statement(statement)]
    if not cases:
        raise Unconvertible(f"no assertion about {function}")
    return tuple(cases)


def called(body: Sequence[ast.stmt], solution: str) -> str:
    """The function that the assertions of `body` are about.

    The first that `solution` defines, because some have the name of a Python builtin; else the
    first that is not a Python builtin.
    """
    names = [
        node.func.id
        for statement in body
        for node in ast.walk(statement)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    ]
    defined = _defined(solution)
    for fits in (lambda name: name in defined, lambda name: not hasattr(builtins, name)):
        for name in filter(fits, names):
            return name
    raise Unconvertible("no function is called")


def _defined(program: str) -> set[str]:
    try:
        body = parse(program).body
    except Unconvertible:
        return set()
    return {node.name for node in body if isinstance(node, ast.FunctionDef)}


class _Reader:
    """Reads statements in order and remembers constants."""

    def __init__(self, function: str) -> None:
        self.function = function
        self.scope: dict[str, Any] = {}
        self.constants = Constants(self.scope)

    def statement(self, statement: ast.stmt) -> Iterator[Case]:
        if isinstance(statement, ast.Assert):
            yield from self.assertion(statement.test)
        elif isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
            self.scope[statement.targets[0].id] = self.constants.value(statement.value)
        elif not isinstance(statement, ast.Import | ast.ImportFrom | ast.Pass) and not (
            isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
        ):
            raise _unknown(statement)

    def assertion(self, test: ast.expr) -> Iterator[Case]:
        if isinstance(test, ast.BoolOp) and isinstance(test.op, ast.And):
            for part in test.values:
                yield from self.assertion(part)
        elif isinstance(test, ast.Constant) and test.value:
            return
        elif isinstance(test, ast.Compare) and len(test.ops) == 1:
            yield self.comparison(test.left, test.ops[0], test.comparators[0])
        elif isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
            yield replace(self.call(test.operand), check="falsy")
        elif _name_of(test) == "math.isclose" and isinstance(test, ast.Call):
            yield self.is_close(test)
        else:
            yield replace(self.call(test), check="truthy")

    def comparison(self, left: ast.expr, sign: ast.cmpop, right: ast.expr) -> Case:
        if isinstance(sign, ast.Lt | ast.LtE):
            return self.near(left, right)
        if not self.mentions(left):
            left, right = right, left
        checks: dict[type[ast.cmpop], Comparison] = {
            ast.Eq: "python",
            ast.Is: "equal",
            ast.NotEq: "differs",
        }
        if type(sign) not in checks:
            raise _unknown(left)
        expected, check = self.constants.value(right), checks[type(sign)]
        if check == "equal" and not (expected is None or isinstance(expected, bool)):
            raise _unknown(right)
        return replace(self.wrapped(left), expected=expected, check=check)

    def near(self, left: ast.expr, right: ast.expr) -> Case:
        """`abs(call - constant) < tolerance`, or with call and constant exchanged."""
        if _name_of(left) == "abs" and isinstance(left, ast.Call) and len(left.args) == 1:
            inside = left.args[0]
            if isinstance(inside, ast.BinOp) and isinstance(inside.op, ast.Sub):
                one, other = inside.left, inside.right
                if not self.mentions(one):
                    one, other = other, one
                return self.close(one, other, 0.0, self.constants.value(right))
        raise _unknown(left)

    def is_close(self, test: ast.Call) -> Case:
        options = {word.arg: self.constants.value(word.value) for word in test.keywords}
        if len(test.args) != 2 or not set(options) <= {"rel_tol", "abs_tol"}:
            raise _unknown(test)
        one, other = test.args
        if not self.mentions(one):
            one, other = other, one
        return self.close(one, other, options.get("rel_tol", 1e-9), options.get("abs_tol", 0.0))

    def close(self, call: ast.expr, expected: ast.expr, rel: Any, absolute: Any) -> Case:
        value = self.constants.value(expected)
        if not all(type(n) in (int, float) and _is_finite(n) for n in (value, rel, absolute)):
            raise _unknown(expected)
        case = replace(self.call(call), expected=value, check="close")
        return replace(case, rel=float(rel), abs=float(absolute))

    def wrapped(self, node: ast.expr) -> Case:
        name = _name_of(node)
        if name in APPLICABLE and name != self.function and isinstance(node, ast.Call):
            if len(node.args) != 1 or node.keywords:
                raise _unknown(node)
            return replace(self.call(node.args[0]), wrap=name)
        return self.call(node)

    def call(self, node: ast.expr) -> Case:
        if not isinstance(node, ast.Call) or _name_of(node) != self.function:
            raise _unknown(node)
        args = tuple(self.constants.value(argument) for argument in node.args)
        named = {word.arg: self.constants.value(word.value) for word in node.keywords}
        if None in named:
            raise _unknown(node)
        kwargs = {str(name): value for name, value in named.items()}
        try:
            encode([*args, *kwargs.values()], MAX_SIZE)
        except NotPlain as error:
            raise Unconvertible(str(error)) from None
        return Case(args=args, kwargs=kwargs)

    def mentions(self, node: ast.expr) -> bool:
        return any(_name_of(inner) == self.function for inner in ast.walk(node))


def _is_finite(number: float) -> bool:
    """Whether it is finite as a float."""
    return abs(number) <= sys.float_info.max


def _name_of(node: ast.AST) -> str:
    """`f` for `f(...)`, `math.f` for `math.f(...)`, else ""."""
    if not isinstance(node, ast.Call):
        return ""
    if isinstance(node.func, ast.Attribute) and isinstance(node.func.value, ast.Name):
        return f"{node.func.value.id}.{node.func.attr}"
    return node.func.id if isinstance(node.func, ast.Name) else ""


def _unknown(node: ast.AST) -> Unconvertible:
    try:
        text = " ".join(ast.unparse(node).split())
    except (RecursionError, ValueError):
        text = "one that is nested too deeply"
    return Unconvertible(f"a test of unknown form: {text[:80]}")


# Constants.

_UNARY: Mapping[type[ast.unaryop], Callable[[Any], Any]] = {
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
    ast.Not: operator.not_,
    ast.Invert: operator.invert,
}
_CALLS: Mapping[str, Callable[..., Any]] = {
    "set": set,
    "frozenset": frozenset,
    "list": list,
    "tuple": tuple,
    "dict": dict,
    "float": float,
    "int": int,
    "str": str,
    "sorted": sorted,
    "len": len,
    "abs": abs,
    "complex": complex,
}


class Constants:
    """Evaluates expressions with small values: a single line of a file must not fill the memory.

    The values of all expressions of a test together are bounded; shared elements count each time.
    """

    def __init__(self, scope: Mapping[str, Any]) -> None:
        self._scope = scope
        """The values of names."""
        self._left = MAX_WORK

    def value(self, node: ast.expr) -> Any:
        """The value of an expression of literals, operators and a few pure Python functions.

        Unconvertible for any other expression, and if a value is too large.
        """
        try:
            found = self._value(node)
            if not _can_be_written(found):
                raise ValueError
            return found
        except (ArithmeticError, LookupError, TypeError, ValueError, RecursionError, MemoryError):
            raise _unknown(node) from None

    def _value(self, node: ast.expr) -> Any:
        found = self._made(node)
        self._left -= measure(found, min(MAX_SIZE, self._left))
        return found

    def _made(self, node: ast.expr) -> Any:
        if isinstance(node, ast.Constant):
            return node.value
        if isinstance(node, ast.Name):
            return self._scope[node.id]
        if isinstance(node, ast.List | ast.Tuple | ast.Set):
            kind = {ast.List: list, ast.Tuple: tuple, ast.Set: set}[type(node)]
            items = [self._value(item) for item in node.elts]
            return kind(items) if kind is not set else set(_hashable(items))
        if isinstance(node, ast.Dict):
            pairs = [
                (self._value(key), self._value(value))
                for key, value in zip(node.keys, node.values, strict=True)
                if key is not None
            ]
            _hashable([key for key, _ in pairs])
            return dict(pairs)
        if isinstance(node, ast.UnaryOp):
            return _UNARY[type(node.op)](self._value(node.operand))
        if isinstance(node, ast.BinOp):
            left, right = self._value(node.left), self._value(node.right)
            _check_size(node.op, left, right)
            return BINARY[type(node.op)](left, right)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            return {"math.pi": math.pi, "math.e": math.e, "math.inf": math.inf}[
                f"{node.value.id}.{node.attr}"
            ]
        if isinstance(node, ast.Call) and not node.keywords:
            given = [self._value(argument) for argument in node.args]
            if _name_of(node) in ("set", "frozenset") and given:
                given[0] = _hashable(list(given[0]))
            return _CALLS[_name_of(node)](*given)
        raise _unknown(node)


def measure(value: Any, most: int) -> int:
    """The size of a value: elements, characters and tens of digits; shared ones count each time.

    ValueError beyond `most`, without counting much further.
    """
    size, level = 0, [value]
    while level:
        below: list[Any] = []
        for item in level:
            size += 1 + _own_size(item)
            if isinstance(item, dict):
                below += [*item.keys(), *item.values()]
            elif isinstance(item, list | tuple | set | frozenset):
                below += item
            if size + len(below) > most:
                raise ValueError("too large")
        level = below
    return size


def _own_size(value: Any) -> int:
    if isinstance(value, str | bytes):
        return len(value)
    return value.bit_length() // 32 if isinstance(value, int) else 0


def _hashable(items: list[Any]) -> list[Any]:
    """`items`; ValueError if many have the same hash, which would take quadratic time."""
    counts = Counter(map(hash, items)) if len(items) > MOST_ALIKE else Counter()
    if any(count > MOST_ALIKE for count in counts.values()):
        raise ValueError
    return items


def _can_be_written(value: Any) -> bool:
    """Whether Python can print the whole numbers in a value: it refuses very long ones."""
    try:
        repr(value)
    except ValueError:
        return False
    return True


_FORMATS = re.compile(r"[0-9]+|\*")
"""Widths and precisions in a format, and other numbers."""


def _check_size(sign: ast.operator, left: Any, right: Any) -> None:
    """ValueError if the result would be huge, before it is computed."""
    if isinstance(sign, ast.Pow):
        if not isinstance(left, int | float) or not isinstance(right, int | float):
            raise ValueError
        if isinstance(left, int) and left.bit_length() * abs(right) > MAX_BITS:
            raise ValueError
    elif isinstance(sign, ast.Mult):
        for one, other in ((left, right), (right, left)):
            if hasattr(one, "__len__") and isinstance(other, int) and len(one) * other > MAX_SIZE:
                raise ValueError
    elif isinstance(sign, ast.Mod) and isinstance(left, str | bytes):
        _check_format(left if isinstance(left, str) else left.decode("latin-1"), right)


def _check_format(form: str, right: Any) -> None:
    numbers = _FORMATS.findall(form)
    if "*" in numbers or any(len(number) > 4 for number in numbers):
        raise ValueError
    widest = max(map(int, numbers), default=0)
    # The longest element in writing is a float, with some 25 characters.
    shown = widest + 32 * measure(right, MAX_SIZE)
    if len(form) + form.count("%") * shown > MAX_SIZE:
        raise ValueError
