"""What goes wrong in training, and how to mend it: one rule a fault, over consecutive updates.

A rule fires once it has held in so many updates in a row, and says what that does to the run (it
cannot learn, a part of its method does not work, or it is held back) and which flag mends it. No
rule looks at held-out success, which can rise all the same. The numbers were chosen on runs of nano
that learned: the longest that a committed one went without an example to train on is 29 updates,
with all rollouts truncated none, with all reflections unread one, until it was at its best. Left
out: runs that could learn and do not, which only their evaluations can tell.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
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
ZERO = 1e-8
"""A loss or gradient below this is rounding."""
ROUNDING = 1e-5
"""A gradient norm below this share of the loss is rounding: where the terms of the gradient cancel,
1e-6 was measured in float32."""
SMALLEST_RATE = 1e-9
"""A step of AdamW changes a weight by about the learning rate; below this it is lost in rounding
to float32."""


@dataclass(frozen=True, slots=True)
class About:
    """What the rules need to know of a run."""

    group_size: int = 1
    learning_rate: float = 1.0
    budget: str = "0ep"
    learns: bool = True
    """Whether its method trains at all."""
    teacher: bool = False
    """Whether its method distils a teacher."""

    @classmethod
    def run(cls, settings: Mapping[str, Any]) -> About:
        """Of a run with these settings, those of `RunConfig`."""
        learns, teacher = _of_method(settings)
        size, rate = settings.get("group_size"), settings.get("learning_rate")
        budget = str(settings.get("budget", "0ep"))
        return cls(int(size or 1), float(1.0 if rate is None else rate), budget, learns, teacher)

    def spent(self, row: Row) -> float:
        """Share of the budget that was spent after an update; 0 where it does not say."""
        try:
            budget = Budget.parse(self.budget)
            return budget.spent(Ledger.from_row(row)) / budget.amount
        except (LookupError, TypeError, ValueError, ZeroDivisionError):
            return 0.0


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
    """Updates in a row in which it holds until it fires."""
    holds: Callable[[Row, About], bool]
    says: str
    mend: str
    effect: str = "could not learn"
    """What the fault does to the run, as its end tells it: less than this where it can learn."""

    @property
    def text(self) -> str:
        """What is wrong, and what mends it."""
        return f"{self.says}: {self.mend}"


def _is(row: Row, name: str, value: float) -> bool:
    return row.get(name) == value


def _unscored(row: Row, about: About) -> bool:
    success = row.get("train/success", 0.0)
    return success is None or success != success


def _too_long(row: Row, about: About) -> bool:
    """No room in the context: for any prompt, for most of the answers that are cut off, or for any
    example.
    """
    return _context_full(row) or (
        _is(row, "policy/examples", 0) and (row.get("policy/overlong_examples") or 0) > 0
    )


def _context_full(row: Row) -> bool:
    unanswered = row.get("train/unanswered") or 0
    return unanswered == 1 or (_is(row, "train/truncated", 1) and unanswered > 0.5)


def _waiting(row: Row, about: About) -> bool:
    """Nothing to train on, in a method that would, and no other rule says why."""
    idle = about.learns and _is(row, "policy/examples", 0) and not _too_long(row, about)
    return idle and "grpo/mixed_groups" not in row


def _still(row: Row, name: str, zero: float = ZERO) -> bool:
    """Trained on examples, not all of them successes, and `name` is below `zero`."""
    value, examples = row.get(name), row.get("policy/examples") or 0
    won = row.get("signal/success_rate", row.get("train/success")) == 1
    return examples > 0 and not won and value is not None and abs(value) < zero


def _same_teacher(row: Row, about: About) -> bool:
    return about.teacher and _still(row, "policy/loss") and _still(row, "policy/grad_norm")


def _no_gradient(row: Row, about: About) -> bool:
    zero = max(ZERO, ROUNDING * abs(row.get("policy/loss") or 0.0))
    return _still(row, "policy/grad_norm", zero) and not _same_teacher(row, about)


def _unread(row: Row, *names: str) -> bool:
    """Whether something of one of these names was written, and none of it could be read."""
    pairs = [name.rpartition("/") for name in names]
    made = [(row.get(f"{a}/{b}") or 0, row.get(f"{a}/unparsed_{b}")) for a, _, b in pairs]
    return any(count > 0 and unread == count for count, unread in made)


def _warming_up(row: Row, about: About) -> bool:
    rate = row.get("policy/lr")
    low = rate is not None and rate < about.learning_rate * (1 - 1e-6)
    return about.learns and low and about.spent(row) >= 0.5


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
        3,
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
        "half of the budget is spent and the learning rate is still warming up",
        "give a shorter warm-up (--warmup-updates) or a larger --budget",
        _HELD_BACK,
    ),
)
BY_NAME: Mapping[str, FaultRule] = {rule.name: rule for rule in FAULT_RULES}


@dataclass
class FaultMonitor:
    """Counts for every rule in how many updates in a row it has held."""

    about: About = field(default_factory=About)
    held: dict[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, config: RunConfig) -> FaultMonitor:
        """Of a new run."""
        names = ("group_size", "learning_rate", "budget", "method", "method_options")
        return cls(About.run({name: getattr(config, name) for name in names}))

    def updated(self, row: Row) -> Metrics:
        """Take an update's metrics; `fault/NAME`, for rules that fire, is how often they held."""
        self.held = {
            rule.name: self.held.get(rule.name, 0) + 1 if rule.holds(row, self.about) else 0
            for rule in FAULT_RULES
        }
        return {
            _PREFIX + rule.name: float(self.held[rule.name])
            for rule in FAULT_RULES
            if self.held[rule.name] >= rule.updates
        }


@dataclass(frozen=True, slots=True)
class Fault:
    """A rule that fired in a run."""

    rule: FaultRule
    first: int
    """Update of the first of the updates in which it held."""
    last: int

    def __str__(self) -> str:
        one = self.first == self.last
        when = f"update {self.first}" if one else f"updates {self.first} to {self.last}"
        return f"{self.rule.effect} in {when}: {self.rule.text}"


def firing(row: Row) -> list[FaultRule]:
    """The rules that an update's record says have held for long enough, just now or for longer."""
    return [rule for rule in FAULT_RULES if _PREFIX + rule.name in row]


def new_faults(row: Row) -> list[FaultRule]:
    """The rules that an update's record says have just fired."""
    return [rule for rule in FAULT_RULES if row.get(_PREFIX + rule.name) == rule.updates]


def faults_of(rows: Iterable[Row], settings: Mapping[str, Any]) -> list[Fault]:
    """The faults of a recorded run, old ones without `fault/` too; by rule the longest."""
    monitor, found = FaultMonitor(About.run(settings)), dict[str, Fault]()
    for number, row in enumerate(rows, start=1):
        update = int(row.get("update", number))
        for name, count in monitor.updated(row).items():
            rule = BY_NAME[name.removeprefix(_PREFIX)]
            now = Fault(rule, update - int(count) + 1, update)
            old = found.get(rule.name)
            if old is None or now.last - now.first >= old.last - old.first:
                found[rule.name] = now
    return [found[rule.name] for rule in FAULT_RULES if rule.name in found]
