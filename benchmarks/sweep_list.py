"""CPU seconds to list a sweep of 2,000 runs, beside one of 2.

    OMP_NUM_THREADS=1 python benchmarks/sweep_list.py

The sweep has five environments, four methods and a hundred seeds. The peer is the same command with
a run for each of two seeds, which is what the command takes whatever the number of runs. Left out:
running and tabulating.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from benchmarks.in_turn import in_turn, of_process, print_row

TURNS = 3
TARGET = 10.0
BIG = """
out: OUT
base: {budget: 64ep, model: nano}
grid:
  env: [manufactoria-has, finer, bouncingsim-basic, python-functions-basic, textworld-coin]
  method: [resd, sdpo, grpo, sft]
  seed: 0-99
"""
SMALL = """
out: OUT
base: {budget: 64ep, model: nano, env: finer, method: sft}
grid: {seed: 0-1}
"""


def main() -> None:
    ways = {}
    with tempfile.TemporaryDirectory() as scratch:
        for name, text in (("big", BIG), ("small", SMALL)):
            file = Path(scratch) / f"{name}.yaml"
            file.write_text(text.replace("OUT", f"{scratch}/{name}"), encoding="utf-8")
            words = [sys.executable, "-m", "resd_bench", "sweep", str(file), "--list"]
            ways[name] = of_process(words)
        costs = in_turn(ways, TURNS)
    row = (costs["big"], costs["small"])
    print_row("sweep: list 2,000 runs", "CPU s", row, "a list of 2 runs", target=TARGET)


if __name__ == "__main__":
    main()
