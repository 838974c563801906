"""The page of a cross-check: what is equal on the same samples, curves, verdicts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

_NAMES = {"grpo": "GRPO", "sft": "SFT"}
_SAID = {True: "equal", False: "DIFFERENT", None: "differ on purpose"}


def cross_check_page(found: Mapping[str, Any], command: str) -> str:
    """The Markdown of what `cross_check.to_record` returned, made by `command`."""
    return "\n".join(_lines(found, command)) + "\n"


def _lines(found: Mapping[str, Any], command: str) -> Iterator[str]:
    told = found["settings"]
    yield f"# resd-bench against TRL {found['trl']}"
    yield ""
    yield "```"
    yield command
    yield "```"
    yield ""
    yield (
        f"Model: {told['model']} (model organism); environment: {told['env']}; seeds: "
        f"{', '.join(map(str, told['seeds']))}."
    )
    for one in found["methods"]:
        yield from _method(one, told)


def _method(one: Mapping[str, Any], told: Mapping[str, Any]) -> Iterator[str]:
    yield ""
    yield f"## {_NAMES[one['method']]}"
    yield ""
    yield "One step of both on the same samples:"
    yield ""
    yield "| quantity | largest difference | tolerance | |"
    yield "|---|---:|---:|---|"
    for row in one["batch"]:
        within = row["tolerance"]
        equal = None if within is None else row["difference"] <= within
        shown = "" if within is None else f"{within:g}"
        yield f"| {row['quantity']} | {row['difference']:.2g} | {shown} | {_SAID[equal]} |"
    if one["curves"] is not None:
        yield from _curves(one, told)


def _curves(one: Mapping[str, Any], told: Mapping[str, Any]) -> Iterator[str]:
    curves = one["curves"]
    mean, low, high = curves["interval"]
    limits = (
        "no interval from one seed"
        if low is None
        else f"95% interval {100 * low:+.1f} to {100 * high:+.1f}"
    )
    yield ""
    yield (
        f"Runs of {told['updates']} updates, held-out success on {told['eval_tasks']} tasks, "
        f"{told['eval_samples']} samples each (before training {100 * curves['before']:.1f}%): "
        f"**{curves['word']}** within {100 * told['margin']:g} points. Ours minus TRL's: "
        f"{100 * mean:+.1f} points, {limits}."
    )
    yield ""
    yield "| seed | ours | TRL |"
    yield "|---|---:|---:|"
    for seed, (ours, theirs) in zip(told["seeds"], curves["success"], strict=True):
        yield f"| {seed} | {100 * ours:.1f}% | {100 * theirs:.1f}% |"
    what = "training reward" if one["method"] == "grpo" else "training loss"
    yield ""
    yield f"Mean {what} over seeds, by update:"
    yield ""
    yield "| update | ours | TRL |"
    yield "|---|---:|---:|"
    both = zip(_means(curves["ours"]), _means(curves["theirs"]), strict=True)
    for update, (ours, theirs) in enumerate(both, start=1):
        yield f"| {update} | {ours:.3f} | {theirs:.3f} |"


def _means(curves: Sequence[Sequence[float]]) -> list[float]:
    return [sum(column) / len(column) for column in zip(*curves, strict=True)]
