"""Step many environments, so that one that crashes or hangs costs its own episode and no other.

There are two ways, and an environment says which it needs (`isolated`, false unless declared).

`Watched` calls environments in this process, one after the other, in a thread that is waited for.
When a call is not back in time, its environment and its thread are given up and a fresh thread
goes on. This costs little a step and needs nothing of an environment. But no
thread can be killed: an exception is raised in it, which ends what is written in Python; what waits
in C stays behind as a daemon; and what neither returns nor lets go of the interpreter lock stops
everything.

`Isolated` calls them in worker processes, which can be killed whatever they do and may die however
they like; a step costs about a tenth of a millisecond more. A worker holds the environments of many
episodes, since a process for each would be too much; so when one is killed for the sake of one
episode, the others are played again in its successor, from their seeds and actions. Environments
are deterministic (`envs check` proves it); one that says something else the second time loses its
episode too.

A step that is not back in time ends its episode. Whose doing that is depends on what the
environment says of itself: one that declares `verify_seconds` promises an answer whatever the
action, so the action is to blame, and the attempt fails with the kind `timeout`. Of any other it is
an error, which says nothing of the attempt. A reset that is late is always an error.

`gymnasium.vector` serves neither purpose: it waits for ever, ends with the first environment that
fails, begins anew by itself so that the last observation must be asked for, and hands text through
shared memory garbled or not at all (see tests/test_vector.py). Here nothing is reset unasked, and
text is passed as Python strings or their pickles: lone surrogates, NULs and megabytes arrive as
they were. Left out: batching of several environments in one call, workers on other machines.
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
from multiprocessing.connection import Connection, Pipe, wait
from typing import Any, Protocol

import gymnasium as gym

from resd_bench.contract import checked_reset, checked_step
from resd_bench.plugins import UsageError
from resd_bench.team import Team
from resd_bench.types import CaseResult, Feedback, FeedbackLevel

TextGym = gym.Env[str, str]
MakeEnv = Callable[[], TextGym]

DEADLINE = 120.0
"""Seconds that one call to an environment may take; of a run its setting `step_seconds`."""
START = 300.0
"""Seconds that a worker process may take to start and to make its first environment."""
CLOSE = 5.0
"""Seconds that a worker process may take to end by itself."""
MAX_TURNS = 1000
"""Episodes of an environment that states no `max_turns` end here, as an error."""
MOST_WORKERS = 4
ERROR_CHARS = 2000


@dataclass(frozen=True, slots=True)
class Stepped:
    """What an environment answered to a reset or a step; the last of an episode stays as it is."""

    observation: str = ""
    over: bool = False
    cut: bool = False
    info: Mapping[str, Any] = field(default_factory=dict)
    max_turns: int = MAX_TURNS
    error: str = ""
    """Why there is no answer, "" where there is one. The episode cannot go on then."""
    bounded: bool = False
    """Whether the environment says how long it takes at most, whatever the action."""
    outlasted: bool = False
    """Whether this stands for an answer that did not come in time: the environment is lost."""

    @property
    def last(self) -> bool:
        """Whether nothing comes after this."""
        return self.over or self.cut or bool(self.error)


@dataclass(eq=False)
class Slot:
    """One episode, as what steps environments knows it."""

    seed: int
    options: Mapping[str, Any]
    """For `reset`."""
    actions: list[str] = field(default_factory=list)
    answer: Stepped = Stepped()
    """The last answer."""
    env: TextGym | None = None
    """Its environment, where that is in this process."""
    key: int = 0
    """Its name among worker processes."""


class Vector(Protocol):
    """Steps the environments of many episodes; answers come in the order of the slots."""

    def reset(self, slots: Sequence[Slot]) -> list[Stepped]:
        """Begin episodes."""
        ...

    def step(self, slots: Sequence[Slot], actions: Sequence[str]) -> list[Stepped]:
        """Take one action in each of these episodes."""
        ...

    def leave(self, slots: Sequence[Slot]) -> None:
        """Give up episodes that no action follows in."""
        ...

    def close(self) -> None:
        """Close environments and end what runs them."""
        ...


def make_vector(
    make: MakeEnv,
    *,
    deadline: float | None = DEADLINE,
    isolated: bool | None = None,
    workers: int = 0,
) -> Vector:
    """What steps the environments that `make` makes.

    `deadline` is in seconds for each call; None waits for ever. `isolated` None leaves it to the
    environment, `workers` 0 to the number of cores.
    """
    idle: list[TextGym] = []
    if isolated is None:
        # One that cannot be made now fails in each episode, on record.
        with contextlib.suppress(Exception):
            idle = [make()]
        isolated = any(getattr(env.unwrapped, "isolated", False) for env in idle)
    if not isolated:
        return Watched(make, deadline, idle)
    while idle:
        idle.pop().close()
    return Isolated(make, deadline, workers or min(MOST_WORKERS, os.cpu_count() or 1))


class Told:
    """The environments of a team: the first process steps them and tells the others.

    They must agree on every answer, and a verdict may hang on the clock.
    """

    def __init__(self, team: Team, make: Callable[[], Vector]) -> None:
        self._team = team
        self._vector = make() if team.rank == 0 else None

    def reset(self, slots: Sequence[Slot]) -> list[Stepped]:
        return self._team.same(lambda: self._mine.reset(slots))

    def step(self, slots: Sequence[Slot], actions: Sequence[str]) -> list[Stepped]:
        return self._team.same(lambda: self._mine.step(slots, actions))

    def leave(self, slots: Sequence[Slot]) -> None:
        if self._vector is not None:
            self._vector.leave(slots)

    @property
    def _mine(self) -> Vector:
        assert self._vector is not None
        return self._vector

    def close(self) -> None:
        if self._vector is not None:
            self._vector.close()


def failed(error: BaseException) -> Stepped:
    """The answer where an environment raised."""
    return Stepped(error=f"{type(error).__name__}: {error}"[:ERROR_CHARS])


def begin(env: TextGym, seed: int, options: Mapping[str, Any]) -> Stepped:
    """Reset an environment."""
    observation, info = checked_reset(env, env.reset(seed=seed, options=dict(options)))
    return Stepped(observation, info=info, max_turns=_limit(env), bounded=_bounded(env))


def advance(env: TextGym, action: str) -> Stepped:
    """Step an environment."""
    answer = checked_step(env, env.step(action))
    return Stepped(
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
class Watched:
    """Environments in this process, called in a thread under a deadline; see the module."""

    make: MakeEnv
    deadline: float | None = DEADLINE
    idle: list[TextGym] = field(default_factory=list)
    """Environments to be used again: a fresh one for each episode would be slow to make."""
    _thread: _CallThread | None = None

    def reset(self, slots: Sequence[Slot]) -> list[Stepped]:
        """Begin episodes."""
        return [self._answer(slot, self._begin) for slot in slots]

    def step(self, slots: Sequence[Slot], actions: Sequence[str]) -> list[Stepped]:
        """Take one action in each of these episodes."""
        for slot, action in zip(slots, actions, strict=True):
            slot.actions.append(action)
        return [self._answer(slot, self._advance) for slot in slots]

    def leave(self, slots: Sequence[Slot]) -> None:
        """Use the environments of these episodes for others."""
        for slot in slots:
            if slot.env is not None:
                self.idle.append(slot.env)
                slot.env = None

    def _begin(self, slot: Slot) -> Stepped:
        slot.env = self.idle.pop() if self.idle else self.make()
        return begin(slot.env, slot.seed, slot.options)

    def _advance(self, slot: Slot) -> Stepped:
        assert slot.env is not None, "the episode is over"
        return advance(slot.env, slot.actions[-1])

    def _answer(self, slot: Slot, ask: Callable[[Slot], Stepped]) -> Stepped:
        slot.answer = answer = self._call(slot, lambda: ask(slot))
        if answer.last:
            # The state of one that failed is unknown: not used again, and not trusted to close.
            if slot.env is not None and not answer.error and not answer.outlasted:
                self.idle.append(slot.env)
            slot.env = None
        return answer

    def _call(self, slot: Slot, function: Callable[[], Stepped]) -> Stepped:
        if self.deadline is None:
            return _caught(function)
        if self._thread is None:
            self._thread = _CallThread()
        try:
            return self._thread.call(function, self.deadline)
        except BaseException as error:
            # Also when the user interrupts: what is answered later is no answer to the next call.
            self._thread.give_up()
            self._thread = None
            if isinstance(error, queue.Empty):
                return _late(slot, self.deadline)
            raise

    def close(self) -> None:
        """Close what is idle."""
        while self.idle:
            self.idle.pop().close()
        if self._thread is not None:
            self._thread.end()
            self._thread = None


def _caught(function: Callable[[], Stepped]) -> Stepped:
    try:
        return function()
    except Exception as error:
        return failed(error)


def _late(slot: Slot, seconds: float) -> Stepped:
    """What stands for the answer to `slot` that did not come in time; see the module."""
    if not (slot.actions and slot.answer.bounded):
        return Stepped(error=f"TimeoutError: the environment did not answer within {seconds:g} s")
    case = CaseResult("answer", False, "timeout", f"It was not marked within {seconds:g} s.")
    told = slot.answer.info.get("feedback_level")
    level = told if told in list(FeedbackLevel) else FeedbackLevel.FAILURES
    feedback = Feedback(0.0, False, 0.0, (case,), kind="timeout", shown=(0,)).at_level(level)
    return Stepped(feedback.text, over=True, info={"feedback": feedback}, outlasted=True)


class _CallThread:
    """A thread that does one call after the other."""

    def __init__(self) -> None:
        self._asked: queue.SimpleQueue[Callable[[], Stepped] | None] = queue.SimpleQueue()
        self._answers: queue.SimpleQueue[Stepped] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="environments", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        # What `give_up` raises here may come after the call it was meant for.
        with contextlib.suppress(SystemExit):
            while (function := self._asked.get()) is not None:
                try:
                    answer = _caught(function)
                except BaseException as error:
                    # `sys.exit` in an environment is its failure, not the end of the run.
                    answer = failed(error)
                self._answers.put(answer)

    def call(self, function: Callable[[], Stepped], seconds: float) -> Stepped:
        """Do it there; `queue.Empty` where it takes too long."""
        self._asked.put(function)
        return self._answers.get(timeout=seconds)

    def end(self) -> None:
        """End, as soon as nothing is left to do."""
        self._asked.put(None)

    def give_up(self) -> None:
        """End; what is being done is interrupted if it is Python, and left behind if not."""
        self.end()
        number = ctypes.c_ulong(self._thread.ident or 0)
        ctypes.pythonapi.PyThreadState_SetAsyncExc(number, ctypes.py_object(SystemExit))


@dataclass(frozen=True, slots=True)
class _Request:
    """What a worker process is asked: the answer to the last of `actions`, or to the reset."""

    key: int
    seed: int
    options: Mapping[str, Any]
    actions: tuple[str, ...]
    said: str = ""
    """The observation before the last action, to tell whether playing again gave the same."""
    left: tuple[int, ...] = ()
    """Episodes given up since the last request."""


CALLING = b""
"""What a worker process says before each call to an environment; its deadline then begins anew."""


class _Worker:
    """A process that holds the environments of some episodes."""

    def __init__(self, make: MakeEnv) -> None:
        given = _pickled(make)
        self.connection, its = Pipe()
        self.left: list[int] = []
        """Episodes that were given up and that it was not told of."""
        self.started = self.dead = False
        """`started`: whether it has called an environment."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "resd_bench.vector", str(its.fileno()), str(os.getpid())],
            pass_fds=[its.fileno()],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(p or os.getcwd() for p in sys.path)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )
        its.close()
        self.connection.send_bytes(given)

    def ask(self, request: _Request) -> None:
        """Send a request; an answer follows on `connection`."""
        with contextlib.suppress(OSError):
            # A broken pipe shows when the answer is read.
            self.connection.send_bytes(pickle.dumps(request))

    def read(self) -> Stepped | None:
        """The answer that has arrived, None for `CALLING`; of a process that died, how it did."""
        try:
            said = self.connection.recv_bytes()
        except (EOFError, OSError):
            self.dead = True
            return Stepped(error=f"the environment ended its process: {self._how_it_ended()}")
        if said == CALLING:
            self.started = True
            return None
        answer: Stepped = pickle.loads(said)
        return answer

    def _how_it_ended(self) -> str:
        try:
            code = self._process.wait(timeout=CLOSE)
        except subprocess.TimeoutExpired:
            return "it closed the connection"
        return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"

    def kill(self) -> None:
        """End it and whatever it started, now."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self.connection.close()

    def close(self) -> None:
        """Let it end; kill it where it does not."""
        self.connection.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=CLOSE)
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
class Isolated:
    """Environments in worker processes under a deadline; see the module.

    `make` must be picklable: a function of a module, or a `functools.partial` of one.
    """

    make: MakeEnv
    deadline: float | None = DEADLINE
    workers: int = 1
    _pool: dict[int, _Worker] = field(default_factory=dict)
    _last_key: int = 0

    def reset(self, slots: Sequence[Slot]) -> list[Stepped]:
        """Begin episodes."""
        for slot in slots:
            self._last_key += 1
            slot.key = self._last_key
        return self._ask_all(slots)

    def step(self, slots: Sequence[Slot], actions: Sequence[str]) -> list[Stepped]:
        """Take one action in each of these episodes."""
        for slot, action in zip(slots, actions, strict=True):
            slot.actions.append(action)
        return self._ask_all(slots)

    def leave(self, slots: Sequence[Slot]) -> None:
        """Let workers use the environments of these episodes for others, from the next request."""
        for slot in slots:
            if worker := self._pool.get(slot.key % self.workers):
                worker.left.append(slot.key)

    def _ask_all(self, slots: Sequence[Slot]) -> list[Stepped]:
        """Ask each worker about its episodes, one after the other; all workers at once."""
        waiting: dict[int, deque[Slot]] = {}
        for slot in slots:
            waiting.setdefault(slot.key % self.workers, deque()).append(slot)
        under_way: dict[int, tuple[Slot, float | None]] = {}
        try:
            while waiting or under_way:
                for place in [p for p in waiting if p not in under_way]:
                    slot = waiting[place].popleft()
                    under_way[place] = (slot, self._ask(place, slot))
                    if not waiting[place]:
                        del waiting[place]
                self._collect(under_way)
        except BaseException:
            # Interrupted: what is answered later is no answer to the next question.
            self._kill_all()
            raise
        return [slot.answer for slot in slots]

    def _kill_all(self) -> None:
        while self._pool:
            self._pool.popitem()[1].kill()

    def _ask(self, place: int, slot: Slot) -> float | None:
        """Send a slot's request; the time by which something must be heard of it."""
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

    def _collect(self, under_way: dict[int, tuple[Slot, float | None]]) -> None:
        """Take the answers that are there, and give up those that are late."""
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


def serve(connection: Connection) -> None:
    """What a worker process does: answer requests until nobody asks any more."""
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
) -> Stepped:
    """Answer a request, playing the episode again where its environment is not here."""
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
    """End this process when the one that started it is gone, whatever it is doing."""
    while os.getppid() == parent:
        time.sleep(1.0)
    os._exit(1)


if __name__ == "__main__":
    # Under this name the classes would be others than the parent's.
    from resd_bench import vector as module

    threading.Thread(target=_end_with, args=(int(sys.argv[2]),), daemon=True).start()
    module.serve(Connection(int(sys.argv[1])))
