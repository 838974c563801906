"""How rare success is before any learning, to choose a tier of an environment to train on.

From k samples on each of m tasks by a model that does not learn: the success rate p0 with limits,
the probability that all N rollouts of a group get the same reward (GRPO then learns nothing), and
the expected number of episodes to the first success. Left out: how rarity changes during training.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from resd_bench import plugins
from resd_bench.errors import UsageError
from resd_bench.jobs.evaluate import score_model
from resd_bench.jobs.setup import BuildPolicy
from resd_bench.stats import EvalPoint, Interval, success_interval

GRPO_GROUP = 8
"""N of the paper's GRPO."""
MOST_TIERS = 12

_Outcomes = Sequence[Sequence[float]]
"""0 or 1 per sample, by task."""


@dataclass(frozen=True, slots=True)
class Rarity:
    """How rare success on an environment is."""

    env: str
    p0: Interval
    """Success rate of a sample."""
    dead: float
    """Probability that all `GRPO_GROUP` rollouts of one task get the same reward."""
    dead_if_alike: float
    """The same if all tasks were equally hard; varying difficulty increases it."""
    errors: int
    """Samples without a verdict, which the numbers above leave out."""
    with_failures: Rarity | None = None
    """The same, counting samples without a verdict as failures; None if there are none."""

    @property
    def episodes(self) -> tuple[float, float, float]:
        """Expected episodes to the first success, 1 / p0, and its limits; infinite for 0."""
        return _inverse(self.p0.mean), _inverse(self.p0.high), _inverse(self.p0.low)


def _inverse(p: float) -> float:
    return 1 / p if p > 0 else math.inf


def rarity(env: str, outcomes: _Outcomes, errors: int = 0) -> Rarity:
    """Rarity of success in a model's outcomes on `env`; UsageError if no sample has a verdict."""
    if not any(outcomes):
        raise UsageError(f"{env}: none of {errors} samples got a verdict: see `envs check {env}`")
    p0 = success_interval(outcomes)
    return Rarity(env, p0, dead_groups(outcomes), alike(p0.mean), errors)


def alike(p: float, n: int = GRPO_GROUP) -> float:
    """Probability of a zero-variance group of `n` if every sample succeeds with probability `p`."""
    return (1 - p) ** n + p**n


def dead_groups(outcomes: _Outcomes, n: int = GRPO_GROUP) -> float:
    """Probability that `n` samples of a random task all fail or all succeed.

    With n or more samples of each task, all subsets are counted, which is unbiased; with at least
    two, success rates of tasks are assumed to be Beta distributed with their first two moments;
    with one, they are assumed to be equal, which gives a lower limit.
    """
    sampled = [task for task in outcomes if task]
    fewest = min(map(len, sampled))
    p = success_interval(sampled).mean
    if fewest >= n:
        return sum(_subsets(task, n) for task in sampled) / len(sampled)
    return _beta(p, _mean_square(sampled), n) if fewest >= 2 else alike(p, n)


def _subsets(task: Sequence[float], n: int) -> float:
    """Share of the n-subsets of a task's samples that are all failures or all successes."""
    right, k = round(sum(task)), len(task)
    return (math.comb(k - right, n) + math.comb(right, n)) / math.comb(k, n)


def _mean_square(outcomes: _Outcomes) -> float:
    """Unbiased estimate of the mean of p squared over tasks: pairs of samples that both succeed."""
    pairs = [sum(task) * (sum(task) - 1) / (len(task) * (len(task) - 1)) for task in outcomes]
    return sum(pairs) / len(pairs)


def _beta(p: float, square: float, n: int) -> float:
    """Probability of a zero-variance group if success rates are Beta distributed."""
    spread = square - p * p
    if spread <= 0 or p in (0, 1):
        return alike(p, n)
    total = p * (1 - p) / spread - 1
    if total <= 0:
        return 1.0
    a, b = p * total, (1 - p) * total

    def product(first: float) -> float:
        return math.prod((first + i) / (total + i) for i in range(n))

    return product(a) + product(b)


def all_tiers(name: str) -> list[str]:
    """All registrations of the class of `name`; UsageError if there are too many."""
    known = plugins.installed("resd_bench.envs")
    kind = type(plugins.make_env(name))
    mates = [n for n, ep in known.items() if ep.module == known[name].module]
    found = [n for n in mates if n == name or type(plugins.make_env(n)) is kind]
    if len(found) > MOST_TIERS:
        raise UsageError(f"{name} is one of {len(found)} registrations: choose with --tiers A,B")
    return found


def calibrate(
    names: Iterable[str], flags: Mapping[str, object], policy: BuildPolicy | None = None
) -> Iterable[Rarity]:
    """Measure each environment; `flags` are those of an evaluation without a run."""
    for name in names:
        yield rarity_of(name, score_model({**flags, "env": name}, policy=policy).point)


def rarity_of(env: str, point: EvalPoint) -> Rarity:
    """The rarity of success in an evaluation on `env`; see `rarity`."""
    found = rarity(env, [task for task in point.success if task], point.errors)
    if not point.errors:
        return found
    return replace(found, with_failures=rarity(env, point.with_failures().success))


def nearest(found: Sequence[Rarity], target: float) -> Rarity:
    """The tier whose p0 is closest to `target` on a logarithmic scale.

    A tier without success counts as half its upper limit, since it is not infinitely hard.
    """

    def distance(one: Rarity) -> float:
        p = one.p0.mean or one.p0.high / 2
        return abs(math.log(p / target))

    return min(found, key=distance)
