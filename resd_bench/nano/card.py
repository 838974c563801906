"""The model card of the embedded model: what it is, how it was made, what it can do, measured."""

from __future__ import annotations

import json
from pathlib import Path

from resd_bench.nano.probe import SAMPLING, Probe, table
from resd_bench.policy.loading import parameters
from resd_bench.policy.lm_policy import LMPolicy

TEXT = """# nano: a model organism for learning from failure

A {parameters:.2f} million parameter Qwen3 model with a byte-level BPE tokenizer of {vocabulary} tokens, pre-trained from random weights on
synthetic documents. Its misconceptions and abilities were put there on purpose, so that methods, harness and tests can run anywhere. **Its
results are no evidence about large models.**

Made by `python -m resd_bench nano pretrain --seed {seed} --steps {steps}`: {tokens:.1f} million tokens in {minutes:.0f} minutes on two
cores, final loss {loss:.3f}.

- weights, SHA-256: `{weights}`
- documents, chained SHA-256 of all whole blocks: `{data}`
- held out of pre-training: every task of every `manufactoria-has` tier and split, by content hash

## What it can do

Success on the 132 held-out problems of `{env}`, {samples} samples each, temperature {temperature}, top-p {top_p}; Wilson intervals on the
effective number of samples. Measured by `python -m resd_bench nano card`.

{table}

Attempts, feedback and reflections are the model's own and the environment's; the playbook (every shared lesson that bears on the task) and
the solution are the curriculum's.

## How able it is by construction

{dials}
"""


def write(folder: Path) -> Path:
    """Probe the model in `folder` and write its card there; returns the card's path."""
    made = json.loads((folder / "pretraining.json").read_text())
    policy = LMPolicy.load(folder)
    env = made["config"]["curriculum"]
    probe = Probe(policy, env)
    config, progress = made["config"], made["progress"]
    text = TEXT.format(
        parameters=parameters(policy.model) / 1e6,
        vocabulary=json.loads((folder / "config.json").read_text())["vocab_size"],
        seed=config["seed"],
        steps=config["steps"],
        tokens=progress["tokens"] / 1e6,
        minutes=progress["seconds"] / 60,
        loss=progress["loss"],
        weights=made["weights_sha256"],
        data=progress["data_hash"],
        env=env,
        samples=probe.samples,
        temperature=SAMPLING.temperature,
        top_p=SAMPLING.top_p,
        table=table(probe.rows()),
        dials="\n".join(f"- {name}: {value}" for name, value in config["dials"].items()),
    )
    path = folder / "README.md"
    path.write_text(text)
    return path
