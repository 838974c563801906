"""Progress of a run: three lines that follow it in a terminal, plain lines elsewhere.

They say the phase, samples done, tokens per second, elapsed time and time left, within 80 columns.
Into a pipe or a file goes a line while it loads and one as it begins to evaluate, one for each
evaluation, and one every `EVERY` seconds in between. Left out: progress of several runs, see
`sweep`.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from threading import Event, Thread
from types import TracebackType

from rich.live import Live
from rich.text import Text

from resd_bench.agent import Policy
from resd_bench.budget import Ledger
from resd_bench.config import RunConfig
from resd_bench.files.plain_console import PlainConsole
from resd_bench.files.printable import printable
from resd_bench.files.terminal import errors
from resd_bench.monitoring import activity
from resd_bench.monitoring.activity import Activity
from resd_bench.monitoring.faults import About, new_faults
from resd_bench.records.log_files import LogRow
from resd_bench.stats import EvalPoint
from resd_bench.types import Task

SMOOTH = 8
"""Number of updates that the live training success is averaged over."""
EVERY = 30.0
"""Seconds between plain lines."""
SOON = 2.0
"""Seconds until the first of them: a mistake that is found at once is answered in a line."""
_BAR = 24


class Progress:
    """A watcher that shows what a run does, how far it is, live success, and the time left."""

    def __init__(self, config: RunConfig, console: PlainConsole | None = None) -> None:
        self._budget, self._about = config.parsed_budget(), About.of(config)
        self._console = console or errors()
        self._recent: list[float] = []
        self._errors = 0
        """Training rollouts without a verdict so far."""
        self._held_out = ""
        self._evaluated = False
        self._evaluation = 0.0
        """Seconds of the last evaluation."""
        self._began = time.monotonic()
        self._update, self._spent = 0, 0.0
        self._first: tuple[float, float] | None = None
        """When the first update of this session began, and what had been spent by then."""
        self._name = printable(f"{config.method} · {config.env} · seed {config.seed}")
        self._live = Live(
            console=self._console, get_renderable=self._shown, transient=True, refresh_per_second=4
        )
        self._ended = Event()

    def __enter__(self) -> Progress:
        activity.phase_begins("loading")
        if self._console.is_terminal:
            self._live.start()
        else:
            Thread(target=self._tell, name="progress", daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended.set()
        if self._console.is_terminal:
            self._live.stop()

    def starting(
        self, policy: Policy, train: Sequence[Task], held_out: int, turns: int, done: int
    ) -> None:
        """Go on from where a run that is resumed has come to."""
        if done:
            self._update, self._spent = done, self._budget.spent(policy.ledger)
            self._first = (time.monotonic(), self._spent)
            if not self._console.is_terminal:
                self._say(f"update {done}: resumed, {100 * self._share():.0f}% of the budget spent")

    def updated(self, row: LogRow) -> None:
        """Note an update; a line for what keeps the run from learning."""
        for rule in new_faults(row, self._about):
            self._say(f"update {row['update']}: {rule.text}")
        success = float(row["train/success"])
        if success == success:
            self._recent = [*self._recent[1 - SMOOTH :], success]
        self._errors += int(row.get("train/errors", 0))
        self._spent = self._budget.spent(Ledger.from_row(row))
        self._update = int(row["update"])
        if self._first is None:
            # It was resumed, or not told of an evaluation: what came before is not known.
            self._first = (time.monotonic(), self._spent)

    def evaluated(self, point: EvalPoint) -> None:
        """Note held-out success; a line of its own where nothing else shows it."""
        rate = point.rate()
        interval = rate.scored
        self._held_out = f"held-out {100 * interval.mean:.1f}%"
        if rate.left_out:
            least = f"{100 * rate.with_failures.mean:.1f}%"
            self._held_out += f" ({least} with {rate.left_out} without verdict as failures)"
        self._evaluation = time.monotonic() - activity.current().since
        if self._first is None and point.update == 0:
            self._first = (time.monotonic(), 0.0)
        # What a second process has evaluated is of an earlier update.
        self._evaluated, self._update = True, max(self._update, point.update)
        if not self._console.is_terminal:
            limits = f"[{100 * interval.low:.1f}, {100 * interval.high:.1f}]"
            self._say(
                f"update {point.update}: {point.episodes} rollouts, {self._success()} {limits}"
            )

    def status(self, now: float, width: int) -> list[str]:
        """Three lines of at most `width` columns: the run and its budget, the phase, success.

        Times come first in what may not be cut; a long name or success is shortened.
        """
        share = self._share()
        filled = round(_BAR * share)
        bar = f" {'━' * filled}{'─' * (_BAR - filled)} {100 * share:3.0f}%"
        times = f"{clock(now - self._began)} elapsed, {self._left(now)}"
        doing = _doing(activity.current(), now, before=not (self._evaluated or self._spent))
        return [
            _shortened(self._name, width - len(bar)) + bar,
            _shortened(doing, width - len(times) - 3) + f" · {times}",
            _shortened(self._success(), width),
        ]

    def _share(self) -> float:
        return min(1.0, self._spent / self._budget.amount)

    def _left(self, now: float) -> str:
        """The time left, as long as what is left of the budget costs what was spent did."""
        if self._first is None or self._spent <= self._first[1]:
            return "--:-- left"
        began, before = self._first
        rest = max(0.0, self._budget.amount - self._spent)
        # The last update is followed by an evaluation, which may be under way.
        doing = activity.current()
        measured = now - doing.since if doing.phase == "evaluating" and not rest else 0.0
        last = max(0.0, self._evaluation - measured)
        return f"{clock((now - began) / (self._spent - before) * rest + last)} left"

    def _shown(self) -> Text:
        width = self._console.width
        return Text("\n".join(self.status(time.monotonic(), width)), no_wrap=True)

    def _tell(self) -> None:
        """Say now and then what is being done, until the run ends."""
        if self._ended.wait(SOON):
            return
        self._say(f"{self._name}: {activity.current().phase}")
        told, begun = "", self._began
        while not self._ended.wait(0.5):
            now, doing = time.monotonic(), activity.current()
            first = not told and doing.phase != "loading"
            if first or now - begun >= EVERY:
                begun, told = now, doing.phase
                lines = self.status(now, 1000)
                self._say(f"update {self._update}: {lines[1]}")

    def _say(self, text: str) -> None:
        self._console.tell(text)

    def _success(self) -> str:
        if not self._recent:
            return self._held_out
        missing = f" ({self._errors} without verdict so far)" if self._errors else ""
        mean = sum(self._recent) / len(self._recent)
        return f"train {100 * mean:.1f}%{missing}, {self._held_out}"


def _doing(now: Activity, at: float, *, before: bool) -> str:
    """The phase in words, with samples done and tokens per second."""
    parts = [now.phase + (" before training" if before and now.phase == "evaluating" else "")]
    if now.total:
        parts[0] += f" {min(now.done, now.total)}/{now.total}"
    if now.tokens:
        parts.append(f"{now.rate(at):,.0f} tokens/s")
    return " · ".join(parts)


def clock(seconds: float) -> str:
    """A duration as `1:05` or `2:01:05`."""
    minutes, rest = divmod(round(max(0.0, seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def _shortened(text: str, longest: int) -> str:
    longest = max(1, longest)
    return text if len(text) <= longest else f"{text[: longest - 1]}…"
