"""CPU milliseconds per step of every environment that is installed.

    OMP_NUM_THREADS=1 python benchmarks/environment_steps.py [NAME ...]
    OMP_NUM_THREADS=1 python benchmarks/environment_steps.py --cores

Episodes are stepped as a run steps them, 16 at once, by reference solutions where there are some
and by odd texts in turn, after a quarter that is not counted. All processes are counted, of the
sandbox and of games. The peer is a yardstick. With `--cores`, wall time instead, of 256
environments that all step once, on two idle cores next to one. Left out: making the tasks.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from functools import partial

from benchmarks.bouncing_verification import family_cpu
from benchmarks.endurance import Player, solutions
from benchmarks.in_turn import YARDSTICK, Way, in_turn, of_printed, print_row, yardstick
from resd_bench.env import TextEnv
from resd_bench.errors import UsageError
from resd_bench.plugins import installed, make_env
from resd_bench.rollout.vector_env import EpisodeSlot, Vector, make_vector
from resd_bench.seeds import derive, stream

JUDGING = ("python-functions-basic", "python-functions-hard", "bouncingsim-medium")
"""Environments whose steps take long, since they run programs."""
AT_ONCE, TOGETHER = 16, 256
ROUNDS, TURNS = 2, 3
MOST_STEPS = 8
"""Of an episode."""


class Steps:
    """Plays rounds of episodes; each costs what it says per step."""

    def __init__(self, name: str) -> None:
        self._env: TextEnv = make_env(name, dialect="compact")
        self._tasks = self._env.tasks("train")
        self._vector: Vector = make_vector(partial(make_env, name, dialect="compact"))
        self._player = Player(stream(0, "steps", name), solutions(name))
        self._name = name
        self._round = 0

    def _answer(self, slot: EpisodeSlot, number: int) -> str:
        if number % 2 == 0:
            task = self._tasks[(self._round * AT_ONCE + number) % len(self._tasks)]
            with contextlib.suppress(NotImplementedError):
                if self._env.max_turns == 1:
                    return self._env.oracle(task)
        return self._player.say(slot.answer.observation)

    def __call__(self) -> float:
        """CPU seconds per step of `ROUNDS` rounds."""
        begin, steps = family_cpu(), 0
        for _ in range(ROUNDS):
            first = self._round * AT_ONCE
            live = [
                EpisodeSlot(
                    derive(0, self._name, first + n),
                    {"task": self._tasks[(first + n) % len(self._tasks)].id},
                )
                for n in range(AT_ONCE)
            ]
            self._vector.reset(live)
            for _ in range(MOST_STEPS):
                answers = [self._answer(slot, number) for number, slot in enumerate(live)]
                self._vector.step(live, answers)
                steps += len(live)
                live = [slot for slot in live if not slot.answer.last]
                if not live:
                    break
            self._round += 1
        return (family_cpu() - begin) / steps

    def close(self) -> None:
        """End its processes."""
        self._vector.close()


def step_together(name: str, cores: int) -> float:
    """Wall seconds per step of many environments that are stepped together on so many cores."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])
    env = make_env(name, dialect="compact")
    tasks = env.tasks("train")
    some = [tasks[n % len(tasks)] for n in range(TOGETHER)]
    said = [env.oracle(task) for task in some]
    vector = make_vector(partial(make_env, name, dialect="compact"))
    for wanted in (2, TOGETHER):  # the first two start the sandbox
        live = [EpisodeSlot(n, {"task": task.id}) for n, task in enumerate(some[-wanted:])]
        vector.reset(live)
        start = time.monotonic()
        vector.step(live, said[-wanted:])
        seconds = (time.monotonic() - start) / wanted
    vector.close()
    return seconds


def in_process(name: str, cores: int) -> Way:
    """`step_together` in a new process, which keeps to its cores from the start."""
    return of_printed([sys.executable, __file__, "--together", name, str(cores)])


def on_two_cores() -> None:
    """A row per environment that runs programs."""
    for name in JUDGING:
        costs = in_turn({"two": in_process(name, 2), "one": in_process(name, 1)}, TURNS)
        row = (costs["two"], costs["one"])
        about = f"environment: {TOGETHER} of {name}, two cores"
        print_row(about, "wall ms per step", row, "one core", 0.001)


def main(*names: str) -> None:
    """A row per environment."""
    for name in names or sorted(installed("resd_bench.envs")):
        try:
            work = Steps(name)
        except (ImportError, UsageError) as error:
            print(f"{name}: {error}", file=sys.stderr)
            continue
        work()
        costs = in_turn({"ours": work, "yardstick": yardstick}, TURNS)
        work.close()
        row = (costs["ours"], costs["yardstick"])
        print_row(f"environment: {name}", "CPU ms per step", row, YARDSTICK, 0.001)


if __name__ == "__main__":
    os.environ["OMP_NUM_THREADS"] = "1"
    if sys.argv[1:2] == ["--together"]:
        print(step_together(sys.argv[2], int(sys.argv[3])))
    elif sys.argv[1:] == ["--cores"]:
        on_two_cores()
    else:
        main(*sys.argv[1:])
