"""Scripted episodes and sandbox programs by the hundred thousand: does anything grow?

    OMP_NUM_THREADS=1 python benchmarks/load.py --plot load.png
    OMP_NUM_THREADS=1 python benchmarks/load.py --episodes 4000 --programs 400    # two CPU minutes

Episodes of each environment take turns, played as in `endurance.py`; then programs are judged in
one sandbox, of which every eighth loops for ever, floods memory, or leaves files and a process
behind. Memory, descriptors, processes and temporary files are looked at forty times in each part;
after the first quarter none may grow, memory by no more than `--most-growth`. Ends with 1 where one
did. A row compares the memory of the last quarter with that of the second. Left out: games that
need Java, and training.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import astuple, dataclass, fields
from pathlib import Path

from benchmarks.endurance import AT_ONCE, Player, look, solutions
from benchmarks.in_turn import print_row
from benchmarks.sandbox_throughput import WORKS
from resd_bench.env import TextEnv
from resd_bench.plugins import make_env
from resd_bench.rollout.vector_env import EpisodeSlot, make_vector
from resd_bench.sandbox import Limits, Sandbox
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
"""Of each kind one or two."""
LOOKS = 40
MOST_STEPS = 8
HOSTILE = (
    "while True: pass",
    "x = [0]\nwhile True: x *= 2",
    "import os, tempfile\nopen(tempfile.mktemp(), 'w').write('x' * 9999)\nos.fork()",
)
SHORT = Limits(call_cpu_s=0.1, total_cpu_s=0.2)
"""For programs that would never end."""


@dataclass(frozen=True, slots=True)
class Load:
    """What is held after so many episodes or programs."""

    done: int
    processes: int
    descriptors: int
    memory: float
    """Resident, MiB."""
    files: int
    """In the folder for temporary files."""

    @classmethod
    def now(cls, done: int) -> Load:
        """What this process and its descendants hold now."""
        held, files = look(), sum(1 for _ in Path(tempfile.gettempdir()).rglob("*"))
        return cls(done, held.processes, held.descriptors, held.memory, files)


def episodes(amount: int) -> Iterator[int]:
    """Play rounds of episodes of all environments in turn; how many are done, after each round."""
    made = {}
    for name in NAMES:
        try:
            tasks = make_env(name, dialect="compact").tasks("train")
        except ImportError as error:
            print(f"{name}: {error}", file=sys.stderr)
            continue
        player = Player(stream(0, "load", name), solutions(name))
        made[name] = (tasks, player, make_vector(Make(name)))
    done = 0
    while done < amount:
        for name, (tasks, player, vector) in made.items():
            live = [
                EpisodeSlot(derive(0, name, done + n), {"task": tasks[(done + n) % len(tasks)].id})
                for n in range(AT_ONCE)
            ]
            vector.reset(live)
            for _ in range(MOST_STEPS):
                vector.step(live, [player.say(slot.answer.observation) for slot in live])
                if not (live := [slot for slot in live if not slot.answer.last]):
                    break
            done += AT_ONCE
        yield done
    for _, _, vector in made.values():
        vector.close()


@dataclass(frozen=True)
class Make:
    """Makes an environment, in whatever process."""

    name: str

    def __call__(self) -> TextEnv:
        return make_env(self.name, dialect="compact")


def programs(amount: int) -> Iterator[int]:
    """Judge programs in one sandbox; how many are done, after each."""
    work = WORKS[0]
    with Sandbox() as box:
        for done in range(1, amount + 1):
            hostile = done % 8 == 0
            code = HOSTILE[done // 8 % len(HOSTILE)] if hostile else work.code
            limits = SHORT if hostile else Limits()
            result = box.run_program(code, work.cases[:2], entry=work.entry, limits=limits)
            assert (result.score == 1) != hostile, result
            yield done


def watch(work: Iterator[int], amount: int) -> list[Load]:
    """What is held, `LOOKS` times while the work is done."""
    seen: list[Load] = []
    for done in work:
        if done * LOOKS >= amount * (len(seen) + 1):
            seen.append(Load.now(done))
            print("  ".join(f"{value:8.0f}" for value in astuple(seen[-1])), flush=True)
    return seen


def grown(seen: list[Load], most: float) -> list[str]:
    """What holds more in the last quarter than in the second one, by their medians."""
    found = []
    for place, field in enumerate(fields(Load)):
        values = sorted_quarters(seen, place)
        room = most * values[0] if field.name == "memory" else 0
        if field.name != "done" and values[1] > values[0] + room:
            found.append(f"{field.name} from {values[0]:.0f} to {values[1]:.0f}")
    return found


def sorted_quarters(seen: list[Load], place: int) -> tuple[float, float]:
    """Medians of a field in the second and in the last quarter."""
    values, quarter = [astuple(one)[place] for one in seen], max(1, len(seen) // 4)
    second, last = sorted(values[quarter : 2 * quarter]), sorted(values[-quarter:])
    return second[len(second) // 2], last[len(last) // 2]


def plot(parts: dict[str, list[Load]], path: Path) -> None:
    """A column for each part, a row for each field."""
    from matplotlib.figure import Figure

    shown = [field.name for field in fields(Load)][1:]
    figure = Figure(figsize=(8, 8), layout="constrained")
    for column, (part, seen) in enumerate(parts.items()):
        for row, name in enumerate(shown):
            axes = figure.add_subplot(len(shown), len(parts), 1 + row * len(parts) + column)
            values = [astuple(one)[row + 1] for one in seen]
            axes.plot([one.done for one in seen], values)
            axes.set_ylim(0, 1.2 * max(1, *values))
            axes.set_ylabel({"memory": "MiB", "files": "temporary files"}.get(name, name))
            axes.set_xlabel(part if name == shown[-1] else "")
    figure.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--episodes", type=int, default=1_000_000)
    parser.add_argument("--programs", type=int, default=100_000)
    parser.add_argument("--most-growth", type=float, default=0.1, help="of memory, as a share")
    parser.add_argument("--plot", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        # Only ours are counted, and those of the processes that we start.
        tempfile.tempdir = os.environ["TMPDIR"] = scratch
        parts = {}
        for part, work, amount in (
            ("episodes", episodes(given.episodes), given.episodes),
            ("programs", programs(given.programs), given.programs),
        ):
            print(f"{part:>8}  processes  descr.      MiB     files")
            parts[part] = watch(work, amount)
        if given.plot:
            plot(parts, given.plot)
    memory = next(place for place, field in enumerate(fields(Load)) if field.name == "memory")
    for part, seen in parts.items():
        before, after = sorted_quarters(seen, memory)
        about, least = f"load: memory, {seen[-1].done:,} {part}", 1 / (1 + given.most_growth)
        print_row(about, "MiB", ([after], [before]), "the second quarter", target_ratio=least)
    bad = {part: grown(seen, given.most_growth) for part, seen in parts.items()}
    for part, found in bad.items():
        print(f"{part}: {'grew: ' + ', '.join(found) if found else 'flat'}")
    sys.exit(any(bad.values()))


if __name__ == "__main__":
    main()
