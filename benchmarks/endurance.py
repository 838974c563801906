"""Many random episodes of an environment: do processes, descriptors and memory stay flat?

    OMP_NUM_THREADS=1 python -m benchmarks.endurance textworld-express-coin scienceworld-easy

Episodes are stepped as a run steps them, several at once, in worker processes where the environment
asks for them. An action is a line of a solution, words of what was just said, or an odd text. What
this process and all that it started hold is looked at every so many episodes: processes, Java
machines among them, open descriptors and resident memory. The first quarter is for warming up;
afterwards nothing may grow, and memory by no more than `--most-growth`. Needs Linux. Ends with 1
where something grew.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import time
from dataclasses import astuple, dataclass, fields
from functools import partial
from pathlib import Path

import numpy as np

from resd_bench.check.adversarial_answers import ODD_TEXTS
from resd_bench.plugins import make_env
from resd_bench.rollout.vector_env import EpisodeSlot, make_vector
from resd_bench.seeds import derive, stream

AT_ONCE = 16
"""Episodes under way together."""
SOLUTIONS = 8
"""Tasks, the solutions of which are drawn from."""


@dataclass(frozen=True, slots=True)
class Held:
    """What this process and its descendants hold."""

    processes: int
    machines: int
    """Java virtual machines among them."""
    descriptors: int
    memory: float
    """Resident, MiB."""


def look() -> Held:
    """Look at this process and at all that descend from it."""
    parents: dict[int, int] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        # Processes end while we look.
        with contextlib.suppress(OSError, ValueError, IndexError):
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
    ours = {os.getpid()}
    while more := {pid for pid, parent in parents.items() if parent in ours} - ours:
        ours |= more
    machines = descriptors = 0
    memory = 0.0
    page = os.sysconf("SC_PAGE_SIZE") / 2**20
    for pid in ours:
        with contextlib.suppress(OSError):
            folder = Path(f"/proc/{pid}")
            machines += folder.joinpath("comm").read_text().strip() == "java"
            descriptors += len(list(folder.joinpath("fd").iterdir()))
            memory += int(folder.joinpath("statm").read_text().split()[1]) * page
    return Held(len(ours), machines, descriptors, memory)


@dataclass
class Player:
    """Says things at random, some of which are of use."""

    rng: np.random.Generator
    lines: list[str]
    """Lines of solutions."""

    def say(self, told: str) -> str:
        """An action after `told`."""
        draw = self.rng.random()
        if draw < 0.6 and self.lines:
            return self.lines[int(self.rng.integers(len(self.lines)))]
        if draw < 0.95:
            words = told.split()[-60:] or ["look"]
            begin = int(self.rng.integers(len(words)))
            return " ".join(words[begin : begin + int(self.rng.integers(1, 5))])
        return list(ODD_TEXTS.values())[int(self.rng.integers(len(ODD_TEXTS)))]


def solutions(name: str) -> list[str]:
    """Lines of the solutions of some tasks; none where there is no oracle."""
    env = make_env(name, dialect="compact")
    lines: list[str] = []
    with contextlib.suppress(NotImplementedError):
        for task in env.tasks("train")[:SOLUTIONS]:
            lines += env.oracle(task).splitlines()
    return lines


def endure(name: str, episodes: int, every: int) -> list[Held]:
    """Play, and look every so many episodes."""
    player = Player(stream(0, "endurance", name), solutions(name))
    tasks = make_env(name, dialect="compact").tasks("train")
    vector = make_vector(partial(make_env, name, dialect="compact"))
    seen: list[Held] = []
    errors = turns = done = 0
    begin = time.monotonic()
    while done < episodes:
        live = [
            EpisodeSlot(derive(0, name, done + n), {"task": tasks[(done + n) % len(tasks)].id})
            for n in range(min(AT_ONCE, episodes - done))
        ]
        vector.reset(live)
        done += len(live)
        while True:
            errors += sum(bool(slot.answer.error) for slot in live)
            live = [slot for slot in live if not slot.answer.last]
            if not live:
                break
            vector.step(live, [player.say(slot.answer.observation) for slot in live])
            turns += len(live)
        if done // every > len(seen):
            seen.append(look())
            rate = turns / (time.monotonic() - begin)
            shown = "  ".join(f"{v:8.0f}" for v in astuple(seen[-1]))
            print(f"{done:8d}  {shown}  {errors:6d}  {rate:8.0f}", flush=True)
    vector.close()
    return seen


def grown(seen: list[Held], most: float) -> list[str]:
    """What holds more in the end than after warming up."""
    kept = seen[len(seen) // 4 :]
    found = []
    for place, field in enumerate(fields(Held)):
        values = [astuple(held)[place] for held in kept]
        half = len(values) // 2
        before, after = float(np.median(values[:half])), float(np.median(values[half:]))
        room = most * before if field.name == "memory" else 0
        if after > before + room:
            found.append(f"{field.name} from {before:.0f} to {after:.0f}")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("envs", nargs="+")
    parser.add_argument("--episodes", type=int, default=1000)
    parser.add_argument("--every", type=int, default=50, help="episodes between two looks")
    parser.add_argument("--most-growth", type=float, default=0.1, help="of memory, as a share")
    options = parser.parse_args()
    bad = False
    for name in options.envs:
        print(f"{name}\nepisodes  processes  machines  descr.  MiB  errors  turns/s")
        growth = grown(endure(name, options.episodes, options.every), options.most_growth)
        after = look()
        print(f"  {'grew: ' + ', '.join(growth) if growth else 'flat'}; afterwards {after}")
        bad = bad or bool(growth)
    sys.exit(bad)


if __name__ == "__main__":
    main()
