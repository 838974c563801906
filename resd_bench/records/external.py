"""Other people's results: evaluations as JSONL, a row per task and sample.

The schema is in `docs/statistics.md`. Errors name the file, the line and what was expected; unknown
columns are ignored. Left out: CSV and Parquet.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from resd_bench.errors import UsageError
from resd_bench.options import EXACT
from resd_bench.records.jsonl import read_objects
from resd_bench.records.jsonl import wrong as _wrong
from resd_bench.records.runs import RunData
from resd_bench.stats import EvalPoint, eval_points

REQUIRED = ("task", "success", "episodes", "method", "seed")
_EXPECTED = f"give one object per line, {{{', '.join(REQUIRED)}, ...}}"
OPTIONAL = {
    "update": "updates",
    "generated_tokens": "tokens",
    "seconds": "seconds",
    "flops": "flops",
    "env_steps": "turns",
}
"""Columns that an axis needs, and that axis."""

_Row = Mapping[str, Any]
Key = tuple[str, str, str, int]
"""Environment, model, method and seed, which identify a run."""


@dataclass
class _Run:
    """The validated rows of one run."""

    rows: dict[str, list[dict[str, Any]]] = field(
        default_factory=lambda: {"test": [], "validation": []}
    )
    lacks: set[str] = field(default_factory=set)
    lines: dict[tuple[Any, ...], int] = field(default_factory=dict)
    """The line of each (split, checkpoint, task, sample)."""
    spent: dict[int, tuple[Any, ...]] = field(default_factory=dict)
    """What each checkpoint had spent, and the line that says so."""
    counted: dict[tuple[Any, ...], int] = field(default_factory=dict)
    """Counts of samples of tasks whose rows do not number them."""


def load_rows(path: Path) -> list[RunData]:
    """The runs in a JSONL file; UsageError names the line that does not fit the schema."""
    runs: dict[Key, _Run] = {}
    for line in read_objects(path, _EXPECTED, strict=True):
        row, where = line.row, line.where
        _check_columns(row, where)
        key = (_text(row, "env", where), _text(row, "model", where), _text(row, "method", where))
        run = runs.setdefault((*key, _whole(row, "seed", where)), _Run())
        _add(run, row, line.number, where)
    if not runs:
        raise UsageError(
            f"{path} has no rows: give a row per task and sample, see docs/statistics.md"
        )
    return [_data(path, key, run) for key, run in runs.items()]


def _check_columns(row: _Row, where: str) -> None:
    if missing := [name for name in REQUIRED if name not in row]:
        raise UsageError(
            f"{where} has no {missing[0]!r}: rows need {', '.join(REQUIRED)} "
            "(for what `run` wrote, give the run folder instead)"
        )


def _text(row: _Row, name: str, where: str) -> str:
    value = row.get(name, "")
    if not isinstance(value, str) or (name in REQUIRED and not value):
        raise _wrong(where, name, value, "a text")
    return value


def _whole(row: _Row, name: str, where: str) -> int:
    """A whole number; one with a decimal point must be small enough to be exact."""
    number = _number(row, name, where)
    value = row[name]
    if isinstance(value, int):
        return value
    if number != int(number) or number >= EXACT:
        raise _wrong(where, name, value, "a whole number, 0 or more, without a point or exponent")
    return int(number)


def _number(row: _Row, name: str, where: str) -> float:
    value = row[name]
    # A whole number of 400 digits does not fit a float.
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e300:
        raise _wrong(where, name, value, "a number, 0 or more")
    return float(value)


def _share(row: _Row, name: str, where: str) -> float | None:
    value = row[name]
    if value is None:
        return None
    if not isinstance(value, bool | int | float) or not 0 <= value <= 1:
        raise _wrong(where, name, value, "0, 1, a share between, or null where there is no verdict")
    return float(value)


def _add(run: _Run, row: _Row, number: int, where: str) -> None:
    """Check a row against earlier ones, and keep it in the form of `evals.jsonl`."""
    split = row.get("split", "test")
    if split not in ("test", "validation"):
        raise _wrong(where, "split", split, '"test" or "validation"')
    task = row["task"]
    if not isinstance(task, str | int) or isinstance(task, bool):
        raise _wrong(where, "task", task, "a text or a whole number")
    run.lacks |= {axis for name, axis in OPTIONAL.items() if row.get(name) is None}
    success = _share(row, "success", where)
    score = _share(row, "score", where) if "score" in row else success
    spent = _spent(run, row, number, where)
    place = (split, spent["update"], str(task))
    sample = row.get("sample")
    if sample is None:
        sample = run.counted[place] = run.counted.get(place, -1) + 1
    else:
        sample = _whole(row, "sample", where)
    earlier = run.lines.setdefault((*place, sample), number)
    if earlier != number:
        raise UsageError(
            f"{where} repeats line {earlier} (task {str(task)[:60]!r}, sample {sample}, same "
            "checkpoint, method, seed): number the samples, or remove one"
        )
    score = None if success is None else success if score is None else score
    run.rows[split].append(spent | {"task": str(task), "success": success, "score": score})


def _spent(run: _Run, row: _Row, number: int, where: str) -> dict[str, Any]:
    """The checkpoint of a row; without an update it is identified by its episodes."""
    read: Mapping[str, Callable[[_Row, str, str], float]] = {
        "episodes": _whole,
        "update": _whole,
        "generated_tokens": _whole,
        "seconds": _number,
        "flops": _number,
        "env_steps": _whole,
    }
    spent: dict[str, Any] = {
        name: get(row, name, where) for name, get in read.items() if row.get(name) is not None
    }
    if "episodes" not in spent:
        raise _wrong(where, "episodes", None, "a whole number, 0 or more")
    spent = {"update": spent["episodes"], "generated_tokens": 0} | spent
    values = tuple(sorted(spent.items()))
    first, line = run.spent.setdefault(spent["update"], (values, number))
    if first != values:
        raise UsageError(
            f"{where} and line {line} are of one checkpoint (update {spent['update']}) but differ "
            f"in what it had spent: {_difference(dict(first), spent)}"
        )
    return spent


def _difference(a: _Row, b: _Row) -> str:
    name = next(key for key in sorted(a.keys() | b.keys()) if a.get(key) != b.get(key))
    return f"{name} {b.get(name)} and {a.get(name)}"


def _data(path: Path, key: Key, run: _Run) -> RunData:
    env, model, method, seed = key
    settings = {"env": env or path.stem, "model": model, "method": method, "seed": seed}
    points = eval_points(run.rows["test"])
    if not points:
        raise UsageError(
            f"{path}: {method!r}, seed {seed} has only validation rows: give test rows"
        )
    _check_order(path, f"{method!r}, seed {seed}", points)
    return RunData(
        path, settings, [], points, {}, eval_points(run.rows["validation"]), frozenset(run.lacks)
    )


def _check_order(path: Path, what: str, points: list[EvalPoint]) -> None:
    for name in ("episodes", "generated_tokens", "seconds", "flops", "turns"):
        spent = [getattr(point, name) for point in points]
        if any(b < a for a, b in pairwise(spent) if not math.isnan(a + b)):
            raise UsageError(
                f"{path}: {what}: {name} decreases while the update increases: give totals"
            )
