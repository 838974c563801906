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
# # Reading results
#
# The repository keeps the records of many runs on `manufactoria-has` with the embedded model. Here we read those of six methods at the paper's batch and
# one learning rate, five seeds each: curves, a comparison with verdicts, and three looks behind the averages. Nano is a model organism: its results test
# mechanisms and the harness, and are not evidence about large models. `docs/records.md` explains every field, `docs/statistics.md` every number.

# %%
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

import resd_bench
from resd_bench.records.find_runs import find_runs
from resd_bench.report.comparisons import compare, group_runs
from resd_bench.report.figures import colours_of, mean_curve
from resd_bench.stats import discovery_curve, kaplan_meier, success_at, time_to_threshold

RECORDS = Path(resd_bench.__file__).parents[1] / "results/nano/manufactoria-has"
METHODS = ["resd", "sft", "sdpo+ss", "sdpo", "grpo", "base"]
groups = group_runs(find_runs([str(RECORDS / method) for method in METHODS]))
colours = colours_of(list(groups))
{label: len(runs) for label, runs in groups.items()}

# %% [markdown]
# ## One run
#
# A run is a folder. Its evaluations are points on a curve; each point holds the outcome of every task and sample, so an interval can respect that the
# four samples of a task are not independent.

# %%
run = groups["resd"][0]
pd.DataFrame(
    {
        "update": point.update,
        "rollouts": point.episodes,
        "tokens": point.generated_tokens,
        "success": f"{100 * point.mean:.1f}%",
        "95% interval": f"[{100 * point.interval().low:.1f}, {100 * point.interval().high:.1f}]",
        "any of 4": f"{100 * point.best:.1f}%",
    }
    for point in run.points
)

# %% [markdown]
# ## Curves, on two axes
#
# Methods differ in what they spend. RESD reflects, so it generates more tokens per rollout than the others; on the right its curve is stretched.

# %%
figure, panels = plt.subplots(1, 2, figsize=(9, 3.2), sharey=True, layout="constrained")
for panel, axis, unit in zip(panels, ("episodes", "tokens"), (1, 1000), strict=True):
    for label, runs in groups.items():
        for own in runs:
            x = [p.at(axis) / unit for p in own.points]
            panel.plot(
                x, [100 * p.mean for p in own.points], color=colours[label], lw=0.6, alpha=0.4
            )
        x, y = mean_curve(runs, axis)
        panel.plot(x / unit, 100 * y, color=colours[label], lw=2, label=label)
    panel.spines[["top", "right"]].set_visible(False)
panels[0].set_xlabel("training rollouts")
panels[1].set_xlabel("generated tokens, all (thousands)")
panels[0].set_ylabel("held-out success (%)")
panels[1].legend(frameon=False, fontsize=8)
plt.show()

# %% [markdown]
# ## A verdict, not a ranking
#
# Runs are paired by seed: the same seed gave every method the same tasks in the same order. A difference is *better* or *worse* only where the
# t interval, Holm's correction over all comparisons, the noise of the evaluation itself and a permutation test agree. Else it is inconclusive, with
# what it would take.


# %%
def table(rows):
    """A comparison as a table; differences in percentage points."""
    return pd.DataFrame(
        {
            "runs": row.label,
            "success": f"{100 * row.success.mean:.1f}% [{100 * row.success.low:.1f}, {100 * row.success.high:.1f}]",
            "minus the first": f"{100 * row.difference.mean:+.1f}" if row.difference else "",
            "verdict": str(row.judged or ""),
        }
        for row in rows
    )


table(compare(groups, 1280))

# %% [markdown]
# At 1,280 rollouts SFT on successes stands above RESD, and everyone else is below. Halfway, the order of these two is reversed:

# %%
table(compare({label: groups[label] for label in ("resd", "sft")}, 640))

# %% [markdown]
# ## How long until it works?
#
# Some runs never get to 5%. Leaving them out would give the mean of the lucky ones, so they are *censored*: we know only that they took
# longer than the budget. The curve shows the share of runs that are not there yet.

# %%
figure, axes = plt.subplots(figsize=(6, 2.8), layout="constrained")
for place, (label, runs) in enumerate(groups.items()):
    waits = []
    for own in runs:
        x, y = [p.episodes for p in own.points], [p.mean for p in own.points]
        waits.append(time_to_threshold(x, y, 0.05, 1280))
    curve = kaplan_meier(waits)
    x, y = [0, *curve.times, 1280], [1, *curve.share, curve.share[-1]]
    axes.step(x, y, where="post", color=colours[label], lw=6 - place, label=label)
axes.set(xlabel="training rollouts", ylabel="runs not yet at 5%", ylim=(-0.03, 1.05))
axes.spines[["top", "right"]].set_visible(False)
axes.legend(frameon=False, fontsize=8, ncols=2)
plt.show()

# %% [markdown]
# ## Discovery
#
# What was ever solved in training, even once? Every method can only learn from success it stumbles on, unless it learns from failures too. Kept
# records have a short row per training rollout (the log `episodes`), without any text.

# %%
figure, axes = plt.subplots(figsize=(6, 2.8), layout="constrained")
for label, runs in groups.items():
    for number, own in enumerate(runs):
        x, y = zip(*discovery_curve(own.training()), strict=True)
        axes.step(
            x,
            y,
            where="post",
            color=colours[label],
            lw=1.2,
            alpha=0.8,
            label=label if not number else None,
        )
axes.set(xlabel="training rollouts", ylabel="different tasks ever solved")
axes.spines[["top", "right"]].set_visible(False)
axes.legend(frameon=False, fontsize=8)
plt.show()

# %% [markdown]
# ## Which tasks are learned?
#
# An average hides whether the same tasks are solved always or all of them sometimes. Each column is a held-out task, ordered by its mean over seeds; each row a
# method at the end of training, dark where all samples of all seeds succeed.

# %%
rates = {}
for label, runs in groups.items():
    outcomes = [success_at(own.points).outcomes() for own in runs]
    rates[label] = {task: float(np.mean([own[task] for own in outcomes])) for task in outcomes[0]}
frame = pd.DataFrame(rates).T
frame = frame[frame.mean().sort_values(ascending=False).index]
figure, axes = plt.subplots(figsize=(9, 2), layout="constrained")
image = axes.imshow(frame, aspect="auto", cmap="Blues", vmin=0, vmax=1, interpolation="none")
axes.set_yticks(range(len(frame)), frame.index, fontsize=8)
axes.set_xlabel(f"{frame.shape[1]} held-out tasks")
figure.colorbar(image, label="success")
plt.show()

# %% [markdown]
# The tasks that nobody learns, and the best rate any method has on them:

# %%
frame.max().sort_values().head(5).rename("best rate").to_frame()

# %% [markdown]
# The same from the command line: `resd-bench compare results/nano/manufactoria-has/{resd,sft,sdpo+ss,sdpo,grpo,base} --detail`. And
# `resd-bench results verify results` proves that the committed tables and figures are what these records give.
