"""How many reflections and curations of a model have the format that was asked for.

    OMP_NUM_THREADS=1 python benchmarks/parse_rates.py ifeval-one finer-few --tasks 12

The first training tasks of each environment are attempted once. Then the model reflects on every
failure and curates from every reflection, in each dialect and at each temperature: the same
attempts each time. Left out: whether what was written is true or helps (`contexts.py`).
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace

from benchmarks.contexts import Contexts, load
from resd_baselines.base import Attempt, scored_attempts
from resd_baselines.context_update import PromptWriter
from resd_bench.types import PromptDialect, Sampling

WAYS: tuple[tuple[PromptDialect, float, int], ...] = (
    ("plain", 0.3, 96),
    ("plain", 0.5, 96),
    ("plain", 0.7, 96),
    ("plain", 1.0, 96),
    ("full", 1.0, 96),
    ("full", 1.0, 256),
)
"""Dialect, temperature, and maximum tokens of what is written; JSON needs more of them."""


def main() -> None:
    given, config, policy = load(argparse.ArgumentParser())
    sampling = Sampling(1.0, 0.95, config.max_new_tokens, seed=1)
    failed: list[Attempt] = []
    for env in given.envs:
        contexts = Contexts(policy, env, given.level, sampling)
        tasks = contexts.env.tasks("train")[: given.tasks]
        failed += [a for a in scored_attempts(contexts.play(tasks, {})) if not a.success]
    print(f"{len(failed)} failures of {', '.join(given.envs)}\n")
    print("| dialect | temperature | tokens at most | reflections | curations | CPU s |")
    print("|---|---|---|---|---|---|", flush=True)
    for dialect, temperature, tokens in WAYS:
        start = time.process_time()
        contexts.sampling = replace(sampling, max_new_tokens=tokens)
        reflections, curations = contexts.write(failed, PromptWriter(dialect), temperature)
        parsed = sum(one.parsed for one in reflections)
        read = sum(one.additions is not None for one in curations)
        print(
            f"| `{dialect}` | {temperature} | {tokens} | {parsed} of {len(failed)} | {read} of "
            f"{len(curations)} | {time.process_time() - start:.0f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
