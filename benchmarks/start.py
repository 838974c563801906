"""CPU seconds from the start of a command to its end, beside importing typer alone.

    OMP_NUM_THREADS=1 python benchmarks/start.py

Commands take turns; a row of JSON per command for `benchmarks/claims.py`: medians, and the largest
difference from them. Left out: commands that load a model.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys

CALLS = ("--help", "--version", "run --help", "envs list --names")
TURNS = 7


def cpu_seconds(words: list[str]) -> float:
    """Processor time of a process."""
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    assert status == 0, words
    return used.ru_utime + used.ru_stime


def main() -> None:
    own = [sys.executable, "-m", "resd_bench"]
    peer: list[float] = []
    ours: dict[str, list[float]] = {call: [] for call in CALLS}
    for _ in range(TURNS):
        peer.append(cpu_seconds([sys.executable, "-c", "import typer"]))
        for call, found in ours.items():
            found.append(cpu_seconds([*own, *call.split()]))
    for call, found in ours.items():
        middle = statistics.median(found)
        spread = max(abs(one - middle) for one in found)
        row = {"name": f"start: {call}", "ours": middle, "peer": statistics.median(peer)}
        print(json.dumps({**row, "spread": round(spread, 3)}))


if __name__ == "__main__":
    main()
