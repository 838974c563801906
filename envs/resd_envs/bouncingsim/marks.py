"""The verdict on one prediction: the distance from the correct positions, or what went wrong."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from resd_envs.bouncingsim.answers import Outcome, OutcomeKind
from resd_envs.bouncingsim.world import Vector

TOLERANCE = 50.0
"""Largest mean distance (m) that passes: 2.5 radii of a ball of the paper's scenes."""


_NUMBERS = (int, float)


@dataclass(frozen=True, slots=True)
class Mark:
    """The verdict on one prediction."""

    kind: Literal["pass", "wrong_answer", OutcomeKind]
    """`pass` and `wrong_answer` come from the comparison alone."""
    mean: float = math.nan
    """Mean distance over the balls (m)."""
    distances: tuple[float, ...] = ()
    predicted: tuple[Vector, ...] = ()
    why: str = ""
    line: int = 0


def mark(outcome: Outcome, right: Sequence[Vector]) -> Mark:
    """Compare a prediction with the correct positions (Euclidean distance, mean over balls)."""
    if outcome.kind != "value":
        return Mark(outcome.kind, why=outcome.why, line=outcome.line)
    try:
        predicted = tuple(_points(outcome.value, len(right)))
        # Powers, not math.dist, because overflow is an error there, as in the released comparison.
        pairs = zip(predicted, right, strict=True)
        squares = [(x - a) ** 2 + (y - b) ** 2 for (x, y), (a, b) in pairs]
    except (ValueError, OverflowError) as error:
        return Mark("exception", why=f"{type(error).__name__}: {error}")
    distances = tuple(math.sqrt(square) for square in squares)
    mean = round(sum(distances) / len(distances), 3)
    return Mark("pass" if mean <= TOLERANCE else "wrong_answer", mean, distances, predicted)


def _points(value: Any, count: int) -> list[Vector]:
    """The predicted centres; ValueError if the value is not a list of pairs, one per ball."""
    # Sets and dicts arrive as subclasses of tuple.
    if type(value) not in (list, tuple) or not value:
        raise ValueError("not a list of [x, y] pairs")
    if len(value) != count:
        raise ValueError(f"{len(value)} entries for {count} ball{'s' * (count > 1)}")
    return [_point(pair) for pair in value]


def _point(pair: Any) -> Vector:
    if type(pair) not in (list, tuple) or len(pair) < 2:
        raise ValueError("an entry is not an [x, y] pair")
    x, y = pair[:2]
    if not isinstance(x, _NUMBERS) or not isinstance(y, _NUMBERS):
        raise ValueError("a coordinate is not a number")
    return float(x), float(y)
