"""CPU seconds from the start of a command to its end, beside importing typer alone.

    OMP_NUM_THREADS=1 python benchmarks/start.py

Left out: commands that load a model, see `first_rollout.py`.
"""

from __future__ import annotations

import sys

from benchmarks.in_turn import in_turn, of_process, print_row

TARGETS = {"--help": 0.15, "--version": 0.15, "run --help": 0.2, "envs list --names": 0.15}
TURNS = 7


def main() -> None:
    own = [sys.executable, "-m", "resd_bench"]
    ways = {call: of_process([*own, *call.split()]) for call in TARGETS}
    peer = of_process([sys.executable, "-c", "import typer"])
    costs = in_turn({**ways, "": peer}, TURNS)
    for call, target in TARGETS.items():
        row = (costs[call], costs[""])
        print_row(f"start: {call}", "CPU s", row, "import typer", target=target)


if __name__ == "__main__":
    main()
