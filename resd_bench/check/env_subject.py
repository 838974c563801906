"""An environment under test: newly made, called step by step, with every call timed.

Every call into the environment goes through `Subject.call`, which reports what is being done to a
watcher, so that a call that never returns is known by name.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from resd_bench.check.cpu_deadline import own_clock
from resd_bench.check.result import PropertyFailed, require
from resd_bench.env import TextEnv
from resd_bench.types import SPLITS, Dialect, Feedback, Split, Task

DIALECTS: tuple[Dialect, ...] = ("full", "compact")
DEFAULT_LEVEL = 3
RARE = 0.05
"""If chance is at most this, a single success of an uninformed policy is one too many."""
LEAST_TASKS = 4
"""Tasks that every sampled property examines, however long it takes."""

_T = TypeVar("_T")


class Make(Protocol):
    """How to make the environment."""

    def __call__(self, *, dialect: Dialect, feedback_level: int) -> TextEnv: ...


class Watch(Protocol):
    """Called with what is about to be done, and whether that starts other processes."""

    def __call__(self, doing: str, starts_processes: bool = False) -> None: ...


def not_watched(doing: str, starts_processes: bool = False) -> None:
    """Nobody watches."""


@dataclass(frozen=True, slots=True)
class Episode:
    """One attempt, as an agent saw it."""

    observations: tuple[str, ...]
    """The prompt first, what ended the episode last."""
    infos: tuple[dict[str, Any], ...]
    rewards: tuple[float, ...]
    feedback: Feedback


class Called:
    """What all subjects have in common; a dataclass with these fields."""

    watch: Watch
    doing: str
    """The call under way, "" between calls."""
    slowest: tuple[float, str]
    """Seconds of the slowest call, and its name."""

    def call(self, doing: str, function: Callable[[], _T]) -> _T:
        """Call something of the plugin, watched and timed."""
        self.doing = doing
        self.watch(doing)
        start = time.perf_counter()
        result = function()
        self.slowest = max(self.slowest, (time.perf_counter() - start, doing))
        self.doing = ""
        return result


def start_others(command: Sequence[str], processes: int) -> list[subprocess.Popen[str]]:
    """Start the same command in processes with the hash seeds 0, 1, ..."""
    return [
        subprocess.Popen(
            command,
            env={**os.environ, "PYTHONHASHSEED": str(seed)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for seed in range(processes)
    ]


def outputs_of(others: Sequence[subprocess.Popen[str]], deadline: float) -> Iterator[str]:
    """What each process printed; PropertyFailed if one failed."""
    for process in others:
        output, errors = process.communicate(timeout=deadline)
        require(process.returncode == 0, f"another process failed: {errors.strip()[-300:]}")
        yield output.strip()


@dataclass
class Subject(Called):
    """The environment that the properties examine; see the module."""

    name: str
    make: Make
    installed: bool = False
    """Whether `name` is an installed environment, which other processes can make too."""
    options: dict[str, Any] = field(default_factory=dict)
    dialects: tuple[Dialect, ...] = DIALECTS
    seconds: float = 3.0
    """How long a sampled property continues with further tasks."""
    deadline: float = 300.0
    """Longest wait, in seconds, for an answer of other processes."""
    watch: Watch = not_watched
    doing: str = ""
    slowest: tuple[float, str] = (0.0, "nothing")
    _made: dict[tuple[Dialect, int], TextEnv] = field(default_factory=dict)

    def fresh(self, dialect: Dialect, level: int = DEFAULT_LEVEL) -> TextEnv:
        """A new environment that has not been used."""
        make = self.make
        return self.call(
            f"making it with dialect={dialect!r}, feedback_level={level}",
            lambda: make(dialect=dialect, feedback_level=level),
        )

    def env(self, dialect: Dialect, level: int = DEFAULT_LEVEL) -> TextEnv:
        """An environment that is reused."""
        key = (dialect, level)
        if key not in self._made:
            self._made[key] = self.fresh(dialect, level)
        return self._made[key]

    def tasks(self, env: TextEnv, split: Split) -> list[Task]:
        """The tasks of a split."""
        return self.call(f"tasks({split!r})", lambda: list(env.tasks(split)))

    def all_tasks(self, env: TextEnv) -> list[Task]:
        """The tasks of all splits."""
        return [task for split in SPLITS for task in self.tasks(env, split)]

    def spread(self, env: TextEnv, seconds: float | None = None, most: int = 10**9) -> list[Task]:
        """At most `most` tasks, in an order of which every beginning is evenly spread."""
        tasks = self.all_tasks(env)
        return [tasks[i] for i in even_order(len(tasks))[:most]]

    def in_time(self, tasks: Sequence[Task], share: float = 1.0) -> Iterator[Task]:
        """The first tasks, as many as `share` of the time allows, but at least `LEAST_TASKS`.

        A wait for a processor does not count: a busy machine examines as many.
        """
        end = own_clock() + self.seconds * share
        for number, task in enumerate(tasks):
            if number >= LEAST_TASKS and own_clock() > end:
                return
            yield task

    def play(self, env: TextEnv, task: Task, actions: Sequence[str], seed: int = 7) -> Episode:
        """Play the actions in turn, then the last one again until the episode ends."""
        observation, info = self.call(
            f"reset(seed={seed}) to task {task.id}",
            lambda: env.reset(seed=seed, options={"task": task.id, "split": task.split}),
        )
        require(
            info.get("task_id") == task.id,
            f"reset did not pose the task it was asked for: {task.id!r}, "
            f"info['task_id'] is {info.get('task_id')!r}",
        )
        observations, infos, rewards = [observation], [info], []
        for turn in range(turns_of(env)):
            action = actions[min(turn, len(actions) - 1)]
            observation, reward, over, cut, info = self.step(env, task, action)
            observations.append(observation)
            infos.append(info)
            rewards.append(reward)
            require(
                all(isinstance(o, str) for o in observations),
                f"an observation is not a string but {type(observation).__name__} ({task.id})",
            )
            if over or cut:
                return Episode(tuple(observations), tuple(infos), tuple(rewards), verdict_of(info))
        raise PropertyFailed(
            f"the episode of {task.id} went on after max_turns = {turns_of(env)} turns"
        )

    def step(self, env: TextEnv, task: Task, action: str) -> Any:
        """One step."""
        return self.call(f"step({excerpt(action)}) on task {task.id}", lambda: env.step(action))

    def oracle(self, env: TextEnv, task: Task) -> str:
        """The oracle's answer; NotImplementedError if there is no oracle."""
        return self.call(f"oracle of task {task.id}", lambda: env.oracle(task))

    def follow_oracle(self, env: TextEnv, task: Task) -> Episode:
        """Play the oracle's answer: one line per turn if there are several, else all at once."""
        answer = self.oracle(env, task)
        lines = [line for line in answer.splitlines() if line.strip()]
        if turns_of(env) == 1 or len(lines) < 2:
            return self.play(env, task, [answer])
        episode = self.play(env, task, lines)
        return episode if episode.feedback.success else self.play(env, task, [answer])


def turns_of(env: TextEnv) -> int:
    """The limit on turns that the environment states."""
    return int(getattr(env, "max_turns", 1))


def verdict_of(info: dict[str, Any]) -> Feedback:
    """The feedback that ends an episode."""
    feedback = info.get("feedback")
    if not isinstance(feedback, Feedback):
        raise PropertyFailed(
            "an episode ended without info['feedback'], a resd_bench.types.Feedback"
        )
    return feedback


def excerpt(text: str, most: int = 40) -> str:
    """`text` quoted in ASCII, shortened and with its length if it is long."""
    quoted = ascii(text[:most])
    return quoted if len(text) <= most else f"{quoted}... of {len(text)} characters"


def even_order(count: int) -> list[int]:
    """0 to count - 1, each beginning evenly spread: multiples of the golden ratio, modulo 1."""
    golden = (5**0.5 - 1) / 2
    order = dict.fromkeys(int(k * golden % 1 * count) for k in range(3 * count))
    return list(order | dict.fromkeys(range(count)))
