"""Evaluations in a second process while the run goes on, in order and one at a time.

    the run                        the second process
    state after update 8  ──────▶  the same method, in this state, is evaluated
    updates 9, 10, ...
    rows of update 8      ◀──────  rows

What is sent is what a checkpoint holds, so the rows are those that the run would have measured. A
process that is lost is replaced by the run itself. It ends with the run, however that ends. Left
out: several processes, and runs of several processes.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from typing import Any

from resd_bench.agent import Policy
from resd_bench.budget import Ledger
from resd_bench.config import RunConfig
from resd_bench.errors import UsageError
from resd_bench.evaluation.evaluator import Evaluator, Measured
from resd_bench.files import reading
from resd_bench.jobs.setup import (
    choose_tasks,
    make_agent,
    make_envs,
    make_eval_set,
    make_extra_evaluations,
)
from resd_bench.machine.cores import IdleCores
from resd_bench.monitoring.collector import leave_loaded
from resd_bench.options import names_in
from resd_bench.plugins import is_for_every_process

_START = (
    "import gc, json, sys; gc.disable(); sys.path[:] = json.loads(sys.argv[1]); "
    "from resd_bench.jobs.evaluation_process import serve; serve(*map(int, sys.argv[2:]))"
)
"""The program of the process; plug-ins are found where the run finds them."""
_IDLE = 0.8
"""Of a core's time that must have been idle for a second process to be worth it."""
_OWN_ENGINES = ("auto", "fast", "hf")
"""Engines that compute in the run's own process."""


@dataclass(frozen=True)
class EvaluationRequest:
    """What is to be evaluated."""

    update: int
    elsewhere: bool
    """Whether other environments are evaluated too."""
    spent: Ledger
    state: bytes
    """Of the agent, as `torch.save` writes it."""


def pack(state: Any) -> bytes:
    """A copy of an agent's state."""
    import torch

    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()


class EvaluationProcess:
    """The second process, seen from the run."""

    def __init__(self, config: RunConfig, device: str) -> None:
        """Start it; its copy of the model is on `device`."""
        given, ours = os.pipe()
        theirs, answers = os.pipe()
        paths = json.dumps([os.path.abspath(path) for path in sys.path])
        self._process = subprocess.Popen(
            [sys.executable, "-c", _START, paths, str(given), str(answers)],
            pass_fds=(given, answers),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        os.close(given)
        os.close(answers)
        self._to, self._from = Connection(ours, readable=False), Connection(theirs, writable=False)
        self.pending: EvaluationRequest | None = None
        """The evaluation under way."""
        self._send(replace(config, device=device))

    def begin(self, request: EvaluationRequest) -> None:
        """Have it evaluated; nothing else may be under way."""
        assert self.pending is None
        self.pending = request
        self._send(request)

    def _send(self, value: RunConfig | EvaluationRequest) -> None:
        # In a thread: the process reads only once it has loaded the model.
        threading.Thread(target=self._send_now, args=(value,), daemon=True).start()

    def _send_now(self, value: RunConfig | EvaluationRequest) -> None:
        with contextlib.suppress(OSError):
            self._to.send(value)

    def result(self, evaluator: Evaluator, *, wait: bool) -> Measured | None:
        """What the evaluation under way found; None if there is none, or it is not done.

        With `wait` it is waited for. If the process is lost, `evaluator` does its work. UsageError
        if the evaluation refused to go on.
        """
        if self.pending is None or not (wait or self._from.poll()):
            return None
        request, self.pending = self.pending, None
        try:
            found: Measured | str = self._from.recv()
        except (EOFError, OSError):
            return measure_copy(evaluator, request)
        if isinstance(found, str):
            raise UsageError(found)
        return found

    @property
    def lost(self) -> bool:
        """Whether the process has ended."""
        return self._process.poll() is not None

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()
        self._to.close()
        self._from.close()


def measure_copy(evaluator: Evaluator, request: EvaluationRequest) -> Measured:
    """Evaluate an earlier state of an agent, which is afterwards in its present one."""
    now = pack(evaluator.agent.state_dict())
    evaluator.agent.load_state_dict(reading.load_tensors(request.state))
    try:
        return _measure(evaluator, request)
    finally:
        evaluator.agent.load_state_dict(reading.load_tensors(now))


def _measure(evaluator: Evaluator, request: EvaluationRequest) -> Measured:
    return evaluator.measure(
        request.update, request.spent, reported=True, elsewhere=request.elsewhere
    )


def serve(given: int, answers: int) -> None:
    """The second process: evaluate what comes from one descriptor, answer through the other."""
    for ignored in (signal.SIGINT, signal.SIGTERM):
        # The run decides when to stop; then it ends this process.
        signal.signal(ignored, signal.SIG_IGN)
    requests: queue.SimpleQueue[Any] = queue.SimpleQueue()
    incoming = Connection(given, writable=False)
    threading.Thread(target=_receive, args=(incoming, requests.put), daemon=True).start()
    with Connection(answers, readable=False) as out:
        evaluator = _make(requests.get())
        leave_loaded()
        while True:
            request: EvaluationRequest = requests.get()
            evaluator.agent.load_state_dict(reading.load_tensors(request.state))
            try:
                out.send(_measure(evaluator, request))
            except UsageError as error:
                out.send(str(error))


def _receive(incoming: Connection, put: Callable[[Any], None]) -> None:
    with contextlib.suppress(EOFError, OSError):
        while True:
            put(incoming.recv())
    # The run has ended, perhaps killed.
    os._exit(0)


def _make(config: RunConfig) -> Evaluator:
    env, envs = make_envs(config)
    train, held_out = choose_tasks(env, config)
    extra = make_extra_evaluations(env, config, [*train, *held_out])
    model, agent = make_agent(config, None, env)
    return Evaluator(agent, model.ledger, envs, make_eval_set(config, held_out), extra)


@contextlib.contextmanager
def evaluating_apart(
    config: RunConfig, model: Policy, idle: IdleCores | None
) -> Iterator[EvaluationProcess | None]:
    """A second process for the evaluations of a run, or None where they are made by the run.

    `idle` has looked at the cores since the run began; None for a run that cannot be split.
    """
    device = _device_for(config, model, idle)
    process = None if device is None else EvaluationProcess(config, device)
    try:
        yield process
    finally:
        if process is not None:
            process.close()


def _device_for(config: RunConfig, model: Policy, idle: IdleCores | None) -> str | None:
    if config.eval_on == "here":
        return None
    if idle is None or not _is_known_elsewhere(config):
        if config.eval_on == "auto":
            return None
        raise UsageError(
            f"--eval-on {config.eval_on} needs a run of a single process whose model is loaded by "
            "name, and an installed method and environments: leave it out"
        )
    if config.eval_on != "auto":
        return config.eval_on
    on_a_core = getattr(model, "threads", 0) == 1 and config.engine in _OWN_ENGINES
    device = getattr(getattr(model, "model", None), "device", None)
    on_a_core &= getattr(device, "type", "") == "cpu"
    return "cpu" if on_a_core and idle.count() >= _IDLE else None


def _is_known_elsewhere(config: RunConfig) -> bool:
    envs = (config.env, *names_in(config.eval_also))
    return is_for_every_process("resd_bench.methods", config.method) and all(
        is_for_every_process("resd_bench.envs", name) for name in envs
    )
