"""What goes wrong in training, and how to mend it: one rule a fault, over consecutive updates.

A rule fires once it has held in so many updates in a row, and says what that does to the run (it
cannot learn, a part of its method does not work, or it is held back) and which flag mends it. At
the end of a run it also fires if it never did not hold, however short the run. Updates that a rule
is silent about, as one about reflections where none was made, are not counted. No rule looks at
held-out success, which can rise all the same. The numbers were chosen on runs of nano that learned:
the longest that a committed one went without an example to train on is 29 of 40 updates, with all
rollouts truncated none, with all reflections unread one, until it was at its best; none had an
update with a teacher equal to the student. Left out: runs that could learn and do not, which only
their evaluations can tell.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from resd_bench import plugins
from resd_bench.budget import Budget, Ledger
from resd_bench.config import RunConfig, method_config
from resd_bench.types import Metrics

Row = Mapping[str, Any]
_PREFIX = "fault/"
_WAIT = 32
"""Updates without anything to train on that are taken for good; the rarer success, the longer the
wait for the first."""
_SHARE = 0.8
"""Share of the planned updates that is the most to wait for; shorter runs are no luckier."""
_LEAST = 8
"""The fewest that these are, so that a run of few updates is told at its end instead."""
ZERO = 1e-8
"""A loss or gradient below this is rounding."""
TEACHERS_ZERO = 1e-5
"""A gradient norm below this is rounding where the loss is zero as well: 1e-6 was measured with a
teacher equal to the student, in float32."""
ROUNDING = 1e-5
"""A gradient norm below this share of the loss is rounding: where the terms of the gradient cancel,
1e-6 was measured in float32."""
NEARLY_ALL = 0.9
"""Share of a run that a warm-up should not take; `run` notes one that takes half of it."""
SMALLEST_RATE = 1e-9
"""A step of AdamW changes a weight by about the learning rate; below this it is lost in rounding
to float32."""


@dataclass(frozen=True, slots=True)
class About:
    """What the rules need to know of a run."""

    group_size: int = 1
    learning_rate: float = 1.0
    budget: str = "0ep"
    planned: int | None = None
    """Updates that the budget allows; None if that is not known beforehand."""
    learns: bool = True
    """Whether its method trains at all."""
    teacher: bool = False
    """Whether its method distils a teacher."""

    @classmethod
    def run(cls, settings: Mapping[str, Any]) -> About:
        """Of a run with these settings, those of `RunConfig`."""
        learns, teacher = _of_method(settings)
        size, rate = int(settings.get("group_size") or 1), settings.get("learning_rate")
        budget = str(settings.get("budget", "0ep"))
        planned = _planned(budget, int(settings.get("batch_size") or 0) * size)
        rate = float(1.0 if rate is None else rate)
        return cls(size, rate, budget, planned, learns, teacher)

    @classmethod
    def of(cls, config: RunConfig) -> About:
        """Of a run with this configuration."""
        names = ("group_size", "batch_size", "learning_rate", "budget", "method", "method_options")
        return cls.run({name: getattr(config, name) for name in names})

    def spent(self, row: Row) -> float:
        """Share of the budget that was spent after an update; 0 where it does not say."""
        try:
            budget = Budget.parse(self.budget)
            return budget.spent(Ledger.from_row(row)) / budget.amount
        except (LookupError, TypeError, ValueError, ZeroDivisionError):
            return 0.0

    def ends(self, row: Row) -> bool:
        """Whether an update is the last of its run, unless it says that the budget is not spent."""
        return not 0 < self.spent(row) < 1


def _planned(budget: str, episodes: int) -> int | None:
    """Updates of so many rollouts that a budget allows; None where that is not known."""
    try:
        return Budget.parse(budget).updates(episodes)
    except (ValueError, ZeroDivisionError):
        return None


def _of_method(settings: Mapping[str, Any]) -> tuple[bool, bool]:
    """Whether the method trains, and whether it has a teacher."""
    try:
        spec = plugins.method(str(settings["method"]))
        options = method_config(spec.config, settings.get("method_options") or {}, spec.name)
        return spec.learns, spec.load(options).teacher
    except Exception:
        # One that is not installed any more, or has other options: its records can be read.
        return True, False


@dataclass(frozen=True, slots=True)
class FaultRule:
    """A fault that keeps a run from learning, or a part of its method from working."""

    name: str
    updates: int
    """Updates in a row in which it holds until it fires, in a long run."""
    holds: Callable[[Row, About], bool | None]
    """Whether it holds in an update; None where the update does not say."""
    says: str
    mend: str
    effect: str = "could not learn"
    """What the fault does to the run, as its end tells it: less than this where it can learn."""

    @property
    def text(self) -> str:
        """What is wrong, and what mends it."""
        return f"{self.says}: {self.mend}"

    def wait(self, about: About) -> int:
        """Updates in a row in which it holds until it fires, in the run."""
        if about.planned is None:
            return self.updates
        return min(self.updates, max(_LEAST, math.ceil(_SHARE * about.planned)))


def _is(row: Row, name: str, value: float) -> bool:
    return row.get(name) == value


def _unscored(row: Row, about: About) -> bool:
    success = row.get("train/success", 0.0)
    return success is None or success != success


def _too_long(row: Row, about: About) -> bool | None:
    """No room in the context: for any prompt, for most of the answers that are cut off, or for any
    example.
    """
    if _context_full(row):
        return True
    overlong = (row.get("policy/overlong_examples") or 0) > 0
    return overlong or None if _is(row, "policy/examples", 0) else False


def _context_full(row: Row) -> bool:
    unanswered = row.get("train/unanswered") or 0
    return unanswered == 1 or (_is(row, "train/truncated", 1) and unanswered > 0.5)


def _waiting(row: Row, about: About) -> bool:
    """Nothing to train on, in a method that would, and no other rule says why."""
    idle = about.learns and _is(row, "policy/examples", 0) and not _too_long(row, about)
    return idle and "grpo/mixed_groups" not in row


def _still(row: Row, name: str, zero: float = ZERO) -> bool | None:
    """Whether `name` is below `zero`; None where only successes, or nothing, were trained on."""
    value, examples = row.get(name), row.get("policy/examples") or 0
    won = row.get("signal/success_rate", row.get("train/success")) == 1
    return None if not examples or won or value is None else abs(value) < zero


def _same_teacher(row: Row, about: About) -> bool | None:
    """A gradient that is rounding is one that AdamW makes a step of: later losses are not zero."""
    if not about.teacher:
        return False
    return _still(row, "policy/loss") and _still(row, "policy/grad_norm", TEACHERS_ZERO)


def _no_gradient(row: Row, about: About) -> bool | None:
    if _same_teacher(row, about):
        return False
    return _still(row, "policy/grad_norm", max(ZERO, ROUNDING * abs(row.get("policy/loss") or 0.0)))


def _unread(row: Row, *names: str) -> bool | None:
    """Whether, of what one of these names counts, none could be read; None if there was none."""
    pairs = [name.rpartition("/") for name in names]
    made = [(row.get(f"{a}/{b}") or 0, row.get(f"{a}/unparsed_{b}")) for a, _, b in pairs]
    written = [unread == count for count, unread in made if count > 0]
    return any(written) if written else None


def below_peak(row: Row, learning_rate: float) -> bool:
    """Whether an update had less than the whole learning rate."""
    rate = row.get("policy/lr")
    return rate is not None and rate < learning_rate * (1 - 1e-6)


def _warming_up(row: Row, about: About) -> bool:
    low = below_peak(row, about.learning_rate)
    return about.learns and low and about.spent(row) >= NEARLY_ALL


_HELD_BACK = "learning was held back"
FAULT_RULES = (
    FaultRule(
        "truncated",
        3,
        lambda row, about: _is(row, "train/truncated", 1) and not _context_full(row),
        "every rollout is truncated by the token limit",
        "give a larger --max-new-tokens, or a model that comes to an end",
        _HELD_BACK,
    ),
    FaultRule(
        "unscored",
        2,
        _unscored,
        "no rollout has a verdict",
        "see `envs check` and `error` in episodes.jsonl, or give a larger --step-seconds",
    ),
    FaultRule(
        "single_groups",
        3,
        lambda row, about: about.group_size == 1 and _is(row, "grpo/mixed_groups", 0),
        "a group of one rollout has no other to be compared with",
        "give --group-size 2 or more",
    ),
    FaultRule(
        "no_variance",
        _WAIT,
        lambda row, about: about.group_size > 1 and _is(row, "grpo/mixed_groups", 0),
        "all rewards of every group are equal",
        "give a larger --group-size, easier tasks, or a method that learns from failures "
        "(--method resd)",
    ),
    FaultRule(
        "too_long",
        3,
        _too_long,
        "nothing fits the context of the model",
        "give a model with a longer context, a smaller --max-new-tokens, or a shorter --dialect",
    ),
    FaultRule(
        "no_examples",
        _WAIT,
        _waiting,
        "there is nothing to train on",
        "give a larger --batch-size, easier tasks, --feedback-level 1 or more, or a method that "
        "learns from failures (--method resd)",
    ),
    FaultRule(
        "same_teacher",
        1,
        _same_teacher,
        "the teacher predicts what the student does on every token",
        "show it more (--feedback-level, method.use_feedback), or give method.tail=true with a "
        "larger method.top_k",
    ),
    FaultRule(
        "no_gradient",
        3,
        _no_gradient,
        "the gradient is zero",
        "see `trace`, and the clipping and weighting options in `methods info`",
    ),
    FaultRule(
        "no_step",
        3,
        lambda row, about: about.learns and about.learning_rate < SMALLEST_RATE,
        f"a learning rate below {SMALLEST_RATE:g} changes no weight",
        "give a larger --learning-rate",
    ),
    FaultRule(
        "unread_reflections",
        3,
        lambda row, about: _unread(row, "resd/reflections"),
        "no reflection could be read",
        "give a larger --max-new-tokens or another --dialect, or do without: --set "
        "method.use_reflection=false --set method.use_playbook=false",
        "reflections did not work",
    ),
    FaultRule(
        "unread_curations",
        3,
        lambda row, about: _unread(row, "resd/curations"),
        "nothing that should be added to the playbook could be read",
        "give a larger --max-new-tokens or another --dialect, or do without: --set "
        "method.use_playbook=false",
        "the playbook did not work",
    ),
    FaultRule(
        "unread_reviews",
        3,
        lambda row, about: _unread(row, "turns/reviews"),
        "no review of an interaction could be read",
        "give a larger --max-new-tokens or another --dialect, or do without: --set "
        "method.turn_context=observation",
        "reviews of interactions did not work",
    ),
    FaultRule(
        "unread_lessons",
        3,
        lambda row, about: _unread(row, "ace/reflections", "ace/curations"),
        "nothing that should become a lesson could be read",
        "give a larger --max-new-tokens, or another --dialect",
        "lessons did not work",
    ),
    FaultRule(
        "warming_up",
        1,
        _warming_up,
        f"{NEARLY_ALL:.0%} of the budget is spent and the learning rate is still warming up",
        "give a shorter warm-up (--warmup-updates) or a larger --budget",
        _HELD_BACK,
    ),
)
IDLE = ("too_long", "single_groups", "no_variance", "no_examples")
"""Rules about updates in which nothing was trained on."""


@dataclass
class FaultMonitor:
    """Counts for every rule in how many updates in a row it has held."""

    about: About = field(default_factory=About)
    held: dict[str, int] = field(default_factory=dict)

    def updated(self, row: Row) -> Metrics:
        """Take an update's metrics; `fault/NAME`, for rules that fire, is how often they held."""
        told: Metrics = {}
        for rule in FAULT_RULES:
            holds = rule.holds(row, self.about)
            if holds is None:
                continue
            count = self.held[rule.name] = self.held.get(rule.name, 0) + 1 if holds else 0
            if holds and count >= rule.wait(self.about):
                told[_PREFIX + rule.name] = float(count)
        return told


@dataclass(frozen=True, slots=True)
class Fault:
    """A rule that fired in a run."""

    rule: FaultRule
    first: int
    """Update of the first of the updates in which it held."""
    last: int
    updates: int
    """How many they are, without those that it is silent about."""

    def __str__(self) -> str:
        one = self.first == self.last
        when = f"update {self.first}" if one else f"updates {self.first} to {self.last}"
        return f"{self.rule.effect} in {when}: {self.rule.text}"


def firing(row: Row) -> list[FaultRule]:
    """The rules that an update's record says have held for long enough, just now or for longer."""
    return [rule for rule in FAULT_RULES if _PREFIX + rule.name in row]


def new_faults(row: Row, about: About) -> list[FaultRule]:
    """The rules that an update's record says have just fired."""
    return [rule for rule in FAULT_RULES if row.get(_PREFIX + rule.name) == rule.wait(about)]


def idle_rule(row: Row, about: About) -> FaultRule | None:
    """The rule that says why an update had nothing to train on; None where it had something."""
    if not _is(row, "policy/examples", 0):
        return None
    return next((r for r in FAULT_RULES if r.name in IDLE and r.holds(row, about)), None)


def faults_of(rows: Iterable[Row], settings: Mapping[str, Any]) -> list[Fault]:
    """The faults of a recorded run, old ones without `fault/` too; by rule the longest.

    If the run has ended, also those that held throughout, however short it was.
    """
    about, ends = About.run(settings), True
    now, longest = dict[str, Fault](), dict[str, Fault]()
    failed: set[str] = set()
    for number, row in enumerate(rows, start=1):
        update, ends = int(row.get("update", number)), about.ends(row)
        for rule in FAULT_RULES:
            holds = rule.holds(row, about)
            if holds:
                before = now.get(rule.name, Fault(rule, update, update, 0))
                now[rule.name] = replace(before, last=update, updates=before.updates + 1)
                longest[rule.name] = max(
                    now[rule.name], longest.get(rule.name, before), key=lambda one: one.updates
                )
            elif holds is False:
                now.pop(rule.name, None)
                failed.add(rule.name)
    throughout = longest.keys() - failed if ends else set()
    return [
        fault
        for rule in FAULT_RULES
        if (fault := longest.get(rule.name)) is not None
        and (fault.updates >= rule.wait(about) or rule.name in throughout)
    ]
