"""Whether a model reads a wrong lesson as wrong, which experiments with lies presuppose.

    OMP_NUM_THREADS=1 python benchmarks/lessons_obeyed.py nano nano-rarest nano-reflective

Success on held-out tasks in a teacher's prompt, as `resd-bench nano probe` measures it: with the
right or the wrong lessons of `runs/nano/lessons` as a playbook, and with attempt and feedback,
alone and next to a lie (a reflection of a wrong lesson, drawn by task). A model that obeys lessons
succeeds more often with right ones than with wrong ones. Left out: what training makes of it.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from resd_bench.nano.documents import numbered
from resd_bench.nano.probe import Context, Probe, probe_table
from resd_bench.policy.lm_policy import LMPolicy
from resd_bench.records.jsonl import read_objects
from resd_bench.seeds import stream

LESSONS = Path("runs/nano/lessons")
ENVS = ("finer", "manufactoria-has")


def told(probe: Probe) -> Mapping[str, Sequence[Context]]:
    """What each kind of context tells of each task."""
    books = {
        kind: [
            line.row
            for line in read_objects(LESSONS / f"{probe.env_name}-{kind}.jsonl", "give lessons")
        ]
        for kind in ("right", "wrong")
    }
    lies, trials = books["wrong"], probe.trials()
    drawn = [int(stream(0, "lie", task.id).integers(len(lies))) for task in probe.tasks]
    return {
        **{
            f"playbook of {kind} lessons": [
                {"playbook": numbered([row["lesson"] for row in rows])} for _ in probe.tasks
            ]
            for kind, rows in books.items()
        },
        "attempt + feedback": trials,
        "attempt + feedback + a lie": [
            {**trial, "reflection": lies[number]["reflection"]}
            for trial, number in zip(trials, drawn, strict=True)
        ],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--envs", nargs="+", choices=ENVS, default=ENVS)
    parser.add_argument("--samples", type=int, default=2, help="of each task")
    given = parser.parse_args()
    torch.set_num_threads(1)
    print("# Does the model read a wrong lesson as wrong? (model organisms)\n")
    print(f"`python benchmarks/lessons_obeyed.py {' '.join(given.models)}`")
    for model in given.models:
        policy = LMPolicy.load(model)
        for env in given.envs:
            probe = Probe(policy, env, given.samples)
            rows = [probe.measure("none"), *(probe.measure(*each) for each in told(probe).items())]
            print(f"\n## {model}, {env}\n\n{probe_table(rows)}", flush=True)


if __name__ == "__main__":
    main()
