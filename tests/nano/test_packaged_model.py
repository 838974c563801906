"""The packaged model is the one its records describe, and can what RESD presupposes."""

import hashlib
import json

import pytest

from resd_bench.nano import weights_folder
from resd_bench.nano.pretrain import PretrainConfig
from resd_bench.nano.probe import Probe, ProbeRow
from resd_bench.policy.lm_policy import LMPolicy

MADE = json.loads((weights_folder() / "pretraining.json").read_text())


@pytest.fixture(scope="module")
def rows() -> dict[str, ProbeRow]:
    """The probe table by context."""
    probe = Probe(LMPolicy.load("nano"), "manufactoria-has", samples=2)
    return {row.context: row for row in probe.rows()}


def test_the_weights_are_those_that_were_recorded() -> None:
    weights = (weights_folder() / "model.safetensors").read_bytes()
    assert hashlib.sha256(weights).hexdigest() == MADE["weights_sha256"]
    assert MADE["weights_sha256"] in (weights_folder() / "README.md").read_text()


def test_the_default_command_makes_this_model() -> None:
    config, default = MADE["config"], PretrainConfig()
    assert {k: v for k, v in config.items() if k != "dials"} == {
        k: getattr(default, k) for k in config if k != "dials"
    }
    assert config["dials"] == {k: getattr(default.dials, k) for k in config["dials"]}
    assert MADE["progress"]["step"] == default.steps


def test_success_is_rare_without_context(rows: dict[str, ProbeRow]) -> None:
    assert 0.003 <= rows["none"].success.mean <= 0.03


def test_richer_context_makes_a_better_teacher(rows: dict[str, ProbeRow]) -> None:
    order = ("none", "attempt + feedback", "attempt + feedback + own reflection", "playbook")
    rates = [rows[context].success.mean for context in order]
    assert rates == sorted(rates)
    assert rates[3] - rates[1] > 0.3
    assert rows["solution"].success.mean >= rates[3]
