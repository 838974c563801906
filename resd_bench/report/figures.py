"""Learning curves: of one run, and of several over each other. Figures are functions of records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from resd_bench.report.runs import RunData

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe and Ito's palette: told apart by colour-blind readers too."""

AXES = {"episodes": "training rollouts", "generated_tokens": "generated tokens, all"}


def learning_curve(run: RunData, stem: Path) -> list[Path]:
    """Draw one run as `<stem>.png` and `<stem>.svg`: held-out and training success over rollouts.

    The band is Wilson's 95% interval of mean@k on the effective number of samples.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axes = figure.subplots()
    x = [point.episodes for point in run.points]
    intervals = [point.interval() for point in run.points]
    k = run.points[-1].per_task
    low, high = [100 * i.low for i in intervals], [100 * i.high for i in intervals]
    axes.fill_between(x, low, high, color=COLOURS[0], alpha=0.2, linewidth=0)
    mean, best = [100 * i.mean for i in intervals], [100 * p.best for p in run.points]
    axes.plot(x, mean, "o-", color=COLOURS[0], markersize=4, label=f"held-out mean@{k}, 95% band")
    axes.plot(x, best, "--", color=COLOURS[1], label=f"held-out best@{k}")
    rows = [row for row in run.metrics if row.get("train/success") is not None]
    axes.plot(
        [row["episodes"] for row in rows],
        [100 * row["train/success"] for row in rows],
        ".",
        color="0.55",
        markersize=4,
        label="success of training rollouts, per update",
    )
    _dress(axes, "episodes")
    axes.legend(frameon=False, loc="best")
    axes.set_title(f"{run.method} on {run.setting} · seed {run.seed}", fontsize=11)
    return _save(figure, stem)


def comparison(groups: Mapping[str, Sequence[RunData]], title: str, stem: Path) -> list[Path]:
    """Draw groups of runs as `<stem>.png` and `.svg`, on rollouts and on all generated tokens.

    Thin lines are seeds, thick ones means over the evaluations that all seeds of a group have.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.4), layout="constrained")
    for panel, axis in zip(figure.subplots(1, 2, sharey=True), AXES, strict=True):
        for index, (label, runs) in enumerate(groups.items()):
            colour = COLOURS[index % len(COLOURS)]
            for run in runs:
                xs = [getattr(point, axis) for point in run.points]
                panel.plot(xs, [100 * p.mean for p in run.points], color=colour, lw=0.7, alpha=0.4)
            x, y = mean_curve(runs, axis)
            seeds = f"{label} ({len(runs)} seed{'s' * (len(runs) > 1)})"
            panel.plot(x, 100 * y, "o-", color=colour, lw=2.2, markersize=3.5, label=seeds)
        _dress(panel, axis)
        panel.label_outer()
    figure.axes[0].legend(frameon=False, loc="best")
    figure.suptitle(title, fontsize=11)
    return _save(figure, stem)


def mean_curve(runs: Sequence[RunData], axis: str) -> tuple[np.ndarray, np.ndarray]:
    """Mean position on `axis` and mean success over runs, at the updates all of them evaluated."""
    by_update = [{point.update: point for point in run.points} for run in runs]
    common = sorted(set.intersection(*(set(points) for points in by_update)))
    x = [[getattr(points[u], axis) for u in common] for points in by_update]
    y = [[points[u].mean for u in common] for points in by_update]
    return np.mean(x, axis=0), np.mean(y, axis=0)


def _dress(axes: Axes, axis: str) -> None:
    axes.set_xlabel(AXES[axis])
    axes.set_ylabel("success (%)")
    axes.set_ylim(-2, 102)
    axes.set_xlim(left=0)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)


def _save(figure: Figure, stem: Path) -> list[Path]:
    """Write PNG and SVG; equal records give equal bytes."""
    import matplotlib

    paths = [stem.with_name(stem.name + suffix) for suffix in (".png", ".svg")]
    stem.parent.mkdir(parents=True, exist_ok=True)
    with matplotlib.rc_context({"svg.hashsalt": "resd-bench", "svg.fonttype": "none"}):
        figure.savefig(paths[0], dpi=150)
        figure.savefig(paths[1], metadata={"Date": None})
    return paths
