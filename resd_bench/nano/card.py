"""The model card of the embedded model: what it is, how it was made, and its measured abilities."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from resd_bench.errors import UsageError
from resd_bench.files import reading
from resd_bench.files.writing import write_atomically
from resd_bench.nano.documents import Dials
from resd_bench.nano.pretrain import PretrainConfig
from resd_bench.nano.probe import SAMPLING, Probe, probe_table
from resd_bench.packaged_models import NAMES, model_name
from resd_bench.policy.lm_policy import LMPolicy
from resd_bench.policy.loading import parameters

_TEMPLATE = Path(__file__).with_name("card.md")


def write(folder: Path, samples: int = 4) -> Path:
    """Probe the model in `folder` and write its card there; returns the card's path.

    `samples` is the number of samples per held-out task and kind of context.
    """
    made = _json(folder / "pretraining.json")
    policy = LMPolicy.load(folder)
    config, progress = made["config"], made["progress"]
    names = PretrainConfig(config["curriculum"]).environments
    dials = recorded_dials(made)
    probes = [Probe(policy, name, samples, dials=dials) for name in dict.fromkeys(names)]
    start = config.get("start")
    text = _TEMPLATE.read_text().format(
        name=model_name(str(folder)),
        model=folder.name if folder.name in NAMES else "FOLDER",
        origin=f"made from `{start}` by more pre-training"
        if start
        else "pre-trained from random weights",
        command=_command(config),
        parameters=parameters(policy.model) / 1e6,
        vocabulary=_json(folder / "config.json")["vocab_size"],
        tokens=progress["tokens"] / 1e6,
        minutes=progress["seconds"] / 60,
        threads=config["threads"],
        loss=progress["loss"],
        weights=made["weights_sha256"],
        data=progress["data_hash"],
        environments=", ".join(f"`{probe.env_name}`" for probe in probes),
        samples=samples,
        temperature=SAMPLING.temperature,
        top_p=SAMPLING.top_p,
        tables="\n\n".join(_section(probe) for probe in probes),
        dials="\n".join(f"- {name}: {value}" for name, value in config["dials"].items()),
    )
    return write_atomically(folder / "README.md", text.encode())


def dials_of(folder: Path) -> Dials:
    """The dials that a model was made with; the defaults where it does not say."""
    path = folder / "pretraining.json"
    return recorded_dials(_json(path)) if path.is_file() else Dials()


def recorded_dials(made: Mapping[str, Any]) -> Dials:
    """The dials in a `pretraining.json`; those that were added later are at their defaults."""
    return Dials(**made["config"]["dials"])


def _json(path: Path) -> Any:
    try:
        return reading.parse_json(reading.read_bytes(path))
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be read: {error}. Give a folder of `pretrain`") from None


def _command(config: Mapping[str, Any]) -> str:
    """The command that makes the model: seed, steps, start, and what differs from the defaults."""
    told = {"seed": config["seed"], "steps": config["steps"]}
    if config.get("start"):
        told |= {"start": config["start"], "learning-rate": config["learning_rate"]}
    if config["curriculum"] != PretrainConfig().curriculum:
        told["curriculum"] = config["curriculum"]
    turned = {k: v for k, v in config["dials"].items() if v != getattr(Dials(), k)}
    dials = [f"--dial {name}={value}" for name, value in turned.items()]
    options = " ".join([*(f"--{name} {value}" for name, value in told.items()), *dials])
    return f"python -m resd_bench nano pretrain {options}"


def _section(probe: Probe) -> str:
    """The table of one environment under its heading."""
    return f"### {probe.env_name}, {len(probe.tasks)} held-out tasks\n\n{probe_table(probe.rows())}"
