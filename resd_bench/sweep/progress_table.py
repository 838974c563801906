"""Shows a sweep: a live table in a terminal, lines elsewhere, and a summary at the end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.live import Live
from rich.table import Table

from resd_bench.budget import Ledger
from resd_bench.files import reading
from resd_bench.files.fit_table import fit_table
from resd_bench.files.plain_console import PlainConsole
from resd_bench.files.terminal import errors
from resd_bench.records.run_files import RunFiles
from resd_bench.report.tables import both, table_label
from resd_bench.sweep.scheduler import Job, JobState

ORDER: tuple[JobState, ...] = ("running", "waiting", "finished", "there already", "failed")
ROWS = 24
"""Maximum number of running trials shown at a time."""
_TAIL = 4096
"""Bytes read from the end of a log to find its last line."""


class LiveTable:
    """A live table of the running trials, redrawn by `watch`; lines if there is no terminal."""

    def __init__(self, console: PlainConsole | None = None) -> None:
        self._console = console or errors()
        # Redrawn by hand: the process that starts children must not have threads.
        self._live = Live(console=self._console, auto_refresh=False, transient=True)
        self._said: dict[int, tuple[JobState, int, str]] = {}

    def __enter__(self) -> LiveTable:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._console.is_terminal:
            self._live.stop()

    def watch(self, jobs: Sequence[Job]) -> None:
        """Show the current state."""
        if self._console.is_terminal:
            self._live.update(fit_table(running_table(jobs), self._console.width), refresh=True)
        for job in jobs:
            stands = (job.state, job.starts, job.reason)
            before = self._said.get(job.trial.index, ("waiting", 0, ""))
            self._said[job.trial.index] = stands
            if stands != before:
                self._say(job)

    def _say(self, job: Job) -> None:
        text = f"{job.trial.index:4d} {job.trial}: {job.state}"
        if job.state == "waiting" and job.starts:
            text += f" (it crashed and is resumed; start {job.starts + 1})"
        if job.state != "running" or not self._console.is_terminal:
            self._console.tell(text + (f": {job.reason}" if job.reason else ""))


def running_table(jobs: Sequence[Job]) -> Table:
    """The running trials, with the share of the budget spent and success so far."""
    counts = Counter(job.state for job in jobs)
    title = ", ".join(f"{counts[state]} {state}" for state in ORDER if counts[state])
    table = Table(title=title, title_justify="left")
    for name in ("", "variant", "environment", "seed", "spent", "training success", "starts"):
        table.add_column(name, justify="left" if name in ("variant", "environment") else "right")
    running = [job for job in jobs if job.handle is not None]
    for job in running[:ROWS]:
        config = job.trial.config
        spent, success = progress(job)
        names = (str(job.trial.index), table_label(job.trial.variant), config.env, str(config.seed))
        table.add_row(*names, spent, success, str(job.starts))
    return table


def progress(job: Job) -> tuple[str, str]:
    """Share of the budget spent and training success of the last update; empty before any."""
    row = last_row(job.trial.folder / "metrics.jsonl")
    if not row:
        return "", ""
    budget = job.trial.config.parsed_budget()
    spent = budget.spent(Ledger.from_row(row)) / budget.amount
    shares = (row.get(f"train/success{name}") for name in ("", "_with_failures"))
    success, counted = ("" if share is None else f"{share:.0%}" for share in shares)
    return f"{min(spent, 1):.0%}", both(success, counted or None)


def last_row(path: Path) -> dict[str, Any]:
    """The last complete line of a log; {} if there is none."""
    try:
        lines = reading.read_tail(path, _TAIL).splitlines(keepends=True)
    except OSError:
        return {}
    for line in reversed(lines):
        try:
            return dict(reading.parse_json(line)) if line.endswith(b"\n") else {}
        except (ValueError, TypeError):
            continue
    return {}


def summary_table(jobs: Sequence[Job]) -> Table:
    """What ran, what did not and why, and where the records are."""
    counts = Counter(job.state for job in jobs)
    total = ", ".join(f"{number} {state}" for state, number in counts.items())
    table = Table(title=f"{len(jobs)} runs: {total}", title_justify="left")
    for name, justify in (("", "right"), ("run", "left"), ("state", "left"), ("held-out", "right")):
        table.add_column(name, justify="right" if justify == "right" else "left")
    table.add_column("records, or why not", overflow="fold")
    for job in jobs:
        where = (
            table_label(job.reason, 400) if job.reason else table_label(str(job.trial.folder), 400)
        )
        success = held_out(job.trial.folder) if job.state in ("finished", "there already") else ""
        table.add_row(str(job.trial.index), table_label(str(job.trial)), job.state, success, where)
    return table


def held_out(folder: Path) -> str:
    """Held-out success of a finished run."""
    last = RunFiles.at(folder).json("summary.json").get("last", {})
    scored, counted = _mean(last), _mean(last.get("with_failures", {}))
    return both(scored, counted) if counted else scored


def _mean(rates: Mapping[str, Any]) -> str:
    means = [v for k, v in rates.items() if k.startswith("per_task_mean@") and v is not None]
    return f"{100 * means[0]:.1f}%" if means else ""
