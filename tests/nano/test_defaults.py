"""Settings that ship with nano: layers, the committed tuning, and sweeps with their own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from resd_bench import config, packaged_models
from resd_bench.config import RunConfig, load_file, resolve
from resd_bench.models.small import small_settings
from resd_bench.packaged_models import NAMES, model_defaults
from resd_bench.sweep.definition import load_sweep
from resd_bench.tuning.definition import load_tuning
from tests.places import ROOT

SWEEPS = ROOT / "runs" / "nano"
BASE = {**load_file(SWEEPS / "tuned.yaml")["base"], "env": "finer"}
UNTUNED = {"out", "model", "eval_validation"}
"""What may differ between a default run and one that reports tuned settings."""
TUNED = {
    name.removesuffix("-tuned"): settings
    for name, settings in load_file(SWEEPS / "tuned.yaml")["variants"].items()
    if "method.include_previous_attempt" not in settings  # an option of sdpo+ss, not a method
}


def of_default_run(method: str, model: str = "nano", **more: Any) -> RunConfig:
    return resolve({"method": method, "model": model, "env": "finer", "budget": "1280ep", **more})


def differing(tuned: Mapping[str, Any], model: str = "nano") -> dict[str, tuple[Any, Any]]:
    """What a default run of a method has otherwise than one with its tuned settings."""
    method = str(tuned["method"])
    own, asked = asdict(of_default_run(method, model)), asdict(resolve({**BASE, **tuned}))
    return {k: (own[k], asked[k]) for k in own if own[k] != asked[k] and k not in UNTUNED}


def test_every_method_of_the_tuning_is_compared() -> None:
    assert TUNED.keys() == {"resd", "sdpo", "sdpo+ss", "sft", "grpo"}


@pytest.mark.parametrize("model", NAMES)
@pytest.mark.parametrize("method", TUNED)
def test_a_default_run_has_exactly_the_settings_that_tuning_chose(method: str, model: str) -> None:
    assert differing(TUNED[method], model) == {}
    config = of_default_run(method, model)
    assert config.eval_every * config.batch_size * (config.group_size or 1) == 256


@pytest.mark.parametrize("method", TUNED)
@pytest.mark.parametrize(
    ("key", "other"),
    [("learning_rate", 0.002), ("warmup", 0.5), ("batch_size", 4), ("eval_every", 5)],
)
def test_another_number_in_either_file_is_seen(
    monkeypatch: pytest.MonkeyPatch, method: str, key: str, other: float
) -> None:
    assert differing({**TUNED[method], key: other})
    shipped = model_defaults("nano")
    shipped["methods"] = {**shipped["methods"], method: {key: other}}
    monkeypatch.setattr(packaged_models, "model_defaults", lambda model: shipped)
    assert differing(TUNED[method])


def test_options_of_grpo_keep_its_settings_and_other_methods_the_general_ones() -> None:
    grpo, general = of_default_run("grpo"), model_defaults("nano")
    for method in ("dr-grpo", "dapo"):
        alike = replace(of_default_run(method), method="grpo", method_options=grpo.method_options)
        assert alike == grpo
    named = {name for names in general["methods"] for name in names.split(",")}
    assert named == {*TUNED, "dr-grpo", "dapo"}
    for method in ("hero", "opsd", "rlsd", "rlcsd", "ace", "resd-then-grpo"):
        config = of_default_run(method)
        found = (config.learning_rate, config.batch_size, config.eval_every)
        assert found == (general["learning_rate"], RunConfig.batch_size, general["eval_every"])
        assert config.warmup_updates == int(general["warmup"] * (config.updates() or 0))


def test_later_layers_override_what_a_model_says_of_a_method(
    toy: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shipped = {
        **{"batch_size": 2, "learning_rate": 0.1, "eval_every": 3, "warmup": 0.5},
        "method": {"rate": 0.1, "remember": 7},
        "methods": {
            "a,toy-learner,b": {
                **{"batch_size": 4, "learning_rate": 0.2, "warmup_updates": 1},
                "method": {"rate": 0.2},
            },
            "toy": {"batch_size": 9},
            "toy-group": {"batch_size": 5},
        },
        "lora": {"learning_rate": 0.3},
    }
    monkeypatch.setattr(packaged_models, "model_defaults", lambda model: shipped)
    base = {"env": "toy-say", "model": "m", "method": "toy-learner", "budget": "40ep"}

    def found(config: RunConfig) -> tuple[Any, ...]:
        keys = ("batch_size", "learning_rate", "eval_every", "warmup_updates")
        return tuple(getattr(config, key) for key in keys)

    of_method = resolve(base)
    assert found(of_method) == (4, 0.2, 3, 1)
    assert (of_method.method_options["rate"], of_method.method_options["remember"]) == (0.2, 7)
    assert found(resolve(base | {"method": "toy-group"}))[:3] == (5, 0.1, 3)
    assert found(resolve(base, {"lora_rank": "2"})) == (4, 0.3, 3, 1)
    file = {**base, "batch_size": 8, "method.rate": 0.5}
    assert found(resolve(file)) == (8, 0.2, 3, 1)
    assert resolve(file).method_options["rate"] == 0.5
    assert found(resolve(file, {"batch_size": "1"})) == (1, 0.2, 3, 1)
    assert found(resolve(file, {"batch_size": "1"}, ["batch_size=10"])) == (10, 0.2, 3, 1)
    assert found(resolve(base, {"warmup": "0.2"})) == (4, 0.2, 3, 2)
    path = tmp_path / "sweep.yaml"
    path.write_text(yaml.safe_dump({"base": {**file, "eval_every": 6}}))
    (trial,) = load_sweep(path).trials
    assert found(trial.config) == (8, 0.2, 6, 1)
    (trial,) = load_sweep(path, named={"batch_size": "2"}).trials
    assert found(trial.config) == (2, 0.2, 6, 1)


def test_committed_sweeps_have_their_own_settings_whatever_the_defaults_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    own = {name: model_defaults(name) for name in NAMES}
    before = trials()
    assert len(before) > 150
    other = {"learning_rate": 0.5, "warmup": 0.5, "batch_size": 7, "eval_every": 77}
    monkeypatch.setattr(
        packaged_models,
        "model_defaults",
        lambda model: {**own[model], **other, "methods": {}} if model in own else {},
    )
    assert trials() == before


def test_sweeps_of_models_that_a_script_makes_are_the_same_without_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A clone has their records and not the models, which bring settings of their own."""
    before, dialect, usual = trials(), config.model_dialect, model_defaults
    brought = {
        **{"max_new_tokens": 11, "batch_size": 7, "task_order": "dataset", "learning_rate": 0.5},
        **{"warmup": 0.5, "precision": "mixed", "eval_every": 77, "eval_samples": 3},
        **{"eval_tasks": 5, "method": {"max_entries": 3, "ema_rate": 0.7}, "methods": {}},
    }
    assert {*model_defaults("nano"), *small_settings()} <= {*brought, "lora"}
    monkeypatch.setattr(
        packaged_models,
        "model_defaults",
        lambda model: usual(model) if model in NAMES else brought,
    )
    monkeypatch.setattr(
        config, "model_dialect", lambda model: dialect(model) if model in NAMES else "plain"
    )
    assert trials() == before


def trials() -> dict[str, RunConfig]:
    """Runs of every committed sweep of nano, one seed on one environment, by file and folder."""
    found: dict[str, RunConfig] = {}
    for path in SWEEPS.glob("*.yaml"):
        if "methods" in load_file(path):
            sweep = load_tuning(path).sweep
        else:
            env, *_ = load_file(path)["grid"]["env"]
            sweep = load_sweep(path, only={"seed": 0, "env": env})
        found |= {f"{path.name} {trial.folder}": trial.config for trial in sweep.trials}
    return found
