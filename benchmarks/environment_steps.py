"""CPU milliseconds per step of every environment that is installed and needs no Java.

    OMP_NUM_THREADS=1 python benchmarks/environment_steps.py [NAME ...]

Episodes are stepped as a run steps them, 16 at once, by reference solutions where there are some
and by odd texts in turn, after a quarter that is not counted. The sandbox's processes are counted.
The peer is a yardstick. Left out: making the tasks, and games whose engine is a Java machine, which
`endurance.py` plays.
"""

from __future__ import annotations

import contextlib
import os
import sys
from functools import partial

from benchmarks.bouncing_verification import family_cpu
from benchmarks.endurance import Player, solutions
from benchmarks.in_turn import YARDSTICK, in_turn, print_row, yardstick
from resd_bench.env import TextEnv
from resd_bench.plugins import make_env
from resd_bench.rollout.vector_env import EpisodeSlot, Vector, make_vector
from resd_bench.seeds import derive, stream

NAMES = (
    "manufactoria-has",
    "bouncingsim-basic",
    "bouncingsim-medium",
    "finer",
    "python-functions-basic",
    "python-functions-hard",
    "guess-number",
    "ifeval",
    "textworld-coin",
)
AT_ONCE = 16
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


def main(*names: str) -> None:
    """A row per environment."""
    for name in names or NAMES:
        try:
            work = Steps(name)
        except ImportError as error:
            print(f"{name}: {error}", file=sys.stderr)
            continue
        work()
        costs = in_turn({"ours": work, "yardstick": yardstick}, TURNS)
        work.close()
        row = (costs["ours"], costs["yardstick"])
        print_row(f"environment: {name}", "CPU ms per step", row, YARDSTICK, 0.001)


if __name__ == "__main__":
    os.environ["OMP_NUM_THREADS"] = "1"
    main(*sys.argv[1:])
