"""Step many environments so that one that crashes or hangs costs only its own episode.

There are two ways, and an environment declares which it needs (`isolated`, default false).

`InProcessVectorEnv` calls environments in this process, in a thread with a deadline: one after
another, or, if their steps mostly wait for other processes (`concurrent`), as many at once as there
are cores. If a call does not return in time, its environment and its thread are abandoned and a new
thread takes over. A step costs little, and environments need nothing special. But a thread cannot
be killed: an exception is raised in it, which ends Python code; a wait in C stays behind as a
daemon thread; and code that neither returns nor releases the interpreter lock blocks everything.

`SubprocessVectorEnv` calls them in worker processes, which can be killed at any time and may crash
in any way; a step costs about a tenth of a millisecond more. A worker holds the environments of
many episodes, since one process for each would be too many; so if a worker is killed because of one
episode, the others are replayed in its successor, from their seeds and actions. Environments are
deterministic (`envs check` tests it); one that gives another result in the replay loses its episode
too.

A step that does not return in time ends its episode. An environment that declares `verify_seconds`
promises a response to any action, so the action is to blame, and the attempt fails with the kind
`timeout`. For any other environment it is an error, which says nothing about the attempt. A late
reset is always an error.

`gymnasium.vector` serves neither purpose: it waits forever, ends with the first environment that
fails, resets automatically so that the last observation must be requested, and garbles or loses
text in shared memory (see tests/rollout/test_vector.py). Here nothing is reset automatically, and
text is passed as Python strings or their pickles: lone surrogates, NULs and megabytes arrive
unchanged.
Left out: batching of several environments in one call, workers on other machines.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import pickle
import queue
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from multiprocessing.connection import Connection, Pipe, wait
from typing import Any, Protocol

import gymnasium as gym

from resd_bench.distributed.process_group import ProcessGroup
from resd_bench.errors import UsageError
from resd_bench.machine import cores
from resd_bench.rollout.contract import checked_reset, checked_step
from resd_bench.types import CaseResult, Feedback, FeedbackLevel

TextGym = gym.Env[str, str]
MakeEnv = Callable[[], TextGym]

DEADLINE = 120.0
"""Default time limit of one call to an environment, in seconds; runs use `step_seconds`."""
START = 300.0
"""Time limit for a worker process to start and make its first environment, in seconds."""
_CLOSE = 5.0
"""Time limit for a worker process to end by itself, in seconds."""
MAX_TURNS = 1000
"""Turn limit for environments that declare no `max_turns`; reaching it is an error."""
MOST_WORKERS = 4
ERROR_CHARS = 2000


@dataclass(frozen=True, slots=True)
class StepResult:
    """The result of a reset or a step; the last one of an episode is final."""

    observation: str = ""
    over: bool = False
    cut: bool = False
    info: Mapping[str, Any] = field(default_factory=dict)
    max_turns: int = MAX_TURNS
    error: str = ""
    """Why there is no result, else "". The episode cannot continue after an error."""
    bounded: bool = False
    """Whether the environment declares a time limit for any action."""
    outlasted: bool = False
    """Whether this replaces a result that did not arrive in time: the environment is lost."""

    @property
    def last(self) -> bool:
        """Whether the episode has ended."""
        return self.over or self.cut or bool(self.error)


@dataclass(eq=False)
class EpisodeSlot:
    """One episode, as a vector environment knows it."""

    seed: int
    options: Mapping[str, Any]
    """For `reset`."""
    actions: list[str] = field(default_factory=list)
    answer: StepResult = StepResult()
    """The last result."""
    env: TextGym | None = None
    """Its environment, if that is in this process."""
    key: int = 0
    """Its name among worker processes."""


class Vector(Protocol):
    """Steps the environments of many episodes; results are in the order of the slots."""

    def reset(self, slots: Sequence[EpisodeSlot]) -> list[StepResult]:
        """Begin episodes."""
        ...

    def step(self, slots: Sequence[EpisodeSlot], actions: Sequence[str]) -> list[StepResult]:
        """Take one action in each of these episodes."""
        ...

    def leave(self, slots: Sequence[EpisodeSlot]) -> None:
        """Release episodes that take no further action."""
        ...

    def close(self) -> None:
        """Close environments and the threads or processes that run them."""
        ...


def make_vector(
    make: MakeEnv,
    *,
    deadline: float | None = DEADLINE,
    isolated: bool | None = None,
    workers: int = 0,
) -> Vector:
    """The vector environment for the environments that `make` makes.

    `deadline` is in seconds for each call; None for no limit, and one call at a time. `isolated`
    None: as the environment declares; `workers` 0: by the number of cores. Of steps in this process
    no more are taken at once than there are cores: others would wait within their deadline.
    """
    idle: list[TextGym] = []
    if isolated is None:
        # If making it fails now, it fails again, and is recorded, in each episode.
        with contextlib.suppress(Exception):
            idle = [make()]
        isolated = any(getattr(env.unwrapped, "isolated", False) for env in idle)
    most = min(MOST_WORKERS, cores.usable_cores())
    if not isolated:
        concurrent = any(getattr(env.unwrapped, "concurrent", False) for env in idle)
        at_once = min(workers or most, most) if concurrent else 1
        return InProcessVectorEnv(make, deadline, idle, at_once)
    while idle:
        idle.pop().close()
    return SubprocessVectorEnv(make, deadline, workers or most)


class Rank0VectorEnv:
    """The environments of several processes: rank 0 steps them and broadcasts the results.

    All processes must agree on every result, and a verdict may depend on the clock.
    """

    def __init__(self, process_group: ProcessGroup, make: Callable[[], Vector]) -> None:
        self._process_group = process_group
        self._vector = make() if process_group.rank == 0 else None

    def reset(self, slots: Sequence[EpisodeSlot]) -> list[StepResult]:
        return self._process_group.broadcast_from_rank0(lambda: self._mine.reset(slots))

    def step(self, slots: Sequence[EpisodeSlot], actions: Sequence[str]) -> list[StepResult]:
        return self._process_group.broadcast_from_rank0(lambda: self._mine.step(slots, actions))

    def leave(self, slots: Sequence[EpisodeSlot]) -> None:
        if self._vector is not None:
            self._vector.leave(slots)

    @property
    def _mine(self) -> Vector:
        assert self._vector is not None
        return self._vector

    def close(self) -> None:
        if self._vector is not None:
            self._vector.close()


def failed(error: BaseException) -> StepResult:
    """The result if an environment raised."""
    return StepResult(error=f"{type(error).__name__}: {error}"[:ERROR_CHARS])


def begin(env: TextGym, seed: int, options: Mapping[str, Any]) -> StepResult:
    """Reset an environment."""
    observation, info = checked_reset(env, env.reset(seed=seed, options=dict(options)))
    return StepResult(observation, info=info, max_turns=_limit(env), bounded=_bounded(env))


def advance(env: TextGym, action: str) -> StepResult:
    """Step an environment."""
    answer = checked_step(env, env.step(action))
    return StepResult(
        answer.observation,
        answer.over,
        answer.cut,
        answer.info,
        _limit(env),
        bounded=_bounded(env),
    )


def _bounded(env: TextGym) -> bool:
    return getattr(env.unwrapped, "verify_seconds", None) is not None


def _limit(env: TextGym) -> int:
    return int(getattr(env.unwrapped, "max_turns", MAX_TURNS))


@dataclass
class InProcessVectorEnv:
    """Environments in this process, called in threads under a deadline; see the module."""

    make: MakeEnv
    deadline: float | None = DEADLINE
    idle: list[TextGym] = field(default_factory=list)
    """Environments for reuse: making a new one for each episode would be slow."""
    at_once: int = 1
    """Most steps at once."""
    _threads: list[_CallThread] = field(default_factory=list)
    """Those without a call."""

    def reset(self, slots: Sequence[EpisodeSlot]) -> list[StepResult]:
        """Begin episodes."""
        return self._answers(slots, self._begin, 1)

    def step(self, slots: Sequence[EpisodeSlot], actions: Sequence[str]) -> list[StepResult]:
        """Take one action in each of these episodes."""
        for slot, action in zip(slots, actions, strict=True):
            slot.actions.append(action)
        return self._answers(slots, self._advance, self.at_once)

    def leave(self, slots: Sequence[EpisodeSlot]) -> None:
        """Reuse the environments of these episodes for others."""
        for slot in slots:
            if slot.env is not None:
                self.idle.append(slot.env)
                slot.env = None

    def _begin(self, slot: EpisodeSlot) -> StepResult:
        slot.env = self.idle.pop() if self.idle else self.make()
        return begin(slot.env, slot.seed, slot.options)

    def _advance(self, slot: EpisodeSlot) -> StepResult:
        assert slot.env is not None, "the episode is over"
        return advance(slot.env, slot.actions[-1])

    def _answers(
        self, slots: Sequence[EpisodeSlot], ask: Callable[[EpisodeSlot], StepResult], at_once: int
    ) -> list[StepResult]:
        if self.deadline is None:
            for slot in slots:
                slot.answer = _caught(partial(ask, slot))
        else:
            self._call(slots, ask, at_once, self.deadline)
        for slot in slots:
            if (answer := slot.answer).last:
                # The state of one that failed is unknown: it is neither reused nor closed.
                if slot.env is not None and not answer.error and not answer.outlasted:
                    self.idle.append(slot.env)
                slot.env = None
        return [slot.answer for slot in slots]

    def _call(
        self,
        slots: Sequence[EpisodeSlot],
        ask: Callable[[EpisodeSlot], StepResult],
        at_once: int,
        deadline: float,
    ) -> None:
        """Set the answers of `slots`, `at_once` of them at a time."""
        waiting, called = deque(slots), dict[_CallThread, tuple[EpisodeSlot, float]]()
        done: _Done = queue.SimpleQueue()
        try:
            while waiting or called:
                while waiting and len(called) < at_once:
                    thread = self._threads.pop() if self._threads else _CallThread()
                    called[thread] = waiting[0], time.monotonic() + deadline
                    thread.ask(partial(ask, waiting.popleft()), done)
                first = min(due for _, due in called.values())
                with contextlib.suppress(queue.Empty):
                    thread, answer = done.get(timeout=max(0, first - time.monotonic()))
                    # One that was given up may answer yet.
                    if thread in called:
                        called.pop(thread)[0].answer = answer
                        self._threads.append(thread)
                    continue
                for thread in [t for t, (_, due) in called.items() if due <= time.monotonic()]:
                    thread.give_up()
                    slot = called.pop(thread)[0]
                    slot.answer = _late(slot, deadline)
        except BaseException:
            for thread in called:
                thread.give_up()
            raise

    def close(self) -> None:
        """Close what is idle."""
        while self.idle:
            self.idle.pop().close()
        while self._threads:
            self._threads.pop().end()


def _caught(function: Callable[[], StepResult]) -> StepResult:
    try:
        return function()
    except Exception as error:
        return failed(error)


def _late(slot: EpisodeSlot, seconds: float) -> StepResult:
    """The result that replaces one of `slot` that did not arrive in time; see the module."""
    if not (slot.actions and slot.answer.bounded):
        return StepResult(
            error=f"TimeoutError: the environment did not answer within {seconds:g} s"
        )
    case = CaseResult("answer", False, "timeout", f"It was not marked within {seconds:g} s.")
    told = slot.answer.info.get("feedback_level")
    level = told if told in list(FeedbackLevel) else FeedbackLevel.FAILURES
    feedback = Feedback(0.0, False, 0.0, (case,), kind="timeout", shown=(0,)).at_level(level)
    return StepResult(feedback.text, over=True, info={"feedback": feedback}, outlasted=True)


class _CallThread:
    """A thread that runs calls one after another."""

    def __init__(self) -> None:
        self._asked: queue.SimpleQueue[tuple[Callable[[], StepResult], _Done] | None]
        self._asked = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="environments", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        # The exception of `give_up` may arrive after the call it was meant for.
        with contextlib.suppress(SystemExit):
            while (asked := self._asked.get()) is not None:
                function, done = asked
                try:
                    answer = _caught(function)
                except BaseException as error:
                    # `sys.exit` in an environment is a failure of it, not the end of the run.
                    answer = failed(error)
                done.put((self, answer))

    def ask(self, function: Callable[[], StepResult], done: _Done) -> None:
        """Run a call in the thread, and put the result into `done`."""
        self._asked.put((function, done))

    def end(self) -> None:
        """End once nothing is left to do."""
        self._asked.put(None)

    def give_up(self) -> None:
        """End now; the current call is interrupted if it is Python, and left behind otherwise."""
        self.end()
        number = ctypes.c_ulong(self._thread.ident or 0)
        ctypes.pythonapi.PyThreadState_SetAsyncExc(number, ctypes.py_object(SystemExit))


_Done = queue.SimpleQueue[tuple[_CallThread, StepResult]]


@dataclass(frozen=True, slots=True)
class _Request:
    """A request to a worker process: the result of the last of `actions`, or of the reset."""

    key: int
    seed: int
    options: Mapping[str, Any]
    actions: tuple[str, ...]
    said: str = ""
    """The observation before the last action, to check that a replay gave the same."""
    left: tuple[int, ...] = ()
    """Episodes released since the last request."""


CALLING = b""
"""Message of a worker process before each call to an environment; it restarts the deadline."""


class _Worker:
    """A process that holds the environments of some episodes."""

    def __init__(self, make: MakeEnv) -> None:
        given = _pickled(make)
        self.connection, its = Pipe()
        self.left: list[int] = []
        """Released episodes that it has not been told about."""
        self.started = self.dead = False
        """`started`: whether it has called an environment."""
        self._process = subprocess.Popen(
            [
                sys.executable,
                "-P",
                "-m",
                "resd_bench.rollout.vector_env",
                str(its.fileno()),
                str(os.getpid()),
            ],
            pass_fds=[its.fileno()],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(p or os.getcwd() for p in sys.path)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )
        its.close()
        self.connection.send_bytes(given)

    def ask(self, request: _Request) -> None:
        """Send a request; the result follows on `connection`."""
        with contextlib.suppress(OSError):
            # A broken pipe is noticed when the result is read.
            self.connection.send_bytes(pickle.dumps(request))

    def read(self) -> StepResult | None:
        """The result that has arrived, None for `CALLING`; if the process died, how."""
        try:
            said = self.connection.recv_bytes()
        except (EOFError, OSError):
            self.dead = True
            return StepResult(error=f"the environment ended its process: {self._how_it_ended()}")
        if said == CALLING:
            self.started = True
            return None
        answer: StepResult = pickle.loads(said)
        return answer

    def _how_it_ended(self) -> str:
        try:
            code = self._process.wait(timeout=_CLOSE)
        except subprocess.TimeoutExpired:
            return "it closed the connection"
        return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"

    def kill(self) -> None:
        """Kill it and its child processes now."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self.connection.close()

    def close(self) -> None:
        """Let it end; kill it if it does not."""
        self.connection.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=_CLOSE)
        self.kill()


def _pickled(make: MakeEnv) -> bytes:
    try:
        return pickle.dumps(make)
    except Exception as error:
        raise UsageError(
            f"{make!r} cannot be sent to a worker process ({error}): environments that are kept "
            "apart are made by a function of a module, or a functools.partial of one"
        ) from None


@dataclass
class SubprocessVectorEnv:
    """Environments in worker processes under a deadline; see the module.

    `make` must be picklable: a function of a module, or a `functools.partial` of one.
    """

    make: MakeEnv
    deadline: float | None = DEADLINE
    workers: int = 1
    _pool: dict[int, _Worker] = field(default_factory=dict)
    _last_key: int = 0

    def reset(self, slots: Sequence[EpisodeSlot]) -> list[StepResult]:
        """Begin episodes."""
        for slot in slots:
            self._last_key += 1
            slot.key = self._last_key
        return self._ask_all(slots)

    def step(self, slots: Sequence[EpisodeSlot], actions: Sequence[str]) -> list[StepResult]:
        """Take one action in each of these episodes."""
        for slot, action in zip(slots, actions, strict=True):
            slot.actions.append(action)
        return self._ask_all(slots)

    def leave(self, slots: Sequence[EpisodeSlot]) -> None:
        """Let workers reuse the environments of these episodes from the next request on."""
        for slot in slots:
            if worker := self._pool.get(slot.key % self.workers):
                worker.left.append(slot.key)

    def _ask_all(self, slots: Sequence[EpisodeSlot]) -> list[StepResult]:
        """Ask each worker about its episodes, one after another; all workers in parallel."""
        waiting: dict[int, deque[EpisodeSlot]] = {}
        for slot in slots:
            waiting.setdefault(slot.key % self.workers, deque()).append(slot)
        under_way: dict[int, tuple[EpisodeSlot, float | None]] = {}
        try:
            while waiting or under_way:
                for place in [p for p in waiting if p not in under_way]:
                    slot = waiting[place].popleft()
                    under_way[place] = (slot, self._ask(place, slot))
                    if not waiting[place]:
                        del waiting[place]
                self._collect(under_way)
        except BaseException:
            # Interrupted: a late result must not be taken for that of the next request.
            self._kill_all()
            raise
        return [slot.answer for slot in slots]

    def _kill_all(self) -> None:
        while self._pool:
            self._pool.popitem()[1].kill()

    def _ask(self, place: int, slot: EpisodeSlot) -> float | None:
        """Send a slot's request; the time by which a message about it must arrive."""
        if place not in self._pool:
            self._pool[place] = _Worker(self.make)
        worker = self._pool[place]
        request = _Request(
            slot.key,
            slot.seed,
            slot.options,
            tuple(slot.actions),
            slot.answer.observation,
            tuple(worker.left),
        )
        worker.left.clear()
        worker.ask(request)
        return self._due(0.0 if worker.started else START)

    def _due(self, more: float = 0.0) -> float | None:
        return None if self.deadline is None else time.monotonic() + self.deadline + more

    def _collect(self, under_way: dict[int, tuple[EpisodeSlot, float | None]]) -> None:
        """Collect the results that have arrived, and give up on late ones."""
        due = [end for _, end in under_way.values() if end is not None]
        timeout = max(0.0, min(due) - time.monotonic()) if due else None
        ready = wait([self._pool[place].connection for place in under_way], timeout)
        for place, (slot, end) in list(under_way.items()):
            worker = self._pool[place]
            if worker.connection in ready:
                answer = worker.read()
                if answer is None:
                    under_way[place] = (slot, self._due())
                    continue
                slot.answer = answer
            elif end is not None and time.monotonic() >= end:
                slot.answer, worker.dead = _late(slot, self.deadline or 0.0), True
            else:
                continue
            del under_way[place]
            if worker.dead:
                self._pool.pop(place).kill()

    def close(self) -> None:
        """End the workers."""
        while self._pool:
            self._pool.popitem()[1].close()


def _serve(connection: Connection) -> None:
    """Main loop of a worker process: answer requests until the connection closes."""
    make: MakeEnv | None = None
    envs: dict[int, tuple[TextGym, int]] = {}
    idle: list[TextGym] = []
    with contextlib.suppress(EOFError, OSError):
        given = connection.recv_bytes()
        while True:
            request: _Request = pickle.loads(connection.recv_bytes())
            try:
                if make is None:
                    make = pickle.loads(given)
                    idle.append(make())
                answer = pickle.dumps(_answer(make, envs, idle, request, connection))
            except Exception as error:
                answer = pickle.dumps(failed(error))
            connection.send_bytes(answer)


def _answer(
    make: MakeEnv,
    envs: dict[int, tuple[TextGym, int]],
    idle: list[TextGym],
    request: _Request,
    connection: Connection,
) -> StepResult:
    """Answer a request, replaying the episode if its environment is not here."""
    idle += [envs.pop(key)[0] for key in request.left if key in envs]

    def calling() -> None:
        connection.send_bytes(CALLING)

    *before, _ = request.actions or ("",)
    env, taken = envs.pop(request.key, (None, 0))
    if env is None or taken != len(before):
        calling()
        env = idle.pop() if idle else make()
        answer = begin(env, request.seed, request.options)
        for action in before:
            calling()
            answer = advance(env, action)
        if request.actions and (answer.last or answer.observation != request.said):
            raise RuntimeError("played again with the same seed and actions, it said another thing")
    if request.actions:
        calling()
        answer = advance(env, request.actions[-1])
    if answer.last:
        idle.append(env)
    else:
        envs[request.key] = (env, len(request.actions))
    return answer


def _end_with(parent: int) -> None:
    """End this process when its parent is gone, whatever it is doing."""
    while os.getppid() == parent:
        time.sleep(1.0)
    os._exit(1)


if __name__ == "__main__":
    # Under this name the classes would differ from the parent's.
    from resd_bench.rollout import vector_env as module

    threading.Thread(target=_end_with, args=(int(sys.argv[2]),), daemon=True).start()
    module._serve(Connection(int(sys.argv[1])))
