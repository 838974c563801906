"""How time and memory grow: by batch, length, group, playbook entries, environments, model size.

    OMP_NUM_THREADS=1 python benchmarks/growth.py [sampling | training | verdicts]

Each quantity is varied alone, with a random model of nano's shape and one thread, and `a x^b` is
fitted to the medians by least squares of logarithms: b of 1 is linear, below 1 cheaper by the
dozen. Memory is the largest resident memory of a forked process, less that with the smallest value.
Left out: GPUs, and several processes.
"""

from __future__ import annotations

import resource
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from multiprocessing import get_context
from multiprocessing.pool import Pool
from typing import NamedTuple

import numpy as np
import torch

from benchmarks.generation import make_model
from benchmarks.turns import LIMITS, OBJECTIVE
from resd_bench.env import TextEnv
from resd_bench.plugins import make_env
from resd_bench.policy import trainer
from resd_bench.policy.engines.fast import FastEngine
from resd_bench.policy.loading import tune_allocator
from resd_bench.policy.micro_batches import TokenizedExample
from resd_bench.types import Sampling

TURNS = 2
PROMPT, NEW, BATCH = 120, 48, 32
ENTRY_TOKENS = 24
"""Of a lesson in a playbook, which every prompt of a teacher holds."""


class Curve(NamedTuple):
    """A quantity that is varied: its name, its values, and the work at one value."""

    name: str
    unit: str
    values: Sequence[int]
    work: Callable[[int], Callable[[], object]]


def ids(length: int, number: int) -> list[int]:
    """Token ids, the same at every call."""
    return torch.randint(
        2, 512, (length,), generator=torch.Generator().manual_seed(number)
    ).tolist()


def sample(batch: int, prompt: int, new: int, n: int = 1, width: int = 128) -> Callable[[], object]:
    """Sampling by our decode loop."""
    engine = FastEngine(make_model(width, 4, 2), [], 0)
    prompts = [ids(prompt, number) for number in range(batch)]
    return lambda: engine.generate(prompts, n=n, sampling=Sampling(max_new_tokens=new))


def train(batch: int, new: int, taught: int) -> Callable[[], object]:
    """The gradient of a distillation loss; the teacher's prompt has `taught` tokens more."""
    model, teacher = make_model(128, 4, 2), make_model(128, 4, 2)
    rows = [
        TokenizedExample(
            *(ids(PROMPT, n), tuple(ids(new, n + 7)), [*ids(taught, n), *ids(PROMPT, n)], []),
            *(0.0, 1.0),
        )
        for n in range(batch)
    ]

    def run() -> None:
        model.zero_grad(set_to_none=True)
        trainer.backward(model, teacher, rows, OBJECTIVE, batch_size=batch, limits=LIMITS)

    return run


def grade(answers: int) -> Callable[[], object]:
    """Verdicts of `manufactoria-has` on that many right answers."""
    env: TextEnv = make_env("manufactoria-has", dialect="compact")
    tasks = env.tasks("train")[:answers]
    said = [env.oracle(task) for task in tasks]
    return lambda: [env.verify(t, a) for t, a in zip(tasks, said, strict=True)]


CURVES = (
    Curve("sampling", "sequences", (8, 32, 128), lambda x: sample(x, PROMPT, NEW)),
    Curve("sampling", "new tokens", (16, 64, 192), lambda x: sample(BATCH, PROMPT, x)),
    Curve("sampling", "prompt tokens", (60, 240, 720), lambda x: sample(BATCH, x, NEW)),
    Curve("sampling", "answers per prompt", (1, 4, 16), lambda x: sample(8, PROMPT, NEW, x)),
    Curve(
        "sampling", "width of the model", (64, 128, 256), lambda x: sample(BATCH, 120, NEW, 1, x)
    ),
    Curve("training", "examples", (4, 16, 64), lambda x: train(x, NEW, 0)),
    Curve("training", "answer tokens", (16, 64, 192), lambda x: train(8, x, 0)),
    Curve("training", "playbook entries", (2, 20, 200), lambda x: train(4, NEW, ENTRY_TOKENS * x)),
    Curve("verdicts", "environments", (16, 64, 256), grade),
)


def measure(number: int, value: int) -> tuple[float, float]:
    """Median CPU seconds of a curve at one value, and the largest resident memory in MiB."""
    run = CURVES[number].work(value)
    run()
    spent = []
    for _ in range(TURNS):
        start = time.process_time()
        run()
        spent.append(time.process_time() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return statistics.median(spent), peak


def exponent(values: Sequence[float], costs: Sequence[float]) -> tuple[float, float]:
    """a and b of the curve a x^b through points, least squares of logarithms."""
    slope, start = np.polyfit(np.log(values), np.log(costs), 1)
    return float(np.exp(start)), float(slope)


def row(number: int, pool: Pool) -> str:
    """A row of the table."""
    curve = CURVES[number]
    found = pool.starmap(measure, [(number, value) for value in curve.values], chunksize=1)
    seconds, mib = zip(*found, strict=True)
    a, b = exponent(curve.values, seconds)
    cells = [
        curve.name,
        curve.unit,
        ", ".join(map(str, curve.values)),
        ", ".join(f"{cost:.2g}" for cost in seconds),
        f"{a:.2g} x^{b:.2f}",
        ", ".join(f"{peak - mib[0]:.0f}" for peak in mib[1:]),
    ]
    return f"| {' | '.join(cells)} |"


def main(*names: str) -> None:
    """Print a table in Markdown."""
    torch.set_num_threads(1)
    tune_allocator()
    print("| what | by | values | CPU s | fitted CPU s | MiB more |\n|---|---|---|---|---|---|")
    # Forked, since importing torch would take longer than the work.
    with get_context("fork").Pool(1, maxtasksperchild=1) as pool:
        for number, curve in enumerate(CURVES):
            if not names or curve.name in names:
                print(row(number, pool), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
