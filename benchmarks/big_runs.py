"""A run of very many episodes: CPU seconds and peak memory to append, resume, compare, report.

    OMP_NUM_THREADS=1 python benchmarks/big_runs.py --episodes 100000

A run folder of that many made-up episodes is written through the recorder, as a run would. Every
step is a process of its own, whose processor time and largest resident memory are read when it
ends; a row for each step, beside a yardstick. Left out: sweeps of many runs, and the time of
sampling.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.in_turn import YARDSTICK, print_row, yardstick
from resd_bench.budget import Ledger
from resd_bench.cli import main as command_line
from resd_bench.config import RunConfig, resolve
from resd_bench.records.log_files import LogRow
from resd_bench.records.recorder import Recorder, open_run, recover

BATCH = 32
TASKS, SAMPLES = 132, 4
EVALUATIONS = 100
WORDS = ("pull", "the", "red", "token", "route", "to", "end", "paint", "blue", "if", "empty", "a1")


def config_for(folder: Path, seed: int, episodes: int) -> RunConfig:
    """The run with `seed` below `folder`."""
    given = {"seed": seed, "budget": f"{episodes}ep", "warmup_updates": 10}
    return resolve({**given, "out": str(folder), "eval_samples": SAMPLES})


@dataclass
class Story:
    """Makes rows that look like those of a run."""

    rng: random.Random

    def text(self, words: int) -> str:
        """So many words."""
        return " ".join(self.rng.choices(WORDS, k=words))

    def episode(self, update: int, number: int) -> LogRow:
        """A row of `episodes.jsonl`."""
        success = self.rng.random() < 0.5
        turn = {
            "messages": [{"role": "user", "content": self.text(6)}],
            "response": self.text(80),
            **{"tokens": 90, "stop": "eos"},
        }
        cases = [{"name": f"test {n}", "passed": success, "kind": "pass"} for n in range(20)]
        return {
            **{"update": update, "task": f"train-{number % 742:04d}", "attempt": number // 742},
            **{"turns": [turn], "success": success, "reward": float(success), "score": 0.5},
            **{"kind": "" if success else "wrong_answer", "feedback": self.text(20)},
            **{"cases": cases, "stop": "eos", "error": "", "metrics": {}},
        }

    def evaluation(self, update: int, ledger: Ledger) -> list[LogRow]:
        """Rows of `evals.jsonl`, with texts."""
        spent = {"episodes": ledger.episodes, "generated_tokens": ledger.generated_tokens}
        return [
            {
                **{"update": update, **spent, "task": f"test-{task:04d}", "sample": sample},
                **{"success": float(self.rng.random() < 0.5), "score": 0.5, "kind": ""},
                **{"stop": "eos", "error": "", "response_tokens": 90, "metrics": {}},
                **{"turns": [], "feedback": "", "cases": []},
            }
            for task in range(TASKS)
            for sample in range(SAMPLES)
        ]


def append(folder: Path, seed: int, episodes: int) -> None:
    """Write the run, and finish it."""
    config, story, ledger = config_for(folder, seed, episodes), Story(random.Random(seed)), Ledger()
    recorder = open_run(config)
    recorder.status("running")
    updates = episodes // BATCH
    every = max(1, updates // EVALUATIONS)
    recorder.evaluation(0, story.evaluation(0, ledger))
    for update in range(1, updates + 1):
        ledger.updates, ledger.episodes = update, update * BATCH
        ledger.sampled_tokens += 90 * BATCH
        ledger.seconds += 1.0
        numbers = range((update - 1) * BATCH, update * BATCH)
        recorder.log("episodes.jsonl", [story.episode(update, number) for number in numbers])
        row = {"update": update, "batch": update, "inner": 0, "train/success": 0.5}
        recorder.log("metrics.jsonl", [{**row, **ledger.as_row()}])
        recorder.context(update, {})
        if update % every == 0 or update == updates:
            recorder.evaluation(update, story.evaluation(update, ledger))
            save(recorder, update)
    recorder.status("finished", update=updates, episodes=ledger.episodes)
    recorder.close()


def save(recorder: Recorder, update: int) -> None:
    """A checkpoint without a model."""
    recorder.checkpoint(update, {"agent": {}})
    recorder.drop_answers()


def resume(folder: Path, seed: int, episodes: int) -> None:
    """What a run that is resumed does before its first update."""
    recorder = open_run(config_for(folder, seed, 2 * episodes), resume=True)
    checkpoint = recover(recorder)
    assert checkpoint is not None
    recorder.close()


def compare(folder: Path, seed: int, episodes: int) -> None:
    """`compare` of the two runs."""
    assert command_line(["compare", str(folder)]) == 0


def report(folder: Path, seed: int, episodes: int) -> None:
    """`report` of the two runs."""
    assert command_line(["report", str(folder), "--out", str(folder / "page.html")]) == 0


TARGETS: Mapping[str, Mapping[str, float]] = {"report": {"target": 60}}
"""CPU seconds, whatever the number of episodes."""
STEPS: Mapping[str, Callable[[Path, int, int], None]] = {
    "append": append,
    "compare": compare,
    "report": report,
    "resume": resume,
}


def measure(step: str, folder: Path, seed: int, episodes: int) -> tuple[float, float]:
    """Run a step in a process of its own: CPU seconds and MiB."""
    words = [sys.executable, __file__, "--step", step, "--folder", str(folder)]
    words += ["--seed", str(seed), "--episodes", str(episodes)]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"{step} failed")
    return used.ru_utime + used.ru_stime, round(used.ru_maxrss / 1024)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--episodes", type=int, default=100_000, help="of each of two runs")
    parser.add_argument("--folder", type=Path, help="where to write (default: a temporary folder)")
    parser.add_argument("--step", choices=STEPS, help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, default=0, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.step:
        STEPS[given.step](given.folder, given.seed, given.episodes)
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder = given.folder or Path(scratch)
        for step, seed in [("append", 0), ("append", 1), *((s, 0) for s in list(STEPS)[1:])]:
            seconds, told = measure(step, folder, seed, given.episodes), dict(TARGETS.get(step, {}))
            if step == "report":
                told["page_mib"] = round((folder / "page.html").stat().st_size / 2**20, 1)
            if seed == 0:
                name = f"big runs: {step}, {given.episodes:,} episodes"
                row = ([seconds[0]], [yardstick()])
                print_row(name, "CPU s", row, YARDSTICK, **told, peak_mib=seconds[1])


if __name__ == "__main__":
    main()
