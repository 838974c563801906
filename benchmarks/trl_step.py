"""CPU seconds of an update of GRPO and SFT: our methods beside TRL's trainers, settings matched.

    OMP_NUM_THREADS=1 python benchmarks/trl_step.py --python trl-venv/bin/python

Model, tasks, prompts, group, lengths, sampling, learning rate, warm-up, clipping and optimiser are
those that `cross-check trl` matches and proves equal on the same samples (docs/interop.md). GRPO
samples, grades and trains; SFT trains on reference solutions. Each library runs in one process on
one thread, one after the other; the first update, which warms up, is not counted, and the turns are
the others. Left out: SDPO, other models, peak memory.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.in_turn import print_row
from resd_bench.interop.cross_check import run_job
from resd_bench.interop.cross_check_setup import (
    METHODS,
    CrossCheck,
    Method,
    check_python,
    config_of,
    method_over,
    samples_of,
)
from resd_bench.jobs.setup import make_envs
from resd_bench.policy.build import build

TARGET = 2.0
THEIRS = """
import json, pathlib, sys, time
import torch
from transformers import TrainerCallback
from trl import GRPOTrainer, SFTTrainer
import resd_bench.interop.trl_worker.__main__ as worker
class Clock(TrainerCallback):
    def __init__(self):
        self.found, self.times = {}, [time.process_time()]
        clocks.append(self)
    def on_step_end(self, args, state, control, **seen):
        self.times.append(time.process_time())
clocks = []
# Without what the cross-check looks at, which takes time of its own.
worker.Gradients, worker.SeenGRPO, worker.SeenSFT = Clock, GRPOTrainer, SFTTrainer
worker.main(sys.argv[1])
times = clocks[0].times
print(json.dumps([after - before for before, after in zip(times, times[1:])]))
"""


def ours(check: CrossCheck, method: Method) -> list[float]:
    """CPU seconds of each of our updates."""
    config = config_of(check, method, check.seeds[0])
    env, envs = make_envs(config)
    policy = build(config)
    agent, spent = method_over(config, policy), []
    for number in range(check.updates):
        start = time.process_time()
        step, groups = samples_of(check, config, number, policy, env, envs)
        agent.learn(groups, step)
        spent.append(time.process_time() - start)
    envs.close()
    return spent


def theirs(check: CrossCheck, method: Method, folder: Path) -> list[float]:
    """CPU seconds of each of TRL's updates."""
    config = config_of(check, method, check.seeds[0])
    env, envs = make_envs(config)
    envs.close()
    job: Mapping[str, Any] = run_job(check, config, env)
    (folder / "job.json").write_text(json.dumps(job), encoding="utf-8")
    words = [check.python, "-c", THEIRS, str(folder)]
    ran = subprocess.run(words, stdout=subprocess.PIPE, text=True)
    if ran.returncode:
        sys.exit("TRL failed; its messages are above")
    found: list[float] = json.loads(ran.stdout.splitlines()[-1])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--python", required=True, help="Python of an environment with TRL")
    parser.add_argument("--updates", type=int, default=5)
    given = parser.parse_args()
    check = CrossCheck(given.python, updates=given.updates, seeds=(0,), tasks=4, eval_tasks=1)
    peer = f"TRL {check_python(given.python)}"
    for method in METHODS:
        with tempfile.TemporaryDirectory() as scratch:
            row = (ours(check, method)[1:], theirs(check, method, Path(scratch))[1:])
        sizes = f"{check.tasks} x {check.group_size}" if method == "grpo" else "16 answers"
        name = f"training: an update of {method}, {sizes}"
        print_row(name, "CPU s", row, peer, target_ratio=TARGET)


if __name__ == "__main__":
    main()
