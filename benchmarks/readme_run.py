"""Wall seconds of README's first run, beside a run of the same settings by an earlier commit.

    git worktree add ../old acad7c7a                      # the last one that evaluated in line
    python benchmarks/readme_run.py --old ../old/.venv/bin/python --pairs 5

The earlier commit is installed in an environment of its own. Settings that have changed since are
given to it, so that both measure the same; what they print of held-out success has to be equal.
Two idle cores are needed: wall time is what this is about. Left out: the installation.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.in_turn import Way, in_turn, print_row

RUN = ["-m", "resd_bench", "run", "--method", "resd", "--env", "manufactoria-has"]
SINCE = ["--batch-size", "16", "--eval-every", "16", "--budget", "1280ep"]
SINCE += ["--set", "warmup_updates=10"]
"""What today's defaults give, for a commit with others."""
TARGET = 60


def way(python: Path, more: list[str], printed: set[str]) -> Way:
    """A run in a folder of its own; `printed` gets what it says of held-out success."""
    words = [str(python.absolute()), *RUN, *more, "--out"]
    environment = {**os.environ, "COLUMNS": "80"}
    environment.pop("PYTHONPATH", None)

    def run() -> float:
        with tempfile.TemporaryDirectory() as folder:
            start = time.monotonic()
            ran = subprocess.run(
                [*words, folder], stdout=subprocess.PIPE, text=True, env=environment, cwd=folder
            )
            seconds = time.monotonic() - start
        if ran.returncode:
            sys.exit(f"{' '.join(words)} failed with {ran.returncode}")
        printed.add(" ".join(re.findall(r"mean@4.*|best@4.*", ran.stdout)))
        return seconds

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--old", type=Path, required=True, help="the earlier commit's Python")
    parser.add_argument("--pairs", type=int, default=5)
    given = parser.parse_args()
    printed: set[str] = set()
    ways = {
        "ours": way(Path(sys.executable), [], printed),
        "old": way(given.old, SINCE, printed),
    }
    costs = in_turn(ways, given.pairs)
    print(costs, *printed, sep="\n", file=sys.stderr)
    if len(printed) != 1 or not min(printed):
        sys.exit("the runs do not measure the same: see the lines above")
    row = (costs["ours"], costs["old"])
    print_row("README's run", "wall s", row, "the code before", target=TARGET)


if __name__ == "__main__":
    main()
