"""For plugin authors: a scripted policy, `check_env`, `check_agent` and `check_engine`.

Checks raise AssertionError with the property that does not hold. They run in this process, so one
that hangs hangs the test: `resd_bench.check` examines an installed plugin under a deadline.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from resd_bench.agent import MethodSpec
from resd_bench.check.env_subject import Subject
from resd_bench.check.environments import ENV_PROPERTIES
from resd_bench.check.method_properties import METHOD_PROPERTIES, MethodSubject
from resd_bench.check.result import prove_all
from resd_bench.check.scripted import Script, ScriptedPolicy
from resd_bench.env import TextEnv
from resd_bench.types import Dialect, FeedbackLevel

if TYPE_CHECKING:
    from resd_bench.policy.engines.registry import EngineSpec

__all__ = ["Script", "ScriptedPolicy", "check_agent", "check_engine", "check_env"]

_LEFT_OUT = ("docs", "panel", "runaway", "budget")
"""Properties of `envs check` that `check_env` leaves out: they are about documentation, need an
installed package, or take long."""


def check_env(env: TextEnv) -> None:
    """Prove what the harness relies on in an environment; AssertionError names what fails.

    These are the properties of `envs check` except `LEFT_OUT`, on fewer tasks. `env` is used as it
    is, in its own dialect.
    """

    def make(*, dialect: Dialect, feedback_level: int) -> TextEnv:
        made = copy.copy(env)
        made.feedback_level = FeedbackLevel(feedback_level)
        return made

    subject = Subject(env.name, make, dialects=(env.dialect,), seconds=0.5)
    prove_all({n: p for n, p in ENV_PROPERTIES.items() if n not in _LEFT_OUT}, subject)


def check_agent(spec: MethodSpec, options: Mapping[str, Any] | None = None) -> None:
    """Prove what the harness relies on in a method; AssertionError names what fails.

    `options` are those of the method, by name. `methods check` does the same for an installed
    method, in a separate process.
    """
    prove_all(METHOD_PROPERTIES, MethodSubject(spec.name, spec, options or {}))


def check_engine(
    spec: EngineSpec, model: Any = None, options: Mapping[str, Any] | None = None
) -> None:
    """Prove what the harness relies on in an engine; AssertionError names what fails.

    `model` is a Hugging Face model that it serves, by default a small random one (Qwen3); `options`
    are settings of `PolicyConfig`. `engines check` does the same for an installed engine, in a
    separate process.
    """
    # This imports torch, which testing environments and methods does not need.
    from resd_bench.check.engine_properties import ENGINE_PROPERTIES
    from resd_bench.check.engine_subject import EngineSubject

    prove_all(ENGINE_PROPERTIES, EngineSubject(spec.name, spec, model, options or {}))
