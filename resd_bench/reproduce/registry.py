"""What can be reproduced: its name, the runs it needs, and what makes a page of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from resd_bench.plugins import near_miss
from resd_bench.reproduce import curves, dials, tables
from resd_bench.reproduce.gather import Gathered
from resd_bench.reproduce.page import Page


@dataclass(frozen=True, slots=True)
class Experiment:
    """A table or figure, and where its runs are defined."""

    name: str
    about: str
    sweep: str
    """Stem of its file in `runs/nano`."""
    make: Callable[[Gathered], Page]
    of_paper: bool = False
    """Whether it is the paper's; the others are experiments of our own."""
    variants: tuple[str, ...] = ()
    """Those of the sweep that it needs; () for all."""


METHODS = ("base", "sft", "sdpo", "sdpo+ss", "resd", "grpo", "grpo-small-batch")
PARTS = ("resd", "resd-no-reflection", "resd-no-playbook", "resd-no-solution-buffer")
REFLECTIONS = ("sdpo-reflection-playbook", "sdpo", "sdpo-n8")
CURVES = ("resd", "sdpo", "grpo", "grpo-small-batch")
EXPERIMENTS = (
    Experiment("table2", "methods on held-out tasks", "table2", tables.table2, True, METHODS),
    Experiment("table3", "RESD without one of its parts", "table3", tables.table3, True, PARTS),
    Experiment("table5", "success elsewhere after training", "forgetting", tables.forgetting, True),
    Experiment("fig1", "success against rollouts", "table2", curves.fig1, True, CURVES),
    Experiment(
        "fig3", "one rollout, eight, or reflections", "fig3", curves.fig3, True, REFLECTIONS
    ),
    Experiment("fig4", "successes per task over updates", "fig3", curves.fig4, True, REFLECTIONS),
    Experiment(
        "fig5", "loss over updates", "table2", curves.fig5, True, ("resd", "sdpo", "sdpo+ss")
    ),
    Experiment(
        "fig6", "RESD and GRPO", "table2", curves.fig6, True, ("resd", "grpo", "grpo-small-batch")
    ),
    Experiment(
        "fig7", "RESD, SDPO, SDPO+ss", "table2", curves.fig7, True, ("resd", "sdpo", "sdpo+ss")
    ),
    Experiment("fig8", "seconds per update", "table2", curves.fig8, True, ("resd", "sdpo", "grpo")),
    Experiment("parts", "Table 3's runs as curves", "table3", curves.parts, variants=PARTS),
    Experiment("phase", "rarity x feedback level", "phase", dials.phase),
    Experiment("tiers", "tiers x feedback level", "tiers", dials.tiers),
    Experiment("reflector", "how good must a reflector be", "reflector", dials.reflector),
    Experiment("handover", "RESD, then GRPO", "handover", dials.handover),
    Experiment("budgets", "what is held equal", "table2", curves.budgets, variants=METHODS),
    Experiment("teacher", "frozen or moving, feedback or not", "teacher", dials.teacher),
    Experiment("in-context", "in context or in weights", "in-context", dials.in_context),
)
SETS = {
    "all": [one.name for one in EXPERIMENTS if one.of_paper],
    "experiments": [one.name for one in EXPERIMENTS if not one.of_paper],
    "forgetting": ["table5"],
}


def choose(names: Iterable[str]) -> Sequence[Experiment]:
    """The experiments called so; `all` is the paper's, `experiments` are ours."""
    by_name = {one.name: one for one in EXPERIMENTS}
    chosen: dict[str, Experiment] = {}
    for name in names:
        for single in SETS.get(name, [name]):
            if single not in by_name:
                raise near_miss("table, figure or experiment", single, [*by_name, *SETS])
            chosen[single] = by_name[single]
    return list(chosen.values())
