"""How long a run will take on this machine, from the measured speed of its model.

Reading costs a forward pass; training on a token costs three, as in the ledger's FLOPs. Answers
have unknown lengths: the estimate assumes the longest, so it is an upper limit. Left out: the time
of environments, and of whatever else the machine does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from resd_bench import plugins
from resd_bench.agent import Load
from resd_bench.config import RunConfig, method_config
from resd_bench.planning.memory import Lengths, Tokens, count_tokens
from resd_bench.types import Speed

TRAINING_PASSES = 3
"""Cost of training on a token, in forward passes."""
MINUTE, HOUR = 60, 3600


@dataclass(frozen=True, slots=True)
class Duration:
    """Seconds that are left of a run."""

    updates: int
    update: float
    """Seconds of one."""
    evaluations: int
    evaluation: float
    """Seconds of one."""

    @property
    def seconds(self) -> float:
        """Of everything."""
        return self.updates * self.update + self.evaluations * self.evaluation

    @property
    def parts(self) -> str:
        """What is done in this time."""
        found = []
        for number, what, each in (
            (self.updates, "update", self.update),
            (self.evaluations, "evaluation", self.evaluation),
        ):
            if number:
                found.append(f"{number} {what}{'s' * (number > 1)} of {in_words(each)}")
        return ", ".join(found)

    def shorter(self, config: RunConfig) -> str:
        """The flag that saves most."""
        if self.evaluations * self.evaluation > self.seconds / 2:
            if config.eval_every and self.evaluations > 2:
                return "--eval-every 0 (only before and after training), or a smaller --eval-tasks"
            return "a smaller --eval-tasks or --eval-samples"
        if self.updates == 1:
            return "a smaller --batch-size or --max-new-tokens"
        return f"a smaller --budget, such as {max(1, self.updates // 2)}upd, or --max-new-tokens"


def estimate(
    config: RunConfig, speed: Speed, lengths: Lengths, held_out: int, context: int, done: int = 0
) -> Duration | None:
    """At most what is left after `done` updates; None if the budget is in minutes.

    `lengths` are those of the prompts and of the longest answers.
    """
    spec = plugins.method(config.method)
    load: Load = spec.load(method_config(spec.config, config.method_options, spec.name))
    tokens = count_tokens(config, lengths, load, held_out, context)
    sampled, expected = tokens.rollouts + tokens.own, number_of_updates(config, tokens)
    if expected is None:
        return None
    updates = round(expected)
    read = tokens.read + tokens.scored + TRAINING_PASSES * tokens.trained
    prompts = held_out * lengths.turns * lengths.prompt
    return Duration(
        max(0, updates - done),
        sampled * speed.sampled + read * speed.read,
        number_of_evaluations(updates, config.eval_every, done),
        tokens.evaluation * speed.sampled + prompts * speed.read,
    )


def beyond_budget(config: RunConfig) -> str:
    """That the first update, which is finished, takes more than the budget; "" if it does not."""
    group, budget = config.group_size or 1, config.parsed_budget()
    takes = config.batch_size * group
    if budget.unit != "ep" or takes <= budget.amount:
        return ""
    fits = int(budget.amount) // group
    told = f"an update takes {takes} rollouts and is finished, beyond --budget {config.budget}"
    return told + (f"; --batch-size {fits} stays within it" if fits else "")


def number_of_updates(config: RunConfig, tokens: Tokens) -> float | None:
    """Updates of a run, at these tokens for each; None where only the clock says."""
    budget = config.parsed_budget()
    if budget.unit == "tok":
        return max(1.0, budget.amount / (tokens.rollouts + tokens.own))
    return config.updates()


def number_of_evaluations(updates: int, every: int, done: int = 0) -> int:
    """How often a run still evaluates; one that begins does so before its first update too."""
    return len(evaluations_left(updates, every, done)) + (done == 0)


def evaluations_left(updates: int, every: int, done: int) -> Sequence[int]:
    """The updates after which a run still evaluates, once `done` of them are done."""
    return [u for u in range(done + 1, updates + 1) if u == updates or (every and u % every == 0)]


def in_words(seconds: float) -> str:
    """`0.4 s`, `45 s`, `12 min`, `1 h 20 min`."""
    if seconds < 1:
        return f"{seconds:.1g} s"
    if seconds < 2 * MINUTE:
        return f"{seconds:.0f} s"
    if seconds < HOUR:
        return f"{seconds / MINUTE:.0f} min"
    hours, rest = divmod(round(seconds / MINUTE), MINUTE)
    return f"{hours} h {rest} min"
