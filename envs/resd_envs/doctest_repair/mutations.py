"""One change to a function: an operator, a constant, a condition, an argument or a statement.

Mutants are numbered in the order of the syntax tree, so that a number names the same one on every
machine. Left out: several changes at once, and changes to texts.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from typing import Any

Change = Callable[[], None]
"""Changes a node of a tree."""

_PAIRS: tuple[tuple[type[ast.AST], type[ast.AST]], ...] = (
    (ast.Lt, ast.LtE),
    (ast.Gt, ast.GtE),
    (ast.Eq, ast.NotEq),
    (ast.Is, ast.IsNot),
    (ast.In, ast.NotIn),
    (ast.Add, ast.Sub),
    (ast.Mult, ast.FloorDiv),
    (ast.Mod, ast.FloorDiv),
    (ast.And, ast.Or),
)
_OTHER = {a: b for one, other in reversed(_PAIRS) for a, b in ((one, other), (other, one))}
"""What an operator becomes."""
_NAMES = {"min": "max", "max": "min", "any": "all", "all": "any"}


def count(source: str) -> int:
    """How many mutants a function has."""
    return len(_sites(ast.parse(source)))


def mutant(source: str, number: int) -> str:
    """The function with change `number`, from 0."""
    tree = ast.parse(source)
    _sites(tree)[number]()
    return ast.unparse(tree)


def _sites(tree: ast.AST) -> list[Change]:
    return [change for node in ast.walk(tree) for change in _changes(node)]


def _changes(node: ast.AST) -> Iterator[Change]:
    if isinstance(node, ast.Compare):
        if type(node.ops[0]) in _OTHER:
            yield lambda: _swap_first(node.ops)
    elif isinstance(node, ast.BinOp | ast.AugAssign | ast.BoolOp):
        if type(node.op) in _OTHER:
            yield lambda: setattr(node, "op", _other(node.op))
    elif isinstance(node, ast.Constant):
        value = node.value
        if isinstance(value, bool):
            yield lambda: setattr(node, "value", not value)
        elif isinstance(value, int):
            yield lambda: setattr(node, "value", value + 1)
    elif isinstance(node, ast.If | ast.IfExp | ast.While):
        if not isinstance(node.test, ast.Compare | ast.BoolOp | ast.Constant):
            yield lambda: setattr(node, "test", _negated(node.test))
    elif isinstance(node, ast.Call):
        if len(node.args) > 1 and not any(isinstance(a, ast.Starred) for a in node.args[:2]):
            yield lambda: node.args.__setitem__(slice(2), node.args[1::-1])
        if isinstance(node.func, ast.Name) and node.func.id in _NAMES:
            name = node.func
            yield lambda: setattr(name, "id", _NAMES[name.id])
    if isinstance(node, ast.FunctionDef | ast.For | ast.While | ast.If | ast.With):
        yield from _deletions(node.body)


def _deletions(body: list[ast.stmt]) -> Iterator[Change]:
    """Each statement that can be left out of a body: a call, a yield, an update."""
    if len(body) < 2:
        return
    for statement in body:
        if isinstance(statement, ast.Expr | ast.AugAssign):
            yield lambda gone=statement: body.remove(gone)  # type: ignore[misc]


def _other(operator: ast.AST) -> ast.AST:
    return _OTHER[type(operator)]()


def _swap_first(operators: list[Any]) -> None:
    operators[0] = _other(operators[0])


def _negated(test: ast.expr) -> ast.expr:
    if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
        return test.operand
    return ast.UnaryOp(ast.Not(), test)
