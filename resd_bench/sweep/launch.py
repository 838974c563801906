"""Start a trial, look whether it has ended, and ask it to end: in processes, or through Ray.

Either way a trial is `python -m resd_bench run --config FILE --resume` in a process of its own
that ends with whoever started it, so that a crash of one takes nothing else along. Left out:
Slurm, whose own scheduler runs `sweep --only` (docs/sweeps.md).
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Protocol

from resd_bench.errors import UsageError
from resd_bench.files.writing import append_to

Command = Callable[[Path], Sequence[str]]
"""From the file of a run's configuration to what runs it."""

LOST = -int(signal.SIGKILL)
"""Exit code of a trial whose machine or worker is gone."""


class Handle(Protocol):
    """A trial under way."""

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
    """How many to start at a time; None where somebody else queues them."""

    def start(self, config: Path, log: Path) -> Handle:
        """Start the trial whose configuration is in `config`; its output goes to `log`."""
        ...

    def close(self) -> None: ...


def run_command(config: Path, named: Sequence[str] = ()) -> list[str]:
    """What runs a trial, with flags of what a file cannot decide."""
    run = [sys.executable, "-P", "-m", "resd_bench", "run", "--config", str(config), "--resume"]
    return [*run, *named]


def single_threaded(environment: Mapping[str, str]) -> dict[str, str]:
    """`environment` with one thread per process, where it does not say otherwise."""
    return {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", **environment}


def end_with_parent() -> None:
    """In a new process: get SIGTERM when the parent is gone, so that nobody runs on unwatched."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(1, int(signal.SIGTERM), 0, 0, 0)  # PR_SET_PDEATHSIG


def start_process(command: Sequence[str], log: IO[bytes]) -> subprocess.Popen[bytes]:
    """A process in a session of its own: Ctrl-C in a terminal reaches it only through us."""
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        env=single_threaded(os.environ),
        start_new_session=True,
        preexec_fn=end_with_parent if sys.platform == "linux" else None,
    )


@dataclass
class Process:
    """A trial in a process of this machine."""

    process: subprocess.Popen[bytes]

    def poll(self) -> int | None:
        return self.process.poll()

    def interrupt(self) -> None:
        self.process.send_signal(signal.SIGINT)

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@dataclass
class LocalLauncher:
    """Processes of this machine."""

    places: int | None = field(default_factory=lambda: cores())
    command: Command = run_command

    def start(self, config: Path, log: Path) -> Process:
        with append_to(log) as file:
            return Process(start_process(self.command(config), file))

    def close(self) -> None:
        """Nothing to let go of."""


def cores() -> int:
    """Cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def run_remotely(command: Sequence[str], log: str) -> int:
    """On a machine of the cluster: run a trial to its end, its exit code; SIGINT is passed on."""
    import time

    with append_to(Path(log)) as file:
        process = start_process(command, file)
        try:
            # A cancelled task gets a KeyboardInterrupt, and only between two instructions.
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
    """Tasks of a Ray cluster that sees the same files and has resd-bench installed."""

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
            raise UsageError("--launcher ray needs Ray: pip install 'resd-bench[sweep]'") from None
        self._ray = ray
        self._command = command
        ray.init(address=address, log_to_driver=False, logging_level="warning")
        # Retries are ours to count: Ray's would not know that a run was gone on with.
        options: dict[str, Any] = {"num_cpus": cpus, "num_gpus": gpus, "max_retries": 0}
        self._run: Any = ray.remote(**options)(run_remotely)

    def start(self, config: Path, log: Path) -> Remote:
        command = list(self._command(config.absolute()))
        return Remote(self._ray, self._run.remote(command, str(log.absolute())))

    def close(self) -> None:
        """Leave the cluster; one that was started for this sweep ends."""
        self._ray.shutdown()
