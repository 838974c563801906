"""Wall seconds with 1, 2 and 16 threads on two cores, and with other work on both of them.

    python benchmarks/threads.py

The gradient of an update and sampling, with random weights of SmolLM2's shape (above 50 million
parameters a run uses as many threads as there are cores, below one). More threads than cores wait
for each other, which can cost more than ten times what they save: each row compares with the two
threads that a run would use on two idle cores. Threads wait as those of the command line do,
asleep; the last row's peer are threads that spin as OpenMP's do by default. Left out: GPUs.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence

from benchmarks.in_turn import Way, in_turn, of_printed, print_row
from resd_bench.machine.cores import sleep_while_waiting

TURNS = 3
CLIFF = 0.1
"""A tenth of the speed is what must not happen."""
BUSY = "while True: pass"
SPINS = "300000"
"""How often libgomp's threads look before they sleep, where nothing is set."""


def work(threads: int) -> float:
    """Wall seconds of sampling and of a gradient, after one that is not counted."""
    sleep_while_waiting()
    import torch

    from benchmarks.generation import void
    from benchmarks.generation_sizes import load
    from resd_bench.policy.engines.fast import FastEngine
    from resd_bench.policy.loading import tune_allocator
    from resd_bench.types import Sampling

    torch.set_num_threads(threads)
    tune_allocator()
    model, prompts = load("SmolLM2's shape")
    engine = FastEngine(model, [], 0)
    ids = torch.tensor([prompt[:30] for prompt in prompts[:8]])
    for _ in range(2):
        start = time.monotonic()
        void(engine.generate(prompts[:8], n=1, sampling=Sampling(max_new_tokens=32)))
        model(ids, labels=ids).loss.backward()
        seconds = time.monotonic() - start
    return seconds


def way(threads: int, others: int = 0, **environment: str) -> Way:
    """`work` in a new process, while `others` processes compute."""
    words = [sys.executable, __file__, str(threads)]
    alone = of_printed(words, OMP_NUM_THREADS=str(threads), **environment)

    def run() -> float:
        busy = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(others)]
        try:
            return alone()
        finally:
            for process in busy:
                process.kill()
                process.wait()

    return run


def main(words: Sequence[str]) -> None:
    """A row for each number of threads, and for other work."""
    if words:
        print(work(int(words[0])))
        return
    cases = {
        "1 on two cores": way(1),
        "16 on two cores": way(16),
        "2 beside two busy processes": way(2, 2),
        "16 beside two busy processes": way(16, 2),
    }
    spinning = {"spinning": way(2, 2, GOMP_SPINCOUNT=SPINS)}
    costs = in_turn({"2": way(2)} | cases | spinning, TURNS)
    for case in cases:
        row = (costs[case], costs["2"])
        print_row(f"threads: {case}", "wall s", row, "2 threads", target_ratio=CLIFF)
    case = "2 beside two busy processes"
    row = (costs[case], costs["spinning"])
    print_row(f"threads: {case}, or spinning", "wall s", row, "2 threads that spin")


if __name__ == "__main__":
    main(sys.argv[1:])
