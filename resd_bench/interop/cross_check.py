"""Our GRPO and SFT against TRL's: the same model, tasks, samples and settings.

First one step on one batch of samples that both get (`same_samples`): tokens, log-probabilities,
advantages, loss and gradients must be equal. Then runs of several updates on the same tasks in the
same order, in which each samples for itself; held-out success gets a verdict: *different*, *same*
where two one-sided tests put the difference within a margin, else *open*. Left out: LoRA, episodes
of several turns, other trainers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from resd_bench.budget import Ledger
from resd_bench.config import RunConfig
from resd_bench.env import TextEnv
from resd_bench.evaluation.held_out import eval_rows, evaluate
from resd_bench.interop.cross_check_setup import (
    METHODS,
    CrossCheck,
    Method,
    base_job,
    config_of,
    demonstrations,
    method_over,
    run_theirs,
    samples_of,
    told_by_theirs,
)
from resd_bench.interop.same_samples import (
    Difference,
    check_signal,
    compare_step,
    draw_samples,
    given,
)
from resd_bench.interop.trl import dataset_row
from resd_bench.jobs.replay import Tell
from resd_bench.jobs.run import batch_of
from resd_bench.jobs.setup import make_envs, make_eval_set
from resd_bench.policy.build import build
from resd_bench.policy.lm_policy import LMPolicy
from resd_bench.rollout.rollout import EnvPool
from resd_bench.stats import eval_points
from resd_bench.stats.equivalence import equivalence_p
from resd_bench.stats.power import ALPHA
from resd_bench.stats.verdicts import judge, make_pair

TaskOutcomes = Mapping[str, Sequence[float]]
"""Successes of the samples of each task."""


@dataclass(frozen=True, slots=True)
class Curves:
    """Runs of both, seed by seed."""

    ours: list[list[float]]
    """Training reward (GRPO) or loss (SFT) by update, for each seed."""
    theirs: list[list[float]]
    success: list[tuple[float, float]]
    """Held-out success of ours and of theirs, for each seed."""
    before: float
    """Held-out success before training."""
    word: str
    """`same`, `different` or `open`."""
    interval: tuple[float, float, float] | tuple[float, None, None]
    """Mean paired difference in held-out success (ours minus theirs) and its 95% limits, which one
    seed does not have."""


@dataclass(frozen=True, slots=True)
class Checked:
    """Everything that was compared for one method."""

    method: Method
    batch: list[Difference]
    curves: Curves | None
    """None if no runs were asked for."""


def cross_check(check: CrossCheck, scratch: Path, tell: Tell) -> list[Checked]:
    """Compare both methods; files are left in the folder `scratch`, and `tell` gets progress."""
    env, envs = make_envs(config_of(check, "grpo", check.seeds[0]))
    try:
        tell("sampling one batch of each method")
        same = {method: draw_samples(check, method, env, envs) for method in METHODS}
        for one in same.values():
            check_signal(one)
        jobs = {scratch / f"{method}-batch": one.job for method, one in same.items()}
        for method in METHODS if check.updates else ():
            for seed in check.seeds:
                job = run_job(check, config_of(check, method, seed), env)
                jobs[scratch / f"{method}-{seed}"] = job
        run_theirs(check, jobs, scratch, tell)
        return [
            Checked(
                method,
                list(compare_step(one, scratch / f"{method}-batch")),
                compare_runs(check, method, env, envs, scratch, tell) if check.updates else None,
            )
            for method, one in same.items()
        ]
    finally:
        envs.close()


def run_job(check: CrossCheck, config: RunConfig, env: TextEnv) -> dict[str, Any]:
    """The job that trains on the tasks of a run in their order."""
    policy, train = build(config), env.tasks("train")
    tasks = [task for u in range(check.updates) for task in batch_of(train, config, u)[1]]
    job = base_job(config, policy, check)
    if config.method == "grpo":
        return job | {"rows": [dataset_row(env, task) for task in tasks]}
    return job | given("sft", env, policy, demonstrations(env, policy, tasks))


def compare_runs(
    check: CrossCheck, method: Method, env: TextEnv, envs: EnvPool, scratch: Path, tell: Tell
) -> Curves:
    """Our runs, held-out success of both, and the verdict on it."""
    ours: list[list[float]] = []
    theirs: list[list[float]] = []
    pairs, rates = [], []
    first = config_of(check, method, check.seeds[0])
    tell(f"held-out success before training: {method}")
    before = _rate(_outcomes(check, build(first), first, env, envs))
    for seed in check.seeds:
        config = config_of(check, method, seed)
        tell(f"ours: {method}, seed {seed}, {check.updates} updates")
        curve, policy = _train(check, config, env, envs)
        place = scratch / f"{method}-{seed}"
        log = told_by_theirs(place)["log"]
        name = "reward" if method == "grpo" else "loss"
        other = LMPolicy.load(place / "model")
        tell(f"held-out success of both: {method}, seed {seed}")
        mine = _outcomes(check, policy, config, env, envs)
        its = _outcomes(check, other, config, env, envs)
        ours.append(curve)
        theirs.append([float(row[name]) for row in log if name in row])
        pairs.append(make_pair(mine, its))
        rates.append((_rate(mine), _rate(its)))
    (verdict,) = judge([{check.env: pairs}])
    same = equivalence_p({check.env: pairs}, check.margin) < ALPHA
    word = "same" if same else "open" if verdict.word == "inconclusive" else "different"
    told = verdict.difference
    interval = (told.mean, told.low, told.high) if len(pairs) > 1 else (told.mean, None, None)
    return Curves(ours, theirs, rates, before, word, interval)


def _train(
    check: CrossCheck, config: RunConfig, env: TextEnv, envs: EnvPool
) -> tuple[list[float], LMPolicy]:
    """A run of ours: training reward (GRPO) or loss (SFT) by update, and the policy."""
    policy = build(config)
    agent, curve = method_over(config, policy), []
    for u in range(check.updates):
        step, groups = samples_of(check, config, u, policy, env, envs)
        learned = agent.learn(groups, step)
        rewards = [a.feedback.reward for group in groups for a in group.trajectories]
        mean = sum(rewards) / len(rewards)
        curve.append(learned["policy/loss"] if config.method == "sft" else mean)
    return curve, policy


def _outcomes(
    check: CrossCheck, policy: LMPolicy, config: RunConfig, env: TextEnv, envs: EnvPool
) -> TaskOutcomes:
    """Held-out success of a policy, with the same seeds for both of a pair."""
    panel, ledger = make_eval_set(config, env.tasks("test")[: check.eval_tasks]), Ledger()
    rows = eval_rows(evaluate(policy.sample, envs, panel, ledger), 0, ledger)
    return eval_points(rows)[0].outcomes()


def _rate(outcomes: TaskOutcomes) -> float:
    flat = [x for own in outcomes.values() for x in own]
    return sum(flat) / len(flat)


def to_record(check: CrossCheck, trl: str, checked: Sequence[Checked]) -> dict[str, Any]:
    """What was compared and what came out, without the path of the other Python."""
    settings = {name: value for name, value in asdict(check).items() if name != "python"}
    return {"trl": trl, "settings": settings, "methods": [asdict(one) for one in checked]}
