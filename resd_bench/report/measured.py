"""How runs differ: in how they were measured, and in how they were trained.

A difference between two methods means something only where both were measured alike: the same
tasks in the same prompts, answered under the same limits by the same model, with the same number
of samples at the same temperature. Everything that compares runs asks this module; runs that were
measured differently get no verdict, unless what differs is the point of the comparison (`varies`).
Left out: rounding, which differs with engines, devices and versions of packages.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict
from itertools import pairwise
from typing import Any

from resd_bench import plugins
from resd_bench.config import NOT_RESULTS, flatten, former_options
from resd_bench.errors import near_miss
from resd_bench.options import names_in
from resd_bench.records.runs import RunData
from resd_bench.stats import Axis, EvalPoint

MEASUREMENT = frozenset(
    {
        *("eval_samples", "eval_temperature", "eval_top_p", "eval_tasks", "eval_split"),
        *("max_new_tokens", "context_limit", "thinking", "dialect", "feedback_level"),
        "grade",
        *("model", "model_revision", "server_model", "weights", "tasks", "evaluation_seeds"),
        *("evaluated tasks", "samples a task", "machine", "evaluations"),
    }
)
"""Settings and facts that describe a measurement, as do options of the environment and keys that
begin with `tasks.`, `model.` or `code.env`. All others describe training."""
PREFIXES = ("env.", "tasks.", "model.", "code.env")
UNSEEN = NOT_RESULTS | {"seed", "eval_every", "eval_validation", "eval_contexts", "eval_also"}
"""Settings that do not tell runs apart: pairs share a seed, and the others say what else is
measured."""
NOT_ON_RECORD = "not on record"
_MEASURED: tuple[Axis, ...] = ("turns", "tokens", "seconds", "flops")
"""Axes on which runs of one schedule are at different places."""

Facts = Mapping[str, Any]


def facts_of(run: RunData) -> dict[str, Any]:
    """Settings of a run under dotted keys, and what its manifest says of tasks, model and code.

    What is unknown is absent: other people's results say little, and old records lack some facts.
    """
    found = flatten(run.settings)
    if not found.get("model"):
        found.pop("model", None)
    if run.manifest is None:
        return found
    identity = run.manifest.get("identity") or {}
    # Every model of 1 GiB or less has this hash, except in records from before the hash existed.
    weights = run.manifest.get("weights_sha256", NOT_ON_RECORD)
    known = {
        "weights": weights or identity.get("model.weights") or identity.get("model.commit"),
        "tasks": run.manifest.get("task_panel_sha256"),
        "evaluation_seeds": run.manifest.get("seed_streams", {}).get("evaluation"),
        **identity,
    }
    return found | {key: value for key, value in known.items() if value is not None}


def is_measurement(key: str) -> bool:
    """Whether a setting or fact is about how a run was measured, not how it was trained."""
    return key in MEASUREMENT or key.startswith(PREFIXES)


def complete(facts: Sequence[Facts]) -> list[Facts]:
    """The facts, with options that a method has gained since then at their defaults.

    A record that lacks an option which another record of the method has is older than the option,
    and behaved as its default does, or as `MethodSpec.former` says.
    """
    every: dict[str, set[str]] = {}
    for own in facts:
        every.setdefault(str(own["method"]), set()).update(_options(own))
    filled: list[Facts] = []
    for own in facts:
        method = str(own["method"])
        missing = every[method] - _options(own) if on_record(own) else set()
        defaults = method_defaults(method) if missing else {}
        if missing:
            given = {key.removeprefix("method.") for key in _options(own)}
            former = former_options(method, str(own.get("env", "")), given)
            defaults |= {f"method.{key}": value for key, value in former.items()}
        filled.append({**own, **{k: defaults[k] for k in missing if k in defaults}})
    return filled


def on_record(facts: Facts) -> bool:
    """Whether these are of a run folder, which has all settings on record."""
    return "budget" in facts


def _options(facts: Facts) -> set[str]:
    return {key for key in facts if key.startswith("method.")}


def method_defaults(name: str) -> dict[str, Any]:
    """The options of a method at their defaults, as `method.NAME`; {} where it has none to tell."""
    try:
        return flatten({"method_options": asdict(plugins.method(name).config())})
    except Exception:
        # One that is not installed any more, or is broken: its records can be read all the same.
        return {}


def differing_keys(facts: Sequence[Facts]) -> set[str]:
    """Keys whose known values are not all equal; an option that some were not given is one too."""
    keys = {key for own in facts for key in own} - UNSEEN
    found = {key for key in keys if len({_value(v) for v in _known(key, facts)}) > 1}
    # A model is its weights, whatever it is called.
    weights = {own.get("weights", NOT_ON_RECORD) for own in facts}
    if len(weights) == 1 and weights != {NOT_ON_RECORD}:
        found -= {"model", "model_revision"}
    return found


def _value(value: Any) -> str:
    """Equal for equal values: a hand may have written 1 for 1.0."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return repr(float(value)) if number and abs(value) <= 2**53 else repr(value)


def _known(key: str, facts: Sequence[Facts]) -> list[Any]:
    if key.startswith(("env.", "method.")):
        return [own.get(key) for own in facts if key in own or on_record(own)]
    return [own[key] for own in facts if key in own]


CONSEQUENCES: Mapping[str, Sequence[str]] = {
    "model": ("weights", "model_revision", "server_model", "model."),
    "weights": ("model.weights", "model.commit"),
    "dialect": ("tasks",),
    "env.": ("tasks", "evaluated tasks"),
    "eval_split": ("tasks", "evaluated tasks"),
    "eval_tasks": ("tasks", "evaluated tasks"),
    "eval_samples": ("samples a task",),
}
"""Keys that differ as a consequence of another difference, by how they begin."""


def _differences(
    runs: Sequence[RunData], varies: Collection[str] = (), axis: Axis = "episodes"
) -> dict[str, list[str]]:
    """How runs of one environment were measured differently: what differs, and its values.

    `varies` names what may differ, together with its consequences. On the axis `seconds` the
    machines must be alike too.
    """
    facts = complete(
        [facts_of(run) | _machine(run, axis) | _evaluation(run.points[-1]) for run in runs]
    )
    keys = {key for key in differing_keys(facts) if is_measurement(key)}
    follow = tuple(
        beginning
        for cause, own in CONSEQUENCES.items()
        if any(_is(key, cause) for key in keys | set(varies))
        for beginning in own
    )
    shown = (key for key in keys - set(varies) if not key.startswith(follow))
    return {
        key: list(dict.fromkeys(brief(own[key]) for own in facts if key in own))
        for key in sorted(shown)
    }


def _is(key: str, cause: str) -> bool:
    return key.startswith(cause) if cause.endswith(".") else key == cause


def _evaluation(point: EvalPoint) -> dict[str, Any]:
    """What an evaluation itself says about how it was made."""
    found: dict[str, Any] = {"samples a task": point.per_task}
    if point.tasks:
        found["evaluated tasks"] = sorted(point.tasks)
    return found


def _machine(run: RunData, axis: Axis) -> dict[str, Any]:
    hardware = (run.manifest or {}).get("hardware")
    if axis != "seconds" or not hardware:
        return {}
    parts = [hardware.get(name) for name in ("processor", "cores", "accelerators")]
    more = [(run.manifest or {}).get(name) for name in ("threads", "processes")]
    return {"machine": [*parts, *more]}


def label_of(value: Any) -> str:
    """A value as groups are told apart by it: whole, except that a SHA-256 is shortened."""
    text = str(value)
    return text[:8] if re.fullmatch("[0-9a-f]{64}", text) else text


def brief(value: Any) -> str:
    """A value for a message: only the beginning of a long one."""
    text = label_of(value)
    return text if len(text) <= 40 else f"{text[:39]}…"


def measured_differently(
    groups: Iterable[Sequence[RunData]],
    varies: Collection[str] = (),
    axis: Axis = "episodes",
) -> list[str]:
    """Why there is no verdict between groups of runs: a text for each difference, [] if none.

    Runs are compared within environments.
    """
    by_env: dict[str, list[RunData]] = {}
    for run in (run for group in groups for run in group):
        by_env.setdefault(run.env, []).append(run)
    found: dict[str, None] = {}
    for runs in by_env.values():
        for key, values in _differences(runs, varies, axis).items():
            found[f"{key} {' | '.join(values)}"] = None
    return list(found)


def evaluated_elsewhere(
    groups: Iterable[Sequence[RunData]], budget: float, axis: Axis
) -> list[str]:
    """Why curves cannot be compared: runs were evaluated at different points.

    A curve of two evaluations has another area than the same curve with ten. Within a budget of
    what is measured, as turns are, runs make different numbers of updates: there it is enough that
    all were evaluated equally often in rollouts or updates.
    """
    by_env: dict[str, list[RunData]] = {}
    for run in (run for group in groups for run in group):
        by_env.setdefault(run.env, []).append(run)
    for runs in by_env.values():
        alike = _equally_often if axis in _MEASURED else _equal
        if not any(alike(grids) for grids in _grids(runs, budget, axis)):
            counts = sorted({len(grid) for grid in _grids(runs, budget, axis)[0]})
            return [f"evaluated at different points of the curve ({_span(counts)} evaluations)"]
    return []


def not_yet_evaluated(groups: Iterable[Sequence[RunData]], budget: float, axis: Axis) -> list[str]:
    """Why success at a budget cannot be compared: the last evaluation within it is untrained.

    A run that ends with the outcomes that it began with has that success at every budget.
    """
    found: dict[str, None] = {}
    for run in (run for group in groups for run in group):
        later = [point for point in run.points if point.at(axis) > 0]
        if not later or later[0].at(axis) <= budget:
            continue
        if later[-1].outcomes() != run.points[0].outcomes():
            found[
                f"{run.method} was evaluated before training and next after "
                f"{later[0].at(axis):g} {axis}"
            ] = None
    return list(found)


def _grids(runs: Sequence[RunData], budget: float, axis: Axis) -> list[list[tuple[float, ...]]]:
    """Where on the axis the runs were evaluated; for a measured axis, in rollouts and updates."""
    inside = [[p for p in run.points if p.samples and p.at(axis) <= budget] for run in runs]
    axes: list[Axis] = ["episodes", "updates"] if axis in _MEASURED else [axis]
    return [[tuple(p.at(over) for p in points) for points in inside] for over in axes]


def _equal(grids: Sequence[tuple[float, ...]]) -> bool:
    return len(set(grids)) == 1


def _equally_often(grids: Sequence[tuple[float, ...]]) -> bool:
    """Whether all grids have one step, but for a shorter last one at the end of a run."""
    if _equal(grids):
        return True
    steps = [[after - before for before, after in pairwise(grid)] for grid in grids]
    whole = {step for own in steps for step in own[:-1]}
    return len(whole) == 1 and all(len(own) > 1 and own[-1] <= min(whole) for own in steps)


def _span(counts: Sequence[int]) -> str:
    return str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"


def parse_varies(text: str | None) -> frozenset[str]:
    """The settings that `--varies a,b` names; UsageError for any other setting."""
    names = [name.replace("-", "_") for name in names_in(text)]
    for name in names:
        if not is_measurement(name):
            raise near_miss("setting of a measurement", name, [*MEASUREMENT, "env.NAME"])
    return frozenset(names)


def not_compared(runs: Sequence[RunData]) -> list[str]:
    """Notes for the user on what is unknown about some runs, a sentence each."""
    others = [run for run in runs if run.manifest is None]
    old = [run for run in runs if run.manifest is not None and "identity" not in run.manifest]
    notes = []
    if others and len(others) < len(runs):
        notes.append(f"settings of {_named(others)} are not on record and were not compared")
    if old:
        notes.append(
            f"{_named(old)} began before records held the content of environments, prompts and "
            "tokenizers, so that was not compared"
        )
    return notes


def _named(runs: Sequence[RunData]) -> str:
    more = f" and {len(runs) - 1} more" if len(runs) > 1 else ""
    return f"{runs[0].folder}{more}"
