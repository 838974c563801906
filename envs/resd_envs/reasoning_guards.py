"""Guards against answers that scorers of reasoning-gym wrongly accept.

A scorer's full marks count only if the answer deserves them. The guards check what the scorers of
version 0.1 overlook: numbers that are not numbers (NaN passes every comparison they make),
expressions that hide numbers from the count of those used, and verdicts that depend on anything but
the answer. Left out: generators whose scorer is rightly lenient (`LENIENT` says how lenient).
"""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from typing import Any

Entry = Mapping[str, Any]

LENIENT: Mapping[str, float] = {
    # One solution fits several puzzles.
    "graph_color": 0.2,
    "jugs": 0.1,
    "n_queens": 0.15,
    "quantum_lock": 0.1,
    "sokoban": 0.1,
    # A repeated premise follows from the premises.
    "propositional_logic": 1.0,
    # If no rule applies, the given text is the answer.
    "string_manipulation": 0.4,
}
"""Success rate of an answer without any thought, by the rules of a generator."""

PROBABILITY_ERROR = 1e-4
"""The scorer's own tolerance."""
RELATIVE_ERROR = 0.01
_NOT_FINITE = re.compile(r"(?<![a-z])s?(?:nan|inf(?:inity)?)(?![a-hk-z])")
_LARGE_EXPONENT = re.compile(r"\d[eE][+-]?\d(?:_?\d){2}")
_ARITHMETIC = re.compile(r"(?:[0-9+\-() ]|\*(?!\*)|/(?!/))*")


def is_earned(answer: str, own: Sequence[str], entry: Entry, dataset: str) -> bool:
    """Whether `answer` deserves full marks; `own` holds the answers that the entry gives."""
    if answer in own:
        return True
    if _is_numeric(own) and not _is_finite(answer):
        return False
    return dataset not in _GUARDS or _GUARDS[dataset](answer, entry)


def _is_numeric(own: Sequence[str]) -> bool:
    """Whether the right answer contains numbers; words may spell non-finite ones."""
    return any(char.isdigit() for answer in own for char in answer)


def _is_finite(answer: str) -> bool:
    """Whether no number in `answer` is infinite, or not a number at all."""
    squeezed = "".join(answer.split()).lower()
    return not (_NOT_FINITE.search(squeezed) or _LARGE_EXPONENT.search(squeezed))


def _same_word(answer: str, entry: Entry) -> bool:
    """The scorer accepts any text as a yes."""
    return answer.strip().lower() == str(entry["answer"]).strip().lower()


def _same_number(answer: str, entry: Entry) -> bool:
    """The scorer divides the error by the right number, which may be negative."""
    return _words(answer) == _words(entry["answer"]) or _whole(answer) == _whole(entry["answer"])


def _words(text: str) -> list[str]:
    return text.lower().split()


def _whole(text: str) -> int | str:
    try:
        return int(text)
    except ValueError:
        return text


def _same_probability(answer: str, entry: Entry) -> bool:
    """The scorer takes the first digits as the number, and treats all small numbers as equal."""
    try:
        said, right = (float(Fraction(text.replace(",", ""))) for text in (answer, entry["answer"]))
    except (ValueError, ArithmeticError):
        return False
    return abs(said - right) <= min(PROBABILITY_ERROR, RELATIVE_ERROR * right)


def _says_none(answer: str, entry: Entry) -> bool:
    """The scorer treats anything without a number as the empty answer."""
    return bool(entry["answer"]) or not answer.strip("\"' ")


def is_arithmetic(answer: str) -> bool:
    """Whether `answer` contains only whole numbers, brackets and the four operations."""
    return _ARITHMETIC.fullmatch(answer) is not None


def _makes_target(answer: str, entry: Entry) -> bool:
    """The scorer counts numbers as written, but also reads others."""
    numbers, target = entry["metadata"]["numbers"], entry["metadata"].get("target", 24)
    if not is_arithmetic(answer) or sorted(map(int, re.findall(r"\d+", answer))) != sorted(numbers):
        return False
    try:
        return _value(ast.parse(answer.strip(), mode="eval").body) == Fraction(target)
    except (SyntaxError, ValueError, ZeroDivisionError, RecursionError):
        return False


_OPERATORS: Mapping[type[ast.operator], Callable[[Fraction, Fraction], Fraction]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}


def _value(node: ast.expr) -> Fraction:
    """The exact value of an expression of the four operations; ValueError for any other."""
    if isinstance(node, ast.Constant) and isinstance(node.value, int):
        return Fraction(node.value)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return -_value(node.operand)
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
        return _OPERATORS[type(node.op)](_value(node.left), _value(node.right))
    raise ValueError(f"{type(node).__name__} is not one of the four operations")


_GUARDS: Mapping[str, Callable[[str, Entry], bool]] = {
    "calendar_arithmetic": _same_number,
    "coin_flip": _same_probability,
    "countdown": _makes_target,
    "game_of_life_halting": _same_word,
    "polynomial_equations": _says_none,
    "puzzle24": _makes_target,
}
