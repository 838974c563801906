# ---
# jupyter:
#   jupytext:
#     text_representation:
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Write your own method
#
# A method is a class with `act` and `learn`. We write one in forty lines, run it with the embedded model, and compare it with a method whose records are in the
# repository, at equal budget and on equal seeds.
#
# The idea: SFT imitates successes, and learns nothing while there are none. But failures have scores. So imitate what did *better than the others of this update*, the
# more the better it did. Is a graded score enough of a substitute for success?

# %%
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt

import resd_bench
from resd_bench import plugins
from resd_bench.agent import MethodSpec, Policy, State
from resd_bench.config import resolve
from resd_bench.jobs.run import run
from resd_bench.records.find_runs import find_runs
from resd_bench.report.comparisons import compare, group_runs
from resd_bench.stats import success_at
from resd_bench.testing import check_agent
from resd_bench.types import Example, Group, Messages, Metrics, Sampling, Step, Stop

# %% [markdown]
# ## Forty lines

# %%


@dataclass(frozen=True)
class GradedConfig:
    """Options, for `--set method.NAME=VALUE`."""

    strength: float = 2.0
    """Factor on every loss."""


class GradedAgent:
    """Imitates attempts in proportion to how much their score exceeds the mean of the update."""

    def __init__(self, policy: Policy, config: GradedConfig) -> None:
        self.policy, self.config = policy, config

    def act(self, prompts: Sequence[Messages], *, n: int, sampling: Sampling, purpose: str) -> list:
        return self.policy.sample(prompts, n=n, sampling=sampling, purpose=purpose)

    def learn(self, groups: Sequence[Group], step: Step) -> Metrics:
        """One update. `graded/mean_score`: what had to be beaten; `graded/imitated`: how many did."""
        attempts = [a for group in groups for a in group.trajectories if a.stop is not Stop.ERROR]
        mean = sum(a.feedback.score for a in attempts) / len(attempts)
        better = [a for a in attempts if a.feedback.score > mean]
        examples = [
            Example(
                turn.messages,
                turn.completion,
                weight=self.config.strength * (a.feedback.score - mean),
            )
            for a in better
            for turn in a.turns
        ]
        learned = self.policy.update(examples, imitate, batch_size=len(attempts))
        return {**learned, "graded/mean_score": mean, "graded/imitated": float(len(better))}

    def context(self) -> Mapping[str, Any]:
        return {}

    def state_dict(self) -> State:
        return {"policy": self.policy.state_dict()}

    def load_state_dict(self, state: State) -> None:
        self.policy.load_state_dict(state["policy"])


def imitate(batch):
    """Mean negative log-likelihood of each sequence's tokens, times its weight, [b]."""
    chosen = batch.student_logits.log_softmax(-1).gather(-1, batch.token_ids[..., None])[..., 0]
    return -(chosen * batch.mask).sum(-1) / batch.mask.sum(-1).clamp(min=1) * batch.weights


GRADED = MethodSpec("graded", "Imitates what scored above the mean.", GradedConfig, GradedAgent)

# %% [markdown]
# Rollouts, evaluation, budgets, checkpoints, records and statistics are the harness's. It holds a method to a few promises, which `check_agent` proves: `learn` bears an update without any usable attempt, a
# resumed run goes on as if nothing had happened, every token is charged.

# %%
try:
    check_agent(GRADED)
except Exception as error:
    print(f"{type(error).__name__}: {error}")

# %% [markdown]
# It found a mistake: an update in which the environment failed on every attempt divides by zero. Mended:


# %%
class SoundAgent(GradedAgent):
    """`GradedAgent` that bears an update without any attempt."""

    def learn(self, groups: Sequence[Group], step: Step) -> Metrics:
        """As above; without an attempt there is nothing to imitate."""
        if all(a.stop is Stop.ERROR for group in groups for a in group.trajectories):
            return self.policy.update([], imitate, batch_size=1)
        return super().learn(groups, step)


GRADED = MethodSpec("graded", "Imitates what scored above the mean.", GradedConfig, SoundAgent)
check_agent(GRADED)
print("graded keeps its promises")

# %% [markdown]
# ## Run it
#
# In a package, one line of `pyproject.toml` makes the method known (`resd-bench init method graded` writes it). In a notebook this stands in for it:

# %%
plugins.installed("resd_bench.methods")["graded"] = EntryPoint(
    "graded", "__main__:GRADED", "resd_bench.methods"
)
out = tempfile.mkdtemp()
for seed in range(2):
    settings = {"method": "graded", "seed": seed, "budget": "256ep", "eval_every": 0, "out": out}
    outcome = run(resolve(settings))
    print(f"seed {seed}: {outcome.state}")

# %% [markdown]
# ## Compare it
#
# The committed records of SFT have an evaluation at 256 rollouts too, of the same tasks after the same number of rollouts, for the same seeds.

# %%
RECORDS = Path(resd_bench.__file__).parents[1] / "results/nano/manufactoria-has"
places = [str(RECORDS / "sft" / f"seed-{seed}") for seed in range(2)]
groups = group_runs(find_runs([*places, out]))
for row in compare(groups, 256):
    difference = (
        "" if row.difference is None else f"{100 * row.difference.mean:+.1f} points, {row.judged}"
    )
    print(
        f"{row.label:8} {100 * row.success.mean:5.1f}%  [{100 * row.success.low:.1f}, {100 * row.success.high:.1f}]  {difference}"
    )

# %%
figure, (left, right) = plt.subplots(1, 2, figsize=(9, 2.8), layout="constrained")
for place, runs in enumerate(groups.values()):
    for own in runs:
        before, after = own.points[0].mean, success_at(own.points, 256).mean
        left.plot(
            [place - 0.15, place + 0.15], [100 * before, 100 * after], "o-", color=f"C{place}"
        )
left.set_xticks(range(len(groups)), groups)
left.set_ylabel("held-out success (%)")
left.set_title("each seed, before and after 256 rollouts", fontsize=10)
for own in groups["graded"]:
    right.plot(
        [row["episodes"] for row in own.metrics],
        [row["graded/mean_score"] for row in own.metrics],
        "o-",
        color="C1",
    )
right.set(xlabel="training rollouts", ylabel="mean score")
right.set_title("what an attempt had to beat", fontsize=10)
for axes in (left, right):
    axes.spines[["top", "right"]].set_visible(False)
plt.show()

# %% [markdown]
# Compare the two panels. The mean score may rise while success hardly does: what passes a few more test cases is imitated, and that need not lead to what passes
# all. The verdict is an answer for this budget and this model organism, and says how many seeds a firmer one would need. From here: more seeds, a longer
# budget, `--set method.strength=4`, and `resd-bench compare` over all of it.
