"""What to know of a finished run besides its success, and what to do next, a line each.

Only what happened is said; a run without such events has no notes. Left out: what keeps a run from
learning, see `resd_bench.monitoring.faults`.
"""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from resd_bench.budget import Budget, Ledger
from resd_bench.monitoring.faults import About, below_peak, idle_rule
from resd_bench.records.run_files import EVALS
from resd_bench.records.runs import RunData

_Row = Mapping[str, Any]


def run_notes(run: RunData) -> list[str]:
    """Notes on a run, e.g. how many of its answers were truncated."""
    found = [
        *_truncated(run),
        *_errors(run),
        *_overlong(run.metrics),
        *_unparsed(run.metrics),
        *idle_updates(run),
        *_warm_up(run),
        *_overshoot(run),
    ]
    return found


def _total(rows: Sequence[_Row], name: str) -> float:
    values = (row.get(name) for row in rows)
    return sum(v for v in values if isinstance(v, int | float) and v == v)


def _truncated(run: RunData) -> Iterator[str]:
    limit = f"at {run.settings.get('max_new_tokens')} tokens"
    # The number of rollouts differs between updates for some methods.
    before, cut, full, played = 0, 0.0, 0.0, 0
    for row in run.metrics:
        new = int(row.get("episodes", 0)) - before
        before += new
        unanswered = row.get("train/unanswered") or 0.0
        cut += new * ((row.get("train/truncated") or 0.0) - unanswered)
        full, played = full + new * unanswered, played + new
    for count, why in ((round(cut), limit), (round(full), "by a full context")):
        if count:
            yield f"truncated: {count} of {played} training rollouts, {why}"
    last = [] if run.files is None else _last_evaluation(run)
    if over := sum(row.get("stop") == "length" for row in last):
        # Their rows do not tell the two apart.
        why = f"{limit} or by a full context" if round(full) else limit
        yield f"truncated: {over} of {len(last)} held-out answers, {why}"


def _last_evaluation(run: RunData) -> list[_Row]:
    assert run.files is not None
    update = run.points[-1].update
    rows = run.files.stream(EVALS)
    return [row for row in rows if row["update"] == update and "panel" not in row]


def _errors(run: RunData) -> Iterator[str]:
    if errors := round(_total(run.metrics, "train/errors")):
        yield f"environment errors: {errors} training rollouts have no verdict"
    if run.left_out:
        yield f"environment errors: {run.left_out} held-out attempts have no verdict"


def _overlong(rows: Sequence[_Row]) -> Iterator[str]:
    for name, what in (
        ("policy/overlong_prompts", "prompts were not answered: no room in the context"),
        ("policy/overlong_examples", "examples were not trained on: no room in the context"),
        ("policy/shortened_teacher_prompts", "teacher's prompts lost sections to fit the context"),
    ):
        if count := round(_total(rows, name)):
            yield f"over-long: {count} {what}"


def _unparsed(rows: Sequence[_Row]) -> Iterator[str]:
    written = ("resd/reflections", "resd/curations", "ace/reflections", "ace/curations")
    for name in (*written, "turns/reviews"):
        area, _, what = name.rpartition("/")
        if count := round(_total(rows, f"{area}/unparsed_{what}")):
            yield f"unparsed: {count} of {round(_total(rows, name))} {what}"


def idle_updates(run: RunData, least: float = 0.0) -> Iterator[str]:
    """How many updates had nothing to train on, if more than a share, and what mends most of them.

    Where all of them had nothing, that is a fault.
    """
    about = About.run(run.settings)
    causes = Counter(rule for row in run.metrics if (rule := idle_rule(row, about)) is not None)
    idle, total = causes.total(), len(run.metrics)
    if least * total < idle < total:
        [(rule, _)] = causes.most_common(1)
        yield f"no training signal: {idle} of {total} updates had nothing to train on: {rule.mend}"


def _warm_up(run: RunData) -> Iterator[str]:
    peak = run.settings.get("learning_rate")
    if not isinstance(peak, int | float):
        return
    number, total = sum(below_peak(row, peak) for row in run.metrics), len(run.metrics)
    if 2 * number >= total > 1:
        yield f"warm-up: the learning rate rose over {number} of {total} updates"


def _overshoot(run: RunData) -> Iterator[str]:
    if not run.metrics:
        return
    try:
        budget = Budget.parse(str(run.settings["budget"]))
        over = budget.spent(Ledger.from_row(run.metrics[-1])) / budget.amount - 1
    except (LookupError, TypeError, ValueError):
        return
    if over > 0.01:
        yield (
            f"budget: {100 * over:.0f}% more than {run.settings['budget']} was spent, since the "
            "update that reaches it is finished"
        )


def next_commands(folder: Path, run: RunData) -> list[str]:
    """Commands that look at what the run in `folder` did, and compare it with others."""
    here, root = shlex.quote(str(folder)), shlex.quote(str(folder.parent.parent))
    trained = any(row.get("policy/examples") for row in run.metrics)
    return [
        f"resd-bench show {here} --failed",
        *([f"resd-bench trace {here}"] if trained else []),
        f"resd-bench report {root}",
        f"resd-bench compare {root}",
    ]
