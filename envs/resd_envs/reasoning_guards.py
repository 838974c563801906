"""Answers that scorers of reasoning-gym take for right without cause.

A scorer's full marks count only where the answer earned them too. What is looked at is what the
scorers of version 0.1 overlook: numbers that are none (NaN passes every comparison they make),
expressions that hide numbers from the count of those used, and verdicts that hang on anything but
the answer. Left out: generators whose scorer rightly takes much (`LENIENT` says how much).
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
    # A premise said again follows from the premises.
    "propositional_logic": 1.0,
    # Where no rule applies, the text that was given is the answer.
    "string_manipulation": 0.4,
}
"""Success rate that an answer without any thought reaches by the rules of a generator."""

PROBABILITY_ERROR = 1e-4
"""The scorer's own tolerance."""
RELATIVE_ERROR = 0.01
_NOT_FINITE = re.compile(r"(?<![a-z])s?(?:nan|inf(?:inity)?)(?![a-hk-z])")
_LARGE_EXPONENT = re.compile(r"\d[eE][+-]?\d(?:_?\d){2}")
_ARITHMETIC = re.compile(r"(?:[0-9+\-() ]|\*(?!\*)|/(?!/))*")


def is_earned(answer: str, own: Sequence[str], entry: Entry, dataset: str) -> bool:
    """Whether full marks for `answer` are its merit; `own` are the answers the entry gives."""
    if answer in own:
        return True
    if _is_numeric(own) and not _is_finite(answer):
        return False
    return dataset not in _GUARDS or _GUARDS[dataset](answer, entry)


def _is_numeric(own: Sequence[str]) -> bool:
    """Whether the right answer holds numbers; words may spell what is not finite."""
    return any(char.isdigit() for answer in own for char in answer)


def _is_finite(answer: str) -> bool:
    """Whether no number in `answer` is infinite, or not a number at all."""
    squeezed = "".join(answer.split()).lower()
    return not (_NOT_FINITE.search(squeezed) or _LARGE_EXPONENT.search(squeezed))


def _same_word(answer: str, entry: Entry) -> bool:
    """The scorer takes any text for a yes."""
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
    """The scorer takes the first digits for the number, and all small numbers for the same."""
    try:
        said, right = (float(Fraction(text.replace(",", ""))) for text in (answer, entry["answer"]))
    except (ValueError, ArithmeticError):
        return False
    return abs(said - right) <= min(PROBABILITY_ERROR, RELATIVE_ERROR * right)


def _says_none(answer: str, entry: Entry) -> bool:
    """The scorer takes whatever holds no number for the empty answer."""
    return bool(entry["answer"]) or not answer.strip("\"' ")


def is_arithmetic(answer: str) -> bool:
    """Whether there is nothing in `answer` but whole numbers, brackets and the four operations."""
    return _ARITHMETIC.fullmatch(answer) is not None


def _makes_target(answer: str, entry: Entry) -> bool:
    """The scorer counts numbers as they are written, and reads others too."""
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
    raise ValueError(f"{type(node).__name__} is none of the four operations")


_GUARDS: Mapping[str, Callable[[str, Entry], bool]] = {
    "calendar_arithmetic": _same_number,
    "coin_flip": _same_probability,
    "countdown": _makes_target,
    "game_of_life_halting": _same_word,
    "polynomial_equations": _says_none,
    "puzzle24": _makes_target,
}
