"""Calls in an answer, read as data: names and literal arguments. Nothing is evaluated."""

from __future__ import annotations

import ast
import json
from typing import Any

from resd_envs.python_functions.answer import fenced_blocks

ToolCall = tuple[str, list[Any], dict[str, Any]]
"""Name, positional and keyword arguments, which JSON can hold."""
MAX_CALLS_CHARS = 20_000


class Unreadable(Exception):
    """Calls that cannot be read; the message says why."""


def calls_of(answer: str) -> list[ToolCall]:
    """The calls in the last fenced block, or in an answer that is nothing but calls; [] for none.

    Unreadable for a block that is not calls, or arguments that are not literals.
    """
    blocks = [block.code for block in fenced_blocks(answer) if block.code.strip()]
    text = (blocks[-1] if blocks else answer).strip()
    if len(text) > MAX_CALLS_CHARS:
        if blocks:
            raise Unreadable(f"The calls are longer than {MAX_CALLS_CHARS} characters.")
        return []
    found = _parsed(text)
    if found is None and blocks:
        raise Unreadable("The block is not a list of calls such as [f(a=1), g(b='x')].")
    return [_call(node) for node in found or ()]


def _parsed(text: str) -> list[ast.Call] | None:
    """The calls that a text consists of; None if it is anything else."""
    try:
        body = ast.parse(text).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    found: list[ast.expr] = []
    for statement in body:
        value = statement.value if isinstance(statement, ast.Expr) else None
        if value is None:
            return None
        found += value.elts if isinstance(value, ast.List | ast.Tuple) else [value]
    calls = [node for node in found if isinstance(node, ast.Call)]
    return calls if len(calls) == len(found) else None


def _call(node: ast.Call) -> ToolCall:
    if not isinstance(node.func, ast.Name):
        raise Unreadable("Call functions by their names alone.")
    name = node.func.id
    try:
        args = [ast.literal_eval(argument) for argument in node.args]
        named = {str(word.arg): ast.literal_eval(word.value) for word in node.keywords}
        json.dumps([args, named])
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        raise Unreadable(
            f"The arguments of {name} must be texts, numbers, lists or dicts, written out."
        ) from None
    if any(word.arg is None for word in node.keywords):
        raise Unreadable(f"The arguments of {name} must be written out.")
    return name, args, named
