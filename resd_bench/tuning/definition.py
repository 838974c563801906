"""A tuning file: methods, the knobs they may turn, and as many trials for each.

    out: runs-out/nano/tune
    base: {model: nano, budget: 1280ep, eval_tasks: 64}
    envs: [finer, manufactoria-has]
    trials: 12
    seeds: 1000
    knobs:
      learning_rate: [1e-4, 3e-4, 1e-3]
      warmup: [0.05, 0.125]
      batch: [32x1, 16x1]
    methods:
      resd: {method: resd}
      grpo: {method: grpo, knobs: {batch: [32x8, 4x8]}}
    report: {out: runs-out/nano, seeds: 0-4, base: {eval_validation: 32}}

The first trial of a method is its default, the others are a Latin sample of the grid of its knobs.
The runs are ordinary runs of a sweep that evaluate validation tasks only. Left out: what is chosen,
see `choice`. See docs/sweeps.md.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from resd_bench.config import RunConfig, load_file, resolve
from resd_bench.errors import UsageError, near_miss
from resd_bench.files.writing import check_name
from resd_bench.options import POSITIVE, coerce, whole_numbers
from resd_bench.seeds import stream
from resd_bench.sweep.definition import BATCH, MOST_TRIALS, PLAIN_NAME, Sweep, Trial, with_batch
from resd_bench.tuning.same import (
    ONLY_VALIDATION,
    refuse_shared,
    refuse_taken,
    refuse_unequal,
    spelt,
)

_KEYS = ("name", "out", "base", "envs", "seeds", "trials", "evaluations", "draw", "knobs")
_REQUIRED = ("envs", "trials", "knobs", "methods")
OWN_KNOBS = 2
"""Most knobs that a method may have besides the shared ones."""
MOST_POINTS = 10_000
"""Points of the grid of a method."""
MOST_ROUNDS = 16
"""Times that a sample goes through the values of a knob before it takes points as they come."""
EVALUATIONS = 5
"""Evaluations after the first, at the same numbers of rollouts in all trials."""
_SEEDS = "1000"
"""Seeds of the tuning runs, apart from those that are reported."""
DEFAULT = "default"

TrialSettings = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Candidate:
    """One trial of a method: settings that are tried on every environment with every seed."""

    number: int
    """From 0, which is the default."""
    name: str
    knobs: TrialSettings
    """What the knobs are set to."""
    settings: TrialSettings
    """What makes a run of it, but for environment and seed; without what all methods share."""
    updates: int

    @property
    def shown(self) -> str:
        """The knobs for a table."""
        return " · ".join(f"{key} {value}" for key, value in self.knobs.items())


@dataclass(frozen=True, slots=True)
class Report:
    """The runs that the chosen settings are reported by."""

    out: str
    seeds: str
    base: TrialSettings


@dataclass(frozen=True, slots=True)
class Tuning:
    """What a tuning file asks for."""

    name: str
    out: str
    base: TrialSettings
    envs: Sequence[str]
    seeds: Sequence[int]
    methods: Mapping[str, Sequence[Candidate]]
    """The trials of each method, as many for each."""
    runs: Mapping[tuple[str, int, str, int], Trial]
    """By method, number of the trial, environment and seed, in the order they are run."""
    report: Report

    @property
    def sweep(self) -> Sweep:
        """All runs."""
        return Sweep(self.name, self.out, tuple(self.runs.values()))


def load_tuning(
    path: Path, *, out: str | None = None, named: TrialSettings | None = None
) -> Tuning:
    """Read a tuning file; UsageError names what is wrong with it.

    `out` takes the place of the file's own; `named` are settings of the command line.
    """
    values = load_file(path)
    for key in values:
        if key not in (*_KEYS, "methods", "report"):
            raise near_miss(f"key of the tuning file {path}", str(key), [*_KEYS, "methods"])
    for key in _REQUIRED:
        if not values.get(key):
            raise UsageError(f"{path}: {key} is missing: see docs/sweeps.md")
    name = check_name(str(values.get("name", path.stem)), f"{path}: name")
    root = out or str(values.get("out", f"runs-out/{name}"))
    base = _settings(values.get("base"), "base", path)
    seeds = whole_numbers(f"{path}: seeds", str(values.get("seeds", _SEEDS)))
    envs = [str(env) for env in _list(values["envs"], "envs", path)]
    drawer = _Drawer(path, base, envs, values, named)
    runs_each = drawer.trials * len(envs) * len(seeds)
    if (total := runs_each * len(_methods(values, path))) > MOST_TRIALS:
        raise UsageError(f"{path} has {total:,} runs: give fewer trials, environments or seeds")
    methods = {str(m): drawer.draw(str(m), own) for m, own in _methods(values, path).items()}
    runs = dict(_runs(methods, base, envs, seeds, root, named))
    refuse_unequal(runs.values(), path)
    return Tuning(name, root, base, envs, seeds, methods, runs, _report(values, seeds, path))


@dataclass(frozen=True, slots=True)
class _Drawer:
    """Draws the trials of methods: the default, then points of the grid without replacement."""

    path: Path
    base: TrialSettings
    envs: Sequence[str]
    values: TrialSettings
    named: TrialSettings | None

    @property
    def trials(self) -> int:
        return _positive("trials", self.values["trials"], self.path)

    def draw(self, method: str, own: Any) -> list[Candidate]:
        """The trials of one method; UsageError where its grid has too few points."""
        settings = _settings(own, f"method {method}", self.path)
        knobs = self._knobs(method, settings.pop("knobs", None))
        refuse_shared(settings, f"{self.path}: method {method}")
        first = self._candidate(method, settings, None, knobs)
        found, seen = [first], {self._digest(first)}
        for point in spread(knobs, coerce(f"{self.path}: draw", self.values.get("draw", 0), int)):
            if len(found) == self.trials:
                break
            candidate = self._candidate(method, settings, point, knobs, len(found))
            # A short run's warm-ups may all round to the same number: one run, one trial.
            if (digest := self._digest(candidate)) not in seen:
                seen.add(digest)
                found.append(candidate)
        if len(found) < self.trials:
            raise UsageError(
                f"{self.path}: the knobs of {method} make {len(found)} different runs, fewer than "
                f"the {self.trials} trials that every method gets: give more values or fewer trials"
            )
        return found

    def _knobs(self, method: str, own: Any) -> dict[str, list[Any]]:
        shared = _settings(self.values["knobs"], "knobs", self.path)
        more = _settings(own, f"knobs of {method}", self.path)
        if len(added := more.keys() - shared.keys()) > OWN_KNOBS:
            raise UsageError(
                f"{self.path}: {method} has {len(added)} knobs of its own, "
                f"{', '.join(sorted(added))}: a method may have {OWN_KNOBS}"
            )
        knobs = {key: _list(v, f"knob {key}", self.path) for key, v in {**shared, **more}.items()}
        refuse_shared(knobs, f"{self.path}: knobs of {method}")
        if "method" in knobs:
            raise UsageError(f"{self.path}: method cannot be a knob: give it under `methods`")
        if (total := math.prod(map(len, knobs.values()))) > MOST_POINTS:
            raise UsageError(f"{self.path}: {method} has {total:,} points: give fewer values")
        return knobs

    def _candidate(
        self,
        method: str,
        settings: TrialSettings,
        point: TrialSettings | None,
        knobs: TrialSettings,
        number: int = 0,
    ) -> Candidate:
        if clash := settings.keys() & knobs.keys():
            raise UsageError(f"{self.path}: {method} both fixes and turns {min(clash)}")
        base = dict(self.base)
        if point is not None and BATCH in point:
            # What is fixed otherwise is the default's.
            base, settings = _without_batch(base), _without_batch(settings)
        whole = {**settings, **(point or {})}
        label = DEFAULT if point is None else ",".join(f"{k}={v}" for k, v in point.items())
        name = f"{method},{label}"
        if not PLAIN_NAME.fullmatch(name):
            raise UsageError(f"{self.path}: {name!r} cannot name a folder: use letters and digits")
        try:
            config = resolve(with_batch({**base, **whole, "env": self.envs[0]}), self.named)
        except UsageError as error:
            raise UsageError(f"{self.path}, {name}: {error}") from None
        made = {**_without_batch(whole), **_batch_of(config)}
        updates = self._updates(config, name)
        shown = {key: _value(config, key) for key in knobs} | dict(point or {})
        made["eval_every"] = updates // self._evaluations
        return Candidate(number, name, shown, made, updates)

    @property
    def _evaluations(self) -> int:
        return _positive("evaluations", self.values.get("evaluations", EVALUATIONS), self.path)

    def _updates(self, config: RunConfig, name: str) -> int:
        """Updates of a run; UsageError if runs would not be measured at equal rollouts."""
        budget, updates = config.parsed_budget(), config.updates()
        each = config.batch_size * (config.group_size or 1)
        if budget.unit != "ep" or updates is None or budget.amount % each:
            raise UsageError(
                f"{self.path}, {name}: give a budget in rollouts that is a whole number of updates "
                f"of {each}, such as {40 * each}ep"
            )
        if updates % self._evaluations:
            raise UsageError(
                f"{self.path}, {name}: its {updates} updates have no {self._evaluations} "
                "evaluations at equal distances: give another `evaluations`, or another batch"
            )
        return updates

    def _digest(self, candidate: Candidate) -> str:
        settings = {**self.base, **candidate.settings, "env": self.envs[0]}
        return resolve(settings, self.named).digest()


def spread(knobs: Mapping[str, Sequence[Any]], seed: int) -> Iterator[dict[str, Any]]:
    """All points of the grid, each once, in an order drawn from `seed` (a Latin sample).

    First come points in which every knob takes each of its values about equally often, then the
    rest. The same knobs give the same points, so that methods that share them try the same.
    """
    rng = stream(seed, "tuning")
    seen: set[tuple[int, ...]] = set()
    points = list(itertools.product(*(range(len(own)) for own in knobs.values())))
    rounds = min(max(map(len, knobs.values())), MOST_ROUNDS)
    columns = [
        [int(i) for _ in range(rounds) for i in rng.permutation(len(own))] for own in knobs.values()
    ]
    rest = [points[int(i)] for i in rng.permutation(len(points))]
    for point in itertools.chain(zip(*columns, strict=False), rest):
        if point not in seen:
            seen.add(point)
            yield {key: own[i] for (key, own), i in zip(knobs.items(), point, strict=True)}


def _runs(
    methods: Mapping[str, Sequence[Candidate]],
    base: TrialSettings,
    envs: Sequence[str],
    seeds: Sequence[int],
    root: str,
    named: TrialSettings | None,
) -> Iterator[tuple[tuple[str, int, str, int], Trial]]:
    """Every run: the first trials of all methods before the second ones."""
    order = [
        (method, own, env, seed)
        for several in zip(*methods.values(), strict=True)
        for method, own in zip(methods, several, strict=True)
        for env in envs
        for seed in seeds
    ]
    for index, (method, own, env, seed) in enumerate(order):
        settings = {**base, **own.settings, "env": env, "seed": seed}
        settings |= {**ONLY_VALIDATION, "out": f"{root}/{own.name}"}
        key = (method, own.number, env, seed)
        yield key, Trial(index, own.name, resolve(settings, named))


def _methods(values: TrialSettings, path: Path) -> dict[str, Any]:
    methods = values["methods"]
    if not isinstance(methods, dict):
        raise UsageError(f"{path}: methods: give a name and settings for each")
    return methods


def _report(values: TrialSettings, tuned: Sequence[int], path: Path) -> Report:
    given = values.get("report") or {}
    if not isinstance(given, dict) or given.keys() - {"out", "seeds", "base"}:
        raise UsageError(f"{path}: report: give out, seeds and base")
    seeds = str(given.get("seeds", "0-4"))
    if shared := set(whole_numbers(f"{path}: report: seeds", seeds)) & set(tuned):
        raise UsageError(
            f"{path}: seed {min(shared)} is of tuning and of the reported runs: give others"
        )
    out = str(given.get("out", f"runs-out/{path.stem}-tuned"))
    return Report(out, seeds, spelt(given.get("base"), f"{path}: report: base"))


def _settings(value: Any, what: str, path: Path) -> dict[str, Any]:
    found = spelt(value, f"{path}: {what}")
    refuse_taken(found, f"{path}: {what}")
    return found


def _list(value: Any, what: str, path: Path) -> list[Any]:
    found = list(value) if isinstance(value, list) else [value]
    if not found or len({str(own) for own in found}) < len(found):
        raise UsageError(f"{path}: {what}: give at least one value, and none twice")
    return found


def _positive(name: str, value: Any, path: Path) -> int:
    number = int(coerce(f"{path}: {name}", value, int))
    if number not in POSITIVE:
        raise UsageError(f"{path}: {name}: give at least 1")
    return number


def _without_batch(settings: TrialSettings) -> dict[str, Any]:
    return {k: v for k, v in settings.items() if k not in (BATCH, "batch_size", "group_size")}


def _batch_of(config: RunConfig) -> dict[str, Any]:
    return {"batch_size": config.batch_size, "group_size": config.group_size}


def _value(config: RunConfig, knob: str) -> Any:
    """What the default run has for a knob."""
    if knob == BATCH:
        return f"{config.batch_size}x{config.group_size}"
    if knob == "warmup":
        return f"{config.warmup_updates} updates"
    if knob.startswith("method."):
        return config.method_options.get(knob.removeprefix("method."))
    return getattr(config, knob, None)
