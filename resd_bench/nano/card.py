"""The model card of the embedded model: what it is, how it was made, what it can do, measured."""

from __future__ import annotations

import json
from pathlib import Path

from resd_bench.nano.probe import SAMPLING, Probe, table
from resd_bench.policy.lm_policy import LMPolicy
from resd_bench.policy.loading import parameters

TEMPLATE = Path(__file__).with_name("card.md")


def write(folder: Path) -> Path:
    """Probe the model in `folder` and write its card there; returns the card's path."""
    made = json.loads((folder / "pretraining.json").read_text())
    policy = LMPolicy.load(folder)
    env = made["config"]["curriculum"]
    probe = Probe(policy, env)
    config, progress = made["config"], made["progress"]
    text = TEMPLATE.read_text().format(
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
