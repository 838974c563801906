"""The packaged model is the one its records describe, and can what RESD presupposes."""

import hashlib
import json
from importlib.util import find_spec
from itertools import pairwise

import pytest

from resd_bench.nano.pretrain import PretrainConfig
from resd_bench.nano.probe import (
    OTHERS_REFLECTION,
    PROBE_CONTEXTS,
    TRUE_REFLECTION,
    Probe,
    ProbeRow,
)
from resd_bench.packaged_models import NAMES, weights_folder
from resd_bench.policy.lm_policy import LMPolicy

pytestmark = pytest.mark.slow


MADE = json.loads((weights_folder("nano") / "pretraining.json").read_text())
REFLECTED = "attempt + feedback + own reflection"
OTHERS = ("python-functions-basic", "bouncingsim-basic", "finer", "textworld-coin")


@pytest.fixture(scope="module")
def policy() -> LMPolicy:
    """The packaged model."""
    return LMPolicy.load("nano")


@pytest.fixture(scope="module")
def rows(policy: LMPolicy) -> dict[str, ProbeRow]:
    """The probe table of the first environment by context."""
    wanted = set(PROBE_CONTEXTS) - {"feedback", "attempt", OTHERS_REFLECTION, TRUE_REFLECTION}
    probe = Probe(policy, "manufactoria-has", samples=1)
    found = {row.context: row for row in probe.rows(wanted - {"none"})}
    # Successes without any context are few: one sample of each task is too little to count them.
    probe.samples = 2
    return {**found, "none": probe.measure("none")}


@pytest.mark.parametrize("name", NAMES)
def test_the_weights_are_those_that_were_recorded(name: str) -> None:
    folder = weights_folder(name)
    made = json.loads((folder / "pretraining.json").read_text())
    weights = (folder / "model.safetensors").read_bytes()
    assert hashlib.sha256(weights).hexdigest() == made["weights_sha256"]
    assert made["weights_sha256"] in (folder / "README.md").read_text()


@pytest.mark.parametrize(
    ("name", "least", "most"),
    [("nano-common", 0.06, 0.2), ("nano-rare", 0, 0.005), ("nano-rarest", 0, 0)],
)
def test_rarity_of_success_is_a_dial(name: str, least: float, most: float) -> None:
    policy = LMPolicy.load(name)
    for env in ("finer", "manufactoria-has"):
        assert least <= Probe(policy, env, samples=2).measure("none").success.mean <= most


@pytest.mark.parametrize("env", ["finer", "manufactoria-has"])
def test_the_reflective_model_learns_from_reflections_and_from_nothing_less(env: str) -> None:
    probe = Probe(LMPolicy.load("nano-reflective"), env, samples=1)
    found = {row.context: row.success.mean for row in probe.rows({"attempt + feedback", REFLECTED})}
    told, named = found["attempt + feedback"], found[REFLECTED]
    assert told < 0.06
    assert named > told + 0.1


def test_the_default_command_makes_this_model() -> None:
    config, default = MADE["config"], PretrainConfig()
    assert {k: v for k, v in config.items() if k != "dials"} == {
        k: getattr(default, k) for k in config if k != "dials"
    }
    assert config["dials"] == {k: getattr(default.dials, k) for k in config["dials"]}
    assert MADE["progress"]["step"] == default.steps


def test_it_has_learned_every_environment_that_has_a_curriculum() -> None:
    assert set(PretrainConfig().environments) == {"manufactoria-has", *OTHERS}


def test_success_is_rare_without_context(rows: dict[str, ProbeRow]) -> None:
    assert 0.003 <= rows["none"].success.mean <= 0.03


def test_richer_context_makes_a_better_teacher(rows: dict[str, ProbeRow]) -> None:
    everything = "playbook + attempt + feedback + reflection"
    order = ("none", "attempt + feedback", "playbook", everything, "solution")
    rates = [rows[context].success.mean for context in order]
    assert rates == sorted(rates)
    assert all(more - less > 0.05 for less, more in pairwise(rates))
    reflected = rows[REFLECTED].success.mean
    assert reflected > rows["attempt + feedback"].success.mean - 0.05


@pytest.mark.parametrize("env", OTHERS)
def test_elsewhere_too_success_is_rare_and_a_playbook_helps(policy: LMPolicy, env: str) -> None:
    if env.startswith("textworld") and find_spec("textworld") is None:
        pytest.skip("TEXTWORLD ABSENT: pip install '.[textworld]'")
    probe = Probe(policy, env, samples=1)
    probe.tasks, probe.exercises = probe.tasks[:40], probe.exercises[:40]
    told = [{"playbook": probe.lessons(exercise)} for exercise in probe.exercises]
    alone, taught = probe.measure("none"), probe.measure("playbook", told)
    assert alone.success.mean <= 0.1
    assert taught.success.mean - alone.success.mean > 0.15
