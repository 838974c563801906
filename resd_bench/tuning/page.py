"""The results of tuning: tables, a figure, `tuning.json`, and `tuned.yaml` for other sweeps."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import yaml
from rich.table import Table

from resd_bench.files.writing import make_folder, write_atomically
from resd_bench.records.runs import model_label
from resd_bench.report.figures import colours_of, panel_grid, shared_legend
from resd_bench.reproduce.page import Page, empty_table
from resd_bench.reproduce.paper_tables import TUNED
from resd_bench.seeds import stream
from resd_bench.stats import BestOfTrials, best_of_trials
from resd_bench.tuning.choice import TRIAL_NOT_RUN, MethodTrials, Tried
from resd_bench.tuning.definition import Tuning

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Found = Mapping[str, MethodTrials]
JOINT = "all"
"""What the mean over environments is called where environments are listed."""
AREA = (
    "Area: under the curve of success on validation tasks over training rollouts, divided by the "
    "budget, in percent; attempts without a verdict count as failures, a failed run as 0."
)


def make_page(tuning: Tuning, found: Found) -> Page:
    """What was tried and chosen."""
    trials = len(next(iter(tuning.methods.values())))
    config = next(iter(tuning.runs.values())).config
    page = Page(
        "tuning",
        f"Tuning: {trials} trials of every method on validation tasks",
        [_chosen(tuning, found), _by_trials(tuning, found), _trials(tuning, found)],
        [],
        _notes(tuning, found),
        partial(draw_tuning, tuning, found) if any(own.areas() for own in found.values()) else None,
        model_label(config.model),
    )
    page.rows += [row for own in found.values() for one in own.trials for row in _rows(own, one)]
    return page


def _notes(tuning: Tuning, found: Found) -> list[str]:
    missing = {own.method: own.missing for own in found.values() if own.missing}
    config = next(iter(tuning.runs.values())).config
    notes = [
        f"{config.budget} on {', '.join(tuning.envs)}; tuning seeds "
        f"{', '.join(map(str, tuning.seeds))}, reported seeds {tuning.report.seeds}. {AREA}"
    ]
    if missing:
        listed = ", ".join(f"{name} {number}" for name, number in missing.items())
        notes.append(f"Trials that have not ended ({listed}): nothing is chosen for these methods.")
    for own in found.values():
        notes += [
            f"Failed and counted as the worst: {one.candidate.name} ({reason})."
            for one in own.trials
            for reason in one.failures
        ]
    return notes


def _chosen(tuning: Tuning, found: Found) -> Table:
    columns = ["method", "by", "settings", "updates", "area", "trial 0", "worst, median", "ties"]
    made = empty_table("chosen settings", columns, 3, "By: the environment, or the mean over all.")
    for own in found.values():
        for env in (None, *tuning.envs):
            name, by = own.method if env is None else "", env or JOINT
            choice = own.choose(env)
            if choice is None:
                made.add_row(name, by, TRIAL_NOT_RUN, "", "", "", "", "")
                continue
            best, areas = choice.best, own.areas(env)
            spread = f"{_percent(min(areas))}, {_percent(median(areas))}"
            made.add_row(
                name,
                by,
                best.candidate.shown,
                str(best.candidate.updates),
                _percent(best.area(env)),
                _percent(own.trials[0].area(env)),
                spread,
                ", ".join(f"trial {one.candidate.number}" for one in choice.ties),
            )
        made.add_section()
    return made


def _by_trials(tuning: Tuning, found: Found) -> Table:
    most = len(next(iter(tuning.methods.values())))
    shown = sorted({k for k in (1, 2, 4, 8, 16, 32, 64) if k < most} | {most})
    columns = ["method", "on", *(f"{k} trial{'s' * (k > 1)}" for k in shown)]
    caption = (
        "Expected area of the best of so many trials, drawn without replacement (Dodge et al. "
        "2019), with 95% limits over resampled trials."
    )
    made = empty_table("expected best area by number of trials", columns, 2, caption)
    for own in found.values():
        for env in (None, *tuning.envs):
            best = expected(own, env)
            cells = [_limits(best, k) for k in shown]
            made.add_row(own.method if env is None else "", env or JOINT, *cells)
        made.add_section()
    return made


def expected(own: MethodTrials, env: str | None) -> BestOfTrials | None:
    """Expected best area by number of trials; None without a trial that has ended."""
    areas = own.areas(env)
    return best_of_trials(areas, stream(0, "trials", own.method, env or "")) if areas else None


def _limits(best: BestOfTrials | None, k: int) -> str:
    if best is None or k > len(best.mean):
        return TRIAL_NOT_RUN
    low, high = 100 * best.low[k - 1], 100 * best.high[k - 1]
    return f"{100 * best.mean[k - 1]:.1f} [{low:.1f}, {high:.1f}]"


def _trials(tuning: Tuning, found: Found) -> Table:
    columns = ["method", "trial", "settings", "updates", "area", *tuning.envs, "failed"]
    caption = "By environment: area / success on validation tasks at the end."
    made = empty_table("all trials", columns, 3, caption)
    for own in found.values():
        best = own.choose()
        for one in own.trials:
            chosen = best is not None and one is best.best
            made.add_row(
                own.method,
                f"{one.candidate.number}{' *' * chosen}",
                one.candidate.shown,
                str(one.candidate.updates),
                _percent(one.area()),
                *(f"{_percent(one.area(e))} / {_percent(one.final(e))}" for e in tuning.envs),
                str(len(one.failures) or ""),
            )
        made.add_section()
    return made


def _rows(own: MethodTrials, one: Tried) -> list[dict[str, object]]:
    return [
        {
            "method": own.method,
            "trial": one.candidate.number,
            "name": one.candidate.name,
            "env": env,
            "seed": run.seed,
            "updates": one.candidate.updates,
            "area": "" if math.isnan(run.area) else round(100 * run.area, 4),
            "final": "" if math.isnan(run.final) else round(100 * run.final, 4),
            "failure": run.failure,
        }
        for env, runs in one.runs.items()
        for run in runs
    ]


def _percent(share: float) -> str:
    return TRIAL_NOT_RUN if math.isnan(share) else f"{100 * share:.1f}"


def draw_tuning(tuning: Tuning, found: Found) -> Figure:
    """Expected best area against number of trials: jointly, and on each environment."""
    places = [None, *tuning.envs] if len(tuning.envs) > 1 else [*tuning.envs]
    figure, panels = panel_grid(len(places))
    for panel, env in zip(panels, places, strict=True):
        _draw_panel(panel, found, env)
        panel.set_title(env or "mean over environments", fontsize=10)
    panels[0].set_ylabel("expected best validation area (%)")
    shared_legend(figure, panels)
    return figure


def _draw_panel(panel: Axes, found: Found, env: str | None) -> None:
    from matplotlib.ticker import MaxNLocator

    colours = colours_of(list(found))
    for own in found.values():
        best = expected(own, env)
        if best is None:
            continue
        x = range(1, len(best.mean) + 1)
        low, mean, high = ([100 * v for v in part] for part in (best.low, best.mean, best.high))
        panel.fill_between(x, low, high, color=colours[own.method], alpha=0.12, linewidth=0)
        panel.plot(x, mean, "o-", color=colours[own.method], markersize=3.5, label=own.method)
    panel.set_xlabel("trials")
    panel.set_ylim(-2, 102)
    panel.set_xlim(0.5, max((len(own.trials) for own in found.values()), default=1) + 0.5)
    panel.xaxis.set_major_locator(MaxNLocator(integer=True))
    panel.grid(alpha=0.25)
    panel.spines[["top", "right"]].set_visible(False)


def save_choice(tuning: Tuning, found: Found, folder: Path) -> list[Path]:
    """Write `tuning.json` and, if a method's trials have all ended, `tuned.yaml`."""
    make_folder(folder, folder)
    told = json.dumps(as_json(tuning, found), indent=1, ensure_ascii=False) + "\n"
    written = [write_atomically(folder / "tuning.json", told.encode())]
    if sweep := tuned_sweep(tuning, found):
        head = "# The settings that `resd-bench tune` chose by validation tasks, as a sweep.\n"
        text = yaml.safe_dump(sweep, sort_keys=False, allow_unicode=True, width=120)
        written.append(write_atomically(folder / "tuned.yaml", (head + text).encode()))
    return written


def tuned_sweep(tuning: Tuning, found: Found) -> dict[str, Any] | None:
    """A sweep of the chosen settings; None if there are none yet."""
    chosen = {own.method: choice for own in found.values() if (choice := own.choose())}
    if not chosen:
        return None
    variants = {m + TUNED: dict(c.best.candidate.settings) for m, c in chosen.items()}
    # What every variant sets for itself would not be read.
    replaced = set.intersection(*(set(own) for own in variants.values()))
    report, left_out = tuning.report, {"eval_tasks", "eval_samples"} | replaced
    base = {k: v for k, v in tuning.base.items() if k not in left_out}
    return {
        "out": report.out,
        "base": {**base, **report.base},
        "variants": variants,
        "grid": {"env": list(tuning.envs), "seed": report.seeds},
    }


def as_json(tuning: Tuning, found: Found) -> dict[str, Any]:
    """Everything that was tried, and what was chosen."""
    config = next(iter(tuning.runs.values())).config
    return {
        "budget": config.budget,
        "model": config.model,
        "envs": list(tuning.envs),
        "tuning_seeds": list(tuning.seeds),
        "reported_seeds": tuning.report.seeds,
        "measure": AREA,
        "methods": {method: _method_json(own, tuning.envs) for method, own in found.items()},
    }


def _method_json(own: MethodTrials, envs: Sequence[str]) -> dict[str, Any]:
    chosen = {}
    for env in (None, *envs):
        if choice := own.choose(env):
            chosen[env or JOINT] = {
                "trial": choice.best.candidate.number,
                "settings": choice.best.candidate.settings,
                "area": choice.best.area(env),
                "default_area": own.trials[0].area(env),
                "ties": [one.candidate.number for one in choice.ties],
                "worst": min(own.areas(env)),
                "median": median(own.areas(env)),
            }
    return {"not_run": own.missing, "chosen": chosen, "trials": list(map(_trial_json, own.trials))}


def _trial_json(one: Tried) -> dict[str, Any]:
    return {
        "trial": one.candidate.number,
        "name": one.candidate.name,
        "settings": one.candidate.settings,
        "updates": one.candidate.updates,
        "area": _known(one.area()),
        "runs": {
            env: [
                {"seed": run.seed, "area": _known(run.area), "final": _known(run.final)}
                | ({"failure": run.failure} if run.failure else {})
                for run in runs
            ]
            for env, runs in one.runs.items()
        },
    }


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value
