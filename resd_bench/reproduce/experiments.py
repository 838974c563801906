"""What can be reproduced: its name, the runs it needs, and the function that makes its page."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from resd_bench.errors import near_miss
from resd_bench.reproduce import (
    by_model,
    factorial_page,
    learning_curves,
    many_turns,
    own_experiments,
    paper_tables,
    placebo,
)
from resd_bench.reproduce.match_records import Gathered
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
    """Whether it is in the paper; the others are our own experiments."""
    variants: tuple[str, ...] = ()
    """The variants of the sweep that it needs; () for all."""
    tuned: str = ""
    """Stem of the sweep of tuned settings that are shown next to the untuned ones."""


_METHODS = (
    "base",
    "sft",
    "sdpo",
    "sdpo+ss",
    "sdpo+ss-attempt",
    "resd",
    "grpo",
    "grpo-small-batch",
)
PARTS = (
    "resd",
    "resd-no-reflection",
    "resd-no-playbook",
    "resd-no-solution-buffer",
    "resd-no-previous-trial",
    "resd-no-rebalancing",
)
REFLECTIONS = ("sdpo-reflection-playbook", "sdpo", "sdpo-n8")
CURVES = ("resd", "sdpo", "grpo", "grpo-small-batch")
EXPERIMENTS = (
    Experiment(
        "table2",
        "methods on held-out tasks",
        "table2",
        paper_tables.table2,
        True,
        _METHODS,
        tuned="tuned",
    ),
    Experiment(
        "table3",
        "RESD without one of its parts",
        "table3",
        paper_tables.table3,
        True,
        PARTS,
        tuned="parts-tuned",
    ),
    Experiment(
        "table5",
        "success on other environments after training",
        "forgetting",
        paper_tables.forgetting,
        True,
    ),
    Experiment("fig1", "success against rollouts", "table2", learning_curves.fig1, True, CURVES),
    Experiment(
        "fig3",
        "one rollout, eight, or reflections",
        "fig3",
        learning_curves.fig3,
        True,
        REFLECTIONS,
    ),
    Experiment(
        "fig4", "successes per task over updates", "fig3", learning_curves.fig4, True, REFLECTIONS
    ),
    Experiment(
        "fig5",
        "loss over updates",
        "table2",
        learning_curves.fig5,
        True,
        ("resd", "sdpo", "sdpo+ss"),
    ),
    Experiment(
        "fig6",
        "RESD and GRPO",
        "table2",
        learning_curves.fig6,
        True,
        ("resd", "grpo", "grpo-small-batch"),
    ),
    Experiment(
        "fig7",
        "RESD, SDPO, SDPO+ss",
        "table2",
        learning_curves.fig7,
        True,
        ("resd", "sdpo", "sdpo+ss", "sdpo+ss-attempt"),
    ),
    Experiment(
        "fig8", "seconds per update", "table2", learning_curves.fig8, True, ("resd", "sdpo", "grpo")
    ),
    Experiment(
        "parts", "Table 3's runs as curves", "table3", learning_curves.parts, variants=PARTS
    ),
    Experiment(
        "factorial", "RESD's parts in every combination", "factorial", factorial_page.factorial
    ),
    Experiment("phase", "rarity x feedback level", "phase", by_model.phase),
    Experiment("rarity", "rarity at tuned settings", "rarity", by_model.by_rarity),
    Experiment("organisms", "methods on other organisms", "organisms", by_model.organisms),
    Experiment("tiers", "tiers x feedback level", "tiers", by_model.tier_page),
    Experiment("reflector", "reflections on other tasks", "reflector", own_experiments.reflector),
    Experiment(
        "lies", "wrong lessons in reflections and in the playbook", "lies", own_experiments.lies
    ),
    Experiment("handover", "RESD, then GRPO", "handover", own_experiments.handover),
    Experiment(
        "budgets", "what is held equal", "table2", learning_curves.budgets, variants=_METHODS
    ),
    Experiment(
        "teacher", "teacher frozen or moving, feedback or not", "teacher", own_experiments.teacher
    ),
    Experiment("placebo", "whether what feedback says matters", "placebo", placebo.placebo),
    Experiment("in-context", "in context or in weights", "in-context", own_experiments.in_context),
    Experiment("many-turns", "hindsight about each turn", "many-turns", many_turns.many_turns),
    Experiment(
        "in-context-budget",
        "in context or in weights, at equal budget",
        "in-context-budget",
        own_experiments.in_context_budget,
    ),
)
SETS = {
    "all": [one.name for one in EXPERIMENTS if one.of_paper],
    "experiments": [one.name for one in EXPERIMENTS if not one.of_paper],
    "forgetting": ["table5"],
}


def choose_experiments(names: Iterable[str]) -> Sequence[Experiment]:
    """The experiments of these names; `all` are the paper's, `experiments` are ours."""
    by_name = {one.name: one for one in EXPERIMENTS}
    chosen: dict[str, Experiment] = {}
    for name in names:
        for single in SETS.get(name, [name]):
            if single not in by_name:
                raise near_miss("table, figure or experiment", single, [*by_name, *SETS])
            chosen[single] = by_name[single]
    return list(chosen.values())
