"""Episodes in a limited number of slots: one that ends makes room for the next.

The slots form two halves. While one half's answers are sampled, the environments of the other step
in a thread, where the successors of episodes that have ended begin too. Which episodes are sampled
together follows from what they say and never from the clock, so a resumed run repeats an
interrupted one. An answer draws from a stream named by its task, attempt and turn: what an episode
says depends neither on the number of slots nor on the episodes next to it.
With several processes, environments step between two samplings instead of during one, since all
processes must do the same in the same order. Left out: episodes of the next update, which are
sampled with other weights.
"""

from __future__ import annotations

import queue
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Protocol

from resd_bench.rollout.episode import RunningEpisode, begin_all, take_turns
from resd_bench.rollout.vector_env import Vector
from resd_bench.seeds import derive
from resd_bench.types import Completion, Messages, Sampling

Ask = Callable[[Sequence[Messages], Sampling], Sequence[Completion]]
"""One answer to each of the prompts."""

_END = 5.0
"""Seconds that an interrupted rollout waits for the call to environments under way."""


@dataclass
class _Half:
    """Slots whose episodes are sampled together."""

    size: int
    live: list[tuple[RunningEpisode, int]] = field(default_factory=list)
    """The episodes in them, with what names their random streams."""


def play_in_slots(
    ask: Ask,
    vector: Vector,
    episodes: Sequence[RunningEpisode],
    *,
    slots: int,
    sampling: Sampling,
    in_thread: bool = True,
) -> None:
    """Play all episodes to their end, at most `slots` at a time, the first of them first.

    Without `in_thread`, environments step when their results are needed.
    """
    waiting = deque(zip(episodes, stream_names(episodes), strict=True))
    halves = [_Half(slots - slots // 2), *[_Half(slots // 2)] * (slots > 1)]
    with _calls(in_thread) as later:
        turn = deque((half, later(partial(_advance, vector, half, (), waiting))) for half in halves)
        while turn:
            half, result = turn.popleft()
            result()
            if not half.live:
                continue
            prompts = [episode.messages for episode, _ in half.live]
            streams = tuple(derive(name, len(episode.turns)) for episode, name in half.live)
            said = ask(prompts, replace(sampling, streams=streams))
            turn.append((half, later(partial(_advance, vector, half, said, waiting))))


def stream_names(episodes: Sequence[RunningEpisode]) -> list[int]:
    """A number for each episode that depends on its task and attempt alone, all different.

    An attempt that occurs more than once is told apart by how many of it came before.
    """
    seen: Counter[tuple[str, int]] = Counter()
    names = []
    for episode in episodes:
        key = (episode.task.id, episode.attempt)
        names.append(derive(0, *key, seen[key]))
        seen[key] += 1
    return names


def _advance(
    vector: Vector,
    half: _Half,
    said: Sequence[Completion],
    waiting: deque[tuple[RunningEpisode, int]],
) -> None:
    """Take these answers of the half's episodes, then begin others where one has ended."""
    take_turns(vector, [episode for episode, _ in half.live], said)
    half.live = [one for one in half.live if one[0].live]
    while waiting and (free := half.size - len(half.live)):
        new = [waiting.popleft() for _ in range(min(free, len(waiting)))]
        begin_all(vector, [episode for episode, _ in new])
        half.live += [one for one in new if one[0].live]


class _Later(Protocol):
    """Has work done; what is returned waits until it is, and raises what it raised."""

    def __call__(self, work: Callable[[], None]) -> Callable[[], None]: ...


@contextmanager
def _calls(in_thread: bool) -> Iterator[_Later]:
    """Work in the order in which it is given: in a thread, or when it is waited for."""
    if not in_thread:
        yield lambda work: work
        return
    jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
    stopped = threading.Event()
    thread = threading.Thread(target=_serve, args=(jobs, stopped), name="slots", daemon=True)
    thread.start()

    def later(work: Callable[[], None]) -> Callable[[], None]:
        job = _Job(work)
        jobs.put(job)
        return job.wait

    try:
        yield later
    finally:
        stopped.set()
        jobs.put(None)
        thread.join(_END)


@dataclass
class _Job:
    """A piece of work for a thread."""

    work: Callable[[], None]
    _done: queue.SimpleQueue[BaseException | None] = field(default_factory=queue.SimpleQueue)

    def do(self) -> None:
        """Do it, in the thread."""
        try:
            self.work()
        except BaseException as error:
            self._done.put(error)
        else:
            self._done.put(None)

    def wait(self) -> None:
        """Wait until it is done; raises what it raised."""
        if (error := self._done.get()) is not None:
            raise error


def _serve(jobs: queue.SimpleQueue[_Job | None], stopped: threading.Event) -> None:
    while (job := jobs.get()) is not None and not stopped.is_set():
        job.do()
