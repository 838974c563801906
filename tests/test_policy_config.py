"""The options of a policy are those of the run: one field, one meaning, one default."""

from __future__ import annotations

import math
import subprocess
import sys
from dataclasses import fields, replace

from resd_bench.config import RunConfig
from resd_bench.options import field_types
from resd_bench.policy.build import policy_config
from resd_bench.policy.config import PolicyConfig, PolicyOptions


def test_a_policy_has_the_settings_of_its_run_under_the_same_names() -> None:
    other = RunConfig(learning_rate=0.5, lora_rank=3, thinking="on", threads=2, grad_clip=0.0)
    made = policy_config(other)
    for option in fields(PolicyOptions):
        assert getattr(made, option.name) == getattr(other, option.name)
    assert made.max_gradient_norm == math.inf


def test_the_default_run_has_the_default_policy_but_for_its_seed_and_its_pace() -> None:
    run = RunConfig()
    assert policy_config(run) == replace(
        PolicyConfig(), adapter_seed=policy_config(run).adapter_seed, pace=run.pace()
    )


def test_no_policy_option_is_declared_twice() -> None:
    shared = {option.name for option in fields(PolicyOptions)}
    assert not shared & set(vars(RunConfig)["__annotations__"])
    assert not shared & set(vars(PolicyConfig)["__annotations__"])
    assert field_types(RunConfig).items() >= field_types(PolicyOptions).items()


def test_the_options_of_a_policy_are_read_without_torch() -> None:
    code = "import sys, resd_bench.policy.config; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
