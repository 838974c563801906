"""Start a trial, check whether it has ended, and ask it to end: in processes, or through Ray.

Either way a trial is `python -m resd_bench run --config FILE --resume` in a process of its own
that ends with its parent, so a crash of one trial affects no other. On this machine it is forked
from one that has the imports done (`preloaded`). Left out: Slurm, whose own scheduler runs
`sweep --only` (docs/sweeps.md).
"""

from __future__ import annotations

import importlib
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from resd_bench.errors import UsageError, install_extra
from resd_bench.files.writing import append_to
from resd_bench.machine import cores
from resd_bench.sweep.preloaded import FRESH, Preloaded, can_fork
from resd_bench.sweep.processes import LOST, Process, start_process

Command = Callable[[Path], Sequence[str]]
"""From a run's configuration file to the command that runs it."""


class Handle(Protocol):
    """A running trial."""

    def poll(self) -> int | None:
        """Its exit code, negative for a signal that killed it; None while it is running."""
        ...

    def interrupt(self) -> None:
        """Ask it to save a checkpoint and end."""
        ...

    def kill(self) -> None:
        """End it at once."""
        ...


class Launcher(Protocol):
    """Where trials run."""

    places: int | None
    """How many trials to run at a time; None if the launcher queues them itself."""

    def start(self, config: Path, log: Path) -> Handle:
        """Start the trial with the configuration file `config`; its output goes to `log`."""
        ...

    def close(self) -> None: ...


def run_command(config: Path, named: Sequence[str] = ()) -> list[str]:
    """The command that runs a trial, with flags for what a file cannot decide."""
    return [*FRESH, "run", "--config", str(config), "--resume", *named]


@dataclass
class LocalLauncher:
    """Runs trials in processes on this machine."""

    places: int | None = field(default_factory=cores.usable_cores)
    command: Command = run_command

    _preloaded: Preloaded | None = None

    def start(self, config: Path, log: Path) -> Handle:
        command, own = self.command(config), len(FRESH)
        if tuple(command[:own]) == FRESH and can_fork():
            if self._preloaded is None or self._preloaded.lost:
                self._preloaded = Preloaded()
            return self._preloaded.start(command[own:], log)
        with append_to(log) as file:
            return Process(start_process(command, file))

    def close(self) -> None:
        """End the process that trials were forked from."""
        if self._preloaded is not None:
            self._preloaded.close()


def run_remotely(command: Sequence[str], log: str) -> int:
    """On a machine of the cluster: run a trial and return its exit code; SIGINT is forwarded."""
    import time

    with append_to(Path(log)) as file:
        process = start_process(command, file)
        try:
            # A cancelled task gets a KeyboardInterrupt, but only between two instructions.
            while process.poll() is None:
                time.sleep(0.2)
        except BaseException:
            process.send_signal(signal.SIGINT)
            process.wait()
        return process.returncode


@dataclass
class Remote:
    """A trial as a Ray task."""

    ray: Any
    task: Any
    _code: int | None = None

    def poll(self) -> int | None:
        if self._code is None and self.ray.wait([self.task], timeout=0)[0]:
            try:
                self._code = int(self.ray.get(self.task))
            except self.ray.exceptions.TaskCancelledError:
                self._code = 128 + signal.SIGINT
            except self.ray.exceptions.RayError:
                self._code = LOST
        return self._code

    def interrupt(self) -> None:
        self.ray.cancel(self.task)

    def kill(self) -> None:
        self.ray.cancel(self.task, force=True)


class RayLauncher:
    """Runs trials as tasks of a Ray cluster with the same files and resd-bench installed."""

    places: int | None = None

    def __init__(
        self,
        address: str | None = None,
        cpus: float = 1,
        gpus: float = 0,
        command: Command = run_command,
    ) -> None:
        """Connect to `address`, `auto` or None for a cluster of this machine alone."""
        try:
            ray: Any = importlib.import_module("ray")
        except ImportError:
            raise UsageError(f"--launcher ray needs Ray: {install_extra('sweep')}") from None
        self._ray = ray
        self._command = command
        ray.init(address=address, log_to_driver=False, logging_level="warning")
        # We count retries ourselves: Ray would not know that a run was resumed.
        options: dict[str, Any] = {"num_cpus": cpus, "num_gpus": gpus, "max_retries": 0}
        self._run: Any = ray.remote(**options)(run_remotely)

    def start(self, config: Path, log: Path) -> Remote:
        command = list(self._command(config.absolute()))
        return Remote(self._ray, self._run.remote(command, str(log.absolute())))

    def close(self) -> None:
        """Leave the cluster; one that was started for this sweep ends."""
        self._ray.shutdown()
