"""How long a run takes, from rates that were measured: those of another run, or the user's own.

A run has on record what it did and how long that took. For a run of the same method on the same
tasks with the same model, its seconds for a rollout are the rate; for any other, its FLOPs a second
are, and the work is that of the expected lengths. Left out: loading the model, and how evenly
several devices share the work.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from resd_bench.config import RunConfig
from resd_bench.errors import UsageError
from resd_bench.planning.architecture import Architecture
from resd_bench.planning.duration import number_of_evaluations, number_of_updates
from resd_bench.planning.memory import Machine, Tokens
from resd_bench.records.run_files import EVALS, METRICS, RunFiles, is_run

ALIKE = (
    "env",
    "env_options",
    "method",
    "method_options",
    "model",
    "lora_rank",
    "group_size",
    "max_new_tokens",
)
"""Settings in which a run must agree with another for a rollout to take as long."""


@dataclass(frozen=True, slots=True)
class Pilot:
    """A run that was measured."""

    config: RunConfig
    rollout: float
    """Seconds of one device for a rollout and what is learned from it."""
    sample: float
    """Seconds of one device for an evaluated sample."""


@dataclass(frozen=True, slots=True)
class Rates:
    """What one device does in a second of wall time."""

    flops: float
    """Of rolling out and learning, as the ledger counts FLOPs."""
    tokens: float
    """Sampled while evaluating."""
    source: str = ""
    """Where they are from; "" if the user gave them."""
    pilot: Pilot | None = None


def read_rates(text: str) -> Rates:
    """`--rates`: a run folder, or `FLOPS,TOKENS` a second; UsageError for anything else."""
    if Path(text).is_dir() or is_run(Path(text)):
        return _of_run(Path(text))
    try:
        flops, tokens = map(float, text.split(","))
    except ValueError:
        flops = tokens = math.nan
    if not (0 < flops < math.inf and 0 < tokens < math.inf):
        raise UsageError(
            f"--rates {text!r}: give the folder of a run on such a machine, or FLOPs and evaluated "
            "tokens a second of one device, such as 2e14,3000"
        )
    return Rates(flops, tokens)


def _of_run(folder: Path) -> Rates:
    files = RunFiles.at(folder)
    rows = files.rows(METRICS)
    last = rows[-1] if rows else {}
    names = ("episodes", "flops", "seconds", "evaluation_tokens", "evaluation_seconds")
    rollouts, flops, seconds, tokens, evaluating = (float(last.get(name) or 0) for name in names)
    # A row holds what was evaluated before its update.
    samples = sum(row["update"] < last["update"] for row in files.rows(EVALS)) if last else 0
    if not (flops and seconds and tokens and evaluating and samples):
        raise UsageError(
            f"--rates {folder}: it has no update with an evaluation before it: give a run that has"
        )
    devices = int(files.json("manifest.json").get("processes") or 1)
    pilot = Pilot(files.config(), seconds * devices / rollouts, evaluating * devices / samples)
    return Rates(flops / seconds / devices, tokens / evaluating / devices, str(folder), pilot)


def told_hours(
    config: RunConfig,
    model: Architecture,
    tokens: Tokens,
    held_out: int,
    machine: Machine,
    rates: Rates,
) -> str:
    """A line: the hours and device-hours of a run that evaluates on `held_out` tasks.

    `tokens` are those of an update at the expected lengths.
    """
    updates, budget = number_of_updates(config, tokens), config.parsed_budget()
    done = 1 if updates is None else round(updates)
    evaluations = number_of_evaluations(done, config.eval_every)
    pilot = rates.pilot
    if pilot is not None and _is_alike(config, pilot.config):
        update = config.batch_size * (config.group_size or 1) * pilot.rollout
        evaluation = held_out * config.eval_samples * pilot.sample
        how = f"as {rates.source} took for each rollout and evaluated sample"
    else:
        update = tokens.flops(model.active, config.lora_rank > 0) / rates.flops
        evaluation = tokens.evaluation / rates.tokens
        source = f"of {rates.source}" if rates.source else "given"
        how = f"at the rates {source}, for completions of the expected length"
    devices = 1 if config.device_map is not None else machine.gpus
    training = budget.amount / 60 if updates is None else updates * update / devices / 3600
    evaluating = evaluations * evaluation / devices / 3600
    whole = training + evaluating
    return (
        f"hours: {whole:.3g} ({training:.3g} training, {evaluating:.3g} evaluating), "
        f"{machine.gpus * whole:.3g} {machine.name}-hours: {how}"
    )


def _is_alike(config: RunConfig, other: RunConfig) -> bool:
    return all(getattr(config, name) == getattr(other, name) for name in ALIKE)
