"""How many runs took off, for environments on which the seeds of a group split in two.

It stands next to the mean, which says little there (see `resd_bench.stats.take_off`). Left out:
environments on which no group splits.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from rich.table import Table

from resd_bench.records.runs import RunData
from resd_bench.report.comparisons import Groups, unlikeness
from resd_bench.report.tables import AXIS_NAMES, UNLIKE, amount, percent, table_label
from resd_bench.stats import (
    NOT_STARTED,
    TOOK_OFF,
    Axis,
    Interval,
    TakeOffVerdict,
    count_taken_off,
    judge_taken_off,
    measured_ends,
    splits_in_two,
    success_at,
    taken_off,
)

RULE = (
    f"took off: runs that end above {TOOK_OFF:.0%} success, with exact limits (Clopper-Pearson); "
    f"shown where the seeds of a method split in two (some above {TOOK_OFF:.0%}, some below "
    f"{NOT_STARTED:.0%}), since a t interval of their mean covers too little"
)


NO_END = "no verdict at the end"
"""Said of a group none of whose runs ended with an attempt that has a verdict."""


@dataclass(frozen=True, slots=True)
class TakeOffs:
    """How many runs of one group took off on one environment."""

    ends: tuple[float, ...]
    """Success at the end of each run."""
    judged: TakeOffVerdict | None = None
    """Against the first group, where either of the two splits."""
    unlike: bool = False
    """Whether it was measured differently from the first group, which is why it is not judged."""

    @property
    def splits(self) -> bool:
        """Whether its seeds split in two."""
        return splits_in_two(self.ends)

    @property
    def share(self) -> Interval:
        """Of the runs, with exact limits."""
        return taken_off(self.ends)

    @property
    def count(self) -> str:
        """`3/5`."""
        return f"{count_taken_off(self.ends)}/{len(self.ends)}"

    @property
    def verdict(self) -> str:
        """Empty where it is not judged, and without a reason for it."""
        return UNLIKE if self.unlike else "" if self.judged is None else str(self.judged)


RunEnds = Mapping[str, Sequence[float]]
"""Success at the end of each run, by group."""


def judge_ends(
    ends: RunEnds, with_failures: RunEnds | None = None, unlike: Collection[str] = ()
) -> dict[str, TakeOffs]:
    """How many runs of each group took off, on one environment; {} where no group splits.

    The other groups are judged against the first where either of the two splits, Holm over these;
    none is where the first has no run. `with_failures` are the ends with attempts without a verdict
    as failures. Groups in `unlike` are not judged.
    """
    first = next(iter(ends), "")
    counted = ends if with_failures is None else with_failures
    known = {label: measured_ends(own) for label, own in ends.items()}
    played = [label for label, own in ends.items() if own]
    ends = {label: own for label, own in known.items() if own}
    if not any(splits_in_two(own) for own in ends.values()):
        return {}
    others = [label for label in ends if label != first] if first in ends else []
    apart = [k for k in others if splits_in_two(ends[k]) or splits_in_two(ends[first])]
    judged = [k for k in apart if k not in unlike]
    found = judge_taken_off(
        [(ends[label], ends[first]) for label in judged],
        with_failures=[(counted[label], counted[first]) for label in judged],
    )
    verdicts = dict(zip(judged, found, strict=True))
    return {
        label: TakeOffs(tuple(own), verdicts.get(label), label in apart and label in unlike)
        for label, own in ((label, known[label]) for label in played)
    }


def take_offs(
    groups: Groups, budget: float, axis: Axis = "episodes", varies: Collection[str] = ()
) -> dict[str, dict[str, TakeOffs]]:
    """By environment on which a group splits, how many runs of each group took off by `budget`."""
    first = next(iter(groups))
    found = {}
    for env in dict.fromkeys(run.env for runs in groups.values() for run in runs):
        own = {label: [r for r in runs if r.env == env] for label, runs in groups.items()}
        counted = {k: [r.with_failures() for r in runs] for k, runs in own.items()}
        ends, least = (_ends(side, budget, axis) for side in (own, counted))
        there = [k for k in own if own[first] and own[k]]
        unlike = [
            k for k in there if unlikeness((own[first], own[k]), budget, axis, "success", varies)
        ]
        if judged := judge_ends(ends, least, unlike):
            found[env] = judged
    return found


def _ends(
    groups: Mapping[str, Sequence[RunData]], budget: float, axis: Axis
) -> dict[str, list[float]]:
    return {
        label: [success_at(run.points, budget, axis).mean for run in runs]
        for label, runs in groups.items()
    }


def take_off_table(
    found: Mapping[str, Mapping[str, TakeOffs]], budget: float, axis: Axis = "episodes"
) -> Table:
    """A row for each environment and group, with verdicts against the first group."""
    table = Table(title="runs that took off", title_justify="left", caption_justify="left")
    several = max(sum(one.judged is not None for one in own.values()) for own in found.values())
    holm = ", Holm over an environment's comparisons" if several > 1 else ""
    table.caption = f"{RULE}.\nVerdicts: Boschloo's exact test{holm}"
    for name in ("environment", "runs"):
        table.add_column(name)
    table.add_column(f"took off by {amount(budget)} {AXIS_NAMES[axis]}", justify="right")
    first = next(iter(next(iter(found.values()))))
    table.add_column(f"difference to {table_label(first)}\n(not paired)", justify="right")
    table.add_column("verdict")
    for env, groups in found.items():
        for label, own in groups.items():
            difference = "" if own.judged is None else f"{100 * own.judged.difference:+.0f} points"
            cell = NO_END if not own.ends else f"{own.count}: {_share(own.share)}"
            table.add_row(table_label(env), table_label(label), cell, difference, own.verdict)
        table.add_section()
    return table


def _share(share: Interval) -> str:
    return percent(share) if share.mean else f"0.0% [0.0, {100 * share.high:.1f}]"
