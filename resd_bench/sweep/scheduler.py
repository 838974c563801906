"""Run the trials of a sweep: a limited number at a time, with retries and clean interruption."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from resd_bench.errors import UsageError
from resd_bench.files import reading
from resd_bench.files.writing import make_folder, write_atomically
from resd_bench.monitoring.interrupts import Signals
from resd_bench.records.left_behind import left_behind
from resd_bench.records.recorder import holder, is_held, run_state
from resd_bench.records.run_files import RunFiles
from resd_bench.sweep.content import changed
from resd_bench.sweep.definition import Trial
from resd_bench.sweep.launch import Handle, Launcher

JobState = Literal["waiting", "running", "finished", "there already", "failed", "interrupted"]
RETRIES = 2
"""How often a crashed trial is resumed; after a mistake of the user's it never is."""
USAGE = 2
"""Exit code of `run` after a mistake of the user's."""
_TAIL = 64 << 10
"""Bytes read from the end of a trial's output to find its last words."""
PERIOD = 0.2
"""Seconds between two polls of the trials."""
PATIENCE = 600.0
"""Seconds that an interrupted trial gets to finish its update and save."""


@dataclass
class Job:
    """A trial and its progress."""

    trial: Trial
    config: Path
    log: Path
    state: JobState = "waiting"
    starts: int = 0
    seconds: float = 0.0
    """From its first start to its end."""
    reason: str = ""
    """Why it failed, or what it waits for."""
    handle: Handle | None = None
    _began: float = 0.0

    def start(self, launcher: Launcher) -> None:
        """Start or resume it."""
        self._began = self._began or time.monotonic()
        self.starts += 1
        self.state, self.handle = "running", launcher.start(self.config, self.log)

    def end(self, state: JobState, reason: str = "") -> None:
        """Record that it has ended."""
        self.state, self.reason, self.handle = state, reason, None
        self.seconds = time.monotonic() - self._began if self._began else 0.0


_Watch = Callable[[Sequence[Job]], None]
"""Called at every poll, e.g. to show a table."""


@dataclass
class Scheduler:
    """Everything a sweep needs while it runs."""

    jobs: Sequence[Job]
    launcher: Launcher
    retries: int = RETRIES
    watch: _Watch = lambda jobs: None
    period: float = PERIOD
    _waiting: deque[Job] = field(default_factory=deque)

    def run(self) -> int:
        """Run every job to its end; returns the number of the signal that interrupted it, or 0.

        The first signal asks all trials to save and end, the second ends them at once.
        """
        with Signals() as signals:
            self._waiting = deque(j for j in self.jobs if not self._is_done(j, "there already"))
            self._refuse_changed()
            try:
                while not signals.received and (self._waiting or self._running()):
                    self._look()
                if signals.received:
                    self._interrupt()
            except KeyboardInterrupt:
                pass
            finally:
                self._kill()
            return signals.received

    def _running(self) -> list[Job]:
        return [job for job in self.jobs if job.handle is not None]

    def _is_done(self, job: Job, state: JobState) -> bool:
        """Whether nothing is left to do, which `state` records; an unusable folder has failed."""
        try:
            if run_state(job.trial.config, resume=True) != "finished":
                return False
            RunFiles.at(job.trial.folder).check()
            job.end(state)
        except UsageError as error:
            job.end("failed", str(error))
        return True

    def _refuse_changed(self) -> None:
        """Fail finished runs whose content (tasks, model, code) has changed since."""
        there = {job.config: job for job in self.jobs if job.state == "there already"}
        for config, text in changed(list(there)).items():
            there[config].end("failed", text)

    def _look(self) -> None:
        places = self.launcher.places
        while self._waiting and (places is None or len(self._running()) < places):
            free = next((job for job in self._waiting if not self._held(job)), None)
            if free is None:
                break
            self._waiting.remove(free)
            free.start(self.launcher)
        for job in self._running():
            code = job.handle.poll() if job.handle is not None else None
            if code is not None:
                self._ended(job, code)
        self.watch(self.jobs)
        time.sleep(self.period)

    def _held(self, job: Job) -> bool:
        """Whether another process, perhaps left over from an earlier sweep, writes the folder."""
        held = is_held(job.trial.folder)
        if held and not job.reason:
            job.reason = f"its folder is held by {holder(job.trial.folder)}"
        elif not held:
            job.reason = ""
        return held

    def _ended(self, job: Job, code: int) -> None:
        if code == 0 and self._is_done(job, "finished"):
            return
        if code != USAGE and job.starts <= self.retries:
            job.handle, job.state = None, "waiting"
            self._waiting.append(job)
        else:
            job.end("failed", reason(code, job.log))

    def _interrupt(self) -> None:
        for job in self._running():
            if job.handle is not None:
                job.handle.interrupt()
        limit = time.monotonic() + PATIENCE
        while self._running() and time.monotonic() < limit:
            for job in self._running():
                code = job.handle.poll() if job.handle is not None else None
                if code is not None:
                    # A run that was in its last update finishes instead.
                    job.end("finished" if code == 0 else "interrupted")
            self.watch(self.jobs)
            time.sleep(self.period)

    def _kill(self) -> None:
        for job in self._running():
            if job.handle is not None:
                job.handle.kill()
            job.end("interrupted", f"ended at once; {left_behind(job.trial.folder).what}")


def make_jobs(trials: Sequence[Trial], folder: Path, root: Path | None = None) -> list[Job]:
    """A job for each trial; configurations and logs go to `folder`, below the named `root`."""
    make_folder(folder, root or folder)
    jobs = []
    for trial in trials:
        config = folder / f"{trial.index:04d}.yaml"
        write_atomically(config, trial.config.to_yaml(hide=False).encode(), root, mode=0o600)
        jobs.append(Job(trial, config, folder / f"{trial.index:04d}.log"))
    return jobs


def reason(code: int, log: Path) -> str:
    """Why a trial ended with `code`: its last words."""
    try:
        words = reading.read_tail(log, _TAIL).decode("utf-8", "replace")
        lines = words.strip().splitlines()
    except OSError:
        lines = []
    last = lines[-1].strip() if lines else "it printed nothing"
    how = f"killed by signal {-code}" if code < 0 else f"exit code {code}"
    return f"{how}; {last} (all in {log})" if code != USAGE else last
