"""Progress of a run: a bar in a terminal, a line per evaluation elsewhere."""

from __future__ import annotations

from types import TracebackType

from rich import progress as bars
from rich.console import Console

from resd_bench.budget import Ledger
from resd_bench.config import RunConfig
from resd_bench.files.terminal import errors, printable
from resd_bench.monitoring.faults import new_faults
from resd_bench.records.recorder import LogRow
from resd_bench.stats import EvalPoint

SMOOTH = 8
"""Number of updates that the live training success is averaged over."""


class Progress:
    """A watcher that shows the share of the budget spent, live success, and the time left."""

    def __init__(self, config: RunConfig, console: Console | None = None) -> None:
        self._budget = config.parsed_budget()
        self._console = console or errors()
        self._recent: list[float] = []
        self._errors = 0
        """Training rollouts without a verdict so far."""
        self._held_out = ""
        self._bar = bars.Progress(
            bars.TextColumn("{task.description}", markup=False),
            bars.BarColumn(bar_width=24),
            bars.TaskProgressColumn(),
            bars.TextColumn("{task.fields[success]}", markup=False),
            bars.TimeElapsedColumn(),
            bars.TextColumn("left"),
            bars.TimeRemainingColumn(elapsed_when_finished=False),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        name = printable(f"{config.method} · {config.env} · seed {config.seed}")
        self._task = self._bar.add_task(name, total=self._budget.amount, success="")

    def __enter__(self) -> Progress:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def updated(self, row: LogRow) -> None:
        """Move the bar; a line for what keeps the run from learning."""
        for rule in new_faults(row):
            self._console.print(f"update {row['update']}: {rule.text}", soft_wrap=True)
        success = float(row["train/success"])
        if success == success:
            self._recent = [*self._recent[1 - SMOOTH :], success]
        self._errors += int(row.get("train/errors", 0))
        spent = self._budget.spent(Ledger.from_row(row))
        self._bar.update(self._task, completed=spent, success=self._live())

    def evaluated(self, point: EvalPoint) -> None:
        """Show held-out success, on a line of its own if there is no bar."""
        rate = point.rate()
        interval = rate.scored
        self._held_out = f"held-out {100 * interval.mean:.1f}%"
        if rate.left_out:
            least = f"{100 * rate.with_failures.mean:.1f}%"
            self._held_out += f" ({least} with {rate.left_out} without verdict as failures)"
        self._bar.update(self._task, success=self._live())
        if not self._console.is_terminal:
            limits = f"[{100 * interval.low:.1f}, {100 * interval.high:.1f}]"
            self._console.print(
                f"update {point.update}: {point.episodes} rollouts, {self._live()} {limits}",
                soft_wrap=True,
            )

    def _live(self) -> str:
        if not self._recent:
            return self._held_out
        missing = f" ({self._errors} without verdict so far)" if self._errors else ""
        mean = sum(self._recent) / len(self._recent)
        return f"train {100 * mean:.1f}%{missing}, {self._held_out}"
