"""CPU seconds to list a sweep of 2,000 runs, to resume it when all have ended, and to tabulate it.

    OMP_NUM_THREADS=1 python benchmarks/sweeps.py

The sweep has four methods and five hundred seeds of one environment. One seed of each method is
run; the other folders are copies of it with other seeds. The peer is the same command with two
seeds of one method, which is what the command takes whatever the number of runs. Left out: running.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.in_turn import Way, in_turn, of_process, print_row
from resd_bench.config import load_file, resolve

TURNS = 1
TARGETS = {"list": 10.0, "resume": 30.0, "tabulate": 60.0}
SEEDS = 500
METHODS = ("resd", "sdpo", "grpo", "sft")
SWEEP = """
out: OUT
base: {env: finer, model: nano, budget: 1upd, batch_size: 2, eval_samples: 1, eval_tasks: 8}
grid:
  method: [METHODS]
  seed: 0-LAST
"""


def commands(scratch: Path, methods: Sequence[str], seeds: int) -> dict[str, list[str]]:
    """A command for each thing that is measured, on a sweep of so many seeds that has ended."""
    out = scratch / f"{len(methods)}-methods"
    begin = written(scratch, "begin", methods, 1, out)
    subprocess.run([*begin, "--jobs", "1"], check=True, stdout=subprocess.DEVNULL)
    for folder in sorted(out.rglob("seed-0")):
        shutil.rmtree(folder / "checkpoints")
        config = (folder / "config.yaml").read_text(encoding="utf-8")
        status = json.loads((folder / "status.json").read_text(encoding="utf-8"))
        # They are those of the seed that was run; without any, none are compared.
        del status["files"], status["checksum"]
        for seed in range(1, seeds):
            copy = shutil.copytree(folder, folder.with_name(f"seed-{seed}"))
            named = config.replace("\nseed: 0\n", f"\nseed: {seed}\n")
            (copy / "config.yaml").write_text(named, encoding="utf-8")
            status["digest"] = resolve(load_file(copy / "config.yaml")).digest()
            (copy / "status.json").write_text(json.dumps(status), encoding="utf-8")
    sweep = written(scratch, "whole", methods, seeds, out)
    compare = [*sweep[:3], "compare", str(out), "--out", str(scratch / out.name)]
    return {"list": [*sweep, "--list"], "resume": sweep, "tabulate": compare}


def written(scratch: Path, name: str, methods: Sequence[str], seeds: int, out: Path) -> list[str]:
    """The command of a sweep, whose file is written."""
    text = SWEEP.replace("OUT", str(out)).replace("METHODS", ", ".join(methods))
    file = scratch / f"{name}-{len(methods)}.yaml"
    file.write_text(text.replace("LAST", str(seeds - 1)), encoding="utf-8")
    return [sys.executable, "-m", "resd_bench", "sweep", str(file)]


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        big = commands(Path(folder), METHODS, SEEDS)
        small = commands(Path(folder), METHODS[-1:], 2)
        for deed, words in big.items():
            ways: dict[str, Way] = {"big": of_process(words), "small": of_process(small[deed])}
            costs = in_turn(ways, TURNS)
            about = f"sweep: {deed} {len(METHODS) * SEEDS:,} runs"
            row = (costs["big"], costs["small"])
            print_row(about, "CPU s", row, "2 runs", target=TARGETS[deed])


if __name__ == "__main__":
    main()
