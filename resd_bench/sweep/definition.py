"""A sweep as a file: settings that all runs share, variants with names, and a grid.

    out: runs-out/nano          # runs write to OUT/VARIANT/ENV/METHOD/seed-SEED
    base: {model: nano, budget: 1280ep}
    variants:
      resd: {method: resd}
      no-playbook: {method: resd, method.use_playbook: false}
    grid:
      env: [manufactoria-has, finer]
      seed: 0-4
    overrides:
      - when: {env: finer}
        set: {max_new_tokens: 64}
    exclude:
      - {env: finer, variant: no-playbook}

The runs are every variant at every point of the grid, the last key of the grid varying fastest; a
variant may have an additional `grid` of its own. Later parts win: base < variant < grid <
overrides. Points that match all settings of an entry of `exclude` are left out. See docs/sweeps.md.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from resd_bench.config import RunConfig, load_file, resolve
from resd_bench.errors import UsageError, near_miss
from resd_bench.files.writing import check_name
from resd_bench.options import coerce, whole_numbers
from resd_bench.packaged_models import model_name

KEYS = ("name", "out", "base", "variants", "grid", "overrides", "exclude")
BATCH = "batch"
"""Setting of a sweep for tasks x rollouts per task, `4x8`: one axis at equal rollouts."""
TIMES = re.compile(r"\s*([1-9][0-9]{0,8})\s*x\s*([1-9][0-9]{0,8})\s*")
MOST_TRIALS = 100_000
"""Runs of one variant."""
IN_FOLDERS = frozenset({"env", "method", "seed"})
"""Settings with a folder of their own; a grid's other settings go into the variant's name."""
PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._+=,@-]*")
"""Valid names of a variant, which become names of folders."""

Settings = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Trial:
    """One run of a sweep."""

    index: int
    """Its number in the sweep, from 0."""
    variant: str
    """The variant that it runs; with environment and seed, this identifies the run."""
    config: RunConfig

    @property
    def folder(self) -> Path:
        """Its run folder."""
        return self.config.folder()

    @property
    def updates(self) -> str:
        """Its updates as far as they are known: `40 updates of 4x8`."""
        number = self.config.updates()
        each = f"{self.config.batch_size}x{self.config.group_size}"
        return f"updates of {each}" if number is None else f"{number} updates of {each}"

    def __str__(self) -> str:
        return f"{self.variant} · {self.config.env} · seed {self.config.seed}"


@dataclass(frozen=True, slots=True)
class Sweep:
    """The trials that a file defines."""

    name: str
    out: str
    trials: tuple[Trial, ...]


def load_sweep(
    path: Path,
    *,
    out: str | None = None,
    only: Settings | None = None,
    named: Settings | None = None,
) -> Sweep:
    """Read a sweep; UsageError says what is wrong with it.

    `named` holds settings of the command line, which win (None counts as not given); `out` replaces
    the file's own, and `only` (values or lists of them, by key of the grid) selects trials; indices
    stay those of the whole file.
    """
    values = load_file(path)
    if not values:
        raise UsageError(f"{path} is empty: give base, variants or grid, see docs/sweeps.md")
    for key in values:
        if key not in KEYS:
            raise near_miss(f"key of the sweep {path}", str(key), KEYS)
    for key in ("name", "out"):
        if key in values:
            values[key] = coerce(f"{path}: {key}", values[key], str)
    name = check_name(str(values.get("name", path.stem)), f"{path}: name")
    root = out or _out(values, name)
    points = list(_points(values, path))
    trials = [
        Trial(index, variant, _resolved(settings, root, variant, path, named))
        for index, (variant, settings) in enumerate(points)
        if _wanted(settings, only or {})
    ]
    if not trials:
        asked = "; ".join(f"{key} {value}" for key, value in (only or {}).items())
        raise UsageError(f"{path} has no run" + (f" with {asked}" if asked else ""))
    _refuse_equal(trials, path)
    return Sweep(name, root, tuple(trials))


def sweep_out(path: Path) -> str:
    """The folder that the runs of the sweep in `path` write to."""
    values = load_file(path)
    return _out(values, str(values.get("name", path.stem)))


def _out(values: Settings, name: str) -> str:
    return str(values.get("out", f"runs-out/{name}"))


def _points(values: Mapping[str, Any], path: Path) -> Iterable[tuple[str, dict[str, Any]]]:
    base = _mapping(values.get("base"), "base", path)
    variants = _variants(values.get("variants"), path)
    grid = _grid(values.get("grid"), path)
    overrides = _overrides(values.get("overrides"), path)
    excluded = _excluded(values.get("exclude"), path)
    for name, own in (variants or {"": {}}).items():
        settings = {**base, **_mapping(own, f"variant {name}", path)}
        axes = _grid(settings.pop("grid", None), path) | grid
        if (runs := math.prod(map(len, axes.values()))) > MOST_TRIALS:
            raise UsageError(f"{path}: variant {name!r} has {runs:,} runs: give a smaller grid")
        for chosen in itertools.product(*axes.values()):
            point = settings | dict(zip(axes, chosen, strict=True))
            for when, change in overrides:
                if _wanted(point, when):
                    point |= change
            known = point | {"variant": str(name)}
            if not any(_wanted(known, unwanted) for unwanted in excluded):
                yield _label(str(name), point, axes, path), point


def _variants(value: Any, path: Path) -> dict[str, Any]:
    """The variants of a sweep, its own or, by the name of a file next to it, another sweep's."""
    if isinstance(value, str):
        value = load_file(path.parent / value).get("variants")
    return _mapping(value, "variants", path)


def _grid(value: Any, path: Path) -> dict[str, list[Any]]:
    return {key: _values(key, own, path) for key, own in _mapping(value, "grid", path).items()}


def _label(variant: str, point: Settings, grid: Settings, path: Path) -> str:
    method = str(point.get("method", RunConfig.method))
    shown = {**point, "model": model_name(str(point.get("model")))}
    extra = [f"{key}={shown[key]}" for key in grid if key not in IN_FOLDERS]
    label = ",".join([variant or method, *extra])
    if not PLAIN_NAME.fullmatch(label):
        raise UsageError(f"{path}: {label!r} cannot name a folder: use letters, digits and . _ + -")
    return label


def _values(key: str, value: Any, path: Path) -> list[Any]:
    """The values of a key of the grid: a list, one value, or for seeds `0,2-4`."""
    if key == "seed" and isinstance(value, str):
        return list(whole_numbers(f"{path}: grid: seed", value))
    values = list(value) if isinstance(value, list) else [value]
    if not values:
        raise UsageError(f"{path}: grid: {key} is empty: give at least one value")
    return values


def _overrides(value: Any, path: Path) -> list[tuple[Settings, Settings]]:
    entries = value or []
    if not isinstance(entries, list) or any(
        not isinstance(entry, dict) or entry.keys() != {"when", "set"} for entry in entries
    ):
        raise UsageError(f"{path}: overrides: give a list of {{when: {{...}}, set: {{...}}}}")
    return [(_mapping(e["when"], "when", path), _mapping(e["set"], "set", path)) for e in entries]


def _excluded(value: Any, path: Path) -> list[Settings]:
    entries = value or []
    if not isinstance(entries, list) or not all(entries):
        raise UsageError(f"{path}: exclude: give a list of {{setting: value or values, ...}}")
    return [_mapping(entry, "exclude", path) for entry in entries]


def _mapping(value: Any, what: str, path: Path) -> dict[str, Any]:
    if value is not None and not isinstance(value, dict):
        raise UsageError(f"{path}: {what}: expected `key: value` lines, got {value!r}")
    return {str(key): own for key, own in (value or {}).items()}


def _wanted(settings: Settings, only: Settings) -> bool:
    """Whether every setting in `only` has the value, or one of the values, given there."""
    defaults = {"env": RunConfig.env, "method": RunConfig.method, "seed": RunConfig.seed}
    known = defaults | dict(settings)
    return all(
        known.get(key) in (wanted if isinstance(wanted, list) else [wanted])
        for key, wanted in only.items()
    )


def _resolved(
    settings: Settings, root: str, variant: str, path: Path, named: Settings | None
) -> RunConfig:
    if "out" in settings:
        raise UsageError(f"{path}: `out` is a key of the sweep itself, not of a run")
    try:
        return resolve({**with_batch(settings), "out": f"{root}/{variant}"}, named)
    except UsageError as error:
        raise UsageError(f"{path}, {variant}: {error}") from None


def with_batch(settings: Settings) -> dict[str, Any]:
    """`settings` with `batch: 4x8` as `batch_size: 4` and `group_size: 8`.

    UsageError if the budget in rollouts is not a whole number of updates of that size: the update
    that reaches a budget is finished, so that such a run would be given more than the others.
    """
    known = dict(settings)
    if (text := known.pop(BATCH, None)) is None:
        return known
    match = TIMES.fullmatch(str(text))
    if match is None:
        raise UsageError(f"batch: {text!r} is not understood: give tasks x rollouts, such as 4x8")
    if given := {"batch_size", "group_size"} & known.keys():
        raise UsageError(f"batch and {min(given)} were both given: give one of them")
    tasks, rollouts = int(match[1]), int(match[2])
    budget = RunConfig(budget=str(known.get("budget", RunConfig.budget))).parsed_budget()
    if budget.unit == "ep" and budget.amount % (tasks * rollouts):
        raise UsageError(
            f"batch {text}: {budget.amount:g} rollouts are not a whole number of updates of "
            f"{tasks * rollouts}: give another batch or budget"
        )
    return {**known, "batch_size": tasks, "group_size": rollouts}


def _refuse_equal(trials: Sequence[Trial], path: Path) -> None:
    seen: dict[Path, Trial] = {}
    for trial in trials:
        other = seen.setdefault(trial.folder, trial)
        if other is not trial:
            raise UsageError(
                f"{path}: runs {other.index} and {trial.index} would both write to {trial.folder}: "
                "give variants of one method names of their own"
            )
